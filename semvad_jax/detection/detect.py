"""A store's videos scored by every seed of a run: scores.csv, events.json and report.html per
video.
"""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, PyTree

from semvad_jax import seeds
from semvad_jax.config import Config
from semvad_jax.detection import events
from semvad_jax.detection import page as video_page
from semvad_jax.detection.events import Event, Origin
from semvad_jax.detection.timeline import Timeline, written
from semvad_jax.evaluate import Scores, Videos
from semvad_jax.files import BadInput, write
from semvad_jax.store import Store, Video
from semvad_jax.types import Frozen

THRESHOLDS = "thresholds.json"  # in RUN/checkpoint
PRODUCERS = ("visual", "captions", "text")
# What a producer says of the files it read; other videos come from other files.
OF_FILES = ("file", "files", "sha256", "sha256_of_names_and_sizes")
OF_FILES += ("repeated_last_captions", "videos_with_one_crop")
HEAD = "snippet,start_frame,end_frame,start_second,end_second,score_mean,score_sd,class"
CONFIDENCE = "the mean over the event's snippets of the score's mean over seeds"


def head(cfg: Config) -> str:
    """The head whose scores are written: `eval.select_head`, the binary one where that is `max`."""
    return "class" if cfg.eval.select_head == "class" else "binary"


def origin(run: Path, cfg: Config, count: int, given: float | None) -> Origin:
    """What scores: `count` seeds of RUN, and the given threshold, the run's own, or a half."""
    path = run / "checkpoint" / THRESHOLDS
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    chosen = head(cfg)
    threshold = events.threshold(chosen, kept, given)
    return Origin(str(run), cfg.model.name, count, chosen, threshold)


def write_thresholds(run: Path, videos: Videos, scores: Sequence[Scores]) -> None:
    """Keeps with RUN from which score on a snippet is an event, by each head.

    `scores` are the last weights' scores of `videos`, an entry a seed. Nothing is written where no
    normal video is among val.
    """
    normal = np.flatnonzero(videos.val_abnormal == 0) + len(videos.test)
    if len(normal):
        means = {
            name: [_mean([s.head(name)[i] for s in scores]) for i in normal]
            for name in scores[0].heads()
        }
        write(run / "checkpoint" / THRESHOLDS, json.dumps(events.chosen_thresholds(means)))


def _mean(of_seeds: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(of_seeds).mean(axis=0, dtype=np.float64)


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


def check_producers(run: Path, producers: Mapping[str, Any], store: Store) -> None:
    """Raises BadInput where features were made by others than those the run was trained on."""
    for kind in PRODUCERS:
        ours, others = (of.get(kind) or {} for of in (producers, store.info["producers"]))
        for name in dict.fromkeys([*ours, *others]):
            if name not in OF_FILES and ours.get(name) != others.get(name):
                raise BadInput(
                    f"the store at {store.path} has {kind}.{name} {_short(others.get(name))}, but "
                    f"{run} was trained on {_short(ours.get(name))}; "
                    "make the store with the producers that the run's checkpoint/meta.json names"
                )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def detect(
    cfg: Config,
    frozen: Frozen,
    params: PyTree,
    store: Store,
    by: Origin,
    out: Path,
    files: Mapping[str, Path],
) -> list[Path]:
    """Writes OUT/<video>/ scores.csv, events.json and report.html for every readable video of the
    store, from weights stacked over seeds; returns these folders.

    Mean and sample SD are over seeds (no SD for one); the class is the largest mean probability.
    `files` are those of the store's videos that are at hand, by name. Raises BadInput where the
    features do not fit.
    """
    check_store(cfg, store)
    videos = [i for i, v in enumerate(store.videos) if v.error is None and v.snippets > 0]
    if not videos:
        raise BadInput(
            f"the store at {store.path} has no readable video; see the errors in its videos.jsonl"
        )
    scores = seeds.score_videos(cfg, frozen, params, store, videos)
    folders = []
    for place, i in enumerate(videos):
        anomaly = np.stack([s.head(by.head)[place] for s in scores]).astype(np.float64)
        classes = [s.classes[place] for s in scores if s.classes is not None]
        timeline = _timeline(cfg, store, i, anomaly, _mean(classes) if classes else None)
        folder = out / timeline.video.replace("/", "__")
        folder.mkdir(parents=True, exist_ok=True)
        found = events.events(timeline, by.threshold.value)
        _write_scores(folder / "scores.csv", timeline)
        write(folder / "events.json", _events_json(timeline, found, by))
        file = files.get(timeline.video)
        address = video_page.address(file, folder) if file else None
        write(folder / "report.html", video_page.render(timeline, found, by, address))
        folders.append(folder)
    return folders


def _timeline(
    cfg: Config,
    store: Store,
    i: int,
    anomaly: Float[np.ndarray, "S n"],
    classes: Float[np.ndarray, "n C"] | None,
) -> Timeline:
    video = store.videos[i]
    return Timeline(
        video=video.video,
        edges=video.frame_edges,
        fps=video.fps,
        mean=written(anomaly.mean(axis=0)),
        sd=written(anomaly.std(axis=0, ddof=1)) if len(anomaly) > 1 else None,
        classes=() if classes is None else cfg.data.classes,
        probabilities=np.zeros((video.snippets, 0)) if classes is None else written(classes),
        captions=tuple(store.texts(i)) or ("",) * video.snippets,
        truth=_truth(video, store.classes[0]),
    )


def _truth(video: Video, normal: str) -> tuple[tuple[str, int, int], ...] | None:
    """Known of test videos that have intervals or are normal; train videos have labels alone."""
    known = video.split == "test" and (video.intervals or normal in video.labels)
    return video.intervals if known else None


def _write_scores(path: Path, timeline: Timeline) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*HEAD.split(","), *timeline.classes, "caption"])
        seconds = [f"{second:.3f}" for second in timeline.seconds]
        sds = [""] * timeline.snippets if timeline.sd is None else _digits(timeline.sd)
        for t, (mean, sd) in enumerate(zip(_digits(timeline.mean), sds, strict=True)):
            frames = int(timeline.edges[t]), int(timeline.edges[t + 1])
            row = [t, *frames, *seconds[t : t + 2], mean, sd, timeline.named[t]]
            rows.writerow([*row, *_digits(timeline.probabilities[t]), timeline.captions[t]])
    temporary.replace(path)


def _digits(values: np.ndarray) -> list[str]:
    return [f"{value:.6f}" for value in values]


def _events_json(timeline: Timeline, found: Sequence[Event], by: Origin) -> str:
    rows = [dataclasses.asdict(event) for event in found]
    told = {
        "video": timeline.video,
        **dataclasses.asdict(by),
        "confidence": CONFIDENCE,
        "events": [{"class" if k == "label" else k: v for k, v in row.items()} for row in rows],
    }
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"
