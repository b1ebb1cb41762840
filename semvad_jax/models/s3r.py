"""S3R (Wu et al. 2022) as its public PyTorch program trains it: what a dictionary of normal
snippets can say about a video stands beside the video, and RTFM's choice is made on what is left.

The dictionary is made once, from the normal train videos (`prepare`). Crops of a video are trained
together, as in RTFM.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float
from sklearn.decomposition import MiniBatchDictionaryLearning

from semvad_jax.config import Config
from semvad_jax.losses import cross_entropy
from semvad_jax.models import functions, kept, mtn, rtfm
from semvad_jax.models.layers import (
    GroupNorm,
    Linear,
    by_crop,
    dropout,
    keys_of,
    masked,
    narrow,
    present,
    visual_of,
)
from semvad_jax.models.mtn import XAVIER, ZEROS, MultiScale
from semvad_jax.types import Batch, Frozen, Outputs, TrainData

NETWORK = {
    "non_local.query": "non_local.query",
    "non_local.key": "non_local.key",
    "non_local.value": "non_local.value",
    "non_local.out": "non_local.alter.0",
    "non_local.norm": "non_local.alter.1",
}
TORCH = {
    **mtn.torch_names("video", "video_embedding.0", "1", NETWORK),
    **mtn.torch_names("normal", "macro_embedding.0", "1", NETWORK),
    "read.query": "en_normal.en_normal_module.query_embedding",
    "read.key": "en_normal.en_normal_module.cache_embedding",
    "read.value": "en_normal.en_normal_module.value_embedding",
    "gate.down": "de_normal.channel_attention.channel_gate.mlp.1",
    "gate.up": "de_normal.channel_attention.channel_gate.mlp.3",
    "scorer.first": "video_classifier.0",
    "scorer.second": "video_classifier.3",
    "scorer.score": "video_classifier.6",
    "whole.first": "macro_classifier.mlp.0",
    "whole.second": "macro_classifier.mlp.3",
    "whole.score": "macro_classifier.mlp.6",
}
UNREAD = ("video_projection.", "macro_projection.")  # blocks that the program never calls
GATE = 16  # the gate's hidden layer is so many times narrower than the features
NONZEROS, ITERATIONS, BATCH = 2, 100, 32  # of dictionary learning


def prepare(cfg: Config, data: TrainData, frozen: Frozen) -> Frozen:
    """With the dictionary that sparse codes of the normal train snippets, means over crops, are
    best made of: `model.slots` entries of F numbers.

    scikit-learn's MiniBatchDictionaryLearning with two non-zeros by orthogonal matching pursuit,
    100 batches of 32, as S3R's authors made theirs; its random numbers are always the same.
    """
    if isinstance(data.visual, jax.ShapeDtypeStruct):  # a plan: nothing is read
        return replace(frozen, dictionary=jnp.zeros((cfg.model.slots, data.visual.shape[-1])))
    rows = np.asarray(data.visual)[np.asarray(data.normal)].astype(np.float32)
    rows = rows.mean(1) if rows.ndim == 4 else rows
    length = np.asarray(data.length)[np.asarray(data.video)[np.asarray(data.normal)]]
    snippets = rows[np.arange(rows.shape[1]) < length[:, None]]
    drawn = np.random.default_rng(0).permutation(len(snippets))
    drawn = np.resize(drawn, ITERATIONS * BATCH)
    learned = MiniBatchDictionaryLearning(
        n_components=cfg.model.slots,
        max_iter=1,  # over what was drawn
        batch_size=BATCH,
        transform_algorithm="omp",
        transform_n_nonzero_coefs=NONZEROS,
        random_state=0,
    ).fit(snippets[drawn])
    return replace(frozen, dictionary=jnp.asarray(learned.components_, jnp.float32))


class NormFirst(nnx.Module):
    """A convolution, group normalisation, then ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int, bias: bool, rngs: nnx.Rngs):
        self.conv = mtn.conv(inputs, outputs, dilation, bias, rngs)
        self.norm = GroupNorm(outputs)

    def __call__(
        self, x: Float[Array, "N T I"], there: Bool[Array, "N T"], train: bool
    ) -> Float[Array, "N T O"]:
        return jax.nn.relu(self.norm(self.conv(x), there))


class Read(nnx.Module):
    """What the dictionary's entries that are like a snippet say about it."""

    def __init__(self, cfg: Config, features: int, rngs: nnx.Rngs):
        self.query = Linear(features, cfg.model.key_dim, rngs, XAVIER, ZEROS)
        self.key = Linear(features, cfg.model.key_dim, rngs, XAVIER, ZEROS)
        self.value = Linear(features, features, rngs, XAVIER, ZEROS)

    def __call__(
        self, x: Float[Array, "N T F"], entries: Float[Array, "M F"]
    ) -> Float[Array, "N T F"]:
        shares = jax.nn.softmax(self.query(x) @ self.key(entries).T)
        return shares @ self.value(entries)


class Gate(nnx.Module):
    """Which features of a video its normal part does not explain: a number in [0, 1] for each."""

    def __init__(self, features: int, rngs: nnx.Rngs):
        self.down = Linear(features, max(features // GATE, 1), rngs, XAVIER, ZEROS)
        self.up = Linear(max(features // GATE, 1), features, rngs, XAVIER, ZEROS)

    def __call__(self, difference: Float[Array, "N F"]) -> Float[Array, "N F"]:
        return jax.nn.sigmoid(self.up(jax.nn.relu(self.down(difference))))


class S3R(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        self.narrow, features = narrow(cfg.data.feature_dim, rngs)
        self.video = MultiScale(features, cfg.model.dim, rngs, NormFirst)
        self.normal = MultiScale(features, cfg.model.dim, rngs, NormFirst)
        self.read = Read(cfg, features, rngs)
        self.gate = Gate(features, rngs)
        self.scorer = rtfm.Scorer(cfg, features, rngs)
        self.whole = rtfm.Scorer(cfg, features, rngs)
        self.rate = cfg.model.dropout

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        there = present(batch, train)
        x = by_crop(masked(visual_of(batch, self.narrow), there))
        size, crops, steps, width = x.shape
        rows, keys = x.reshape(-1, steps, width), keys_of(key, 8)
        valid = jnp.repeat(there, crops, 0)
        entries = frozen.dictionary
        assert entries is not None
        entries = entries if self.narrow is None else self.narrow(entries)
        read = jnp.where(valid[..., None], self.read(rows, entries), 0)
        video = dropout(self.video(rows, valid, train), self.rate, keys[0])
        normal = dropout(self.normal(read, valid, train), self.rate, keys[1])
        gate = self.gate(over_time(video, valid) - over_time(normal, valid))[:, None]
        video, normal = video * gate, normal * (1 - gate)
        logits = self.scorer(video, keys[2:4]).reshape(size, crops, steps)
        whole = self.whole(over_time(normal, valid)[:, None], keys[4:6])
        if not train:
            return Outputs(binary_logits=logits.mean(1))
        outputs = rtfm.for_choice(logits, video.reshape(x.shape), self.rate, keys[6:])
        own = {**(outputs.for_loss or {}), "whole": whole.reshape(size, crops)}
        return replace(outputs, for_loss=own)


def over_time(x: Float[Array, "N T F"], there: Bool[Array, "N T"]) -> Float[Array, "N F"]:
    """The mean over the snippets that are there."""
    count = jnp.maximum(there.sum(1), 1)[:, None].astype(x.dtype)
    return jnp.where(there[..., None], x, 0).sum(1) / count


init, init_state, apply = functions(S3R)


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """RTFM's, and a score of the whole video by its normal part. Its target is 0 for every video,
    as in the program (`whole_normal`); fixed, it is the video's label.
    """
    total, parts = rtfm.loss(cfg, outputs, batch, key=key, step=step)
    own = outputs.for_loss
    assert own is not None
    scores = jax.nn.sigmoid(own["whole"]).mean(1)
    target = 1 - batch.labels[:, 0]
    target = jnp.zeros_like(target) if kept(cfg, "whole_normal") else target
    whole = cross_entropy(scores, target).mean()
    return total + whole, parts | {"whole": whole}
