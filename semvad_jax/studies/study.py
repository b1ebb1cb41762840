"""A table or figure of the paper, trained by one command: `main.py --study NAME`.

A study is a file of configs/studies: rows, each a model's settings and what the paper printed for
it. Every row is a run on every store. Runs are found by their identity (`run.identity`: store,
settings and seeds) in one folder that all studies share, OUT/runs/: a study that was interrupted
goes on where it stopped, finished runs are only read, whichever study trained them. table.py
prints a study and writes OUT/<study>/study.json.
"""

import json
import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from semvad_jax import checkpoint, config
from semvad_jax import run as runs
from semvad_jax.config import CONFIGS, Config
from semvad_jax.detection import detect as detection
from semvad_jax.files import BadInput
from semvad_jax.report import summary as report
from semvad_jax.report import transfer
from semvad_jax.store import Store
from semvad_jax.store.locate import open_store

OUT = Path("runs/studies")
HEADLINE = "headline"  # AUC or AP, whichever the data set is judged by
FINE = "map"  # metrics that begin so are the class head's
PRODUCERS = {  # of the paper's features, by the flags of featurize/run.py; release: the authors'
    "vision": ("clip-vit-b16", "release"),
    "captioner": ("videollama3-7b", "release"),
    "text": ("clip-vit-l14", "clip-vit-b16"),
}


@dataclass(frozen=True)
class Figure:
    """What the paper prints, in per cent."""

    mean: float
    sd: float | None = None
    best: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table; without overrides it is the paper's alone.

    `paper` is keyed by "data set/metric" (data set: ucf, xd), or "data label/metric" in a study
    `by_label`, where "{}" in `label` stands for the data label.
    """

    name: str  # in study.json
    label: str
    overrides: tuple[str, ...] | None = None
    paper: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    title: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = (HEADLINE,)
    # seeds: each by itself; grid: every weight seed × every data seed; transfer: trained on a
    # store, judged on another
    kind: Literal["table", "seeds", "grid", "transfer"] = "table"
    data: Mapping[str, str] = field(default_factory=lambda: {"demo": "demo"})  # label → store
    by_label: bool = False  # the stores are what is compared: one table for all of them
    captioners: Mapping[str, str] = field(default_factory=dict)  # the paper's, by data label
    needs: str = ""  # which stores to name, where there is no default
    seeds: int = 10
    note: str = ""


@dataclass(frozen=True)
class Options:
    """What the command line asks of a study."""

    data: Sequence[str] = ()  # LABEL=STORE …; the study's own stores where empty
    base: str | None = None  # --config
    overrides: Sequence[str] = ()  # --set
    weight_seeds: Sequence[int] = ()
    data_seeds: Sequence[int] = ()
    chunk: int | Literal["auto"] | None = None
    class_map: Path | None = None
    out: Path = OUT


@dataclass(frozen=True)
class Planned:
    """A row's run on one store, before anything is trained."""

    label: str
    row: Row
    features: Store
    cfg: Config  # as given; `resolved` has the store's sizes
    resolved: Config
    weight_seeds: list[int]
    data_seeds: list[int]

    @property
    def identity(self) -> str:
        return runs.identity(self.features, self.resolved, self.weight_seeds, self.data_seeds)

    def folder(self, out: Path) -> Path:
        """The RUN directory: that of the same run, under whatever label a study began it, else a
        new one.
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
    summary: dict[str, Any]
    head: str  # the headline's, see `_with_head`
    others: tuple[str, ...]  # inputs that are not the paper's
    classes: str = ""  # of a transfer: which classes were judged

    def found(self, selection: str, metric: str) -> dict[str, Any] | None:
        """`report.spread` of a metric, or None where the run has none."""
        key = f"{selection}/{self.head_of(metric)}/{self.name(metric)}"
        return self.summary["metrics"].get(key)

    def has(self, head: str) -> bool:
        return any(key.split("/")[1] == head for key in self.summary["metrics"])

    def head_of(self, metric: str) -> str:
        return "class" if metric.startswith(FINE) else self.head

    def name(self, metric: str) -> str:
        return self.cfg.eval.metric if metric == HEADLINE else metric


def load(name_or_path: str) -> Any:
    """What configs/studies/NAME.py, or a file at a path, calls `study`; None where it has none."""
    folder = CONFIGS / "studies"
    path = Path(name_or_path)
    path = path if path.suffix == ".py" else folder / f"{name_or_path}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.py")))
        raise BadInput(f"no study {path}; --study takes a path that ends in .py or one of: {known}")
    return runpy.run_path(str(path)).get("study")


def labelled(given: Sequence[str]) -> dict[str, str]:
    """{label: path} of --data LABEL=PATH …; raises BadInput for another form."""
    found: dict[str, str] = {}
    for text in given:
        label, _, path = text.partition("=")
        if not (re.fullmatch(r"[\w-][\w.-]*", label) and path) or label in found:
            raise BadInput(
                f"--data {text!r}: a study takes LABEL=STORE, each label once, of letters, digits, "
                "'.', '_' and '-'"
            )
        found[label] = path
    return found


def named_stores(study: Study, given: Sequence[str]) -> dict[str, str]:
    """{label: store} of --data LABEL=STORE …, or the study's own."""
    found = labelled(given)
    if not (found or study.data):
        raise BadInput(f"this study has no store to begin with; {study.needs}")
    return found or dict(study.data)


def settings(
    row: Row, label: str, features: Store, base: str | None, overrides: Sequence[str]
) -> Config:
    """The row's config on a store. It builds on --config, else on configs/<label>.py, else on that
    of the store's data set, else on the demo's; the row's own overrides come last.
    """
    dataset, more = features.info["dataset"], []
    known = [name for name in (label, dataset) if (CONFIGS / f"{name}.py").is_file()]
    if base is None and not known:
        more = [f"data.dataset={dataset}"]
    chosen = base or [*known, "demo"][0]
    own = [*more, *overrides, *(row.overrides or ()), f"data.store={features.path}"]
    return config.load(chosen, own)


def plan(study: Study, options: Options) -> list[Planned]:
    """Every run that a study needs, in the order of stores, then rows; nothing is trained.

    Raises BadInput for a bad store or setting, and for seeds that make no grid.
    """
    weight_seeds, data_seeds = seed_pairs(study, options)
    row_settings = {text.partition("=")[0] for row in study.rows for text in row.overrides or ()}
    for text in options.overrides:
        if (name := text.partition("=")[0].strip()) in row_settings | {"data.store"}:
            raise BadInput(f"--set {text}: this study's rows differ in {name}, or name it")
    if options.class_map and study.kind != "transfer":
        raise BadInput("--class-map is for a study of transfer, such as table9")
    planned = []
    for label, path in named_stores(study, options.data).items():
        features = open_store(path)
        for row in study.rows:
            if row.overrides is None:
                continue
            cfg = settings(row, label, features, options.base, options.overrides)
            resolved = config.resolve(cfg, features)
            seeds = weight_seeds, data_seeds
            planned.append(Planned(label, row, features, cfg, resolved, *seeds))
    return planned


def seed_pairs(study: Study, options: Options) -> tuple[list[int], list[int]]:
    """A run's weight seeds and data seeds, pair by pair; a grid pairs each with each."""
    weight_seeds, data_seeds = list(options.weight_seeds), list(options.data_seeds)
    if study.kind != "grid":
        return weight_seeds, data_seeds
    if len(set(weight_seeds)) < len(weight_seeds) or len(set(data_seeds)) < len(data_seeds):
        raise BadInput("a grid needs each weight seed and each data seed once")
    if min(len(weight_seeds), len(data_seeds)) < 2:
        raise BadInput("a grid needs two weight seeds and two data seeds or more")
    pairs = list(product(weight_seeds, data_seeds))
    return [weights for weights, _ in pairs], [order for _, order in pairs]


def run(study: Study, options: Options) -> list[Result]:
    """Trains what is missing; the results in the order of stores, then rows.

    Raises BadInput as `plan` does, and for stores that a transfer cannot go between, before
    anything is trained; and where a run is under way with another --seed-chunk.
    """
    planned = plan(study, options)
    class_map = transfer.read_class_map(options.class_map) if options.class_map else None
    if study.kind == "transfer":
        _check_transfer(planned, class_map, options.out)
    console, results = Console(highlight=False, markup=False), []
    for number, one in enumerate(planned, 1):
        folder = one.folder(options.out)
        summary = _finished(folder, one)
        state = "is there" if summary else "is trained"
        console.print(f"{number} of {len(planned)}: {folder} {state}")
        if summary is None:
            seeds = one.weight_seeds, one.data_seeds
            runs.train(one.cfg, folder, folder.name, *seeds, options.chunk, resume=True, tell=False)
            summary = _read_summary(folder)
        others = differing(one.features, study.captioners.get(one.label))
        head = one.resolved.eval.select_head
        results.append(Result(one.label, one.row, folder, one.resolved, summary, head, others))
    if study.kind == "transfer":
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
            transfer.judged_on(target)


def _finished(folder: Path, planned: Planned) -> dict[str, Any] | None:
    """The summary of a run that has ended, None where something is left to do.

    Raises BadInput where the folder's name is this run's and what it holds is not.
    """
    if not (folder / "config.json").is_file():
        return None
    if runs.recorded_identity(folder) != planned.identity:
        raise BadInput(
            f"{folder} was trained on other features, settings or seeds than its name says; move it"
            " away, or name another --out"
        )
    return _read_summary(folder) if (folder / "summary.json").is_file() else None


def _read_summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


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
    latest = []
    for result in group:
        lines = (result.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        rows = [row for row in rows if row["step"] == rows[-1]["step"]]
        latest += rows if report.val_head(rows, result.cfg.eval.metric) else []
    chosen = report.val_head(latest, group[0].cfg.eval.metric)
    return [replace(r, head=chosen) if chosen and r.has(chosen) else r for r in group]


def _transferred(
    results: Sequence[Result],
    stores: Mapping[str, Store],
    class_map: transfer.Pairs | None,
) -> list[Result]:
    """Every run's last weights on the other stores (on its own where that is the only one), see
    transfer.py. Crop and metric are those of a run made for that store.
    """
    found = []
    for source, target in product(results, results):
        if source.row is not target.row or source is target and len(stores) > 1:
            continue
        cfg, frozen, meta = checkpoint.read(source.run)
        features = stores[target.label]
        cfg = replace(cfg, eval=replace(cfg.eval, crop=target.cfg.eval.crop))
        params, _ = checkpoint.last_weights(source.run, cfg, meta)
        pairs = transfer.class_pairs(cfg.data.classes, features.classes, class_map)
        judged = transfer.over_seeds(transfer.judge(cfg, frozen, params, features, pairs))
        metrics = {str(name): dict(vars(spread)) for name, spread in judged.items()}
        summary = source.summary | {"dataset": target.summary["dataset"], "metrics": metrics}
        label = f"{source.label} → {target.label}"
        same = ("judged on the store it was trained on",) if source is target else ()
        others = tuple(dict.fromkeys((*source.others, *target.others, *same)))
        found.append(
            replace(
                target,
                label=label,
                run=source.run,
                summary=summary,
                head="binary",
                others=others,
                classes=transfer.sentence(cfg, pairs, features.classes, source.has("class")),
            )
        )
    labels = dict.fromkeys(r.label for r in found)
    return [r for label in labels for r in found if r.label == label]


def differing(features: Store, captioner: str | None = None) -> tuple[str, ...]:
    """What the paper's figures were made from and this store was not."""
    flags = features.info["producers"].get("flags", {})
    dataset = features.info["dataset"]
    others = [] if dataset in ("ucf", "xd") else [f"data set {dataset}"]
    for kind, accepted in (PRODUCERS | ({"captioner": (captioner,)} if captioner else {})).items():
        if flags.get(kind) not in accepted:
            others.append(f"{kind} {flags.get(kind, 'unknown')}")
    return tuple(others)
