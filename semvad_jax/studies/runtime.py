"""The paper's runtime tables as a study: a line a stage, from a video's frames to its scores.

What is timed, what is printed of it, and study.json. The stages themselves: featurize/runtime.py,
and timing.py for the one that runs in JAX.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from semvad_jax import config
from semvad_jax.config import Config
from semvad_jax.files import BadInput, json_text, write
from semvad_jax.metrics import SNIPPET
from semvad_jax.report.findings import spread
from semvad_jax.report.inputs import PRODUCERS
from semvad_jax.report.tables import plain_console, table
from semvad_jax.stopwatch import Stage
from semvad_jax.store import Store
from semvad_jax.store.locate import open_store
from semvad_jax.studies.study import labelled, settings


@dataclass(frozen=True)
class Runtime:
    """Seconds a snippet of every stage, at batch 1."""

    title: str
    snippets: int = 100  # each stage's timed calls, of a snippet or a window
    warm_up: int = 3  # calls before them that do not count
    paper: Mapping[str, float] = field(default_factory=dict)  # seconds a snippet, by stage
    paper_together: tuple[float, float] | None = None  # of captions, fusion and detection, with SD
    paper_others: Mapping[str, float] = field(default_factory=dict)  # other systems'
    systems: Sequence[str] = ()  # models that are timed besides, at their defaults


@dataclass(frozen=True)
class Plan:
    """What is timed; without a video of the user's, the demo's longest."""

    video: Path | None
    features: Store
    cfg: Config
    others: Mapping[str, Config] = field(default_factory=dict)  # by the system's name


def plan(study: Runtime, data: Sequence[str], base: str | None, overrides: Sequence[str]) -> Plan:
    """Reads --data [video=FILE] [LABEL=STORE], --config and --set. Raises BadInput for two stores,
    for a bad one and for bad settings.
    """
    stores = labelled(data)
    video = stores.pop("video", None)
    if len(stores) > 1:
        raise BadInput(
            f"--data {' '.join(data)}: the runtime study takes one store, beside video=FILE"
        )
    label, path = next(iter(stores.items()), ("demo", "demo"))
    if any(text.partition("=")[0].strip() == "data.store" for text in overrides):
        raise BadInput("--set data.store: the store is named by --data LABEL=STORE")
    features = open_store(path)
    cfg = settings((), label, features, base, overrides)
    others = {
        name: config.resolve(settings((f"model.name={name}",), label, features, base, ()), features)
        for name in study.systems
    }
    return Plan(Path(video) if video else None, features, config.resolve(cfg, features), others)


@dataclass(frozen=True)
class Timed:
    """What was timed: the stages, on the frames of a video."""

    plan: Plan
    video: Path
    fps: float
    stages: Sequence[Stage]
    others: Sequence[Stage] = ()  # other systems in the place of fusion + detection
    scorers: Sequence[Stage] = ()  # training-free systems, which read captions or look themselves


def together(stages: Sequence[Stage]) -> float:
    """Seconds a snippet of all stages that were timed, one after the other."""
    return sum(spread(stage.seconds).mean for stage in stages if stage.measured)


def tell(study: Runtime, name: str, timed: Timed, home: Path) -> None:
    """Prints the tables and writes HOME/study.json."""
    home.mkdir(parents=True, exist_ok=True)
    write(home / "study.json", json_text(_numbers(study, name, timed)))
    console = plain_console()
    console.print(f"\n{study.title}\n{timed.video}; models of {timed.plan.features.path}\n")
    stages = [*timed.stages, *timed.others, *timed.scorers]
    console.print("Mean ± SD", _times(study, timed), "Peak memory", _memory(stages))
    for line in _notes(study, timed):
        console.print(line)
    console.print(f"The numbers: {home / 'study.json'}")


def _times(study: Runtime, timed: Timed) -> Table:
    times = table("stage", "seconds a snippet", "snippets/s", "fps", "the paper, s")
    times.columns[0].no_wrap = True
    for stage in timed.stages:
        figure = study.paper.get(stage.name)
        theirs = "–" if figure is None else f"{figure:.3f}{'*' if _differs(stage) else ''}"
        times.add_row(stage.name, *_cells(stage), theirs)
        if stage.measured and stage.snippets > 1:
            times.add_row(f"{stage.name}, a window", _window(stage), "–", "–", "–")
    times.add_section()
    printed = study.paper_together
    theirs = "–" if printed is None else f"{printed[0]:.3f} ± {printed[1]:.3f}"
    times.add_row("all together", *map(_digits, _rates(together(timed.stages)).values()), theirs)
    times.add_section()
    for stage in timed.others:
        times.add_row(stage.name, *_cells(stage), "–")
    papers = dict(study.paper_others)
    for stage in timed.scorers:
        figure = papers.pop(stage.name, None)  # of another model
        times.add_row(stage.name, *_cells(stage), "–" if figure is None else f"{figure:.3f}*")
    for name, seconds in papers.items():
        times.add_row(name, "–", "–", "–", f"{seconds:.3f}")
    return times


def _window(stage: Stage) -> str:
    """Seconds of a call, of all the snippets in a window."""
    call = spread([s * stage.snippets for s in stage.seconds])
    return _digits(call.mean) + ("" if call.sd is None else f" ± {_digits(call.sd)}")


def _memory(stages: Sequence[Stage]) -> Table:
    peaks = table("stage", "host MB", "device MB", "model", "on")
    peaks.columns[0].no_wrap = True
    for column in peaks.columns[3:]:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for stage in stages:
        if stage.measured is None:
            peaks.add_row(stage.name, "–", "–", stage.model, "–")
            continue
        host, device = stage.measured.host_bytes, stage.measured.device_bytes
        megabytes = f"{host / 1e6:,.0f}", "–" if device is None else f"{device / 1e6:,.0f}"
        peaks.add_row(stage.name, *megabytes, stage.model, stage.measured.device)
    return peaks


def _cells(stage: Stage) -> list[str]:
    """Seconds, snippets and frames a second, in print."""
    if stage.measured is None:
        return ["–"] * 3
    seconds = spread(stage.seconds)
    mean = _digits(seconds.mean)
    places = ".1e" if "e" in mean else f".{len(mean.partition('.')[2])}f"
    shown = mean if seconds.sd is None else f"{mean} ± {seconds.sd:{places}}"
    rates = _rates(seconds.mean)
    return [shown, _digits(rates["snippets_a_second"]), _digits(rates["fps"])]


def _notes(study: Runtime, timed: Timed) -> Iterable[str]:
    """The sentences below the tables."""
    missing = [stage.name for stage in timed.stages if stage.measured is None]
    rate = _rates(together(timed.stages))["fps"]
    than = "faster" if rate > timed.fps else "no faster"
    without = f" without {' and '.join(missing)}" if missing else ""
    yield (
        f"All together{without}: {_digits(rate)} frames a second, {than} than real time (the video "
        f"has {timed.fps:g})."
    )
    yield (
        f"n = {study.snippets} calls a stage, one snippet at a time (batch 1), after "
        f"{study.warm_up} that do not count; a video that ends is opened again within the next "
        "snippet's time."
    )
    for stage in (*timed.stages, *timed.others):
        if stage.measured and stage.snippets > 1:
            yield (
                f"{stage.name}: a call is a window of {stage.snippets} snippets and takes "
                f"{_window(stage)} s, here ÷ {stage.snippets}; fresh weights of one "
                "seed, on which time does not depend."
            )
    yield (
        "decode: 16 frames as pictures of the video's size; vision and captioner get theirs "
        "decoded, and their times have resizing in them."
    )
    yield from (stage.note for stage in (*timed.stages, *timed.scorers) if stage.note)
    yield "Memory is the stage's own process's; the host's has all libraries in it."
    yield (
        "The paper's figures (Tables 5 to 7): on an RTX 4090, over 100 snippets; captions by "
        "VideoLLaMA 3 7B, vision by CLIP; together, without vision, 14.2 fps."
    )
    differs = any(_differs(stage) for stage in timed.stages if stage.name in study.paper)
    if differs or any(stage.name in study.paper_others for stage in timed.scorers):
        yield "* Another model here; nothing follows from its distance to ours."


def _differs(stage: Stage) -> bool:
    """Whether a stage's model is not the paper's."""
    return stage.model.partition(",")[0] not in PRODUCERS.get(stage.name, ())


def _rates(seconds: float) -> dict[str, float]:
    """From seconds a snippet: them, snippets and frames a second."""
    return {
        "seconds_a_snippet": seconds,
        "snippets_a_second": 1 / seconds,
        "fps": SNIPPET / seconds,
    }


def _numbers(study: Runtime, name: str, timed: Timed) -> dict[str, Any]:
    """study.json."""
    return {
        "study": name,
        "title": study.title,
        "video": str(timed.video),
        "video_fps": timed.fps,
        "store": str(timed.plan.features.path),
        "config": json.loads(config.to_json(timed.plan.cfg)),
        "warm_up_calls": study.warm_up,
        "rows": [_stage(stage) for stage in timed.stages],
        "together": _rates(together(timed.stages)),
        "other_systems": [_stage(stage) for stage in timed.others],
        "training_free": [_stage(stage) for stage in timed.scorers],
        "untimed": [stage.name for stage in timed.stages if stage.measured is None],
    }


def _stage(stage: Stage) -> dict[str, Any]:
    entry: dict[str, Any] = {"stage": stage.name, "model": stage.model, "note": stage.note}
    if stage.measured is None:
        return entry
    seconds = spread(stage.seconds)
    return entry | {
        **_rates(seconds.mean),
        "sd": seconds.sd,
        "seconds": list(seconds.values),
        "snippets_a_call": stage.snippets,
        "host_peak_bytes": stage.measured.host_bytes,
        "device_peak_bytes": stage.measured.device_bytes,
        "device": stage.measured.device,
    }


def _digits(x: float) -> str:
    """Three digits that count, and all before the point; of next to nothing by a power of ten."""
    if 0 < x < 1e-4:
        return f"{x:.2e}"
    places = 2 - math.floor(math.log10(x)) if x > 0 else 0
    return f"{x:.{max(places, 0)}f}"
