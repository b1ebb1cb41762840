"""VadCLIP: SemVAD's visual side alone, at width D. Captions are not read (Table 10 row 0)."""

import jax
import jax.numpy as jnp
from flax import nnx

from semvad_jax.config import Config
from semvad_jax.models import functions
from semvad_jax.models.class_text import ClassHead, PromptedText, StaticText
from semvad_jax.models.layers import BinaryHead, activations, adapter, remat
from semvad_jax.models.temporal import LGTAdapter
from semvad_jax.types import Batch, Frozen, Outputs


class VadCLIP(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m, d = cfg.model, cfg.data
        self.visual_proj = adapter(d.feature_dim, m.dim, rngs)  # none for CLIP ViT-B/16's 512
        self.temporal = LGTAdapter(m.length, m.dim, m.layers, m.heads, m.window, rngs, remat(cfg))
        self.binary_head = BinaryHead(m.dim, rngs)
        self.class_text = PromptedText(cfg, rngs) if prompted else StaticText(cfg)
        self.text_proj = adapter(d.text_dim, m.dim, rngs)
        self.class_head = ClassHead(m.dim, rngs)
        self.dtype, self.part = activations(cfg), remat(cfg)

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        x = batch.visual.astype(self.dtype)
        x = x if self.visual_proj is None else self.visual_proj(x)
        x = self.temporal(x, batch.length)
        binary_logits = self.part(self.binary_head)(x)
        text = self.class_text(frozen)
        text = text if self.text_proj is None else self.text_proj(text)
        return Outputs(
            binary_logits=binary_logits,
            class_logits=self.class_head(x, binary_logits, text),
            class_text=text,
            features=x.astype(jnp.float32),
        )


init, _, apply = functions(VadCLIP)
