"""A table or figure of the paper, trained by one command: `main.py --study NAME`.

A study is a file of configs/studies: rows, each a model's settings and what the paper printed for
it. Every row is a run of its own on every store, FOLDER/<data label>/<row>/, so a study that was
interrupted goes on where it stopped, and finished runs are only read. study_table.py prints it.
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

    name: str  # its folder
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
    runs: str = ""  # the study whose runs these are, where that is another
    seeds: int = 10
    note: str = ""


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


def run(
    study: Study,
    name: str,
    folder: Path,
    given: Sequence[str],
    base: str | None,
    overrides: Sequence[str],
    seed_lists: tuple[list[int], list[int]],
    chunk: int | Literal["auto"] | None,
    class_map: Path | None,
) -> list[Result]:
    """Trains what is missing; the results in the order of stores, then rows.

    Raises BadInput, before anything is trained, for a bad store or setting; and where FOLDER has a
    run of that name with other settings.
    """
    pairs = (
        list(product(*seed_lists)) if study.kind == "grid" else list(zip(*seed_lists, strict=True))
    )
    if study.kind == "grid" and len(set(seed_lists[0])) * len(set(seed_lists[1])) < len(pairs):
        raise BadInput("a grid needs each weight seed and each data seed once")
    if study.kind == "grid" and min(map(len, seed_lists)) < 2:
        raise BadInput("a grid needs two weight seeds and two data seeds or more")
    own = {text.partition("=")[0] for row in study.rows for text in row.overrides or ()}
    for text in overrides:
        if (asked := text.partition("=")[0].strip()) in own | {"data.store"}:
            raise BadInput(f"--set {text}: this study's rows differ in {asked}, or name it")
    weight_seeds, data_seeds = ([pair[i] for pair in pairs] for i in (0, 1))
    stores = {label: open_store(path) for label, path in named_stores(study, given).items()}
    todo = [
        (label, row, settings(row, label, features, base, overrides))
        for label, features in stores.items()
        for row in study.rows
        if row.overrides is not None
    ]
    if class_map and study.kind != "transfer":
        raise BadInput("--class-map is for a study of transfer, such as table9")
    class_pairs = transfer.read_class_map(class_map) if class_map else None
    for label, row, cfg in todo if study.kind == "transfer" else ():
        source, at = stores[label], folder / label / row.name
        for features in [f for other, f in stores.items() if other != label] or [source]:
            detection.check_store(config.resolve(cfg, source), features)
            detection.check_producers(at, source.info["producers"], features)
            transfer.class_pairs(source.classes, features.classes, class_pairs)
            transfer.judged_on(features)
    console, results = Console(highlight=False, markup=False), []
    for place, (label, row, cfg) in enumerate(todo, 1):
        at = folder / label / row.name
        resolved = config.resolve(cfg, stores[label])
        summary = _finished(at, resolved, stores[label], weight_seeds, data_seeds)
        done = "is there" if summary else "is trained"
        console.print(f"{place} of {len(todo)}: {at} {done}")
        if summary is None:
            identity = (f"{study.runs or name}/{label}/{row.name}", weight_seeds, data_seeds)
            runs.train(cfg, at, *identity, chunk, resume=True, tell=False)
            summary = json.loads((at / "summary.json").read_text(encoding="utf-8"))
        others = differing(stores[label], study.captioners.get(label))
        results.append(Result(label, row, at, resolved, summary, resolved.eval.select_head, others))
    if study.kind == "transfer":
        return _transferred(results, stores, class_pairs)
    return [result for group in groups(study, results) for result in _with_head(group)]


def _finished(
    at: Path, cfg: Config, features: Store, weight_seeds: list[int], data_seeds: list[int]
) -> dict[str, Any] | None:
    """The summary of a run that ended with these settings, None where something is left to do."""
    if (at / "config.json").is_file() and runs.producers(at) != features.info["producers"]:
        raise BadInput(
            f"{at} was trained on other features than those in {features.path}; name another --out"
        )
    if not (at / "summary.json").is_file():
        return None
    summary = json.loads((at / "summary.json").read_text(encoding="utf-8"))
    same = config.from_json((at / "config.json").read_text(encoding="utf-8")) == cfg
    same = same and (summary["weight_seeds"], summary["data_seeds"]) == (weight_seeds, data_seeds)
    return summary if same else None  # `runs.train` tells what is wrong


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
