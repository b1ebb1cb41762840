"""Detection: a store's videos are scored by every seed of a run, and each video gets a folder with
scores.csv, events.json and report.html; see index.py for what tells of all of them.

All that is written of a video is made from one `Timeline`, see timeline.py.
"""

import csv
import dataclasses
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from semvad_jax import checkpoint, seeds
from semvad_jax.config import Config
from semvad_jax.detection import events, index, pictures, thresholds
from semvad_jax.detection import page as video_page
from semvad_jax.detection.events import Event, Origin
from semvad_jax.detection.thresholds import Asked, Calibration, KeptThresholds, Normal, Trusted, Val
from semvad_jax.detection.timeline import DECIMALS, Timeline, written
from semvad_jax.evaluate import Scores, Videos
from semvad_jax.files import BadInput, read_json, replacing, require, write
from semvad_jax.store import Store, Video
from semvad_jax.store.format import UNLABELLED, truth_known
from semvad_jax.types import Frozen, Weights

DAMAGED = (
    "is damaged: it does not hold a run's thresholds; main.py --config … --resume writes it again"
)
PRODUCERS = ("visual", "captions", "text")
# What a producer says of the files it read. Other videos come from other files, so it may differ.
OF_FILES = ("file", "files", "sha256", "sha256_of_names_and_sizes")
OF_FILES += ("repeated_last_captions", "videos_with_one_crop", "layout")
# How it computed, which differs between kinds of machines.
OF_FILES += ("batch",)
HEAD = "snippet,start_frame,end_frame,start_second,end_second,score_mean,score_sd,class"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
# hidden names, separators and controls, the names of our own files
UNSAFE = re.compile(r"^\.|^store(\.work)?$|^index\.(json|html)$|[\\\x00-\x1f\x7f]", re.IGNORECASE)
LONGEST = 120  # bytes of a folder's name
CONFIDENCE = "the mean over the event's snippets of the score's mean over seeds"


def head(cfg: Config) -> str:
    """The head whose scores are written: `eval.select_head`, or the binary head where that is
    `max`, which is no score.
    """
    return "class" if cfg.eval.select_head == "class" else "binary"


def origin(run: Path, cfg: Config, seed_count: int, asked: Asked, live: bool = False) -> Origin:
    """Who scores, `seed_count` seeds of RUN by one head, and by which rule that makes an event, in
    whole videos or, `live`, in a watch: what the user asks for, else the run's own, else a half.

    Raises BadInput where the run's checkpoint/thresholds.json or the calibration is damaged or is
    another run's, and where a rate of false alarms is asked for that val cannot show.
    """
    scored_by = head(cfg)
    if asked.calibration is not None:
        weights = checkpoint.weights_sha256(run)
        found = thresholds.read_calibration(asked.calibration, weights, scored_by)
        threshold = found.threshold(live)
    else:
        kept = _kept_thresholds(run, scored_by)
        threshold = thresholds.threshold(scored_by, kept, asked, live)
    return Origin(str(run), cfg.model.name, seed_count, scored_by, threshold)


def _kept_thresholds(run: Path, head: str) -> KeptThresholds | None:
    """What RUN keeps for a head, None where it has no normal val videos; BadInput where that is
    damaged.
    """
    path = run / checkpoint.THRESHOLDS
    checkpoint.check(run, checkpoint.THRESHOLDS)
    kept = read_json(path, KeptThresholds, DAMAGED) if path.is_file() else None
    require(kept is None or _is_whole(kept, head), f"{path} {DAMAGED}")
    return kept


def _is_whole(kept: KeptThresholds, head: str) -> bool:
    """Whether a threshold is kept for the head, and every video's scores and seconds."""
    videos = kept.get("videos", []) + kept.get("anomalous", [])
    return head in kept and all(
        len(v["seconds"]) == len(v.get(head, ())) + 1 > 1 and v["seconds"][0] < v["seconds"][-1]
        for v in videos
    )


def write_thresholds(run: Path, videos: Videos, scores: Sequence[Scores]) -> None:
    """Keeps with RUN from which score on a snippet is an event, by each head, and the scores of the
    val videos.

    `scores` are the last weights' scores of `videos`, an entry a seed. Nothing is written where no
    normal video is among val.
    """
    anomalous = videos.val_abnormal > 0
    if not anomalous.all():
        own = [videos.val_scores(of_seed) for of_seed in scores]
        means = {
            name: [
                _mean_over_seeds(of_seeds)
                for of_seeds in zip(*(of_seed.head(name) for of_seed in own), strict=True)
            ]
            for name in scores[0].heads()
        }
        seconds = [videos.store.videos[i].second_edges for i in videos.val]
        kept = thresholds.chosen_thresholds(means, seconds, anomalous)
        write(run / checkpoint.THRESHOLDS, json.dumps(kept))


def _mean_over_seeds(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of an array of each seed, all of one shape, in float64."""
    return np.stack(arrays).mean(axis=0, dtype=np.float64)


def check_store(cfg: Config, store: Store) -> None:
    """Raises BadInput where the store's features do not fit the run's model; its class list does
    not matter.
    """
    for name, dim in (("feature_dim", store.feature_dim), ("caption_dim", store.caption_dim)):
        if dim != getattr(cfg.data, name):
            raise BadInput(
                f"the store at {store.path} has {name} {dim}, the run was trained on "
                f"{getattr(cfg.data, name)}; "
                "make the store with the producers that the run's checkpoint/meta.json names"
            )


def check_producers(
    run: Path, producers: Mapping[str, Any], store: Store, other_captioner: bool = False
) -> None:
    """Raises BadInput where the store's features were made by other producers than `producers`,
    those that RUN was trained on; its captions may be by another, where that is asked for.
    """
    stages = [stage for stage in PRODUCERS if stage != "captions" or not other_captioner]
    if other := _other(run, producers, store.info["producers"], stages):
        raise BadInput(
            f"the store at {store.path} has {other}; "
            "make the store with the producers that the run's checkpoint/meta.json names"
        )


def check_models(run: Path, producers: Mapping[str, Any], used: Mapping[str, Any]) -> None:
    """The same of the models that look at a stream, whose producers are `used`."""
    if other := _other(run, producers, json.loads(json.dumps(used)), PRODUCERS):
        raise BadInput(
            f"the models here have {other}; install those that the run's checkpoint/meta.json "
            "names, or give their folders with --weights"
        )


def _other(
    run: Path, producers: Mapping[str, Any], found: Mapping[str, Any], stages: Sequence[str]
) -> str | None:
    """The first setting in which `found` differ from RUN's producers, None where none does."""
    for stage in stages:
        trained_on, here = producers.get(stage) or {}, found.get(stage) or {}
        for setting in dict.fromkeys([*trained_on, *here]):
            if setting not in OF_FILES and trained_on.get(setting) != here.get(setting):
                return (
                    f"{stage}.{setting} {_short(here.get(setting))}, but {run} was trained on "
                    f"{_short(trained_on.get(setting))}"
                )
    return None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def detect(
    cfg: Config,
    frozen: Frozen,
    weights: Weights,
    store: Store,
    origin: Origin,
    out: Path,
    files: Mapping[str, Path],
    unreadable: Mapping[str, str],
    frames: pictures.Frames | None = None,
) -> list[index.Row]:
    """Writes OUT/<video>/ scores.csv, events.json and report.html for every readable video of the
    store, and the index of OUT, which tells of the others why they have none.

    `weights` are stacked over seeds. Mean and sample SD are over seeds (no SD for one); the class
    of a snippet is the one with the largest mean probability. `files` are those of the store's
    videos that are at hand, by the video's name; `unreadable` are videos that did not come into the
    store, with the reasons. `frames` decodes the videos; without it files and pictures are those
    that lie beside the store. Raises BadInput where the features do not fit the model, and where
    OUT is a run or a store.
    """
    check_store(cfg, store)
    for name in ("config.json", "store.json"):
        require(
            not (out / name).is_file(),
            f"{out} holds a run or a store, which videos could overwrite; give another --out",
        )
    videos = [i for i, v in enumerate(store.videos) if v.error is None and v.snippets > 0]
    failed = {v.video: v.error or "no snippets" for v in store.videos if v.snippets == 0}
    failed |= unreadable
    names = folder_names([store.videos[i].video for i in videos])
    scores = seeds.score_videos(cfg, frozen, weights, store, videos) if videos else []
    if frames is None:
        files, frames = pictures.beside(store, names)
    rows = []
    for position, i in enumerate(videos):
        anomaly = np.stack([s.head(origin.head)[position] for s in scores]).astype(np.float64)
        classes = [s.classes[position] for s in scores if s.classes is not None]
        timeline = _timeline(cfg, store, i, anomaly, _mean_over_seeds(classes) if classes else None)
        folder = out / names[timeline.video]
        folder.mkdir(parents=True, exist_ok=True)
        above = events.events(timeline, origin.threshold.rule)
        _write_scores(folder / "scores.csv", timeline)
        write(folder / "events.json", _events_json(timeline, above, origin))
        file = files.get(timeline.video)
        address = video_page.address(file, folder) if file else None
        shown = pictures.of_events(timeline, above, frames)
        write(folder / "report.html", video_page.render(timeline, above, origin, address, shown))
        rows.append(index.scored(folder.name, timeline, above, shown))
    rows += [index.failed(video, reason) for video, reason in failed.items()]
    index.write_index(out, origin.run, rows, origin)
    return rows


def calibrate(
    cfg: Config,
    frozen: Frozen,
    weights: Weights,
    store: Store,
    run: Path,
    asked: Asked,
    tell: Callable[[int, int], None],
) -> Calibration:
    """The rules that can be trusted for the rate of false alarms that is asked for, in whole videos
    and in a watch, by the test videos of a store (a user's own are such) that are not labelled with
    an anomaly. `tell` hears how many snippets of all were scored as a watch scores them.

    Raises BadInput where there is none, and where they are too short to show that rate.
    """
    assert asked.alarms_per_hour is not None
    normal_labels = {store.classes[0], UNLABELLED}
    videos = [
        i
        for i, v in enumerate(store.videos)
        if v.split == "test" and v.snippets > 0 and normal_labels.issuperset(v.labels)
    ]
    require(bool(videos), f"{store.path} has no normal test video; calibrate on normal video")
    scored_by, rate = head(cfg), asked.alarms_per_hour
    extent, why, _ = Val.of(scored_by, _kept_thresholds(run, scored_by)).extent(asked)

    def trusted(scores: Sequence[Scores]) -> Trusted:
        seen = []
        for position, i in enumerate(videos):
            mean = _mean_over_seeds([s.head(scored_by)[position] for s in scores])
            seen.append((written(mean), np.round(store.videos[i].second_edges, 3)))
        return Trusted(*Normal(seen).trusted_rule(extent, rate))

    whole = trusted(seeds.score_videos(cfg, frozen, weights, store, videos))
    live = seeds.score_in_real_time(cfg, frozen, weights, store, videos, [0], tell)
    watch = trusted(live[0])
    digest = checkpoint.weights_sha256(run)
    return Calibration(str(run), digest, scored_by, rate, whole.rule, whole.seen, why, watch)


def folder_names(videos: Sequence[str]) -> dict[str, str]:
    """A name for each video's folder: safe wherever files lie, and no two alike.

    A plain name stays as it is. `a/b` becomes `a__b`; what is still not safe, or not alone, gets
    digits made of the video's name.
    """
    plain = [video.replace("/", "__") for video in videos]
    alike = Counter(unicodedata.normalize("NFC", name).casefold() for name in plain)
    names = {}
    for video, name in zip(videos, plain, strict=True):
        alone = alike[unicodedata.normalize("NFC", name).casefold()] == 1
        safe = name == UNSAFE.sub("_", name) and name[-1] not in ". "
        if not (alone and safe and len(name.encode()) <= LONGEST):
            digits = hashlib.sha256(video.encode()).hexdigest()[:8]
            short = UNSAFE.sub("_", name).encode()[: LONGEST - 9].decode(errors="ignore")
            name = f"{short}~{digits}"
        names[video] = name
    return names


def _timeline(
    cfg: Config,
    store: Store,
    i: int,
    anomaly: Float[np.ndarray, "S n"],
    classes: Float[np.ndarray, "n C"] | None,
) -> Timeline:
    """The store's video `i` from its n snippets' anomaly scores, a row a seed, and the mean over
    seeds of their class probabilities; None without a class head.
    """
    video = store.videos[i]
    return Timeline(
        video=video.video,
        edges=video.frame_edges,
        second_edges=video.second_edges,
        mean=written(anomaly.mean(axis=0)),
        sd=written(anomaly.std(axis=0, ddof=1)) if len(anomaly) > 1 else None,
        classes=() if classes is None else cfg.data.classes,
        probabilities=np.zeros((video.snippets, 0)) if classes is None else written(classes),
        captions=tuple(store.texts(i)) or ("",) * video.snippets,
        truth=_truth(video, store.classes[0]),
    )


def _truth(video: Video, normal: str) -> tuple[tuple[str, int, int], ...] | None:
    """Where anomalies are: known of test videos that have intervals or are normal, else None. Train
    videos have labels alone.
    """
    return video.intervals if truth_known(video, normal) else None


def heading(classes: Sequence[str]) -> list[str]:
    """The first row of scores.csv."""
    return [*HEAD.split(","), *map(defused, classes), "caption"]


def cells(
    snippet: int,
    frames: tuple[int, int],
    seconds: tuple[float, float],
    mean: float,
    sd: float | None,
    named: str,
    probabilities: np.ndarray,
    caption: str,
) -> list[str]:
    """The row of a snippet; the SD's cell is empty for one seed."""
    return [
        *map(str, (snippet, *frames)),
        *(f"{second:.3f}" for second in seconds),
        *_digits([mean, *([] if sd is None else [sd])]),
        *([""] if sd is None else []),
        defused(named),
        *_digits(probabilities),
        defused(caption),
    ]


def _write_scores(path: Path, timeline: Timeline) -> None:
    """Writes scores.csv, a row a snippet."""
    edges, seconds = timeline.edges.tolist(), timeline.seconds
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(heading(timeline.classes))
        for t in range(timeline.snippets):
            row = cells(
                t,
                (edges[t], edges[t + 1]),
                (seconds[t], seconds[t + 1]),
                timeline.mean[t],
                None if timeline.sd is None else timeline.sd[t],
                timeline.named[t],
                timeline.probabilities[t],
                timeline.captions[t],
            )
            rows.writerow(row)


def defused(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe goes before one that begins
    with = + - @, a tab or a carriage return, and before an apostrophe, so that taking off the first
    apostrophe gives every text back.
    """
    return f"'{text}" if text.startswith(FORMULA) else text


def _digits(values: Iterable[float]) -> list[str]:
    return [f"{value:.{DECIMALS}f}" for value in values]


def _events_json(timeline: Timeline, events: Sequence[Event], origin: Origin) -> str:
    """The text of events.json, where an event's `label` is called "class"."""
    rows = []
    for event in events:
        row = dataclasses.asdict(event)
        rows.append({"class" if name == "label" else name: value for name, value in row.items()})
    rule = origin.threshold.rule
    content = {
        "video": timeline.video,
        **dataclasses.asdict(origin),
        "threshold": {"value": rule.opens, "source": origin.threshold.source},
        "closes": rule.closes,
        "least_seconds": rule.least,
        "confidence": CONFIDENCE,
        "events": rows,
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
