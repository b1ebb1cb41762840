"""Which rule makes events, and in words why: a user's threshold, a rate of false alarms, or what a
run keeps. Thresholds are chosen on normal videos, of val or of a user's camera, never on test.

An event in a normal video is a false alarm. A rule is trusted for X false alarms an hour where the
normal videos that were seen show it: the exact upper 95 % bound of the rate, for as many alarms as
were counted in as many hours, is at most X. False alarms are taken to come independently of each
other, as a Poisson process. How an event ends and how short it may be is chosen on val too, by how
many of its anomalous videos have an event.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import product, starmap
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, cast

import numpy as np

from semvad_jax.detection.events import Rule, Threshold, spans
from semvad_jax.detection.timeline import DECIMALS, written
from semvad_jax.files import BadInput, read_json, require, write
from semvad_jax.statistics import LEVEL, poisson_upper

FALSE_ALARM_RATE = 0.05  # at most this share of normal snippets lies above a run's own threshold
UNCHOSEN = 0.5  # where a run has nothing to choose a threshold on
MORE = "give --calibration FILE, which --calibrate writes"
OF_WHOLE = (
    "{} are of whole videos, and a watch sees nothing of what comes after a snippet, so that for a "
    "watch this holds nearly, and not exactly"
)

KeptVideo = TypedDict(
    "KeptVideo", {"seconds": list[float], "binary": list[float], "class": NotRequired[list[float]]}
)
# RUN/checkpoint/thresholds.json: each head's threshold, the normal val videos that it is chosen on,
# and the anomalous ones; the heads are those of the model
KeptThresholds = TypedDict(
    "KeptThresholds",
    {
        "false_alarm_rate": float,
        "normal_videos": int,
        "normal_snippets": int,
        "binary": float,
        "class": NotRequired[float],
        # not in runs that were trained before these were kept
        "videos": NotRequired[list[KeptVideo]],
        "anomalous": NotRequired[list[KeptVideo]],
    },
)


class Extent(NamedTuple):
    """How far an event goes: on while scores are above a share `close` of the threshold, and it
    counts where it lasts at least `least` seconds.
    """

    close: float
    least: float

    def rule(self, opens: float) -> Rule:
        """The rule with a threshold."""
        return Rule(opens, min(opens, round(self.close * opens, DECIMALS)), self.least)

    def __str__(self) -> str:
        return f"--close {self.close:g} and --least {self.least:g}"


PLAIN = Extent(1.0, 0.0)
# Where a rate is asked for and val cannot choose: a score that flickers about the threshold is one
# alarm and not ten, and nobody is called for a single snippet.
USUAL = Extent(0.5, 1.0)
CLOSES, LEASTS = (1.0, 0.75, 0.5), (0.0, 1.0, 2.0, 4.0)
EXTENTS = tuple(starmap(Extent, product(CLOSES, LEASTS)))  # val chooses one; the plainest first


@dataclass(frozen=True)
class Asked:
    """What a user says of events; None where nothing is said.

    `threshold` is a score, `alarms_per_hour` the highest rate of false alarms, and `calibration` a
    file that has a rule; `close` and `least` are those of `Extent`.
    """

    threshold: float | None = None
    alarms_per_hour: float | None = None
    calibration: Path | None = None
    close: float | None = None
    least: float | None = None

    @property
    def extent(self) -> Extent:
        """What is given, and what is usual for the rest."""
        usual = PLAIN if self.alarms_per_hour is None else USUAL
        close = usual.close if self.close is None else self.close
        return Extent(close, usual.least if self.least is None else self.least)


def _upper(alarms: int, hours: float, tried: int) -> float:
    """The upper bound of a rate of false alarms, an hour, by each of so many rules at once with
    95 % (Bonferroni).
    """
    return poisson_upper(alarms, 1 - (1 - LEVEL) / tried) / hours


@dataclass(frozen=True)
class FalseAlarms:
    """How many events there were in normal videos, on which one of `tried` rules was chosen."""

    alarms: int
    videos: int
    snippets: int
    hours: float
    tried: int = 1

    @property
    def upper(self) -> float:
        """The upper 95 % bound of their rate, an hour."""
        return _upper(self.alarms, self.hours, self.tried)

    def sentence(self) -> str:
        allows = f" that allows for {self.tried} rules tried" if self.tried > 1 else ""
        return (
            f"{_count(self.alarms, 'false alarm')} in {_time(self.hours)} of "
            f"{_count(self.videos, 'normal video')}, so {_number(self.alarms / self.hours)} an "
            f"hour and at most {_number(self.upper)} (upper 95 % bound{allows})"
        )


@dataclass(frozen=True)
class Normal:
    """Normal videos: of each the mean scores [n], and the [n + 1] seconds at which its snippets
    begin and the last one ends, both as they are written.
    """

    videos: Sequence[tuple[np.ndarray, np.ndarray]]

    @cached_property
    def _row(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and seconds of all videos in a row. A score that ends every event is between
        them.
        """
        scores = [np.append(scores, -1.0) for scores, _ in self.videos]
        return np.concatenate(scores), np.concatenate([*(s for _, s in self.videos), [0.0]])

    @cached_property
    def hours(self) -> float:
        return sum(float(seconds[-1] - seconds[0]) for _, seconds in self.videos) / 3600

    def false_alarms(self, rule: Rule, tried: int = 1) -> FalseAlarms:
        """The events of these videos by a rule, one of so many that were tried on them."""
        return FalseAlarms(
            alarms=len(spans(*self._row, rule)),
            videos=len(self.videos),
            snippets=sum(len(scores) for scores, _ in self.videos),
            hours=self.hours,
            tried=tried,
        )

    def most_alarms(self, alarms_per_hour: float, tried: int = 1) -> int:
        """The most false alarms that these videos may have where a rate is to be trusted; −1 where
        not even none shows it.
        """
        counts = range(math.ceil(alarms_per_hour * self.hours) + 1)
        bound = partial(_upper, hours=self.hours, tried=tried)
        return bisect_right(counts, alarms_per_hour, key=bound) - 1

    def trusted_rule(
        self, extent: Extent, alarms_per_hour: float, tried: int = 1
    ) -> tuple[Rule, FalseAlarms]:
        """The rule with the lowest threshold that can be trusted for a rate of false alarms, and
        how many it makes; `extent` is one of so many that were tried on these videos.

        Its rate is higher than was asked for with a chance of at most 5 %, however many thresholds
        are tried: whichever is the first to be too low, its own count would have to mislead.

        Raises BadInput where not even a threshold without a single alarm can be trusted.
        """
        most = self.most_alarms(alarms_per_hour, tried)
        if most < 0:
            seen = self.false_alarms(extent.rule(1.0))
            needed = math.ceil(100 * poisson_upper(0) / alarms_per_hour) / 100
            raise BadInput(
                f"{_count(seen.snippets, 'snippet')} of {_count(seen.videos, 'normal video')} "
                f"({_time(seen.hours)}): no threshold can be trusted for "
                f"{_count(alarms_per_hour, 'false alarm')} an hour; "
                f"{_time(needed)} of normal video are needed"
            )
        rule = self.lowest_rule(extent, most)
        return rule, self.false_alarms(rule, tried)

    def lowest_rule(self, extent: Extent, most: int) -> Rule:
        """The rule with the lowest threshold down to which there are at most so many false alarms.

        Thresholds are tried from the highest score downwards, and the last one before the first
        that makes more is taken. So none is reached that is so low that neighbouring events are
        one.
        """
        rising = np.sort(np.concatenate([scores for scores, _ in self.videos]))
        rules = [extent.rule(opens) for opens in np.unique(rising)[::-1].tolist()]
        # how many snippets open an event by each rule, and how many it may go on with
        opening = np.searchsorted(rising, [rule.opens for rule in rules], "right")
        going_on = np.searchsorted(rising, [rule.closes for rule in rules], "right")
        above = 2 * len(rising) - opening - going_on
        found, number = rules[0], 0  # no score is above the highest
        while number < len(rules):
            alarms = self.false_alarms(rules[number]).alarms
            if alarms > most:
                break
            found = rules[number]
            # each alarm more needs a snippet more above one of the two scores: until there are as
            # many as alarms are left, every rule may be taken
            sure = np.searchsorted(above, above[number] + most - alarms, "right") - 1
            number = max(number + 1, int(sure))
        return found


@dataclass(frozen=True)
class Val:
    """A run's val videos as its thresholds.json keeps them: the normal ones, and the scores and
    seconds of the anomalous ones.
    """

    normal: Normal
    anomalous: Sequence[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, head: str, kept: KeptThresholds | None) -> "Val":
        """By the scores of a head; without videos where none are kept."""

        def videos(of_kept: Sequence[KeptVideo]) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(np.array(v[head]), np.array(v["seconds"])) for v in of_kept]

        if kept is None:
            return cls(Normal([]), [])
        return cls(Normal(videos(kept.get("videos", []))), videos(kept.get("anomalous", [])))

    def found(self, rule: Rule) -> int:
        """How many anomalous videos have an event."""
        return sum(len(spans(*video, rule)) > 0 for video in self.anomalous)

    def extent(self, asked: Asked) -> tuple[Extent, str, int]:
        """How far events go where a rate of false alarms is asked for, in words why, and how many
        were tried: what the user gives; else that of `EXTENTS` which finds the most anomalous
        videos, each with the lowest threshold by which the normal videos have no more false alarms
        than that rate, and of several the plainest; else what is usual.
        """
        rate = asked.alarms_per_hour
        assert rate is not None
        if asked.close is not None or asked.least is not None:
            return asked.extent, f"{asked.extent} were given", 1
        if not (self.normal.videos and self.anomalous):
            return USUAL, f"{USUAL} are defaults: the run keeps no anomalous val videos", 1
        # 1e-9 is added so that three alarms in three hours are one an hour
        most = math.floor(rate * self.normal.hours + 1e-9)
        found = {extent: self.found(self.normal.lowest_rule(extent, most)) for extent in EXTENTS}
        best = max(found, key=found.__getitem__)
        why = (
            f"{best} were chosen on val: of {len(EXTENTS)} pairs they find the most anomalous "
            f"videos, {found[best]} of {len(self.anomalous)}, at that rate as counted"
        )
        return best, why, len(EXTENTS)


@dataclass(frozen=True)
class Trusted:
    """A rule, and the events that it makes in normal videos."""

    rule: Rule
    seen: FalseAlarms


@dataclass(frozen=True)
class Calibration:
    """What --calibrate writes: rules for a user's camera, the normal video behind them, and the
    weights whose scores these are. `rule` and `seen` are by scores of whole videos, `watch` by
    those of a watch.
    """

    run: str
    weights_sha256: str
    head: str
    alarms_per_hour: float
    rule: Rule
    seen: FalseAlarms
    # not in files that were written before these were kept
    why: str = ""  # in words, of `closes` and `least`
    watch: Trusted | None = None

    def threshold(self, live: bool = False) -> Threshold:
        """The rule for whole videos or, `live`, for a watch."""
        rate = _count(self.alarms_per_hour, "false alarm")
        source = f"calibrated for at most {rate} an hour on normal video of a camera's own"
        found = Trusted(self.rule, self.seen)
        if live and self.watch is not None:
            found, source = self.watch, f"{source}, scored as a watch scores it"
        parts = [f"{source}: {found.seen.sentence()}", self.why]
        if live and self.watch is None:
            parts.append(OF_WHOLE.format("its scores") + "; --calibrate makes a rule for a watch")
        return Threshold(found.rule, "; ".join(filter(None, parts)))


def write_calibration(path: Path, calibration: Calibration) -> None:
    write(path, json.dumps(asdict(calibration), ensure_ascii=False, indent=1) + "\n")


def read_calibration(path: Path, weights_sha256: str, head: str) -> Calibration:
    """Raises BadInput where a file is no calibration, and where it is that of other weights or of
    another head.
    """
    refusal = "is no calibration; give the calibration.json that --calibrate wrote"
    found = read_json(path, Calibration, refusal)
    rules = [Trusted(found.rule, found.seen), *([found.watch] if found.watch else [])]
    sound = 0 < found.alarms_per_hour < math.inf and all(map(_is_sound, rules))
    require(sound, f"{path} {refusal}")
    require(
        (found.weights_sha256, found.head) == (weights_sha256, head),
        f"{path} is the calibration of other weights, of {found.run} by its {found.head} head; "
        "calibrate this run with --calibrate",
    )
    return found


def _is_sound(found: Trusted) -> bool:
    rule, seen = found.rule, found.seen
    counted = min(seen.videos, seen.snippets, seen.tried) > 0 and seen.alarms >= 0
    ordered = 0 <= rule.closes <= rule.opens <= 1
    return ordered and 0 <= rule.least < math.inf and counted and 0 < seen.hours < math.inf


def lowest_threshold(normal: np.ndarray, rate: float) -> float:
    """The smallest of the scores of normal snippets, [N], that at most a share `rate` of them
    exceeds.
    """
    falling = np.sort(normal)[::-1]
    # 1e-9 is added so that 0.05 · 20 is one snippet whatever the binary digits of 0.05
    return float(falling[min(math.floor(rate * len(falling) + 1e-9), len(falling) - 1)])


def chosen_thresholds(
    scores: Mapping[str, Sequence[np.ndarray]],
    seconds: Sequence[np.ndarray],
    anomalous: np.ndarray,
) -> KeptThresholds:
    """What a run keeps: a threshold for each head, and what it is chosen on.

    `scores` holds for each head one array a val video: the mean over seeds of the scores of its n
    snippets, [n]; `seconds` those at which its snippets begin and the last one ends, [n + 1]; and
    `anomalous` tells which of the videos are, [V].
    """
    of_heads = {head: list(map(written, videos)) for head, videos in scores.items()}
    videos = [
        {"seconds": np.round(edges, 3).tolist()}
        | {head: of_videos[i].tolist() for head, of_videos in of_heads.items()}
        for i, edges in enumerate(seconds)
    ]
    normal = np.flatnonzero(~anomalous).tolist()
    lowest = {
        head: lowest_threshold(np.concatenate([of_videos[i] for i in normal]), FALSE_ALARM_RATE)
        for head, of_videos in of_heads.items()
    }
    kept = {
        "false_alarm_rate": FALSE_ALARM_RATE,
        "normal_videos": len(normal),
        "normal_snippets": sum(len(seconds[i]) - 1 for i in normal),
        **lowest,
        "videos": [videos[i] for i in normal],
        "anomalous": [videos[i] for i in np.flatnonzero(anomalous).tolist()],
    }
    return cast(KeptThresholds, kept)


def threshold(
    head: str, kept: KeptThresholds | None, asked: Asked, live: bool = False
) -> Threshold:
    """What a user asks for, else the threshold that a run keeps for the head, else a half. Where
    the run keeps how long its normal val videos are, the false alarms in them are told, and of a
    watch (`live`) that it scores otherwise.

    Raises BadInput where a rate of false alarms is asked for and val cannot show it.
    """
    val = Val.of(head, kept)
    if asked.alarms_per_hour is not None:
        found = _of_rate(val, kept is not None, asked, asked.alarms_per_hour)
    else:
        found = _of_score(val, head, kept, asked)
    if live and val.normal.videos:
        differs = OF_WHOLE.format("val's scores")
        found = replace(found, source=f"{found.source}; {differs}")
    return found


def _of_score(val: Val, head: str, kept: KeptThresholds | None, asked: Asked) -> Threshold:
    """The threshold that is given, else the one that a run keeps, else a half."""
    if asked.threshold is not None:
        opens, source = asked.threshold, "given with --threshold"
    elif kept is None:
        opens = UNCHOSEN
        source = (
            "a default: the run has no normal val videos to choose one on, so its rate of false "
            f"alarms is not known; give --threshold, or {MORE}"
        )
    else:
        opens = kept[head]
        source = (
            f"chosen on val: at most {100 * kept['false_alarm_rate']:g} % of the "
            f"{kept['normal_snippets']} snippets of its {kept['normal_videos']} normal videos lie "
            "above it"
        )
    rule = asked.extent.rule(opens)
    if val.normal.videos:
        source += f"; on val it makes {val.normal.false_alarms(rule).sentence()}"
    elif kept:
        source += "; the run does not keep how many hours these are"
    return Threshold(rule, source)


def _of_rate(val: Val, has_val: bool, asked: Asked, alarms_per_hour: float) -> Threshold:
    """The threshold for a rate of false alarms by the val videos of a run."""
    if not val.normal.videos:
        lacks = (
            "does not keep how many hours its normal val videos are (main.py --config … --resume "
        )
        lacks = f"{lacks}writes it)" if has_val else "has no normal val videos"
        raise BadInput(f"the run {lacks}, so val shows no rate of false alarms; {MORE}")
    extent, why, tried = val.extent(asked)
    if val.normal.most_alarms(alarms_per_hour, tried) < 0 and tried > 1:
        short = f"val's normal videos are too short to try {tried} pairs on"
        extent, why, tried = USUAL, f"{USUAL} are defaults: {short}", 1
    try:
        rule, seen = val.normal.trusted_rule(extent, alarms_per_hour, tried)
    except BadInput as error:
        raise BadInput(f"the run's val has {error}; {MORE}") from None
    rate = _count(alarms_per_hour, "false alarm")
    return Threshold(rule, f"chosen on val for at most {rate} an hour: {seen.sentence()}; {why}")


def _count(number: int | float, noun: str) -> str:
    return f"{number:.15g} {noun}{'s' * (number != 1)}"


def _time(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{3600 * hours:.0f} s"


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
