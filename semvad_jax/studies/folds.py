"""Candidates for a preset, compared on the train videos alone: cross-validation over videos.

A few videos set aside as val say little, and the test videos must not be asked. Here every train
video is scored by weights that were trained without its fold (`seeds.out_of_fold`), and the pooled
scores give each seed one AUC over videos. A result is found again by its identity, so that a study
that was interrupted goes on, and a new candidate is all that is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import msgspec

from semvad_jax import config, evaluate, seeds
from semvad_jax import run as runs
from semvad_jax.config import default_seeds
from semvad_jax.files import read_json, require, write
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings
from semvad_jax.report.findings import Spread
from semvad_jax.report.summary import mean_and_sd
from semvad_jax.report.tables import plain_console, table
from semvad_jax.store.locate import open_store
from semvad_jax.studies.study import Row, labelled, settings

AGAIN = "is no result of a study; run --study again to make it"


@dataclass(frozen=True)
class CrossValidation:
    """The candidates, as rows of a study; the first one is what the others are compared with."""

    title: str
    rows: tuple[Row, ...]
    data: dict[str, str] = field(default_factory=lambda: {"demo": "demo"})  # label → store
    folds: int = 5
    seeds: int = 3
    note: str = ""


class Judged(msgspec.Struct, frozen=True):
    """One candidate on one store: video-level AUC out of fold, a value a seed, by each head."""

    data: str
    row: str
    label: str
    settings: list[str]
    auc: dict[str, Spread]

    @property
    def head(self) -> str:
        """The head with the higher mean."""
        return max(self.auc, key=lambda head: self.auc[head].mean)

    @property
    def best(self) -> Spread:
        return self.auc[self.head]


class Result(msgspec.Struct, frozen=True):
    """study.json."""

    study: str
    title: str
    folds: int
    weight_seeds: list[int]
    candidates: list[Judged]
    note: str = ""


def run(
    study: CrossValidation, name: str, data: Sequence[str], folds: int, count: int, out: Path
) -> Result:
    """Trains what is missing of every candidate on every store, and writes OUT/<study>/study.json.

    Raises BadInput for a bad store or setting, and as `seeds.out_of_fold` does.
    """
    stores = labelled(data) or dict(study.data)
    opened = {label: open_store(path) for label, path in stores.items()}
    planned = [
        (row, label, features, settings(row.overrides or (), label, features, None, ()))
        for label, features in opened.items()
        for row in study.rows
    ]
    of_seeds, console, candidates = default_seeds(count), plain_console(), []
    for number, (row, label, features, cfg) in enumerate(planned, 1):
        resolved = config.resolve(cfg, features)
        identity = runs.identity(features.info["sha256"], resolved, of_seeds, of_seeds)
        kept = out / "folds" / f"{label}-{identity}-{folds}.json"
        if not kept.is_file():
            console.print(f"{number} of {len(planned)}: {label}, {row.label}: {folds} folds")
            scores, abnormal = seeds.out_of_fold(resolved, features, of_seeds, folds)
            metrics = [evaluate.video_metrics(one, abnormal) for one in scores]
            auc = {
                head: findings.spread([of[MetricName("val", head, "auc")] for of in metrics])
                for head in scores[0].heads()
            }
            judged = Judged(label, row.name, row.label, list(row.overrides or ()), auc)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write(kept, msgspec.json.format(msgspec.json.encode(judged), indent=1))
        candidates.append(
            msgspec.structs.replace(read_json(kept, Judged, AGAIN), row=row.name, label=row.label)
        )
    result = Result(name, study.title, folds, of_seeds, candidates, study.note)
    home = out / name
    home.mkdir(parents=True, exist_ok=True)
    write(home / "study.json", msgspec.json.format(msgspec.json.encode(result), indent=1))
    return result


def read_result(path: Path) -> Result:
    """A study.json as `run` writes it; raises BadInput for another form."""
    return read_json(path, Result, AGAIN)


def rows_of(result: Result) -> tuple[list[str], list[list[str]]]:
    """The table: headings, and a line a candidate with its AUC on each store and the mean of
    these; the highest mean is marked.
    """
    labels = list(dict.fromkeys(judged.data for judged in result.candidates))
    names = list(dict.fromkeys(judged.row for judged in result.candidates))
    by_place = {(judged.row, judged.data): judged for judged in result.candidates}
    require(len(by_place) == len(labels) * len(names), "a candidate is missing on a store")
    means = {name: fmean(by_place[name, x].best.mean for x in labels) for name in names}
    rows = []
    for name in names:
        cells = [
            f"{mean_and_sd(by_place[name, x].best)} ({by_place[name, x].head})" for x in labels
        ]
        mark = " ←" if means[name] == max(means.values()) else ""
        label = by_place[name, labels[0]].label
        rows.append([label, *cells, f"{100 * means[name]:.2f}{mark}"])
    return ["candidate", *labels, "mean"], rows


def heading(result: Result) -> str:
    """What the table shows, in a sentence."""
    return (
        f"Video-level AUC of the train videos, per cent: pooled scores out of {result.folds} folds,"
        f" mean ± SD over {len(result.weight_seeds)} seeds, by the head that is better (in "
        "brackets). No test video is looked at."
    )


def tell(result: Result, out: Path) -> None:
    """Prints the table."""
    console = plain_console()
    headings, rows = rows_of(result)
    shown = table(*headings, fold=True)
    for row in rows:
        shown.add_row(*row)
    console.print(f"\n{result.title}\n{heading(result)}")
    console.print(shown)
    if result.note:
        console.print(result.note)
    console.print(f"The numbers: {out / result.study / 'study.json'}")
