"""A run judged on a data set with other classes: which of them mean the same is said in a file, or
only the binary head is reported.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from semvad_jax import checkpoint, config, seeds
from semvad_jax import evaluate as judging
from semvad_jax.checkpoint import Meta
from semvad_jax.config import CONFIGS, Config
from semvad_jax.evaluate import FrameTruth, Scores
from semvad_jax.files import BadInput, require
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings
from semvad_jax.report import summary as report
from semvad_jax.report.tables import plain_console
from semvad_jax.store import Store
from semvad_jax.types import Frozen, Weights

Pairs = tuple[tuple[str, str], ...]  # (the run's class, the store's) that mean the same


def read_class_map(path: Path) -> Pairs:
    """The pairs of a JSON object {class: class, or a list of classes}, as they stand there.

    Raises BadInput where the file is none.
    """
    refusal = (
        f'{path} is no class map; it is a JSON object such as {{"RoadAccidents": "CarAccident"}}, '
        "with a class, or a list of classes, for each that has a counterpart"
    )
    try:
        # as pairs and not as a dict, so that a key that is there twice stays there twice
        entries = json.loads(path.read_bytes(), object_pairs_hook=tuple)
    except (OSError, ValueError, RecursionError):
        raise BadInput(refusal) from None
    pairs = []
    for name, counterparts in entries if isinstance(entries, tuple) else ():
        for counterpart in counterparts if isinstance(counterparts, list) else [counterparts]:
            require(isinstance(counterpart, str), refusal)
            pairs.append((name, counterpart))
    require(bool(pairs), refusal)
    return tuple(pairs)


def class_pairs(
    ours: Sequence[str], theirs: Sequence[str], class_map: Pairs | None
) -> Pairs | None:
    """The pairs of the run's anomaly classes (`ours`) and the store's, in the store's order.

    `class_map` may name them in either direction. Without it: all, where the two lists are the
    same, else None. Raises BadInput where it names classes that neither direction has, or the
    normal one, and where it could be read in both.
    """
    if class_map is None:
        return tuple((name, name) for name in ours[1:]) if tuple(ours) == tuple(theirs) else None
    as_it_stands = frozenset(class_map)
    turned = frozenset((b, a) for a, b in class_map)
    fits = [_fits(pairs, ours, theirs) for pairs in (as_it_stands, turned)]
    if all(fits) and as_it_stands != turned:
        raise BadInput(
            f"the class map pairs {_listed(class_map)}, and both data sets have all of these "
            "classes; add one that only one of them has, so that its direction is clear"
        )
    if not any(fits):
        raise BadInput(
            f"the class map pairs {_listed(class_map)}, but the run has the anomaly classes "
            f"{', '.join(ours[1:])} and the store {', '.join(theirs[1:])}; pair these names only"
        )
    pairs = as_it_stands if fits[0] else turned
    return tuple(sorted(pairs, key=lambda pair: (theirs.index(pair[1]), pair)))


def _fits(pairs: Iterable[tuple[str, str]], ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether each pair names an anomaly class of ours and then one of theirs."""
    return all(a in ours[1:] and b in theirs[1:] for a, b in pairs)


def sentence(cfg: Config, pairs: Pairs | None, theirs: Sequence[str], by_class: bool) -> str:
    """What is judged, for the reader of a table; `by_class`: whether the class head is."""
    if pairs is None:
        return "The class lists differ and no class map is given: the binary head alone is judged."
    if not by_class:
        return f"{cfg.model.name} has no class head: the binary head alone is judged."
    matched = {b for _, b in pairs}
    return (
        f"Classes, the run's and the store's: {_listed(pairs)}. mAP is over {len(matched)} of the "
        f"store's {len(theirs) - 1} anomaly classes."
    )


def judge(
    cfg: Config, frozen: Frozen, weights: Weights, store: Store, pairs: Pairs | None
) -> list[dict[MetricName, float]]:
    """The metrics of each seed, fractions, on the store's test videos; weights are stacked over
    seeds.

    The weights are the run's last ones. Where the best weights are reloaded (`train.protocol`)
    these were chosen on the run's test videos, and so they count as `test`.

    Without `pairs` by the binary head alone. With them a store's class has the sum of its
    counterparts' probabilities, and mAP is over the classes that have one (normal, as class 0, has
    always): the others' truth is no truth then. There is no head `max`: here it would choose
    between heads on the videos that it is judged by.
    """
    videos, truth = judging.judged_on(store)
    columns, kept = _counterparts(cfg.data.classes, store.classes, pairs or ())
    selection = judging.selection_of_last(cfg)
    of_seeds = []
    for scores in seeds.score_videos(cfg, frozen, weights, store, videos):
        mapped = Scores(scores.binary, None)
        if pairs is not None and scores.classes is not None:
            mapped = Scores(scores.binary, [p @ columns for p in scores.classes])
        metrics = judging.frame_metrics(mapped, truth, selection)
        metrics |= judging.further_frame_metrics(mapped, truth, selection)
        if mapped.classes is not None:
            metrics |= judging.class_metrics(mapped, _restricted(truth, kept), selection)
        of_seeds.append({name: value for name, value in metrics.items() if name.head != "max"})
    return of_seeds


def evaluate(
    run: Path,
    cfg: Config,
    frozen: Frozen,
    meta: Meta,
    store: Store,
    class_map: Path | None,
    device: str,
) -> None:
    """Judges RUN's last weights on a store of other classes: RUN/eval.json, and a table. Crop and
    headline metric are those of the store's data set, where it is one of ours.

    Raises BadInput as `read_class_map`, `class_pairs` and `evaluate.judged_on` do, and where RUN is
    not finished.
    """
    mapped = read_class_map(class_map) if class_map else None
    pairs = class_pairs(cfg.data.classes, store.classes, mapped)
    dataset = store.info["dataset"]
    if (CONFIGS / f"{dataset}.py").is_file():
        own = config.load(dataset).eval
        cfg = replace(cfg, eval=replace(cfg.eval, crop=own.crop, metric=own.metric))
    trained = report.read_finished(run)
    weights, _ = checkpoint.last_weights(run, cfg, meta)
    metrics = findings.over_seeds(judge(cfg, frozen, weights, store, pairs))
    unjudged = judging.unjudged_sentence(store)
    judged = replace(trained, dataset=dataset, device=device, metrics=metrics, unjudged=unjudged)
    report.write_summary(run / "eval.json", judged)
    console = plain_console()
    title = f"{judged.title}, {store.path}, trained on {trained.dataset}"
    report.print_table(console, title, metrics, behind=judged.unjudged)
    report.print_selection(console, metrics, cfg.eval.metric, "binary", "binary")
    by_class = any(name.head == "class" for name in metrics)
    console.print(sentence(cfg, pairs, store.classes, by_class))


def _counterparts(
    ours: Sequence[str], theirs: Sequence[str], pairs: Pairs
) -> tuple[Float[np.ndarray, "C K"], list[int]]:
    """What of the run's classes counts for each kept class of the store, and these classes."""
    kept = [0, *dict.fromkeys(theirs.index(b) for _, b in pairs)]
    columns = np.zeros((len(ours), len(kept)), np.float32)
    columns[0, 0] = 1
    for a, b in pairs:
        columns[ours.index(a), kept.index(theirs.index(b))] = 1
    return columns, kept


def _restricted(truth: FrameTruth, kept: Sequence[int]) -> FrameTruth:
    """The truth of the kept classes alone, renumbered in their order; −1 for all others."""
    column = {c: i for i, c in enumerate(kept)}
    segments = [[(column.get(c, -1), a, b) for c, a, b in video] for video in truth.segments]
    return replace(truth, segments=segments)


def _listed(pairs: Pairs) -> str:
    return ", ".join(a if a == b else f"{a} = {b}" for a, b in pairs)
