"""What `--study runtime` times and what it prints: a line a stage, and study.json."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from semvad_jax import config
from semvad_jax.config import Config
from semvad_jax.files import BadInput, write
from semvad_jax.metrics import SNIPPET
from semvad_jax.report.summary import spread
from semvad_jax.stopwatch import Stage
from semvad_jax.store import Store
from semvad_jax.store.locate import open_store
from semvad_jax.studies import study
from semvad_jax.studies.runtime import Runtime

ROW = study.Row("runtime", "", ())


@dataclass(frozen=True)
class Plan:
    """What is timed; without a video of the user's, the demo's longest."""

    video: Path | None
    features: Store
    cfg: Config


def plan(given: Sequence[str], base: str | None, overrides: Sequence[str]) -> Plan:
    """Reads --data [video=FILE] [LABEL=STORE], --config and --set. Raises BadInput for two stores,
    for a bad one and for bad settings.
    """
    stores = study.labelled(given)
    video = stores.pop("video", None)
    if len(stores) > 1:
        raise BadInput(
            f"--data {' '.join(given)}: the runtime study takes one store, beside video=FILE"
        )
    label, path = next(iter(stores.items()), ("demo", "demo"))
    if any(text.partition("=")[0].strip() == "data.store" for text in overrides):
        raise BadInput("--set data.store: the store is named by --data LABEL=STORE")
    features = open_store(path)
    cfg = study.settings(ROW, label, features, base, overrides)
    return Plan(Path(video) if video else None, features, config.resolve(cfg, features))


def together(stages: Sequence[Stage]) -> float:
    """Seconds a snippet of all stages that were timed, one after the other."""
    return sum(spread(stage.seconds)["mean"] for stage in stages if stage.measured)


def tell(
    chosen: Runtime,
    name: str,
    plan: Plan,
    video: Path,
    fps: float,
    stages: Sequence[Stage],
    home: Path,
) -> None:
    """Prints the table, for a video of `fps` frames a second, and writes HOME/study.json."""
    home.mkdir(parents=True, exist_ok=True)
    numbers = {
        "study": name,
        "title": chosen.title,
        "video": str(video),
        "video_fps": fps,
        "store": str(plan.features.path),
        "config": json.loads(config.to_json(plan.cfg)),
        "warm_up_calls": chosen.warm_up,
        "rows": [_numbers(stage) for stage in stages],
        "together": _rates(together(stages)),
        "untimed": [stage.name for stage in stages if stage.measured is None],
    }
    write(home / "study.json", json.dumps(numbers, indent=2, ensure_ascii=False))
    console = Console(highlight=False, markup=False)
    console.print(f"\n{chosen.title}\n{video}; models of {plan.features.path}\n")
    console.print("Mean ± SD", _times(chosen, stages), "Peak memory", _places(stages))
    for line in _notes(chosen, fps, stages):
        console.print(line)
    console.print(f"The numbers: {home / 'study.json'}")


def _times(chosen: Runtime, stages: Sequence[Stage]) -> Table:
    columns = ("seconds a snippet", "snippets/s", "fps", "the paper, s")
    table = _empty(*columns)
    for stage in stages:
        paper = chosen.paper.get(stage.name)
        theirs = "–" if paper is None else f"{paper:.3f}{'*' if _differs(stage) else ''}"
        table.add_row(stage.name, *_cells(stage), theirs)
    table.add_section()
    table.add_row("all together", *map(_digits, _rates(together(stages)).values()), "–")
    return table


def _places(stages: Sequence[Stage]) -> Table:
    table = _empty("host MB", "device MB", "model", "on")
    for column in table.columns[3:]:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for stage in stages:
        found = stage.measured
        peaks = (found.host_bytes, found.device_bytes) if found else (None, None)
        shown = ("–" if peak is None else f"{peak / 1e6:,.0f}" for peak in peaks)
        table.add_row(stage.name, *shown, stage.model, found.device if found else "–")
    return table


def _empty(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stage", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(stage: Stage) -> list[str]:
    if stage.measured is None:
        return ["–"] * 3
    found = spread(stage.seconds)
    mean = _digits(found["mean"])
    places = len(mean.partition(".")[2])
    shown = mean if found["sd"] is None else f"{mean} ± {found['sd']:.{places}f}"
    return [shown, *(_digits(x) for x in list(_rates(found["mean"]).values())[1:])]


def _notes(chosen: Runtime, fps: float, stages: Sequence[Stage]) -> Iterable[str]:
    missing = [stage.name for stage in stages if stage.measured is None]
    rate = _rates(together(stages))["fps"]
    than = "faster" if rate > fps else "no faster"
    without = f" without {' and '.join(missing)}" if missing else ""
    yield (
        f"All together{without}: {_digits(rate)} frames a second, {than} than real time (the video "
        f"has {fps:g})."
    )
    yield (
        f"n = {chosen.snippets} calls a stage, one snippet at a time (batch 1), after "
        f"{chosen.warm_up} that do not count; a video that ends is opened again within the next "
        "snippet's time."
    )
    for stage in stages:
        if stage.measured and stage.snippets > 1:
            found = spread([s * stage.snippets for s in stage.seconds])
            sd = "" if found["sd"] is None else f" ± {_digits(found['sd'])}"
            yield (
                f"{stage.name}: a call is a window of {stage.snippets} snippets and takes "
                f"{_digits(found['mean'])}{sd} s, here ÷ {stage.snippets}; fresh weights of one "
                "seed, on which time does not depend."
            )
    yield (
        "decode: 16 frames as pictures of the video's size; vision and captioner get theirs "
        "decoded, and their times have resizing in them."
    )
    yield from (stage.note for stage in stages if stage.note)
    yield "Memory is the stage's own process's; the host's has all libraries in it."
    yield "The paper's figure: VideoLLaMA 3 7B on its authors' GPU."
    if any(_differs(stage) for stage in stages if stage.name in chosen.paper):
        yield "* Another model here; nothing follows from its distance to ours."


def _differs(stage: Stage) -> bool:
    """Whether a stage's model is not the paper's."""
    return stage.model.partition(",")[0] not in study.PRODUCERS.get(stage.name, ())


def _rates(seconds: float) -> dict[str, float]:
    """From seconds a snippet: them, snippets and frames a second."""
    return {
        "seconds_a_snippet": seconds,
        "snippets_a_second": 1 / seconds,
        "fps": SNIPPET / seconds,
    }


def _numbers(stage: Stage) -> dict[str, Any]:
    entry: dict[str, Any] = {"stage": stage.name, "model": stage.model, "note": stage.note}
    if stage.measured is None:
        return entry
    found = spread(stage.seconds)
    return entry | {
        **_rates(found["mean"]),
        "sd": found["sd"],
        "seconds": found["values"],
        "snippets_a_call": stage.snippets,
        "host_peak_bytes": stage.measured.host_bytes,
        "device_peak_bytes": stage.measured.device_bytes,
        "device": stage.measured.device,
    }


def _digits(x: float) -> str:
    """Three digits that count, and all before the point."""
    places = 2 - math.floor(math.log10(x)) if x > 0 else 0
    return f"{x:.{max(places, 0)}f}"
