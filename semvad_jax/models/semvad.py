"""SemVAD (paper §3.3): fuse captions into the visual stream, adapt over time, score and name each
snippet.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from semvad_jax.class_text import ClassHead, PromptedText, StaticText
from semvad_jax.config import Config, width
from semvad_jax.fusion import ConvMixer, CrossAttention
from semvad_jax.layers import BinaryHead, Linear
from semvad_jax.temporal import LGTAdapter
from semvad_jax.types import Batch, Frozen, Outputs


class SemVAD(nnx.Module):
    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        m, d, w = cfg.model, cfg.data, width(cfg)
        self.visual_proj = Linear(d.feature_dim, m.dim, rngs)  # L_v
        self.caption_proj = Linear(
            d.caption_dim, m.dim, rngs
        )  # L_c, of snippet and class captions alike
        self.attention = CrossAttention(m.dim, m.qkv, m.residual, rngs) if m.attention else None
        self.mixer = ConvMixer(m.dim, rngs) if m.mixer else None
        self.temporal = LGTAdapter(m.length, w, m.layers, m.heads, m.window, rngs)
        self.binary_head = BinaryHead(w, rngs)
        if d.text_tower:
            self.class_text = PromptedText(d.text_tower, rngs)
        else:
            self.class_text = StaticText(len(d.classes), d.text_dim)
        self.text_proj = Linear(d.text_dim, w, rngs)
        self.class_head = ClassHead(w, rngs)
        self.dtype = jnp.dtype(cfg.train.dtype)

    def __call__(self, frozen: Frozen, batch: Batch) -> Outputs:
        f = self.visual_proj(batch.visual.astype(self.dtype))
        t = self.caption_proj(batch.captions.astype(self.dtype))
        fused = t if self.attention is None else self.attention(f, t, batch.length)
        fused = fused if self.mixer is None else self.mixer(f, fused)
        x = self.temporal(jnp.concatenate([f, fused], axis=-1), batch.length)
        binary_logits = self.binary_head(x)
        text = self.text_proj(self.class_text(frozen))
        return Outputs(
            binary_logits=binary_logits,
            class_logits=self.class_head(x, binary_logits, text),
            class_text=text,
            captions=t.astype(jnp.float32),
            class_captions=None
            if frozen.class_caption is None
            else self.caption_proj(frozen.class_caption),
            features=x.astype(jnp.float32),
        )


@lru_cache
def _structure(cfg: Config) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: SemVAD(cfg, nnx.Rngs(0))))[0]


def init(cfg: Config, key: jax.Array) -> PyTree:
    """Parameters of one seed, a plain nested dict of float32 arrays."""
    return nnx.to_pure_dict(nnx.state(SemVAD(cfg, nnx.Rngs(key)), nnx.Param))


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
    """Scores of a batch. SemVAD has neither dropout nor batch statistics: `state`, `key` and
    `train` change nothing.
    """
    return nnx.merge(_structure(cfg), params)(frozen, batch)
