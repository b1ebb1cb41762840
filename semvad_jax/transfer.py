"""A run judged on a data set with other classes: which of them mean the same is said in a file, or
only the binary head is reported.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, PyTree
from rich.console import Console

from semvad_jax import checkpoint, data, report, seeds
from semvad_jax import evaluate as judging
from semvad_jax.config import BadInput, Config
from semvad_jax.evaluate import FrameTruth, Scores
from semvad_jax.store import Store
from semvad_jax.types import Frozen

Pairs = tuple[tuple[str, str], ...]  # (the run's class, the store's) that mean the same


def read_class_map(path: Path) -> Pairs:
    """The pairs of a JSON object {class: class, or a list of classes}, as they stand there.

    Raises BadInput where the file is none.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        lists = {k: [v] if isinstance(v, str) else v for k, v in table.items()}
        found = tuple((k, name) for k, names in lists.items() for name in names)
        if found and all(isinstance(name, str) for _, name in found):
            return found
    except (OSError, UnicodeDecodeError, AttributeError, TypeError, json.JSONDecodeError):
        pass
    raise BadInput(
        f'{path} is no class map; it is a JSON object such as {{"RoadAccidents": "CarAccident"}}, '
        "with a class, or a list of classes, for each that has a counterpart"
    )


def class_pairs(ours: Sequence[str], theirs: Sequence[str], given: Pairs | None) -> Pairs | None:
    """The pairs of the run's anomaly classes and the store's, in the store's order; `given` may
    name them in either direction. Without `given`: all, where the two lists are the same, else
    None.

    Raises BadInput where `given` names classes that neither direction has, or the normal one.
    """
    if given is None:
        return tuple((name, name) for name in ours[1:]) if tuple(ours) == tuple(theirs) else None
    ways = [given, tuple((b, a) for a, b in given)]
    for pairs in ways:
        if all(a in ours[1:] and b in theirs[1:] for a, b in pairs):
            return tuple(sorted(pairs, key=lambda pair: theirs.index(pair[1])))
    raise BadInput(
        f"the class map pairs {_told(given)}, but the run has the anomaly classes "
        f"{', '.join(ours[1:])} and the store {', '.join(theirs[1:])}; pair these names only"
    )


def sentence(pairs: Pairs | None, theirs: Sequence[str]) -> str:
    """What is judged, for the reader of a table."""
    if pairs is None:
        return "The class lists differ and no class map is given: the binary head alone is judged."
    matched = {b for _, b in pairs}
    return (
        f"Classes, the run's and the store's: {_told(pairs)}. mAP is over {len(matched)} of the "
        f"store's {len(theirs) - 1} anomaly classes."
    )


def judge(
    cfg: Config, frozen: Frozen, params: PyTree, store: Store, pairs: Pairs | None
) -> list[dict[str, float]]:
    """`{"head/metric": fraction}` of each seed on the store's test videos; weights are stacked over
    seeds.

    Without `pairs` by the binary head alone. With them a store's class has the sum of its
    counterparts' probabilities, and mAP is over the classes that have one (normal, as class 0, has
    always): the others' truth is no truth then.
    """
    videos = data.split(cfg, store)[2]
    truth = judging.frame_truth(store, videos)
    found = []
    for scores in seeds.score_videos(cfg, frozen, params, store, videos):
        if pairs is None or scores.classes is None:
            metrics = judging.frame_metrics(Scores(scores.binary, None), truth)
            found.append({k: f for k, f in metrics.items() if k.startswith("binary/")})
            continue
        columns, kept = _counterparts(cfg.data.classes, store.classes, pairs)
        mapped = Scores(scores.binary, [p @ columns for p in scores.classes])
        metrics = judging.frame_metrics(mapped, truth)
        found.append(metrics | judging.class_metrics(mapped, _restricted(truth, kept)))
    return found


def evaluate(
    run: Path,
    cfg: Config,
    frozen: Frozen,
    meta: Mapping[str, Any],
    store: Store,
    class_map: Path | None,
    device: str,
) -> None:
    """Judges RUN's last weights on a store of other classes: RUN/eval.json, and a table.

    Raises BadInput as `read_class_map` and `class_pairs` do.
    """
    given = read_class_map(class_map) if class_map else None
    pairs = class_pairs(cfg.data.classes, store.classes, given)
    params, _ = checkpoint.last_weights(run, cfg, meta)
    metrics = over_seeds(judge(cfg, frozen, params, store, pairs))
    trained = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    told = {"dataset": store.info["dataset"], "device": device, "metrics": metrics}
    summary = report.Summary(**trained | told)
    report.write_summary(run / "eval.json", summary)
    console = Console(highlight=False, markup=False)
    report.print_table(console, f"{summary.title}, trained on {trained['dataset']}", metrics)
    report.print_selection(console, metrics, cfg.eval.metric, "binary", "binary")
    console.print(sentence(pairs, store.classes))


def over_seeds(found: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """`judge`'s metrics as summary.json has them: the last weights', spread over seeds."""
    return {f"last/{name}": report.spread([seed[name] for seed in found]) for name in found[0]}


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
    place = {c: i for i, c in enumerate(kept)}
    segments = [[(place.get(c, -1), a, b) for c, a, b in video] for video in truth.segments]
    return replace(truth, segments=segments)


def _told(pairs: Pairs) -> str:
    return ", ".join(a if a == b else f"{a} = {b}" for a, b in pairs)
