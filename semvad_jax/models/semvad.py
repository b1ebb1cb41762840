"""SemVAD (paper §3.3): fuse captions into the visual stream, adapt over time, score and name each
snippet.
"""

import jax.numpy as jnp
from flax import nnx

from semvad_jax.config import Config
from semvad_jax.models import functions
from semvad_jax.models.class_text import ClassHead, PromptedText, StaticText
from semvad_jax.models.fusion import ConvMixer, CrossAttention
from semvad_jax.models.layers import BinaryHead, Linear
from semvad_jax.models.temporal import LGTAdapter
from semvad_jax.types import Batch, Frozen, Outputs


class SemVAD(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m, d, w = cfg.model, cfg.data, 2 * cfg.model.dim
        self.visual_proj = Linear(d.feature_dim, m.dim, rngs)  # L_v
        self.caption_proj = Linear(
            d.caption_dim, m.dim, rngs
        )  # L_c, of snippet and class captions alike
        self.attention = CrossAttention(m, rngs) if m.attention else None
        self.mixer = ConvMixer(m.dim, rngs) if m.mixer else None
        self.temporal = LGTAdapter(m.length, w, m.layers, m.heads, m.window, rngs)
        self.binary_head = BinaryHead(w, rngs)
        self.class_text = PromptedText(cfg, rngs) if prompted else StaticText(cfg)
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


init, apply = functions(SemVAD)
