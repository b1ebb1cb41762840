"""The arrays that pass between files, and the axis letters used in every shape annotation.

S seed   B batch   T time (snippets)   F store features   Q caption embedding   D dim
W width (SemVAD: 2D)   C class (0 = normal)   L token   V video   R row (one crop of one training
video, or a video where crops are trained together)   K crop
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Bool, Float, Float16, Int, PyTree


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Frozen:
    """What a model reads and never trains. Fields a store does not have are None."""

    class_caption: Float[Array, "C Q"] | None  # embedding of the generalized caption C^(m)
    class_name: Float[Array, "C D_text"] | None
    class_tokens: Int[Array, "C 77"] | None
    text_tower: Mapping[str, Array] | None  # CLIP's text weights, by CLIP's own names
    dictionary: Float[Array, "M F"] | None = None  # S3R's entries, made of normal train snippets


@register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainData:
    """All training rows, shared by every seed; NumPy's until they are placed on a device."""

    visual: Float16[Array | np.ndarray, "R *K T F"]
    captions: Float16[Array | np.ndarray, "V T Q"]
    video: Int[Array | np.ndarray, " R"]  # the row's place in captions, length and labels
    length: Int[Array | np.ndarray, " V"]
    labels: Float[Array | np.ndarray, "V C"]
    normal: Int[Array | np.ndarray, " N"]  # rows by first label
    abnormal: Int[Array | np.ndarray, " A"]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Windows:
    """Videos of any length, cut into windows of T snippets, in N batches of B; NumPy's until they
    are placed on a device.
    """

    visual: Float16[Array | np.ndarray, "*N B T F"]
    captions: Float16[Array | np.ndarray, "*N B T Q"]
    length: Int[Array | np.ndarray, "*N B"]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    visual: Float[Array, "B *K T F"]  # with K where crops are trained together (train.crops)
    captions: Float[Array, "B T Q"]
    length: Int[Array, " B"]  # real snippets; the rest of T is zero
    labels: Float[Array, "B C"]  # multi-hot
    weight: Float[Array, " B"]  # 0 for the rows that fill a ragged last batch


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model computes for a batch; a model leaves out (None) what it does not have."""

    binary_logits: Float[Array, "B T"]
    class_logits: Float[Array, "B T C"] | None = None
    class_text: Float[Array, "C W"] | None = None  # before the visual prompt is added
    captions: Float[Array, "B T D"] | None = None  # L_c(T_i)
    class_captions: Float[Array, "C D"] | None = None  # L_c(T^(c))
    features: Float[Array, "B T W"] | None = None  # after the LGT adapter
    state: PyTree | None = None  # new batch statistics, where a model has them
    for_loss: Mapping[str, Array] | None = None  # what else the model's own loss reads


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """What scores a video: a model's parameters, and its batch statistics where it has any."""

    params: PyTree
    state: PyTree | None = None


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Best:
    """The best evaluation of one seed so far under one selection rule."""

    metric: Float[Array, ""]
    step: Int[Array, ""]
    params: PyTree
    state: PyTree | None = None  # batch statistics

    @property
    def weights(self) -> Weights:
        return Weights(self.params, self.state)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything one seed needs to go on."""

    params: PyTree
    opt: PyTree
    step: Int[Array, ""]
    key: Array  # raw key data: orders the epochs and draws what a loss draws
    best: dict[str, Best]  # "val" (where videos are set aside) and "test"
    since_best: Int[Array, ""]  # evaluations since the last one that was better on test
    stopped: Bool[Array, ""]  # early stop of reload_best (train.protocol): steps pass untrained
    state: PyTree | None = None  # batch statistics, where the model has them

    @property
    def weights(self) -> Weights:
        """The last ones."""
        return Weights(self.params, self.state)
