"""The multi-scale temporal network of RTFM (Tian et al. 2021, §3.2), which CLIP-TSA keeps: three
dilated convolutions for what is near, a non-local block for all of the video.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers
from jaxtyping import Array, Bool, Float

from semvad_jax.models.layers import BatchNorm, Conv, Linear, xavier_conv

XAVIER, ZEROS = initializers.xavier_uniform(), initializers.zeros


def conv(inputs: int, outputs: int, dilation: int, bias: bool, rngs: nnx.Rngs) -> Conv:
    """A convolution over three snippets, `dilation` apart."""
    start = {"kernel_init": xavier_conv, "bias_init": ZEROS}
    return Conv(3, inputs, outputs, rngs, dilation=dilation, bias=bias, **start)


class Dilated(nnx.Module):
    """A convolution, ReLU, then batch normalisation, in this order."""

    def __init__(self, inputs: int, outputs: int, dilation: int, bias: bool, rngs: nnx.Rngs):
        self.conv = conv(inputs, outputs, dilation, bias, rngs)
        self.norm = BatchNorm(outputs)

    def __call__(
        self, x: Float[Array, "N T I"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T O"]:
        return self.norm(jax.nn.relu(self.conv(x)), train)


class NonLocal(nnx.Module):
    """Every snippet gathers all of its video: products of two projections, not a softmax, over the
    number of snippets. Its last normalisation starts at 0, so it begins as the identity.
    """

    def __init__(self, width: int, rngs: nnx.Rngs):
        half = width // 2
        self.query, self.key, self.value = (
            Linear(width, half, rngs, XAVIER, ZEROS) for _ in range(3)
        )
        self.out = Linear(half, width, rngs, XAVIER, ZEROS)
        self.norm = BatchNorm(width, scale=0.0)

    def __call__(
        self, x: Float[Array, "N T W"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T W"]:
        count = there.sum(-1)[:, None, None].astype(x.dtype)
        value = jnp.where(there[..., None], self.value(x), 0)
        gathered = self.query(x) @ (self.key(x).swapaxes(1, 2) @ value) / jnp.maximum(count, 1)
        return self.norm(self.out(gathered), train) + x


class MultiScale(nnx.Module):
    """The whole network, of `features` numbers a snippet to as many, through branches of `dim`;
    `near` is the kind of its convolutions.
    """

    def __init__(self, features: int, dim: int, rngs: nnx.Rngs, near: type = Dilated):
        self.one = near(features, dim, 1, True, rngs)
        self.two = near(features, dim, 2, True, rngs)
        self.four = near(features, dim, 4, True, rngs)
        self.global_in = Linear(features, dim, rngs, XAVIER, bias=False)
        self.non_local = NonLocal(dim, rngs)
        self.out = near(4 * dim, features, 1, False, rngs)

    def __call__(
        self, x: Float[Array, "N T F"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T F"]:
        """`there` are the slots that the program has; x is 0 in the others."""
        branches = [branch(x, there, train) for branch in (self.one, self.two, self.four)]
        branches.append(self.non_local(jax.nn.relu(self.global_in(x)), there, train))
        joined = jnp.where(there[..., None], jnp.concatenate(branches, axis=-1), 0)
        return self.out(joined, there, train) + x


NON_LOCAL = {
    "non_local.query": "non_local.theta",
    "non_local.key": "non_local.phi",
    "non_local.value": "non_local.g",
    "non_local.out": "non_local.W.0",
    "non_local.norm": "non_local.W.1",
}


def torch_names(
    ours: str, theirs: str, norm: str = "2", non_local: Mapping[str, str] = NON_LOCAL
) -> dict[str, str]:
    """A public program's names of the network's layers; RTFM's, where no others are given."""
    convs = {"one": "conv_1", "two": "conv_2", "four": "conv_3", "out": "conv_5"}
    names = {f"{our}.conv": f"{their}.0" for our, their in convs.items()}
    names |= {f"{our}.norm": f"{their}.{norm}" for our, their in convs.items()}
    names |= {"global_in": "conv_4.0", **non_local}
    return {f"{ours}.{our}": f"{theirs}.{their}" for our, their in names.items()}
