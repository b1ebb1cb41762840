"""A run judged as a camera would be scored: each snippet when a few more have come, not when the
video is over. RUN/eval-lookahead-K.json, one for each lookahead K; `all` is the whole video.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from semvad_jax import checkpoint, seeds
from semvad_jax import evaluate as judging
from semvad_jax.checkpoint import Meta
from semvad_jax.config import Config
from semvad_jax.report import findings
from semvad_jax.report.summary import (
    COLUMNS,
    Summary,
    mean_and_sd,
    read_finished,
    read_summary,
    write_summary,
)
from semvad_jax.report.tables import plain_console
from semvad_jax.store import Store
from semvad_jax.types import Frozen

Lookahead = int | Literal["all"]
NAME = "eval-lookahead-{}.json"


def evaluate(
    run: Path,
    cfg: Config,
    frozen: Frozen,
    meta: Meta,
    store: Store,
    lookaheads: Sequence[Lookahead],
    device: str,
) -> None:
    """Judges RUN's last weights on its store's test videos at every lookahead, and prints a table.
    Where the best weights are reloaded (`train.protocol`) they count as `test`.

    Raises BadInput where RUN is not finished, where its store has no test videos that can be
    judged, and for a lookahead that is too long (`evaluate.moments`).
    """
    trained = read_finished(run)
    weights, _ = checkpoint.last_weights(run, cfg, meta)
    videos, truth = judging.judged_on(store)
    counts = [k for k in lookaheads if k != "all"]
    scores: dict[Lookahead, list[judging.Scores]] = {
        **seeds.score_in_real_time(cfg, frozen, weights, store, videos, counts)
    }
    if "all" in lookaheads:
        scores["all"] = seeds.score_videos(cfg, frozen, weights, store, videos)
    selection = judging.selection_of_last(cfg)
    summaries = {}
    for lookahead, of_seeds in scores.items():
        metrics = [judging.frame_metrics(one, truth, selection) for one in of_seeds]
        spread = findings.over_seeds(metrics)
        summaries[lookahead] = replace(trained, device=device, metrics=spread)
        write_summary(run / NAME.format(lookahead), summaries[lookahead])
    _print(summaries)


def read(run: Path) -> dict[Lookahead, Summary]:
    """What RUN was judged to be worth at each lookahead, `all` last; none where it never was."""
    found: dict[Lookahead, Summary] = {}
    for path in run.glob(NAME.format("*")):
        text = path.stem.rpartition("-")[2]
        found[int(text) if text.isdecimal() else "all"] = read_summary(path)
    return {lookahead: found[lookahead] for lookahead in in_order(found)}


def in_order(lookaheads: Iterable[Lookahead]) -> list[Lookahead]:
    """The shortest lookahead first, `all` last."""
    return sorted(lookaheads, key=lambda k: math.inf if k == "all" else k)


def _print(summaries: dict[Lookahead, Summary]) -> None:
    """AUC and AP at every lookahead by each head: mean ± SD, in per cent."""
    console, any_summary = plain_console(), next(iter(summaries.values()))
    console.print(f"\n{any_summary.title}; test videos, per cent: mean ± SD")
    if any_summary.unjudged:
        console.print(any_summary.unjudged)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in ("lookahead", "head"):
        table.add_column(heading, no_wrap=True)
    for metric in ("auc", "ap"):
        table.add_column(COLUMNS[metric], justify="right", no_wrap=True)
    for lookahead, summary in summaries.items():
        for selection, head in findings.rows_of(summary.metrics):
            named = {n.metric: v for n, v in summary.metrics.items() if n[:2] == (selection, head)}
            table.add_row(str(lookahead), head, *(mean_and_sd(named[m]) for m in ("auc", "ap")))
    console.print(table)
