"""A run on disk: training into a RUN directory, resuming it, judging it again, detecting with it,
watching with it.

RUN/config.json    the resolved settings
RUN/checkpoint/    see checkpoint.py
RUN/metrics.jsonl  one line per evaluation and seed
RUN/summary.json   the final metrics; RUN/eval.json: those of the last --eval;
                   RUN/eval-lookahead-K.json: those of --eval --lookahead K
RUN/report.html    the page; RUN/plots/: its drawings

Where the run has normal val videos, RUN/checkpoint/thresholds.json: from which score on a snippet
is an event, for each head.
"""

import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from semvad_jax import checkpoint, config, seeds, store
from semvad_jax.checkpoint import Meta
from semvad_jax.config import Config
from semvad_jax.detection import detect as detection
from semvad_jax.detection import index, live_page, on_event, thresholds
from semvad_jax.detection import watch as watching
from semvad_jax.detection.events import Origin
from semvad_jax.detection.pictures import Frames
from semvad_jax.detection.thresholds import Asked
from semvad_jax.evaluate import NOT_JUDGED, Scores, unjudged_sentence
from semvad_jax.files import BadInput, locked, require
from semvad_jax.hosts import ALONE, Hosts, Place, joined
from semvad_jax.metrics import MetricName
from semvad_jax.models import kept
from semvad_jax.report import findings, real_time, transfer
from semvad_jax.report import page as run_page
from semvad_jax.report import summary as report
from semvad_jax.report.tables import plain_console
from semvad_jax.store.locate import open_store
from semvad_jax.types import Frozen, TrainState, Weights

SAVE_SECONDS = 60  # between checkpoints; an interrupt and the end save too
STOPPED = 130  # exit status after Ctrl-C or SIGTERM
DIGITS = 12  # hexadecimal, of a run's identity


def identity(
    store_sha256: Mapping[str, str],
    cfg: Config,
    weight_seeds: Sequence[int],
    data_seeds: Sequence[int],
) -> str:
    """What a run is, as 12 hexadecimal digits: the checksums of its store's files, its resolved
    settings without paths, and its seeds. Runs of one identity have the same numbers.

    A setting that the model does not have does not count, nor one that is as it was before there
    was such a setting (`config.ADDED`), so that later versions may add some. Nor does an oddity
    that is fixed and was not there before (`config.ADDED_ODDITIES`).
    """
    # as RUN/config.json has it: 1 is 1.0
    read_back = config.from_json(config.to_json(seeds.for_device(cfg)))
    settings = {
        section: {
            name: value
            for name, value in fields.items()
            if value is not None and config.ADDED.get(f"{section}.{name}") != value
        }
        for section, fields in json.loads(config.to_json(read_back)).items()
    }
    del settings["data"]["store"]
    settings["train"].pop("remat", None)  # matters of memory alone
    settings["data"].pop("placement", None)
    settings["model"].pop("prompts", None)  # data.prompts_sha256 says which they are
    added = config.ADDED_ODDITIES.get(cfg.model.name, ())
    if odd := [name for name in added if kept(cfg, name)]:
        settings["model"]["kept"] = odd
    parts = {
        "store": dict(store_sha256),
        "settings": settings,
        "weight_seeds": list(weight_seeds),
        "data_seeds": list(data_seeds),
    }
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def identity_of(run: Path) -> str | None:
    """The identity of a run on disk; None where it was begun before its store's checksums were
    recorded: such a run opens, and is never taken as another's.

    Raises BadInput where `run` is none.
    """
    meta = checkpoint.read_meta(run)
    if meta.store_sha256 is None:
        return None
    cfg = checkpoint.read_config(run)
    return identity(meta.store_sha256, cfg, meta.weight_seeds, meta.data_seeds)


def train(
    cfg: Config,
    run: Path,
    name: str,
    weight_seeds: list[int],
    data_seeds: list[int],
    chunk: int | Literal["auto"] | None,
    resume: bool,
    tell: bool = True,
    place: Place | None = None,
) -> None:
    """Trains all seeds into RUN, or goes on with it, and prints the table where it is to `tell`.

    With a `place` it is one of several hosts, all called with the same: each trains its share of
    the seeds, and host 0 alone prints and writes. Ctrl-C or SIGTERM ends the interval under way,
    saves and exits, on whichever host. Raises BadInput where RUN exists and is not resumed, or was
    begun with other settings, where another program is writing it, and where hosts do not agree or
    one has ended.
    """
    checkpoint.check_place(run)
    with joined(place) as hosts, locked(run) if hosts.first else contextlib.nullcontext():
        _train(cfg, run, name, weight_seeds, data_seeds, chunk, resume, tell, hosts)


def _train(
    cfg: Config,
    run: Path,
    name: str,
    weight_seeds: list[int],
    data_seeds: list[int],
    chunk: int | Literal["auto"] | None,
    resume: bool,
    tell: bool,
    hosts: Hosts,
) -> None:
    require(
        hosts.count <= len(weight_seeds),
        f"{hosts.count} hosts have {len(weight_seeds)} seeds to share; give at most a host a seed",
    )
    features = open_store(cfg.data.store or f"features/{cfg.data.dataset}")
    asked_crop = cfg.eval.crop
    cfg = config.resolve(_with_store(cfg, features), features)
    meta = Meta(
        config=name,
        weight_seeds=weight_seeds,
        data_seeds=data_seeds,
        chunk=chunk,
        dataset=features.info["dataset"],
        classes=list(cfg.data.classes),
        producers=features.info["producers"],
        store_sha256=features.info["sha256"],
    )
    begun_before, kept = (run / "config.json").exists() or bool(checkpoint.steps(run)), None
    if begun_before:
        cfg, meta, kept = _resumed(run, cfg, meta, resume)
    hosts.agree(
        [begun_before, *checkpoint.steps(run)],
        f"sees something else in {run} than host 0; a run goes on in a folder that all hosts share",
    )
    hosts.agree(
        [identity({}, cfg, weight_seeds, data_seeds), meta.chunk],
        "was given other settings, seeds or devices than host 0; give all the same command",
    )
    hosts.agree(features.info["sha256"], "reads other features than host 0; give all the same")

    console, begun = plain_console(), time.perf_counter()
    console.quiet = not hosts.first
    if cfg.eval.crop != asked_crop:
        console.print(f"this store has no crop {asked_crop}: crop {cfg.eval.crop} is scored")
    console.print(f"compiling for {len(weight_seeds)} seeds on {_device(hosts)} …")
    program = _program(cfg, features, meta, kept, hosts)
    program.compile()
    console.print(f"compiled in {time.perf_counter() - begun:.1f} s; {program.says()}")
    on_host = program.rests is program.on_host
    meta = replace(meta, chunk=program.layout.width, states_on_host=on_host)
    hosts.agree(
        [meta.chunk, on_host, program.cfg.train.remat, program.cfg.data.placement],
        "has room for another chunk of seeds than host 0; give --seed-chunk, --set train.remat=… "
        "and --set data.placement=…",
    )
    if hosts.first:
        checkpoint.begin(run, program.cfg, program.frozen, meta)
    with _stop_requests("interval") as stop:
        if not checkpoint.steps(run):
            chunks, clock = program.init(weight_seeds, data_seeds), {"wall": 0.0, "train": 0.0}
        else:
            chunks, clock = _saved(run, program)
        if not program.finished(chunks):
            begun -= clock["wall"]
            training = _Training(run, meta, program, hosts, console, stop)
            chunks, clock = training.go_on(chunks, clock["train"], begun)
    if hosts.count > 1:
        state = program.whole(chunks)
        if state is None:
            return
        program = program.alone()
        chunks = program.adopt(state)
    scores = program.final_scores(chunks)
    summary = _summary(program, scores, program.step(chunks), meta, clock, hosts)
    val_head = _val_head(program, scores)
    report.write_summary(run / "summary.json", summary)
    if "last" in scores:
        detection.write_thresholds(run, program.videos, scores["last"])
    checkpoint.record(run, checkpoint.SUMMARY, checkpoint.THRESHOLDS)
    run_page.write_page(run, program.videos, scores, summary, val_head)
    if tell:
        _tell(console, program, summary, val_head, program.videos.counts().sentence())
    console.print(
        f"{summary.steps} steps, {clock['train']:.0f} s of training after compilation; see {run}"
    )


@dataclass
class _Training:
    """What a training run works with from its first interval to its last."""

    run: Path
    meta: Meta
    program: seeds.Program
    hosts: Hosts
    console: Console
    stop: list[int]  # signals that asked to stop; empty while none did

    def go_on(
        self, chunks: list[TrainState], trained: float, begun: float
    ) -> tuple[list[TrainState], dict[str, float]]:
        """Trains to the last step, writes metrics.jsonl and saves now and then.

        `trained` are the seconds of training so far, `begun` is the clock's reading at the run's
        beginning; returned are the last states and the clock. Exits after a request to stop.
        """
        program, cfg, hosts = self.program, self.program.cfg, self.hosts
        done = program.step(chunks)
        clock = {"wall": 0.0, "train": trained}
        with contextlib.ExitStack() as stack:
            saved = None
            if hosts.first:
                checkpoint.truncate_metrics(self.run, done)
                saved = stack.enter_context(checkpoint.Checkpoints(self.run))
            progress = stack.enter_context(_Progress(self.console, program.steps, done))
            since, last_save = time.perf_counter(), time.perf_counter()
            for interval in program.train(chunks):
                chunks, now = interval.chunks, time.perf_counter()
                clock = {"wall": now - begun, "train": clock["train"] + now - since}
                if hosts.first:
                    file = self.run / "metrics.jsonl"
                    _append(file, interval, self.meta, program.steps_per_epoch)
                progress.show(interval.step, _says(cfg, interval))
                last = program.finished(chunks)
                asked = hosts.exchange([bool(self.stop), now - last_save > SAVE_SECONDS])
                stop, due = (any(of_hosts) for of_hosts in zip(*asked, strict=True))
                if last or stop or due:
                    state = program.whole(chunks)
                    if saved is not None and state is not None:
                        saved.save(state, clock)
                    last_save = now
                if stop and not last:
                    progress.stop()
                    self.console.print(
                        f"stopped at step {interval.step} of {program.steps} and saved; "
                        "the same command with --resume goes on from there"
                    )
                    sys.exit(STOPPED)
                since = time.perf_counter()
        return chunks, clock


def _says(cfg: Config, interval: seeds.Interval) -> str | None:
    """Loss and selecting metric of an evaluation, means over seeds; None where none was judged."""
    judged = [metrics for metrics in interval.metrics if metrics is not None]
    if not judged:
        return None
    said = f"loss {fmean(losses['loss'] for losses in interval.losses):.4f}"
    for part in ("test", "val"):  # val where there are no test videos
        shown = MetricName(part, cfg.eval.select_head, cfg.eval.metric)
        if shown in judged[0]:
            value = 100 * fmean(metrics[shown] for metrics in judged)
            return f"{said}  {'val ' * (part == 'val')}{cfg.eval.metric} {value:.2f}"
    return said


class _Progress:
    """How far training is: a bar on a terminal; in a log, where a bar would print nothing, a line
    for each evaluation.
    """

    def __init__(self, console: Console, steps: int, done: int):
        self.console, self.steps, self.first = console, steps, done
        self.bar = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.description}"), console=console)
            self.task = self.bar.add_task("", total=steps, completed=done)

    def __enter__(self) -> "_Progress":
        self.begun = time.perf_counter()
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bar from the terminal, so that other lines can be printed."""
        if self.bar:
            self.bar.stop()

    def show(self, step: int, says: str | None) -> None:
        """Tells that a step is done, and what its evaluation says; None where it was not judged."""
        if self.bar and says is None:
            self.bar.update(self.task, completed=step)
        elif self.bar:
            self.bar.update(self.task, completed=step, description=says)
        elif says is not None:
            spent = time.perf_counter() - self.begun
            left = spent / (step - self.first) * (self.steps - step)
            line = f"step {step} of {self.steps}  {says}  {_clock(left)} left"
            self.console.print(line, highlight=False)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def evaluate(
    run: Path, data: str | None, class_map: Path | None = None, other_captioner: bool = False
) -> None:
    """Judges RUN's checkpoint on its own store, or on `data`: RUN/eval.json.

    Other classes, or a class map: see report/transfer.py. With `other_captioner` the store's
    captions may be by another model than those that RUN was trained on (Table 8's reading). Raises
    BadInput for other producers, and without `data` for another store in the same place.
    """
    with locked(run):
        _evaluate(run, data, class_map, other_captioner)


def _evaluate(run: Path, data: str | None, class_map: Path | None, other_captioner: bool) -> None:
    features = None
    if data is not None:
        cfg, frozen, meta = checkpoint.read(run)
        features = open_store(data)
        detection.check_store(cfg, features)
        detection.check_producers(run, meta.producers, features, other_captioner)
        if class_map or other_captioner or features.classes != cfg.data.classes:
            return transfer.evaluate(run, cfg, frozen, meta, features, class_map, _device())
        if _other_files(run, meta, features.info["sha256"]):
            plain_console().print(f"judged on {features.path}, which {run} was not trained on")
    program, chunks, meta, clock = restore(run, features)
    if not program.videos.test:
        raise BadInput(
            f"the store at {program.store.path} has no test videos, so there is nothing to judge; "
            "give one that has some with --data"
        )
    scores = program.final_scores(chunks)
    summary = _summary(program, scores, program.step(chunks), meta, clock)
    report.write_summary(run / "eval.json", summary)
    counts = program.videos.counts()
    behind = counts.sentence() if data is None else counts.judged()
    _tell(plain_console(), program, summary, _val_head(program, scores), behind)


def evaluate_in_real_time(run: Path, lookaheads: Sequence[real_time.Lookahead]) -> None:
    """Judges RUN's last weights on its own store with so many snippets of lookahead; see
    report/real_time.py. Raises BadInput where the store is not the one that RUN was trained on.
    """
    with locked(run):
        cfg, frozen, meta = checkpoint.read(run)
        features = own_store(run, cfg, meta)
        real_time.evaluate(run, cfg, frozen, meta, features, lookaheads, _device())


def restore(
    run: Path, features: store.Store | None = None
) -> tuple[seeds.Program, list[TrainState], Meta, dict[str, float]]:
    """RUN's program on its own store or another, its last state, its meta and its clock."""
    cfg, frozen, meta = checkpoint.read(run)
    features = features or own_store(run, cfg, meta)
    cfg = config.resolve(_with_store(cfg, features), features)
    program = _program(cfg, features, meta, _kept(cfg, frozen))
    meta = replace(meta, dataset=features.info["dataset"])
    chunks, clock = _saved(run, program)
    return program, chunks, meta, clock


def _saved(run: Path, program: seeds.Program) -> tuple[list[TrainState], dict[str, float]]:
    """RUN's last state and its clock."""
    with checkpoint.Checkpoints(run) as saved:
        state, clock = saved.restore(program.saved_state())
    return program.adopt(state), clock


def _kept(cfg: Config, frozen: Frozen) -> Frozen | None:
    """A run's Frozen where it is not made of the store again: the file of prompts may be gone, and
    a dictionary is made once. None for other runs.
    """
    return frozen if cfg.model.prompts or frozen.dictionary is not None else None


def _program(
    cfg: Config,
    features: store.Store,
    meta: Meta,
    frozen: Frozen | None = None,
    hosts: Hosts = ALONE,
) -> seeds.Program:
    """The program of a run, with what was chosen for its device where that is known."""
    count = len(meta.weight_seeds)
    program = seeds.Program(cfg, features, count, meta.chunk, frozen, hosts=hosts)
    if meta.states_on_host:
        program.rests = program.on_host
    return program


def producers(run: Path) -> dict[str, Any]:
    """What made the features that RUN was trained on; no device is touched, others may need it."""
    return checkpoint.read_meta(run).producers


def origin(run: Path, asked: Asked) -> Origin:
    """Who scores with RUN, and by which rule that makes an event; no device is touched.

    Raises BadInput as `detection.origin` does.
    """
    cfg, meta = checkpoint.read_config(run), checkpoint.read_meta(run)
    return detection.origin(run, cfg, len(meta.weight_seeds), asked)


def detect(
    run: Path,
    data: str,
    out: Path,
    files: Mapping[str, Path],
    unreadable: Mapping[str, str],
    by: Origin,
    frames: Frames | None = None,
) -> bool:
    """Scores the videos of a store with all seeds' last weights: OUT/<video>/ scores.csv,
    events.json and report.html, and OUT's index; returns whether every video was scored.

    `files` are those of the store's videos that are at hand, by name; `unreadable` videos are not
    in it, for these reasons; `by` is RUN's `origin`; `frames` decodes the files. Raises BadInput
    where the store has other producers than the run's.
    """
    cfg, frozen, weights, features = _scorer(run, data)
    print(by.threshold.sentence())
    rows = detection.detect(cfg, frozen, weights, features, by, out, files, unreadable, frames)
    for row in rows:
        if row.folder is None:
            print(f"not scored: {row.video}: {row.reason}", file=sys.stderr)
    scored = [row for row in rows if row.folder is not None]
    if scored:
        page = out / "index.html" if len(rows) > 1 else out / str(scored[0].folder) / "report.html"
        print(f"scored by {by.seeds} seed{'s' * (by.seeds > 1)}; open in a browser:\n  {page}")
    return len(scored) == len(rows)


def calibrate(run: Path, data: str, out: Path, unreadable: Mapping[str, str], asked: Asked) -> None:
    """Chooses the rules for a rate of false alarms on a store's normal videos, scored with all
    seeds' last weights: OUT/calibration.json. `unreadable` videos are not in it, for these reasons.

    Raises BadInput where the store has other producers than the run's, and as
    `detection.calibrate` does.
    """
    cfg, frozen, weights, features = _scorer(run, data)
    for video, reason in unreadable.items():
        print(f"left out: {video}: {reason}", file=sys.stderr)
    with watching.Progress() as progress:

        def tell(done: int, total: int) -> None:
            text = f"{done} snippets scored as a watch scores them"
            progress.show(text, done, total)

        found = detection.calibrate(cfg, frozen, weights, features, run, asked, tell)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "calibration.json"
    thresholds.write_calibration(path, found)
    print(f"--detect … --calibration {path}: {found.threshold().sentence()}")
    print(f"--watch … --calibration {path}: {found.threshold(live=True).sentence()}")


def _scorer(run: Path, data: str) -> tuple[Config, Frozen, Weights, store.Store]:
    """RUN's settings, Frozen and last weights of all seeds, and a store that they can score."""
    cfg, frozen, meta = checkpoint.read(run)
    features = open_store(data)
    detection.check_store(cfg, features)
    detection.check_producers(run, meta.producers, features)
    weights, _ = checkpoint.last_weights(run, cfg, meta)
    return cfg, frozen, weights, features


def watch(
    run: Path,
    camera: watching.Camera,
    out: Path,
    asked: thresholds.Asked,
    command: str | None,
    place: tuple[str, int] | None,
) -> int:
    """Scores a camera with all seeds' last weights while its pictures come: OUT/scores.csv and
    OUT/events.jsonl. Returns the exit status: 0 where the stream ended, STOPPED after Ctrl-C or
    SIGTERM.

    `asked` is what the user says of events; `command` is told of them; a page is served at `place`,
    a host and a port. Raises BadInput where the models are not those of the run's store, where OUT
    has other scores, for a command or a place that is not there, and as `detection.origin` does.
    """
    cfg, frozen, meta = checkpoint.read(run)
    weights, count = checkpoint.last_weights(run, cfg, meta)
    origin = detection.origin(run, cfg, count, asked, live=True)
    detection.check_models(run, meta.producers, camera.used)
    told = on_event.Command(command) if command else None
    print(f"{origin.threshold.sentence()}\nloading models and compiling …", flush=True)
    grey = camera.warm_up()
    assert grey.visual is not None and grey.caption_embedding is not None
    tried = watching.Ring(cfg, frozen, weights, origin.head)
    _, probabilities = tried.score(grey.visual, grey.caption_embedding)
    classes = () if probabilities is None else tuple(cfg.data.classes)
    ring = watching.Ring(cfg, frozen, weights, origin.head)
    with contextlib.ExitStack() as stack:
        page = None
        if place is not None:
            page = stack.enter_context(live_page.served(*place, camera.shown, origin))
        watch = watching.Watch(ring, classes, origin, camera.shown, out, told, page)
        stop = stack.enter_context(_stop_requests("snippet"))
        print(f"watching {camera.shown} by {count} seed{'s' * (count > 1)}", flush=True)
        stream = stack.enter_context(camera.opened(watch.progress.line))
        watch.run(stream, stop)
        print(f"{watch.says(stream)}; see {out}")
    return STOPPED if stop else 0


def nothing_scored(run: Path, out: Path, unreadable: Mapping[str, str]) -> None:
    """Writes the index of OUT where none of the videos could be read."""
    rows = [index.failed(video, reason) for video, reason in unreadable.items()]
    index.write_index(out, str(run), rows)


def _summary(
    program: seeds.Program,
    scores: Mapping[str, Sequence[Scores]],
    step: int,
    meta: Meta,
    clock: Mapping[str, float],
    hosts: Hosts = ALONE,
) -> report.Summary:
    metrics, videos = program.final_metrics(scores), program.videos
    unjudged = unjudged_sentence(videos.store) if videos.test else NOT_JUDGED
    return report.Summary(
        config=meta.config,
        model=program.cfg.model.name,
        dataset=meta.dataset,
        device=_device(hosts),
        weight_seeds=meta.weight_seeds,
        data_seeds=meta.data_seeds,
        steps=step,
        wall_seconds=clock["wall"],
        train_seconds=clock["train"],
        unjudged=unjudged,
        metrics={name: findings.spread(values) for name, values in metrics.items()},
    )


def _val_head(program: seeds.Program, scores: Mapping[str, Sequence[Scores]]) -> str | None:
    """The head chosen on val by the last weights; None without val or without two heads."""
    latest = [program.videos.judge(of_seed) for of_seed in scores.get("last", ())]
    return findings.head_on_val(latest, program.cfg.eval.metric)


def _tell(
    console: Console,
    program: seeds.Program,
    summary: report.Summary,
    val_head: str | None,
    behind: str,
) -> None:
    """Prints the run's tables; `behind` is the sentence on the videos that they rest on."""
    metric, select_head = program.cfg.eval.metric, program.cfg.eval.select_head
    report.print_table(console, summary.title, summary.metrics, val_head, behind)
    report.print_selection(console, summary.metrics, metric, val_head or select_head, select_head)


def _device(hosts: Hosts = ALONE) -> str:
    devices = jax.devices()
    several = f" × {len(devices)}" if len(devices) > 1 else ""
    return devices[0].device_kind + several + (f", {hosts.count} hosts" if hosts.count > 1 else "")


def _with_store(cfg: Config, features: store.Store) -> Config:
    return replace(cfg, data=replace(cfg.data, store=str(features.path)))


def _resumed(
    run: Path, cfg: Config, meta: Meta, resume: bool
) -> tuple[Config, Meta, Frozen | None]:
    """The settings and the meta of a run that goes on, and what is `_kept` of its Frozen: nothing
    is overwritten, and a run goes on only with the settings and the features that it was begun
    with.

    What was chosen for its device stays. The store may have moved since, where its checksums are
    known. A run that was begun before they were recorded keeps none. Raises BadInput for anything
    else.
    """
    if not resume:
        raise BadInput(f"{run} already holds a run; go on with --resume, or name another --out")
    if not (run / "config.json").exists():
        raise BadInput(
            f"{run} holds a checkpoint, and no config.json that says of what; put a copy of "
            f"{run / 'config.json'} back, or name another --out"
        )
    before, frozen, known = checkpoint.read(run)
    kept = _kept(before, frozen)
    if known.store_sha256 is not None:
        before = replace(before, data=replace(before.data, store=cfg.data.store))
    if cfg.train.dtype == "auto":
        cfg = replace(cfg, train=replace(cfg.train, dtype=before.train.dtype))
    if cfg.train.remat == "auto":
        cfg = replace(cfg, train=replace(cfg.train, remat=before.train.remat))
    if cfg.data.placement == "auto":
        cfg = replace(cfg, data=replace(cfg.data, placement=before.data.placement))
    same_chunk = not isinstance(meta.chunk, int) or known.chunk == meta.chunk
    same_seeds = known.pairs == meta.pairs and same_chunk
    if before != cfg or not same_seeds:
        raise BadInput(f"{run} was begun with other settings; repeat them, or name another --out")
    if other := _other_files(run, known, meta.store_sha256 or {}):
        raise BadInput(
            f"{run} was begun on other features than those in {cfg.data.store}: {other} differs; "
            "give the store that it was begun on, or name another --out"
        )
    chosen = {"chunk": known.chunk, "states_on_host": known.states_on_host}
    return cfg, replace(meta, store_sha256=known.store_sha256, **chosen), kept


def _other_files(run: Path, meta: Meta, found: Mapping[str, str]) -> str:
    """The files of a store, by their checksums, that are others than those that RUN was trained on;
    "" where none is. That a run carries no record of them is told once.
    """
    if meta.store_sha256 is None:
        config.note(f"{run} carries no checksums of its store, so another store may pass unnoticed")
        return ""
    names = dict.fromkeys([*meta.store_sha256, *found])
    return ", ".join(n for n in names if meta.store_sha256.get(n) != found.get(n))


def own_store(run: Path, cfg: Config, meta: Meta) -> store.Store:
    """The store that RUN was trained on. Its path stands in RUN, which may be somebody else's: it
    is told before anything is opened, and only a folder is.

    Raises BadInput where it is not there, and where other features are there now.
    """
    address = cfg.data.store
    plain_console().print(f"features, as {run} names them: {address}")
    fix = "give the store that it was trained on with --data, or put it back"
    there = bool(address) and Path(address).is_dir()
    require(there, f"{run} was trained on features in {address!r}, and no folder is there; {fix}")
    features = open_store(address)
    if other := _other_files(run, meta, features.info["sha256"]):
        raise BadInput(
            f"{run} was trained on other features than those in {features.path} now: {other} "
            f"differs; {fix} (--data judges on another store as well)"
        )
    return features


def _append(path: Path, interval: seeds.Interval, meta: Meta, epoch: int) -> None:
    at = {"step": interval.step, "epoch": interval.step / epoch}
    lines = []
    for pair, losses, metrics in zip(meta.pairs, interval.losses, interval.metrics, strict=True):
        if metrics is not None:
            seed = {"weight_seed": pair[0], "data_seed": pair[1]}
            by_text = {str(name): value for name, value in metrics.items()}
            lines.append(json.dumps(at | seed | losses | by_text) + "\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


@contextlib.contextmanager
def _stop_requests(after: str) -> Iterator[list[int]]:
    """A list that Ctrl-C or SIGTERM fills; a second one ends the program at once. `after` says what
    is finished before.
    """
    caught: list[int] = []

    def catch(number: int, _: Any) -> None:
        caught.append(number)
        print(f"\nstopping after this {after} …", file=sys.stderr)
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
