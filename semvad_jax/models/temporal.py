"""The local-global temporal (LGT) adapter of VadCLIP (§3.3 there), which SemVAD keeps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from semvad_jax.models.layers import (
    GraphConv,
    Linear,
    WindowBlock,
    distance_adjacency,
    quick_gelu,
    similarity_adjacency,
)


class GraphBranch(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.first = GraphConv(width, width // 2, rngs)
        self.second = GraphConv(width // 2, width // 2, rngs)

    def __call__(
        self, x: Float[Array, "B T W"], adjacency: Float[Array, "#B T T"]
    ) -> Float[Array, "B T H"]:
        return quick_gelu(self.second(quick_gelu(self.first(x, adjacency)), adjacency))


class LGTAdapter(nnx.Module):
    """Local: attention within windows of snippets. Global: two graphs, over similar and over near
    snippets.
    """

    def __init__(
        self,
        length: int,
        width: int,
        layers: int,
        heads: int,
        window: int,
        rngs: nnx.Rngs,
        part: Callable[[Callable], Callable],
    ):
        """`part`: what wraps each block and graph, see `layers.remat`."""
        self.position = nnx.Param(0.01 * jax.random.normal(rngs.params(), (length, width)))
        self.blocks = nnx.List([WindowBlock(width, heads, window, rngs) for _ in range(layers)])
        self.similarity = GraphBranch(width, rngs)
        self.distance = GraphBranch(width, rngs)
        self.out = Linear(width, width, rngs)
        self.part = part

    @jax.named_scope("LGT adapter")
    def __call__(self, x: Float[Array, "B T W"], length: Int[Array, " B"]) -> Float[Array, "B T W"]:
        x = x + self.position.astype(x.dtype)
        for block in self.blocks:
            x = self.part(block)(x)
        similar = self.part(lambda x: self.similarity(x, similarity_adjacency(x, length)))(x)
        near = self.part(lambda x: self.distance(x, distance_adjacency(x.shape[1])))(x)
        return self.out(jnp.concatenate([similar, near], axis=-1))
