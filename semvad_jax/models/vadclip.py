"""VadCLIP: SemVAD's visual side alone, at width D. Captions are not read (Table 10 row 0)."""

from functools import lru_cache

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from semvad_jax.class_text import ClassHead, PromptedText, StaticText
from semvad_jax.config import Config
from semvad_jax.layers import BinaryHead, adapter
from semvad_jax.temporal import LGTAdapter
from semvad_jax.types import Batch, Frozen, Outputs


class VadCLIP(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m, d = cfg.model, cfg.data
        self.visual_proj = adapter(d.feature_dim, m.dim, rngs)  # none for CLIP ViT-B/16's 512
        self.temporal = LGTAdapter(m.length, m.dim, m.layers, m.heads, m.window, rngs)
        self.binary_head = BinaryHead(m.dim, rngs)
        self.class_text = PromptedText(cfg, rngs) if prompted else StaticText(cfg)
        self.text_proj = adapter(d.text_dim, m.dim, rngs)
        self.class_head = ClassHead(m.dim, rngs)
        self.dtype = jnp.dtype(cfg.train.dtype)

    def __call__(self, frozen: Frozen, batch: Batch) -> Outputs:
        x = batch.visual.astype(self.dtype)
        x = x if self.visual_proj is None else self.visual_proj(x)
        x = self.temporal(x, batch.length)
        binary_logits = self.binary_head(x)
        text = self.class_text(frozen)
        text = text if self.text_proj is None else self.text_proj(text)
        return Outputs(
            binary_logits=binary_logits,
            class_logits=self.class_head(x, binary_logits, text),
            class_text=text,
            features=x.astype(jnp.float32),
        )


@lru_cache
def _structure(cfg: Config, prompted: bool) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: VadCLIP(cfg, prompted, nnx.Rngs(0))))[0]


def init(cfg: Config, key: jax.Array) -> PyTree:
    """Parameters of one seed, a plain nested dict of float32 arrays."""
    model = VadCLIP(cfg, cfg.data.text_tower > 0, nnx.Rngs(key))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def apply(
    cfg: Config,
    params: PyTree,
    frozen: Frozen,
    batch: Batch,
    *,
    state: PyTree | None = None,
    key: jax.Array | None = None,
    train: bool = False,
) -> Outputs:
    """Scores of a batch. VadCLIP has neither dropout nor batch statistics: `state`, `key` and
    `train` change nothing.
    """
    return nnx.merge(_structure(cfg, frozen.text_tower is not None), params)(frozen, batch)
