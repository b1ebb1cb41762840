"""Deep MIL (Sultani et al. 2018) as the public PyTorch program Roc-Ng/DeepMIL trains it: three
layers on a snippet's visual vector, and a hinge between the highest scores of an anomalous and of a
normal video.

The class head (`model.class_head`) is ours, for Table 3: nobody published the multi-class form. A
video's class logits are those of its highest-scored snippet.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers
from jaxtyping import Array, Float

from semvad_jax.config import Config
from semvad_jax.models import functions, kept
from semvad_jax.models.layers import Linear, dropout, keys_of, narrow, visual_of
from semvad_jax.types import Batch, Frozen, Outputs

TORCH = {"first": "fc1", "second": "fc2", "score": "fc3"}
SMOOTH = SPARSE = 8e-5  # weights of the program's loss


class DeepMIL(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m = cfg.model
        self.narrow, inputs = narrow(cfg.data.feature_dim, rngs)
        start = initializers.xavier_uniform(), initializers.zeros
        self.first = Linear(inputs, m.dim, rngs, *start)
        self.second = Linear(m.dim, m.hidden[0], rngs, *start)
        self.score = Linear(m.hidden[0], 1, rngs, *start)
        classes = len(cfg.data.classes)
        self.classes = Linear(m.hidden[0], classes, rngs, *start) if m.class_head else None
        self.rate = m.dropout
        self.score_dropout = m.dropout if kept(cfg, "score_dropout") else 0.0

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        keys = keys_of(key, 3)
        x = visual_of(batch, self.narrow)
        x = dropout(jax.nn.relu(self.first(x)), self.rate, keys[0])
        x = dropout(jax.nn.relu(self.second(x)), self.rate, keys[1])
        logits = self.score(x)[..., 0]
        # in training the program drops scores too: the others are then up to 1/(1 − rate)
        scores = dropout(jax.nn.sigmoid(logits), self.score_dropout, keys[2])
        return Outputs(
            binary_logits=logits,
            class_logits=None if self.classes is None else self.classes(x),
            for_loss={"scores": scores},
        )


init, _, apply = functions(DeepMIL)


def pair(
    abnormal: Float[Array, " T"], normal: Float[Array, " T"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Of one anomalous and one normal video: max(0, 1 − max s_a + max s_n), Σ (s_{t+1} − s_t)² and
    Σ s_t over the anomalous one.
    """
    hinge = jax.nn.relu(1 - abnormal.max() + normal.max())
    return hinge, jnp.square(jnp.diff(abnormal)).sum(), abnormal.sum()


def of_class(
    logits: Float[Array, "T C"], scores: Float[Array, " T"], labels: Float[Array, " C"]
) -> Float[Array, ""]:
    """Cross-entropy of one video's class logits, its highest-scored snippet's, with its labels."""
    video = jax.nn.log_softmax(logits[jnp.argmax(scores)])
    return -(labels / jnp.maximum(labels.sum(), 1) * video).sum()


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean over pairs: the i-th anomalous with the i-th normal video of a balanced batch, whose
    first half is normal.
    """
    assert outputs.for_loss is not None
    normal, abnormal = jnp.split(outputs.for_loss["scores"], 2)
    hinge, smooth, sparse = (part.mean() for part in jax.vmap(pair)(abnormal, normal))
    parts = {"hinge": hinge, "smooth": SMOOTH * smooth, "sparse": SPARSE * sparse}
    if outputs.class_logits is not None:
        of_videos = jax.vmap(of_class)(outputs.class_logits, outputs.binary_logits, batch.labels)
        parts["class"] = of_videos.mean()
    return sum(parts.values(), jnp.zeros(())), parts
