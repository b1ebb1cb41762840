"""The class side: class vectors from a learned prompt or static embeddings, and their alignment
with snippets.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from semvad_jax.config import Config
from semvad_jax.models.layers import Linear, attend, layer_norm, quick_gelu, unit
from semvad_jax.types import Frozen

PREFIX = POSTFIX = 10  # learned tokens before and after the class name


class PromptedText(nnx.Module):
    """CLIP's frozen text tower over: start, 10 learned tokens, the class name, 10 learned, end,
    learned filler.

    One learned context [77, width] is shared by all classes; gradients flow through the tower to it
    alone.
    """

    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        shape = (77, cfg.data.text_tower)
        self.prompt = nnx.Param(0.01 * jax.random.normal(rngs.params(), shape))

    def __call__(self, frozen: Frozen) -> Float[Array, "C D_text"]:
        assert frozen.text_tower is not None and frozen.class_tokens is not None
        embedded, end = prompt_embeddings(frozen.text_tower, frozen.class_tokens, self.prompt[...])
        return text_tower(frozen.text_tower, embedded, end)


class StaticText(nnx.Module):
    """The store's class-name embeddings with a learned residual, where the store carries no text
    tower.
    """

    def __init__(self, cfg: Config):
        self.residual = nnx.Param(jnp.zeros((len(cfg.data.classes), cfg.data.text_dim)))

    def __call__(self, frozen: Frozen) -> Float[Array, "C D_text"]:
        assert frozen.class_name is not None
        return frozen.class_name + self.residual[...]


@jax.named_scope("class texts")
def prompt_embeddings(
    tower: Mapping[str, Array], tokens: Int[Array, "C L"], prompt: Float[Array, "L E"]
) -> tuple[Float[Array, "C L E"], Int[Array, " C"]]:
    """The tower's input, and each class's end-of-text position. In CLIP's tokens the end has the
    largest id.
    """
    words = tower["token_embedding.weight"][tokens]
    count = jnp.argmax(tokens, axis=-1)[
        :, None
    ]  # the end's position before the learned tokens move it
    position = jnp.arange(tokens.shape[1])[None, :]
    source = jnp.where(position == 0, 0, position - PREFIX)
    source = jnp.where(position == count + PREFIX + POSTFIX, count, source)
    is_word = (
        (position == 0)
        | ((position > PREFIX) & (position < PREFIX + count))
        | (position == count + PREFIX + POSTFIX)
    )
    moved = jnp.take_along_axis(words, jnp.clip(source, 0)[..., None], axis=1)
    return jnp.where(is_word[..., None], moved, prompt), count[:, 0] + PREFIX + POSTFIX


@jax.named_scope("class texts")
def text_tower(
    tower: Mapping[str, Array], embedded: Float[Array, "C L E"], end: Int[Array, " C"]
) -> Float[Array, "C D_text"]:
    """CLIP's text transformer over token embeddings, read at each class's end position."""
    return text_states(tower, embedded, end) @ tower["text_projection"]


def text_states(
    tower: Mapping[str, Array],
    embedded: Float[Array, "C L E"],
    end: Int[Array, " C"],
    after: Callable[[int, Array], Array] = lambda layer, x: x,
) -> Float[Array, "C E"]:
    """What the tower projects: its last layer at each class's end position, normed. `after` changes
    what a layer puts out.

    The tower runs over as many positions as its positional embedding has (see `crop_tower`).
    """
    steps, width = tower["positional_embedding"].shape
    x = embedded[:, :steps] + tower["positional_embedding"]
    causal = jnp.tril(jnp.ones((steps, steps), bool))
    depth = sum(name.endswith("attn.in_proj_weight") for name in tower)
    for i in range(depth):
        w = {k.removeprefix(f"transformer.resblocks.{i}."): v for k, v in tower.items()}
        y = layer_norm(x, w["ln_1.weight"], w["ln_1.bias"])
        y = attend(
            y @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"], max(1, width // 64), causal
        )
        x = x + y @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]
        y = layer_norm(x, w["ln_2.weight"], w["ln_2.bias"])
        y = quick_gelu(y @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"])
        x = after(i, x + y @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"])
    x = layer_norm(x, tower["ln_final.weight"], tower["ln_final.bias"])
    return jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]


def crop_tower(
    tower: dict[str, np.ndarray], tokens: Int[np.ndarray, "C L"]
) -> tuple[dict[str, np.ndarray], Int[np.ndarray, "C L"]]:
    """The tower without what these tokens (CLIP's own ids) do not reach, and the tokens as its
    rows.

    The embeddings of other tokens go, and the positions after the last end: attention is causal.
    """
    ids, rows = np.unique(tokens, return_inverse=True)
    words, positions = tower["token_embedding.weight"], tower["positional_embedding"]
    used = int(tokens.argmax(axis=-1).max()) + PREFIX + POSTFIX + 1
    cropped = {
        # a store holds the rows in use alone, in the order of their ids
        "token_embedding.weight": words if len(words) == len(ids) else words[ids],
        "positional_embedding": positions[:used],
    }
    return tower | cropped, rows.reshape(tokens.shape)


class ClassHead(nnx.Module):
    """Aligns snippets with class vectors that see the video (VadCLIP's visual prompt)."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.up = Linear(width, 4 * width, rngs)
        self.down = Linear(4 * width, width, rngs)

    def __call__(
        self,
        x: Float[Array, "B T W"],
        binary_logits: Float[Array, "B T"],
        text: Float[Array, "C W"],
    ) -> Float[Array, "B T C"]:
        # the sum runs over the padding too, with raw logits, as in VadCLIP
        video = unit(jnp.einsum("bt,btw->bw", binary_logits, x.astype(jnp.float32)))
        prompted = (text.astype(jnp.float32) + video[:, None, :]).astype(x.dtype)
        prompted = prompted + self.down(quick_gelu(self.up(prompted)))
        return jnp.einsum("btw,bcw->btc", unit(x), unit(prompted)) / 0.07
