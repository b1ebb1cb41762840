"""The training program of ONE seed: a state, a step, an interval of steps."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key, PyTree

from semvad_jax import losses
from semvad_jax.config import Config
from semvad_jax.data import LOSS, batch_rows, gather, steps_per_epoch
from semvad_jax.models import model
from semvad_jax.types import Batch, Best, Frozen, TrainData, TrainState


def optimizer(cfg: Config, steps: int) -> optax.GradientTransformation:
    """AdamW with MultiStepLR as torch defines them: epoch m starts at a tenth of epoch m − 1's
    rate.
    """
    rate = optax.piecewise_constant_schedule(
        cfg.train.lr, {m * steps: 0.1 for m in cfg.train.milestones}
    )
    return optax.adamw(rate, weight_decay=cfg.train.weight_decay)


def evaluations(cfg: Config, steps: int) -> list[int]:
    """The steps after which a run is evaluated: every `eval.every` of an epoch, and the last."""
    every, last = cfg.eval.every, cfg.train.epochs * steps
    within = range(every + 1, steps + 1, every) if every else [steps]
    return sorted({e * steps + s for e in range(cfg.train.epochs) for s in within} | {last})


def make_state(
    cfg: Config, selections: tuple[str, ...], weight_key: Key[Array, ""], data_key: Key[Array, ""]
) -> TrainState:
    """Step 0: parameters from one key, the order of the data from another. Every selection starts
    at step 0's weights.
    """
    params = model(cfg).init(cfg, weight_key)
    best = Best(metric=jnp.full((), -jnp.inf), step=jnp.zeros((), jnp.int32), params=params)
    return TrainState(
        params=params,
        opt=optimizer(cfg, 1).init(params),
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(data_key),
        best=dict.fromkeys(selections, best),
    )


def loss(
    cfg: Config, params: PyTree, frozen: Frozen, batch: Batch, key: Key[Array, ""], step: Array
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    outputs = model(cfg).apply(cfg, params, frozen, batch, key=key, train=True)
    return losses.total(cfg, outputs, batch, key=key, step=step)


def step(
    cfg: Config, frozen: Frozen, data: TrainData, state: TrainState
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One update. Returns the state and the losses before it: the total and its parts."""
    key = jax.random.wrap_key_data(state.key)
    rows, weight = batch_rows(cfg, data, key, state.step)
    batch = gather(cfg, data, key, rows, weight)
    loss_key = jax.random.fold_in(jax.random.fold_in(key, LOSS), state.step)
    value_and_grad = jax.value_and_grad(loss, argnums=1, has_aux=True)
    (total, parts), grads = value_and_grad(cfg, state.params, frozen, batch, loss_key, state.step)
    updates, opt = optimizer(cfg, steps_per_epoch(cfg, data)).update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt, state.step + 1, state.key, state.best), {"loss": total} | parts


def run_interval(
    cfg: Config, frozen: Frozen, data: TrainData, active: Bool[Array, " I"], state: TrainState
) -> tuple[TrainState, dict[str, Float[Array, " I"]]]:
    """A scan over I steps; an inactive step leaves the state as it is and reports 0."""

    def idle(state: TrainState) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        _, shapes = jax.eval_shape(lambda s: step(cfg, frozen, data, s), state)
        return state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def body(state: TrainState, on: Bool[Array, ""]):
        return jax.lax.cond(on, lambda s: step(cfg, frozen, data, s), idle, state)

    return jax.lax.scan(body, state, active)


def keep_best(state: TrainState, metrics: dict[str, Float[Array, ""]]) -> TrainState:
    """Keeps the present weights under every selection whose metric is better than before; the first
    of equals stays.
    """
    best = {}
    for name, metric in metrics.items():
        old, better = state.best[name], metric > state.best[name].metric
        now = Best(metric, state.step, state.params)
        best[name] = jax.tree.map(
            lambda new, kept, better=better: jnp.where(better, new, kept), now, old
        )
    return TrainState(state.params, state.opt, state.step, state.key, best)
