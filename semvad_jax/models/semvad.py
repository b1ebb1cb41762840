"""SemVAD (paper §3.3): fuse captions into the visual stream, adapt over time, score and name each
snippet.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from semvad_jax.config import Config
from semvad_jax.models import functions
from semvad_jax.models.class_text import ClassHead, PromptedText, StaticText
from semvad_jax.models.fusion import ConvMixer, CrossAttention
from semvad_jax.models.layers import BinaryHead, Linear, Scorer, activations, dropout, remat, scaled
from semvad_jax.models.temporal import LGTAdapter
from semvad_jax.types import Batch, Frozen, Outputs

BRANCH = 2  # what a step's key is folded with


def half_of_videos(logits: Float[Array, "B T"], key: jax.Array | None) -> Float[Array, "B T"]:
    """In training the logits of every other video, at random, and 0 for the rest: what is added to
    them must then be able to stand alone.
    """
    if key is None:
        return logits
    kept = jax.random.bernoulli(jax.random.fold_in(key, BRANCH), 0.5, (logits.shape[0], 1))
    return jnp.where(kept, logits, 0)


class SemVAD(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m, d, w = cfg.model, cfg.data, 2 * cfg.model.dim
        self.beside = Linear(d.feature_dim + d.caption_dim, w, rngs) if m.captions_raw else None
        self.visual_proj = None if m.captions_raw else Linear(d.feature_dim, m.dim, rngs)  # L_v
        # L_c, of snippet and class captions alike
        self.caption_proj = None if m.captions_raw else Linear(d.caption_dim, m.dim, rngs)
        self.attention = CrossAttention(m, rngs) if m.attention else None
        self.mixer = ConvMixer(m.dim, rngs) if m.mixer else None
        self.temporal = LGTAdapter(m.length, w, m.layers, m.heads, m.window, rngs, remat(cfg))
        self.binary_head = BinaryHead(w, rngs)
        inputs = d.feature_dim + d.caption_dim
        self.shortcut = Scorer(inputs, m.dim, m.dropout, rngs) if m.shortcut else None
        self.class_text = PromptedText(cfg, rngs) if prompted else StaticText(cfg)
        self.text_proj = Linear(d.text_dim, w, rngs)
        self.class_head = ClassHead(w, rngs)
        self.dtype, self.part = activations(cfg), remat(cfg)
        self.dropout, self.norm = m.dropout, m.input_norm

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        visual, captions = batch.visual.astype(self.dtype), batch.captions.astype(self.dtype)
        if self.norm:
            visual, captions = scaled(visual), scaled(captions)
        t = None
        if self.visual_proj is None or self.caption_proj is None:
            assert self.beside is not None
            fused = self.beside(jnp.concatenate([visual, captions], axis=-1))
        else:
            f, t = self.visual_proj(visual), self.caption_proj(captions)
            fused = self.part(self._fused)(f, t, batch.length)
        x = dropout(self.temporal(fused, batch.length), self.dropout, key)
        binary_logits = self.part(self.binary_head)(x)
        if self.shortcut is not None:
            beside = jnp.concatenate([scaled(visual), scaled(captions)], axis=-1)
            kept = half_of_videos(binary_logits, key)
            binary_logits = kept + self.shortcut(beside, key)
        text = self.text_proj(self.class_text(frozen))
        return Outputs(
            binary_logits=binary_logits,
            class_logits=self.class_head(x, binary_logits, text),
            class_text=text,
            captions=None if t is None else t.astype(jnp.float32),
            class_captions=self._class_captions(frozen),
            features=x.astype(jnp.float32),
        )

    @jax.named_scope("fusion")
    def _fused(
        self, f: Float[Array, "B T D"], t: Float[Array, "B T D"], length: Int[Array, " B"]
    ) -> Float[Array, "B T W"]:
        gathered = t if self.attention is None else self.attention(f, t, length)
        mixed = gathered if self.mixer is None else self.mixer(f, gathered)
        return jnp.concatenate([f, mixed], axis=-1)

    def _class_captions(self, frozen: Frozen) -> Float[Array, "C D"] | None:
        if self.caption_proj is None or frozen.class_caption is None:
            return None
        captions = frozen.class_caption
        return self.caption_proj(scaled(captions) if self.norm else captions)


init, _, apply = functions(SemVAD)
