"""DSANet (Yin et al. 2026) as the public PyTorch program lessiYin/DSANet trains it: VadCLIP with a
text adapter in place of the learned prompt, prototypes of normal snippets, and two further
cross-entropies. Class probabilities are those of both heads together (`eval.fuse_heads`).

The prototypes only shape the loss: 16 of them gather what the least anomalous snippets of a video
have in common, eight blocks rebuild every snippet from them, and the score of a snippet is drawn to
how badly it is rebuilt.

Where the program differs: it trains the prototypes by an optimiser of their own, StableAdamW with a
warm-up, here one AdamW trains all; it describes classes by sentences, here they are the store's
class names. Initial values are PyTorch's, and standard normal for the prototypes. A store without
CLIP's text tower has no layers to adapt: one adapter then changes the class vectors themselves.

The program makes its class vectors anew at every training step, but keeps those of its first test
for all later ones (`stale_text`): the class head is tested by old text, the binary head reads none.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PyTree

from semvad_jax import losses
from semvad_jax.config import Config
from semvad_jax.models import functions, kept
from semvad_jax.models.class_text import ClassHead, text_states
from semvad_jax.models.layers import (
    BinaryHead,
    LayerNorm,
    Linear,
    activations,
    adapter,
    l2_norm,
    quick_gelu,
    remat,
    unit,
)
from semvad_jax.models.temporal import LGTAdapter
from semvad_jax.types import Batch, Frozen, Outputs

NORMAL = 4, 5  # the share of a video's snippets, of the lowest scores, that count as normal
SMOOTHING = 0.1  # of labels, in the two further cross-entropies
BACKGROUND = 0.01  # of each anomaly class in an event's background, before the shares add up to 1
TEMPERATURE = 0.07  # of cosines with class vectors
EPSILON = 1e-8  # of the norms among the prototypes


class AdaptedText(nnx.Module):
    """Class vectors of length 1: CLIP's text tower with an adapter after each of its first layers,
    and a last Linear in place of CLIP's own projection.
    """

    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m, d = cfg.model, cfg.data
        width = d.text_tower if prompted else d.text_dim
        outputs = [width] * (m.text_layers if prompted else 1) + [m.dim]
        self.adapters = nnx.List([Linear(width, out, rngs, bias=False) for out in outputs])
        self.share = m.text_share

    def __call__(self, frozen: Frozen) -> Float[Array, "C W"]:
        *layers, last = self.adapters

        def after(layer: int, x: Float[Array, "... E"]) -> Float[Array, "... E"]:
            if layer >= len(layers):
                return x
            adapted = jax.nn.leaky_relu(layers[layer](x))
            return self.share * unit(adapted) * l2_norm(x) + (1 - self.share) * x

        if frozen.text_tower is None:
            assert frozen.class_name is not None
            x = after(0, frozen.class_name)
        else:
            assert frozen.class_tokens is not None
            tokens = frozen.class_tokens
            words = frozen.text_tower["token_embedding.weight"][tokens]
            x = text_states(frozen.text_tower, words, jnp.argmax(tokens, axis=-1), after)
        return unit(jax.nn.leaky_relu(last(x)))


class Block(nnx.Module):
    """Vectors that read others: attention, then a feed-forward network.

    One that gathers adds what softmax attention reads, as transformers do. One that rebuilds has
    ReLU of scaled cosines for weights, and nothing of its own passes by them (as in the program).
    """

    def __init__(self, width: int, heads: int, gathers: bool, rngs: nnx.Rngs):
        self.heads, self.gathers = heads, gathers
        self.norm1 = LayerNorm(width, EPSILON)  # of both sides
        self.query = Linear(width, width, rngs)
        self.key_value = Linear(width, 2 * width, rngs)
        self.scale = None if gathers else nnx.Param(jnp.ones((heads, 1, 1)))
        self.out = Linear(width, width, rngs)
        self.norm2 = LayerNorm(width, EPSILON)
        self.up = Linear(width, 4 * width, rngs)
        self.down = Linear(4 * width, width, rngs)

    def __call__(
        self, x: Float[Array, "B N W"], source: Float[Array, "B M W"], read: Bool[Array, "#B #M"]
    ) -> Float[Array, "B N W"]:
        def by_head(y: Float[Array, "B L W"]) -> Float[Array, "B H L D"]:
            return y.reshape(*y.shape[:2], self.heads, -1).swapaxes(1, 2)

        q = by_head(self.query(self.norm1(x)))
        k, v = map(by_head, jnp.split(self.key_value(self.norm1(source)), 2, axis=-1))
        if self.scale is None:
            logits = jnp.einsum("bhnd,bhmd->bhnm", q, k) * q.shape[-1] ** -0.5
            weights = jax.nn.softmax(jnp.where(read[:, None, None], logits, -jnp.inf), axis=-1)
        else:
            cosines = jnp.einsum("bhnd,bhmd->bhnm", unit(q), unit(k))
            weights = jnp.where(read[:, None, None], jax.nn.relu(self.scale * cosines), 0)
        gathered = self.out(
            jnp.einsum("bhnm,bhmd->bhnd", weights, v).swapaxes(1, 2).reshape(x.shape)
        )
        x = x + gathered if self.gathers else gathered
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x)), approximate=False))


class Refiner(nnx.Module):
    """A video's own prototypes, read from its normal snippets, and its snippets rebuilt from these.

    The prototypes move towards the snippets, not these towards them: no gradient goes that way.
    """

    def __init__(self, cfg: Config, rngs: nnx.Rngs):
        m = cfg.model
        width, heads, (gathering, rebuilding) = m.dim, m.slot_heads, m.depths
        self.prototypes = nnx.Param(jax.random.normal(rngs.params(), (m.slots, width)))
        self.aggregation = nnx.List([Block(width, heads, True, rngs) for _ in range(gathering)])
        self.up = Linear(width, 4 * width, rngs)
        self.down = Linear(4 * width, width, rngs)
        self.decoder = nnx.List([Block(width, heads, False, rngs) for _ in range(rebuilding)])

    def __call__(
        self, x: Float[Array, "B T W"], normal: Bool[Array, "B T"]
    ) -> tuple[Float[Array, "B P W"], Float[Array, "B T W"]]:
        prototypes = jnp.broadcast_to(self.prototypes[...], (x.shape[0], *self.prototypes.shape))
        for block in self.aggregation:
            prototypes = block(prototypes, jax.lax.stop_gradient(x), normal)
        rebuilt = self.down(quick_gelu(self.up(x)))
        for block in self.decoder:
            rebuilt = block(rebuilt, prototypes, jnp.ones((1, 1), bool))
        return prototypes, rebuilt


class DSANet(nnx.Module):
    def __init__(self, cfg: Config, prompted: bool, rngs: nnx.Rngs):
        m, d = cfg.model, cfg.data
        self.visual_proj = adapter(d.feature_dim, m.dim, rngs)  # none for CLIP ViT-B/16's 512
        self.temporal = LGTAdapter(m.length, m.dim, m.layers, m.heads, m.window, rngs, remat(cfg))
        self.binary_head = BinaryHead(m.dim, rngs)
        self.class_text = AdaptedText(cfg, prompted, rngs)
        self.class_head = ClassHead(m.dim, rngs)
        self.refiner = Refiner(cfg, rngs)
        self.dtype = activations(cfg)
        self.pool_padding = kept(cfg, "pool_padding")

    def __call__(self, frozen: Frozen, batch: Batch, key: jax.Array | None, train: bool) -> Outputs:
        x = batch.visual.astype(self.dtype)
        x = x if self.visual_proj is None else self.visual_proj(x)
        x = self.temporal(x, batch.length)
        logits = self.binary_head(x)
        text = self.class_text(frozen)
        features, scores = x.astype(jnp.float32), jax.nn.sigmoid(logits)
        steps = x.shape[1]
        count = jnp.full_like(batch.length, steps) if self.pool_padding else batch.length
        slots = jnp.arange(steps) < count[:, None]
        normal = lowest(scores, slots)
        prototypes, rebuilt = self.refiner(features, normal)
        still = unit(jax.lax.stop_gradient(features))
        nearest = jnp.einsum("btw,bpw->btp", still, unit(prototypes)).max(-1)
        return Outputs(
            binary_logits=logits,
            class_logits=self.class_head(x, logits, text),
            class_text=text,
            features=features,
            for_loss={
                "event": pooled(features, scores, slots) @ text.T / TEMPERATURE,
                "background": pooled(features, 1 - scores, slots) @ text.T / TEMPERATURE,
                "normal": normal,
                "apart": 1 - nearest,
                "unlike": (1 - (unit(features) * unit(rebuilt)).sum(-1)) / 2,
            },
        )


init, _, compute = functions(DSANet)


def init_state(cfg: Config) -> PyTree | None:
    """Room for the text adapter of the first test, before there was one; None where `stale_text` is
    fixed.
    """
    if not kept(cfg, "stale_text"):
        return None
    shapes = jax.eval_shape(partial(init, cfg), jax.random.key(0))["class_text"]
    adapter = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return {"tested": jnp.zeros((), bool), "class_text": adapter}


def tested(cfg: Config, params: PyTree, state: PyTree | None) -> PyTree | None:
    """The state after a test by `params`: with their text adapter, where it was the first."""
    if state is None:
        return None
    return {"tested": jnp.ones((), bool), "class_text": _adapter(params, state)}


def _adapter(params: PyTree, state: PyTree) -> PyTree:
    """The text adapter that a test reads: the first one's, and before that the present one."""
    first = partial(jnp.where, state["tested"])
    return jax.tree.map(first, state["class_text"], params["class_text"])


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
    """Scores of a batch; in a test by the text adapter that `state` holds, where it does."""
    if state is not None and not train:
        params = params | {"class_text": _adapter(params, state)}
    return replace(compute(cfg, params, frozen, batch, key=key, train=train), state=state)


def lowest(scores: Float[Array, "B T"], slots: Bool[Array, "B T"]) -> Bool[Array, "B T"]:
    """Which of a video's slots have its lowest scores: 80 % of them, at least one."""
    part, whole = NORMAL
    count = jnp.maximum(slots.sum(-1) * part // whole, 1)
    rank = jnp.argsort(jnp.argsort(jnp.where(slots, scores, jnp.inf)))
    return rank < count[:, None]


def pooled(
    x: Float[Array, "B T W"], scores: Float[Array, "B T"], slots: Bool[Array, "B T"]
) -> Float[Array, "B W"]:
    """The direction of a video's snippets, each weighted by e^{10 s} − 1."""
    weights = jnp.where(slots, jnp.expm1(10 * scores), 0)
    return unit(jnp.einsum("bt,btw->bw", weights / weights.sum(-1, keepdims=True), x))


def smoothed_cross_entropy(
    logits: Float[Array, " C"], target: Float[Array, " C"]
) -> Float[Array, ""]:
    """Cross-entropy with class probabilities of which a tenth is spread over all classes."""
    target = (1 - SMOOTHING) * target + SMOOTHING / len(target)
    return -(target * jax.nn.log_softmax(logits)).sum()


def loss(
    cfg: Config,
    outputs: Outputs,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    step: Array | int = 0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """VadCLIP's losses, the fine one with a weight, and four more.

    event: a video's snippets, weighted by their scores, have its classes. background: weighted the
    other way round they are normal. consistency: a snippet's score is how badly it is rebuilt.
    gather: what counts as normal lies near a prototype. Rows of weight 0 do not count.
    """
    assert outputs.for_loss is not None
    _, usual = losses.total(cfg, outputs, batch)
    f, weight, labels = outputs.for_loss, batch.weight, batch.labels

    def mean(values: Float[Array, "..."], counted: Float[Array, "..."]) -> Float[Array, ""]:
        return (values * counted).sum() / jnp.maximum(counted.sum(), 1)

    own = labels / jnp.maximum(labels.sum(-1, keepdims=True), 1)
    other = jnp.full(labels.shape[-1], BACKGROUND).at[0].set(1)
    other = jnp.broadcast_to(other / other.sum(), labels.shape)
    entropy = jax.vmap(smoothed_cross_entropy)
    valid = jnp.arange(f["normal"].shape[1]) < batch.length[:, None]
    unlike = jnp.square(jax.nn.sigmoid(outputs.binary_logits) - f["unlike"])
    parts = {
        "binary": usual["binary"],
        "class": cfg.loss.fine * usual["class"],
        "text": usual["text"],
        "event": mean(entropy(f["event"], own), weight),
        "background": mean(entropy(f["background"], other), weight),
        "consistency": mean(unlike, jnp.where(valid, weight[:, None], 0)),
        "gather": mean(f["apart"], jnp.where(f["normal"], weight[:, None], 0)),
    }
    return sum(parts.values(), jnp.zeros(())), parts
