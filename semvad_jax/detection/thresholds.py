"""Which rule makes events, and in words why: a user's threshold, a rate of false alarms, or what a
run keeps. Thresholds are chosen on normal videos, of val or of a user's camera, never on test.

An event in a normal video is a false alarm. A rule is trusted for X false alarms an hour where the
normal videos that were seen show it: the exact upper 95 % bound of the rate, for as many alarms as
were counted in as many hours, is at most X. False alarms are taken to come independently of each
other, as a Poisson process.
"""

import dataclasses
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np

from semvad_jax.detection.events import Rule, Threshold, spans
from semvad_jax.detection.timeline import DECIMALS, written
from semvad_jax.files import BadInput, read_json, require, write
from semvad_jax.statistics import poisson_upper

FALSE_ALARM_RATE = 0.05  # at most this share of normal snippets lies above a run's own threshold
UNCHOSEN = 0.5  # where a run has nothing to choose a threshold on
# Where a rate is asked for: a score that flickers about the threshold is one alarm and not ten, and
# nobody is called for a single snippet.
CLOSE, LEAST = 0.5, 1.0
MORE = "give --calibration FILE, which --calibrate writes"

KeptVideo = TypedDict(
    "KeptVideo", {"seconds": list[float], "binary": list[float], "class": NotRequired[list[float]]}
)
# RUN/checkpoint/thresholds.json: each head's threshold, and the normal val videos that it is
# chosen on; the heads are those of the model
KeptThresholds = TypedDict(
    "KeptThresholds",
    {
        "false_alarm_rate": float,
        "normal_videos": int,
        "normal_snippets": int,
        "binary": float,
        "class": NotRequired[float],
        "videos": NotRequired[list[KeptVideo]],  # runs that were trained before this was kept
    },
)


@dataclass(frozen=True)
class Asked:
    """What a user says of events; None where nothing is said.

    `threshold` is a score, `alarms_per_hour` the highest rate of false alarms, and `calibration` a
    file that has a rule. An event goes on while scores are above a share `close` of the threshold,
    and lasts at least `least` seconds.
    """

    threshold: float | None = None
    alarms_per_hour: float | None = None
    calibration: Path | None = None
    close: float | None = None
    least: float | None = None

    def rule(self, opens: float) -> Rule:
        """The rule with a threshold."""
        close, least = (1.0, 0.0) if self.alarms_per_hour is None else (CLOSE, LEAST)
        close = close if self.close is None else self.close
        least = least if self.least is None else self.least
        return Rule(opens, min(opens, round(close * opens, DECIMALS)), least)


def _upper(alarms: int, hours: float) -> float:
    """The upper 95 % bound of a rate of false alarms, an hour."""
    return poisson_upper(alarms) / hours


@dataclass(frozen=True)
class FalseAlarms:
    """How many events there were in normal videos."""

    alarms: int
    videos: int
    snippets: int
    hours: float

    @property
    def upper(self) -> float:
        """The upper 95 % bound of their rate, an hour."""
        return _upper(self.alarms, self.hours)

    def sentence(self) -> str:
        return (
            f"{_count(self.alarms, 'false alarm')} in {_time(self.hours)} of "
            f"{_count(self.videos, 'normal video')}, so {_number(self.alarms / self.hours)} an "
            f"hour and at most {_number(self.upper)} (upper 95 % bound)"
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

    def false_alarms(self, rule: Rule) -> FalseAlarms:
        """The events of these videos by a rule."""
        return FalseAlarms(
            alarms=len(spans(*self._row, rule)),
            videos=len(self.videos),
            snippets=sum(len(scores) for scores, _ in self.videos),
            hours=self.hours,
        )

    def _most_alarms(self, alarms_per_hour: float) -> int:
        """The most false alarms that these videos may have where a rate is to be trusted; −1 where
        not even none shows it.
        """
        counts = range(math.ceil(alarms_per_hour * self.hours) + 1)
        bound = partial(_upper, hours=self.hours)
        return bisect_right(counts, alarms_per_hour, key=bound) - 1

    def lowest_rule(self, asked: Asked, alarms_per_hour: float) -> tuple[Rule, FalseAlarms]:
        """The rule with the lowest threshold that can be trusted for a rate of false alarms, and
        how many it makes.

        Thresholds are tried from the highest score downwards, and the last one before the first
        that cannot be trusted is taken. So its rate is higher than was asked for with a chance of
        at most 5 %, however many are tried: whichever threshold is the first to be too low, its
        own count would have to mislead. Nor is a threshold reached that is so low that neighbouring
        events are one.

        Raises BadInput where not even a threshold without a single alarm can be trusted.
        """
        rising = np.sort(np.concatenate([scores for scores, _ in self.videos]))
        rules = [asked.rule(opens) for opens in np.unique(rising)[::-1].tolist()]
        # how many snippets open an event by each rule, and how many it may go on with
        opening = np.searchsorted(rising, [rule.opens for rule in rules], "right")
        going_on = np.searchsorted(rising, [rule.closes for rule in rules], "right")
        above = 2 * len(rising) - opening - going_on
        most = self._most_alarms(alarms_per_hour)
        found, number = None, 0
        while number < len(rules) and (seen := self.false_alarms(rules[number])).alarms <= most:
            found = rules[number], seen
            # each alarm more needs a snippet more above one of the two scores: until there are as
            # many as alarms are left, every rule can be trusted
            sure = np.searchsorted(above, above[number] + most - seen.alarms, "right") - 1
            number = max(number + 1, int(sure))
        if found is None:
            seen = self.false_alarms(asked.rule(1.0))
            needed = math.ceil(100 * poisson_upper(0) / alarms_per_hour) / 100
            raise BadInput(
                f"{_count(seen.snippets, 'snippet')} of {_count(seen.videos, 'normal video')} "
                f"({_time(seen.hours)}): no threshold can be trusted for "
                f"{_count(alarms_per_hour, 'false alarm')} an hour; "
                f"{_time(needed)} of normal video are needed"
            )
        return found


@dataclass(frozen=True)
class Calibration:
    """What --calibrate writes: a rule for a user's camera, the normal video behind it, and the
    weights whose scores these are.
    """

    run: str
    weights_sha256: str
    head: str
    alarms_per_hour: float
    rule: Rule
    seen: FalseAlarms

    def threshold(self) -> Threshold:
        rate = _count(self.alarms_per_hour, "false alarm")
        source = f"calibrated for at most {rate} an hour on normal video of a camera's own"
        return Threshold(self.rule, f"{source}: {self.seen.sentence()}")


def write_calibration(path: Path, calibration: Calibration) -> None:
    write(path, json.dumps(dataclasses.asdict(calibration), ensure_ascii=False, indent=1) + "\n")


def read_calibration(path: Path, weights_sha256: str, head: str) -> Calibration:
    """Raises BadInput where a file is no calibration, and where it is that of other weights or of
    another head.
    """
    refusal = "is no calibration; give the calibration.json that --calibrate wrote"
    found = read_json(path, Calibration, refusal)
    rule, seen = found.rule, found.seen
    sound = 0 <= rule.closes <= rule.opens <= 1 and rule.least >= 0 and found.alarms_per_hour > 0
    counted = seen.alarms >= 0 and min(seen.videos, seen.snippets) > 0 and seen.hours > 0
    finite = all(map(math.isfinite, (rule.least, found.alarms_per_hour, seen.hours)))
    require(sound and counted and finite, f"{path} {refusal}")
    require(
        (found.weights_sha256, found.head) == (weights_sha256, head),
        f"{path} is the calibration of other weights, of {found.run} by its {found.head} head; "
        "calibrate this run with --calibrate",
    )
    return found


def lowest_threshold(normal: np.ndarray, rate: float) -> float:
    """The smallest of the scores of normal snippets, [N], that at most a share `rate` of them
    exceeds.
    """
    falling = np.sort(normal)[::-1]
    # 1e-9 is added so that 0.05 · 20 is one snippet whatever the binary digits of 0.05
    return float(falling[min(math.floor(rate * len(falling) + 1e-9), len(falling) - 1)])


def chosen_thresholds(
    scores: Mapping[str, Sequence[np.ndarray]], seconds: Sequence[np.ndarray]
) -> KeptThresholds:
    """What a run keeps: a threshold for each head, and what it is chosen on.

    `scores` holds for each head one array a normal val video: the mean over seeds of the scores of
    its n snippets, [n]; `seconds` those at which its snippets begin and the last one ends, [n + 1].
    """
    of_heads = {head: list(map(written, videos)) for head, videos in scores.items()}
    videos = [{"seconds": np.round(edges, 3).tolist()} for edges in seconds]
    kept = {
        "false_alarm_rate": FALSE_ALARM_RATE,
        "normal_videos": len(videos),
        "normal_snippets": sum(map(len, next(iter(of_heads.values())))),
    }
    for head, of_videos in of_heads.items():
        kept[head] = lowest_threshold(np.concatenate(of_videos), FALSE_ALARM_RATE)
        for video, means in zip(videos, of_videos, strict=True):
            video[head] = means.tolist()
    return cast(KeptThresholds, kept | {"videos": videos})


def threshold(head: str, kept: KeptThresholds | None, asked: Asked) -> Threshold:
    """What a user asks for, else the threshold that a run keeps for the head, else a half. Where
    the run keeps how long its normal val videos are, the false alarms in them are told.

    Raises BadInput where a rate of false alarms is asked for and val cannot show it.
    """
    videos = kept.get("videos") if kept else None
    normal = Normal([(np.array(v[head]), np.array(v["seconds"])) for v in videos or ()])
    if (rate := asked.alarms_per_hour) is not None:
        return _of_rate(normal, kept is not None, asked, rate)
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
    rule = asked.rule(opens)
    if videos:
        source += f"; on val it makes {normal.false_alarms(rule).sentence()}"
    elif kept:
        source += "; the run does not keep how many hours these are"
    return Threshold(rule, source)


def _of_rate(normal: Normal, has_val: bool, asked: Asked, alarms_per_hour: float) -> Threshold:
    """The threshold for a rate of false alarms by the normal val videos of a run."""
    if not normal.videos:
        lacks = (
            "does not keep how many hours its normal val videos are (main.py --config … --resume "
        )
        lacks = f"{lacks}writes it)" if has_val else "has no normal val videos"
        raise BadInput(f"the run {lacks}, so val shows no rate of false alarms; {MORE}")
    try:
        rule, seen = normal.lowest_rule(asked, alarms_per_hour)
    except BadInput as error:
        raise BadInput(f"the run's val has {error}; {MORE}") from None
    rate = _count(alarms_per_hour, "false alarm")
    return Threshold(rule, f"chosen on val for at most {rate} an hour: {seen.sentence()}")


def _count(number: int | float, noun: str) -> str:
    return f"{number:.15g} {noun}{'s' * (number != 1)}"


def _time(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{3600 * hours:.0f} s"


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
