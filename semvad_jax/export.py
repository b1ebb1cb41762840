"""A run for use without this package: a compiled scoring function with its weights, or PyTorch's
state dicts.
"""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import safetensors.numpy
from jaxtyping import Array, Float, Int

from semvad_jax import __version__, checkpoint, seeds
from semvad_jax.checkpoint import flatten, unflatten
from semvad_jax.config import Config
from semvad_jax.detection import detect as detection
from semvad_jax.detection.events import Origin
from semvad_jax.detection.thresholds import Asked
from semvad_jax.files import BadInput, locked, replacing, write
from semvad_jax.models import convert, model
from semvad_jax.report import findings
from semvad_jax.report.summary import COLUMNS, NOTES, Summary, mean_and_sd, read_finished
from semvad_jax.store import flags
from semvad_jax.templates import FOLDER, template
from semvad_jax.types import Frozen, Weights

PLATFORMS = ("cpu", "cuda")
SCRIPT = FOLDER / "score.py"


def export(run: Path, out: Path) -> None:
    """Writes OUT: score.jax (the scoring function of all seeds by jax.export), weights.safetensors
    (its first argument), model.json, score.py, and README.md, the model's card.

    Raises BadInput where RUN is not finished, where scores are smoothed after the model, and as
    `scoring` does.
    """
    summary = read_finished(run)
    cfg, frozen, meta = checkpoint.read(run)
    refuse_smoothing(run, cfg)
    weights, count = checkpoint.last_weights(run, cfg, meta)
    origin = detection.origin(run, cfg, count, Asked())
    exported = scoring(cfg, origin.head, frozen, weights)
    facts = {
        "model": cfg.model.name,
        "dataset": meta.dataset,
        "classes": meta.classes,
        "length": None if cfg.eval.whole else cfg.model.length,
        "feature_dim": cfg.data.feature_dim,
        "caption_dim": cfg.data.caption_dim,
        "head": origin.head,
        "weight_seeds": meta.weight_seeds,
        "data_seeds": meta.data_seeds,
        "threshold": dataclasses.asdict(origin.threshold),
    }
    with locked(out):
        out.mkdir(parents=True, exist_ok=True)
        write(out / "score.jax", bytes(exported.serialize()))
        arrays = jax.device_get(flatten((frozen, weights)))
        write(out / "weights.safetensors", safetensors.numpy.save(arrays))
        write(out / "model.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        with replacing(out / SCRIPT.name) as partly:
            shutil.copyfile(SCRIPT, partly)
        write(out / "README.md", _card(cfg, meta, summary, origin))
    print(
        f"exported {count} seed{'s' * (count > 1)} to {out}; {out / 'README.md'} tells how to score"
    )


def scoring(cfg: Config, head: str, frozen: Frozen, weights: Weights) -> jax.export.Exported:
    """`seeds.scored_together` for any number of windows, and of snippets where a model is tested on
    whole videos; its first argument are the arrays of (frozen, weights) by name. Raises BadInput
    for a model that needs fixed sizes (CLIP-TSA).
    """
    arrays = flatten((frozen, weights))

    def score(
        arrays: dict[str, Array],
        visual: Float[Array, "B T F"],
        captions: Float[Array, "B T Q"],
        length: Int[Array, " B"],
    ) -> tuple[Float[Array, "S B T"], Float[Array, "S B T C"] | None]:
        frozen_of, weights_of = unflatten((frozen, weights), arrays)
        return seeds.scored_together(cfg, head, frozen_of, weights_of, visual, captions, length)

    batch, *whole = jax.export.symbolic_shape("b, t" if cfg.eval.whole else "b")
    slots = whole[0] if whole else cfg.model.length
    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    given = (
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays),
        shape((batch, slots, cfg.data.feature_dim)),
        shape((batch, slots, cfg.data.caption_dim)),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    )
    try:
        return jax.export.export(jax.jit(score), platforms=PLATFORMS)(*given)
    except TypeError:  # a size that is not known is asked for as a number
        raise BadInput(f"model {cfg.model.name} cannot be exported: it needs fixed sizes") from None


def refuse_smoothing(run: Path, cfg: Config) -> None:
    """Raises BadInput where scores are smoothed after the model, which is not exported."""
    finished = hasattr(model(cfg), "finish") and cfg.model.smoothing != "none"
    if finished or cfg.eval.smooth > 1:
        raise BadInput(
            f"{run} smooths scores after the model, which no exported function does; train with "
            f"{'model.smoothing=none' if finished else 'eval.smooth=1'}"
        )


def to_torch(run: Path, out: Path) -> None:
    """Writes OUT/seed-WEIGHT-DATA.safetensors, each seed's last weights as a state dict of the
    public program of its model (`convert.to_torch`, which tells which models have one).
    """
    cfg, frozen, meta = checkpoint.read(run)
    weights, _ = checkpoint.last_weights(run, cfg, meta)
    with locked(out):
        for k, (weight_seed, data_seed) in enumerate(meta.pairs):
            params = seeds.select(weights.params, k)
            state = convert.to_torch(cfg, params, frozen)
            out.mkdir(parents=True, exist_ok=True)
            name = f"seed-{weight_seed}-{data_seed}.safetensors"
            write(out / name, safetensors.numpy.save(state))
    print(f"wrote {len(meta.pairs)} state dicts to {out}")


def _card(cfg: Config, meta: checkpoint.Meta, summary: Summary, origin: Origin) -> str:
    """The model's card, as Markdown."""
    metrics = [m for m in COLUMNS if any(name.metric == m for name in summary.metrics)]
    rows = []
    for selection, head in findings.rows_of(summary.metrics):
        own = {n.metric: v for n, v in summary.metrics.items() if n[:2] == (selection, head)}
        cells = [mean_and_sd(own[metric]) if metric in own else "" for metric in metrics]
        rows.append([NOTES[selection], head, *cells])
    return (
        template("model_card.md").render(
            cfg=cfg,
            meta=meta,
            summary=summary,
            threshold=origin.threshold,
            head=origin.head,
            by_class=any(name.head == "class" for name in summary.metrics),
            version=__version__,
            columns=[COLUMNS[metric] for metric in metrics],
            rows=rows,
            producers={name: meta.producers.get(name) or {} for name in detection.PRODUCERS},
            flags=flags.recorded(meta.producers),
        )
        + "\n"
    )
