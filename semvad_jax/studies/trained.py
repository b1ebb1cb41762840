"""What a study trains, and what came out of it.

Every row is a run on every store. A run is found by its identity (`run.identity`: store, settings
and seeds) in one folder that all studies share: a study that was interrupted goes on where it
stopped, and finished runs are only read, whichever study trained them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from semvad_jax import checkpoint, config, data, evaluate
from semvad_jax import run as runs
from semvad_jax.config import Config
from semvad_jax.detection import detect as detection
from semvad_jax.files import BadInput, require
from semvad_jax.losses import GREEDY_DECAY
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings, transfer
from semvad_jax.report.findings import Spread
from semvad_jax.report.inputs import differing
from semvad_jax.report.summary import Summary, read_summary
from semvad_jax.report.tables import plain_console
from semvad_jax.store import Store
from semvad_jax.store.locate import open_store
from semvad_jax.studies.study import HEADLINE, Options, Row, Study, named_stores, settings

PAPER_STEPS = 1125  # 9 epochs of 125 steps on UCF-Crime
FINE = "map"  # metrics that begin so are the class head's


@dataclass(frozen=True)
class Planned:
    """A row's run on one store, before anything is trained."""

    label: str  # of --data
    row: Row
    features: Store
    cfg: Config  # before the store's sizes are filled in
    resolved: Config
    weight_seeds: list[int]
    data_seeds: list[int]

    @property
    def identity(self) -> str:
        checksums = self.features.info["sha256"]
        return runs.identity(checksums, self.resolved, self.weight_seeds, self.data_seeds)

    def folder(self, out: Path) -> Path:
        """The RUN directory: that of this run under whatever label a study began it, or a new
        one.
        """
        begun = sorted((out / "runs").glob(f"*-{self.identity}"))
        name = f"{self.label}-{self.cfg.model.name}-{self.identity}"
        return begun[0] if begun else out / "runs" / name


@dataclass(frozen=True)
class Result:
    """A row's finished run on one store."""

    label: str
    row: Row
    run: Path
    cfg: Config
    summary: Summary
    head: str  # the headline's, see `_with_head`
    others: tuple[str, ...]  # inputs that are not the paper's
    classes: str = ""  # of a transfer: which classes were judged

    def spread(self, selection: str, metric: str) -> Spread | None:
        """A metric over the seeds, or None where the run has none."""
        return self.summary.metrics.get(self.name(selection, metric))

    def name(self, selection: str, metric: str) -> MetricName:
        """Which number of the run a metric of the study is."""
        return MetricName(selection, self.head_of(metric), self.metric(metric))

    def head_of(self, metric: str) -> str:
        return "class" if metric.startswith(FINE) else self.head

    def metric(self, metric: str) -> str:
        """AUC or AP for the headline, another metric as it is called."""
        return self.cfg.eval.metric if metric == HEADLINE else metric

    def has(self, head: str) -> bool:
        return any(name.head == head for name in self.summary.metrics)


def plan(study: Study, options: Options) -> list[Planned]:
    """Every run that a study needs, in the order of stores, then rows; nothing is trained.

    Raises BadInput for a bad store or setting, and for seeds that make no grid.
    """
    weight_seeds, data_seeds = seed_pairs(study, options)
    row_settings = {text.partition("=")[0] for row in study.rows for text in row.overrides or ()}
    for text in options.overrides:
        if (name := text.partition("=")[0].strip()) in row_settings | {"data.store"}:
            raise BadInput(f"--set {text}: this study's rows differ in {name}, or name it")
    if options.class_map and not study.transfer:
        raise BadInput("--class-map is for a study of transfer, such as table9")
    planned = []
    for label, path in named_stores(study, options.data).items():
        features = open_store(path)
        require(
            bool(data.judged(features)),
            f"the store at {path} has no test videos that can be judged; a study needs some",
        )
        for row in study.rows:
            if row.overrides is None:
                continue
            cfg = settings(row.overrides, label, features, options.base, options.overrides)
            if row.sigma_to_length:
                cfg = _sigma_to_length(cfg, features)
            resolved = config.resolve(cfg, features)
            seeds = weight_seeds, data_seeds
            planned.append(Planned(label, row, features, cfg, resolved, *seeds))
    return planned


def _sigma_to_length(cfg: Config, features: Store) -> Config:
    """The settings with a σ that ends the run where 0.99 a step ends the paper's."""
    decay = GREEDY_DECAY ** (PAPER_STEPS / data.run_steps(cfg, features))
    return replace(cfg, loss=replace(cfg.loss, sigma_decay=round(decay, 6)))


def seed_pairs(study: Study, options: Options) -> tuple[list[int], list[int]]:
    """A run's weight seeds and data seeds, pair by pair.

    Raises BadInput where they are to be crossed and are too few, or one is there twice.
    """
    weight_seeds, data_seeds = list(options.weight_seeds), list(options.data_seeds)
    if not study.cross_seeds:
        return weight_seeds, data_seeds
    if len(set(weight_seeds)) < len(weight_seeds) or len(set(data_seeds)) < len(data_seeds):
        raise BadInput("a grid needs each weight seed and each data seed once")
    if min(len(weight_seeds), len(data_seeds)) < 2:
        raise BadInput("a grid needs two weight seeds and two data seeds or more")
    pairs = list(product(weight_seeds, data_seeds))
    return [weights for weights, _ in pairs], [order for _, order in pairs]


def run(study: Study, options: Options) -> list[Result]:
    """Trains what is missing; the results in the order of stores, then rows.

    Raises BadInput, before anything is trained, as `plan` does and for stores that a transfer
    cannot go between; and for a run that is under way with another --seed-chunk.
    """
    planned = plan(study, options)
    class_map = transfer.read_class_map(options.class_map) if options.class_map else None
    if study.transfer:
        _check_transfer(planned, class_map, options.out)
    console, results = plain_console(), []
    for number, one in enumerate(planned, 1):
        folder = one.folder(options.out)
        finished = _finished(folder, one)
        state = "is there" if finished else "is trained"
        console.print(f"{number} of {len(planned)}: {folder} {state}")
        if not finished:
            seeds = one.weight_seeds, one.data_seeds
            runs.train(one.cfg, folder, folder.name, *seeds, options.chunk, resume=True, tell=False)
        others = differing(one.features, study.captioners.get(one.label))
        head, summary = one.resolved.eval.select_head, read_summary(folder / "summary.json")
        results.append(Result(one.label, one.row, folder, one.resolved, summary, head, others))
    if study.transfer:
        stores = {one.label: one.features for one in planned}
        return _transferred(results, stores, class_map)
    return [result for group in groups(study, results) for result in _with_head(group)]


def _check_transfer(
    planned: Sequence[Planned], class_map: transfer.Pairs | None, out: Path
) -> None:
    """BadInput where a run cannot be judged on the other stores (its own where it is alone)."""
    stores = {one.label: one.features for one in planned}
    for one in planned:
        for target in [s for label, s in stores.items() if label != one.label] or [one.features]:
            detection.check_store(one.resolved, target)
            detection.check_producers(one.folder(out), one.features.info["producers"], target)
            transfer.class_pairs(one.features.classes, target.classes, class_map)
            evaluate.judged_on(target)


def _finished(folder: Path, planned: Planned) -> bool:
    """Whether a run has ended; raises BadInput where the folder's name is this run's and what it
    holds is not.
    """
    if not (folder / "config.json").is_file():
        return False
    if runs.identity_of(folder) != planned.identity:
        raise BadInput(
            f"{folder} was trained on other features, settings or seeds than its name says; move it"
            " away, or name another --out"
        )
    return (folder / "summary.json").is_file()


def groups(study: Study, results: Sequence[Result]) -> list[list[Result]]:
    """The results that one table compares."""
    if study.by_label:
        return [list(results)]
    labels = dict.fromkeys(r.label for r in results)
    return [[r for r in results if r.label == label] for label in labels]


def _with_head(group: Sequence[Result]) -> list[Result]:
    """One headline head for all of a table's runs: the better on val at their last evaluation, over
    all rows that have both; without val, and for a run that lacks it, `eval.select_head`.
    """
    latest: list[dict[MetricName, float]] = []
    for result in group:
        of_run, metric = last_evaluation(result.run), result.cfg.eval.metric
        if findings.head_on_val(of_run, metric):
            latest += of_run
    head = findings.head_on_val(latest, group[0].cfg.eval.metric)
    return [replace(r, head=head) if head and r.has(head) else r for r in group]


def last_evaluation(run: Path) -> list[dict[MetricName, float]]:
    """The metrics of each seed in the last lines of RUN/metrics.jsonl, those of one step."""
    lines = checkpoint.metrics_lines(run / "metrics.jsonl")
    return [
        {MetricName.parse(key): value for key, value in line.items() if "/" in key}
        for line in lines
        if line["step"] == lines[-1]["step"]
    ]


def _transferred(
    results: Sequence[Result],
    stores: Mapping[str, Store],
    class_map: transfer.Pairs | None,
) -> list[Result]:
    """Every run's last weights on the other stores (on its own where that is the only one), see
    transfer.py. Crop and metric are those of a run made for that store.
    """
    judged = []
    for source, target in product(results, results):
        if source.row is not target.row or source is target and len(stores) > 1:
            continue
        cfg, frozen, meta = checkpoint.read(source.run)
        features = stores[target.label]
        cfg = replace(cfg, eval=replace(cfg.eval, crop=target.cfg.eval.crop))
        weights, _ = checkpoint.last_weights(source.run, cfg, meta)
        pairs = transfer.class_pairs(cfg.data.classes, features.classes, class_map)
        metrics = findings.over_seeds(transfer.judge(cfg, frozen, weights, features, pairs))
        dataset = target.summary.dataset
        same = ("judged on the store it was trained on",) if source is target else ()
        judged.append(
            replace(
                target,
                label=f"{source.label} → {target.label}",
                run=source.run,
                summary=replace(source.summary, dataset=dataset, metrics=metrics),
                head="binary",
                others=tuple(dict.fromkeys((*source.others, *target.others, *same))),
                classes=transfer.sentence(cfg, pairs, features.classes, source.has("class")),
            )
        )
    labels = dict.fromkeys(r.label for r in judged)
    return [r for label in labels for r in judged if r.label == label]
