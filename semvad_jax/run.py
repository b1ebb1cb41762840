"""A run on disk: training into a RUN directory, resuming it, judging it again, detecting with it.

RUN/config.json    the resolved settings
RUN/checkpoint/    see checkpoint.py
RUN/metrics.jsonl  one line per evaluation and seed
RUN/summary.json   the final metrics; RUN/eval.json: those of the last --eval
RUN/report.html    the page; RUN/plots/: its drawings, where matplotlib is installed

Where the run has normal val videos, RUN/checkpoint/thresholds.json: from which score on a snippet
is an event, for each head.
"""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from semvad_jax import checkpoint, config, seeds, store
from semvad_jax.config import Config
from semvad_jax.detection import detect as detection
from semvad_jax.evaluate import Scores
from semvad_jax.files import BadInput, write
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings, transfer
from semvad_jax.report import page as run_page
from semvad_jax.report import summary as report
from semvad_jax.store.locate import open_store
from semvad_jax.types import TrainState

SAVE_SECONDS = 60  # between checkpoints; an interrupt and the end save too
SHOWN = 5  # pages that --detect names
STOPPED = 130  # exit status after Ctrl-C or SIGTERM


def train(
    cfg: Config,
    run: Path,
    name: str,
    weight_seeds: list[int],
    data_seeds: list[int],
    chunk: int | Literal["auto"] | None,
    resume: bool,
    tell: bool = True,
) -> None:
    """Trains all seeds into RUN, or goes on with it, and prints the table where it is to `tell`.

    Ctrl-C or SIGTERM ends the interval under way, saves and exits. Raises BadInput where RUN
    exists and is not resumed, or was begun with other settings.
    """
    features = open_store(cfg.data.store or f"features/{cfg.data.dataset}")
    asked_crop = cfg.eval.crop
    cfg = config.resolve(_with_store(cfg, features), features)
    meta = {
        "config": name,
        "weight_seeds": weight_seeds,
        "data_seeds": data_seeds,
        "chunk": chunk,
        "dataset": features.info["dataset"],
        "classes": list(cfg.data.classes),
        "producers": features.info["producers"],
    }
    _check_run(run, cfg, meta, resume)

    console, begun = Console(), time.perf_counter()
    if cfg.eval.crop != asked_crop:
        console.print(f"this store has no crop {asked_crop}: crop {cfg.eval.crop} is scored")
    console.print(f"compiling for {len(weight_seeds)} seeds on {_device()} …")
    program = seeds.Program(cfg, features, len(weight_seeds), chunk)
    program.compile()
    checkpoint.begin(run, cfg, program.frozen, meta)
    with checkpoint.Checkpoints(run) as saved, _stop_requests() as stop:
        if saved.latest() is None:
            state, clock = program.init(weight_seeds, data_seeds), {"wall": 0.0, "train": 0.0}
        else:
            state, clock = saved.restore(program.saved_state())
            state = program.adopt(state)
        if not program.finished(state):
            begun -= clock["wall"]
            tools = (run, meta, saved, console, stop)
            state, clock = _train(program, state, *tools, clock["train"], begun)
    scores = program.final_scores(state)
    summary = _summary(program, scores, state, meta, clock)
    val_head = _val_head(program, scores)
    report.write_summary(run / "summary.json", summary)
    if "last" in scores:
        detection.write_thresholds(run, program.videos, scores["last"])
    run_page.write_page(run, program.videos, scores, summary, val_head)
    if tell:
        _tell(console, program, summary, val_head)
    console.print(
        f"{summary.steps} steps, {clock['train']:.0f} s of training after compilation; see {run}"
    )


def _train(
    program: seeds.Program,
    state: TrainState,
    run: Path,
    meta: dict[str, Any],
    saved: checkpoint.Checkpoints,
    console: Console,
    stop: list[int],
    trained: float,
    begun: float,
) -> tuple[TrainState, dict[str, float]]:
    cfg = program.cfg
    shown = MetricName("test", cfg.eval.select_head, cfg.eval.metric)
    done, says = int(state.step[0]), ""
    clock = {"wall": 0.0, "train": trained}
    _truncate(run / "metrics.jsonl", done)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("", total=program.steps, completed=done)
        since, last_save = time.perf_counter(), time.perf_counter()
        for interval in program.train(state):
            state, now = interval.state, time.perf_counter()
            clock = {"wall": now - begun, "train": clock["train"] + now - since}
            _append(run / "metrics.jsonl", interval, meta, program.steps_per_epoch)
            judged = [m[shown] for m in interval.metrics if m]
            if judged:
                loss = fmean(x["loss"] for x in interval.losses)
                says = f"loss {loss:.4f}  {cfg.eval.metric} {100 * fmean(judged):.2f}"
            progress.update(task, completed=interval.step, description=says)
            last = program.finished(state)
            if last or stop or now - last_save > SAVE_SECONDS:
                saved.save(program.own(state), clock)
                last_save = now
            if stop and not last:
                progress.stop()
                console.print(
                    f"stopped at step {interval.step} of {program.steps} and saved; "
                    "the same command with --resume goes on from there"
                )
                sys.exit(STOPPED)
            since = time.perf_counter()
    return state, clock


def evaluate(run: Path, data: str | None, class_map: Path | None = None) -> None:
    """Judges RUN's checkpoint on its own store, or on `data`: RUN/eval.json.

    Other classes, or a class map: see transfer.py. Raises BadInput for other producers.
    """
    features = None
    if data is not None:
        cfg, frozen, meta = checkpoint.read(run)
        features = open_store(data)
        detection.check_store(cfg, features)
        detection.check_producers(run, meta["producers"], features)
        if class_map or features.classes != cfg.data.classes:
            return transfer.evaluate(run, cfg, frozen, meta, features, class_map, _device())
    program, state, meta, clock = restore(run, features)
    scores = program.final_scores(state)
    summary = _summary(program, scores, state, meta, clock)
    report.write_summary(run / "eval.json", summary)
    _tell(Console(), program, summary, _val_head(program, scores))


def restore(
    run: Path, features: store.Store | None = None
) -> tuple[seeds.Program, TrainState, dict[str, Any], dict[str, float]]:
    """RUN's last state, its program on its own store or another, its meta and its clock."""
    cfg, _, meta = checkpoint.read(run)
    features = features or open_store(cfg.data.store)
    cfg = config.resolve(_with_store(cfg, features), features)
    program = seeds.Program(cfg, features, len(meta["weight_seeds"]), meta["chunk"])
    with checkpoint.Checkpoints(run) as saved:
        state, clock = saved.restore(program.saved_state())
    meta |= {"dataset": features.info["dataset"]}
    return program, program.adopt(state), meta, clock


def producers(run: Path) -> dict[str, Any]:
    """What made the features that RUN was trained on; no device is touched, others may need it."""
    path = run / "checkpoint" / "meta.json"
    if not path.is_file():
        raise BadInput(
            f"{run} is not a run: {path} is missing; give a directory made by main.py --config"
        )
    return json.loads(path.read_text(encoding="utf-8"))["producers"]


def detect(
    run: Path,
    data: str,
    out: Path,
    files: Mapping[str, Path],
    threshold: float | None,
) -> None:
    """Scores the videos of a store with all seeds' last weights: OUT/<video>/ scores.csv,
    events.json and report.html.

    `files` are those of the store's videos that are at hand, by name; `threshold` is used in place
    of the run's own. Raises BadInput where the store has other producers than the run's.
    """
    cfg, frozen, meta = checkpoint.read(run)
    features = open_store(data)
    detection.check_store(cfg, features)
    detection.check_producers(run, meta["producers"], features)
    params, count = checkpoint.last_weights(run, cfg, meta)
    origin = detection.origin(run, cfg, count, threshold)
    written = detection.detect(cfg, frozen, params, features, origin, out, files)
    pages = "\n".join(f"  {folder / 'report.html'}" for folder in written[:SHOWN])
    more = f"\n  and {len(written) - SHOWN} more" if len(written) > SHOWN else ""
    print(f"scored by {count} seed{'s' * (count > 1)}; open in a browser:\n{pages}{more}")


def _summary(
    program: seeds.Program,
    scores: dict[str, list[Scores]],
    state: TrainState,
    meta: dict[str, Any],
    clock: dict[str, float],
) -> report.Summary:
    metrics = program.final_metrics(scores)
    return report.Summary(
        config=meta["config"],
        model=program.cfg.model.name,
        dataset=meta["dataset"],
        device=_device(),
        weight_seeds=meta["weight_seeds"],
        data_seeds=meta["data_seeds"],
        steps=int(state.step[0]),
        wall_seconds=clock["wall"],
        train_seconds=clock["train"],
        metrics={name: findings.spread(values) for name, values in metrics.items()},
    )


def _val_head(program: seeds.Program, scores: dict[str, list[Scores]]) -> str | None:
    """The head chosen on val by the last weights; None without val or without two heads."""
    latest = [program.videos.judge(of_seed) for of_seed in scores.get("last", ())]
    return findings.head_on_val(latest, program.cfg.eval.metric)


def _tell(
    console: Console, program: seeds.Program, summary: report.Summary, val_head: str | None
) -> None:
    metric, select_head = program.cfg.eval.metric, program.cfg.eval.select_head
    report.print_table(console, summary.title, summary.metrics, val_head)
    report.print_selection(console, summary.metrics, metric, val_head or select_head, select_head)


def _device() -> str:
    devices = jax.devices()
    return devices[0].device_kind + (f" × {len(devices)}" if len(devices) > 1 else "")


def _with_store(cfg: Config, features: store.Store) -> Config:
    return replace(cfg, data=replace(cfg.data, store=str(features.path)))


def _check_run(run: Path, cfg: Config, meta: dict[str, Any], resume: bool) -> None:
    """Nothing is overwritten, and a run goes on only with the settings it was begun with."""
    if not (run / "config.json").exists():
        return
    if not resume:
        raise BadInput(f"{run} already holds a run; go on with --resume, or name another --out")
    before, _, known = checkpoint.read(run)
    if before != cfg or any(known[k] != meta[k] for k in ("weight_seeds", "data_seeds", "chunk")):
        raise BadInput(f"{run} was begun with other settings; repeat them, or name another --out")


def _append(path: Path, interval: seeds.Interval, meta: dict[str, Any], epoch: int) -> None:
    at = {"step": interval.step, "epoch": interval.step / epoch}
    pairs = zip(meta["weight_seeds"], meta["data_seeds"], strict=True)
    who = [{"weight_seed": weights, "data_seed": order} for weights, order in pairs]
    rows = zip(who, interval.losses, interval.metrics, strict=True)
    lines = [
        json.dumps(at | seed | loss | {str(name): value for name, value in metrics.items()}) + "\n"
        for seed, loss, metrics in rows
        if metrics
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def _truncate(path: Path, step: int) -> None:
    """Drops the lines after a checkpoint's step: going on writes them again."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = (line for line in lines if line.endswith("\n"))
    write(path, "".join(line for line in whole if json.loads(line)["step"] <= step))


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that Ctrl-C or SIGTERM fills; a second one ends the program at once."""
    caught: list[int] = []

    def catch(number: int, _: Any) -> None:
        caught.append(number)
        print("\nstopping after this interval …", file=sys.stderr)
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
