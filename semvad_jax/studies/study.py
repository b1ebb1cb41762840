"""A table or figure of the paper, as a file of configs/studies declares it.

Its rows are settings of a model, with what the paper printed for each. trained.py trains them,
numbers.py puts what came out into study.json, table.py prints it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from semvad_jax import config
from semvad_jax.config import CONFIGS, Config
from semvad_jax.files import BadInput
from semvad_jax.store import Store

OUT = Path("runs/studies")  # OUT/<study>/study.json, and OUT/runs/, which all studies share
HEADLINE = "headline"  # AUC or AP, whichever the data set is judged by


@dataclass(frozen=True)
class Figure:
    """What the paper prints, in per cent; of a system that it quotes, one run's figure alone."""

    mean: float | None = None
    sd: float | None = None
    best: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table; without overrides it is the paper's alone.

    `paper` is keyed by "data set/metric" (data set: ucf, xd), or "data label/metric" in a study
    `by_label`, where "{}" in `label` stands for the data label.
    """

    name: str  # in study.json
    label: str  # in print
    overrides: tuple[str, ...] | None = None  # section.field=value
    paper: Mapping[str, Figure] = field(default_factory=dict)
    # of crossed seeds: {"weight seed, data seed": what the paper prints, in per cent}
    paper_pairs: Mapping[str, float] = field(default_factory=dict)
    sigma_to_length: bool = False  # σ falls over the run as it does over the paper's 1,125 steps


@dataclass(frozen=True)
class Study:
    """Rows that are trained on every store with the same seeds, and compared.

    Without one of the three switches, weights are judged on the store they were trained on, by
    pairs of a weight seed and a data seed, and a table shows their mean and SD.
    """

    title: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = (HEADLINE,)
    each_seed: bool = False  # every seed's own metric too, as a table and as a drawing
    cross_seeds: bool = False  # every weight seed with every data seed, and each one's part
    data_seed: int | None = None  # of every weight seed, where --data-seeds does not name others
    transfer: bool = False  # trained on one store, judged on each other
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
    chunk: int | Literal["auto"] | None = None  # --seed-chunk
    class_map: Path | None = None
    out: Path = OUT


def labelled(data: Sequence[str]) -> dict[str, str]:
    """{label: path} of --data LABEL=PATH …; raises BadInput for another form."""
    paths: dict[str, str] = {}
    for text in data:
        label, _, path = text.partition("=")
        if not (re.fullmatch(r"[\w-][\w.-]*", label) and path) or label in paths:
            raise BadInput(
                f"--data {text!r}: a study takes LABEL=STORE, each label once, of letters, digits, "
                "'.', '_' and '-'"
            )
        paths[label] = path
    return paths


def named_stores(study: Study, data: Sequence[str]) -> dict[str, str]:
    """{label: store} of --data LABEL=STORE …, or the study's own.

    Raises BadInput where neither names one.
    """
    stores = labelled(data) or dict(study.data)
    if not stores:
        raise BadInput(f"this study has no store to begin with; {study.needs}")
    return stores


def settings(
    overrides: Sequence[str], label: str, features: Store, base: str | None, asked: Sequence[str]
) -> Config:
    """The config of a row on a store.

    It builds on `base` (--config), else on configs/<label>.py, else on the config of the store's
    data set, else on the demo's. `asked` (--set) comes next, the row's own `overrides` last.
    """
    dataset, unknown = features.info["dataset"], []
    known = [name for name in (label, dataset) if (CONFIGS / f"{name}.py").is_file()]
    if base is None and not known:
        unknown = [f"data.dataset={dataset}"]
    name = base or [*known, "demo"][0]
    return config.load(name, [*unknown, *asked, *overrides, f"data.store={features.path}"])
