"""The training program of ONE seed: a state, a step, an interval of steps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from semvad_jax import losses
from semvad_jax.config import Config
from semvad_jax.data import LOSS, Rows, batch_rows, gather, steps_per_epoch
from semvad_jax.files import BadInput
from semvad_jax.models import init_state, model, tested
from semvad_jax.types import Batch, Best, Frozen, TrainData, TrainState

EVALUATIONS_WITHOUT_BEST = 30  # the patience of train.protocol=reload_best


def optimizer(cfg: Config) -> optax.GradientTransformation:
    """torch's AdamW, or its Adam, which adds the weight decay to the gradients; at a learning rate
    of 1: `descend` knows the rate of a step.
    """
    if cfg.train.optimizer == "adam":
        decay = optax.add_decayed_weights(cfg.train.weight_decay)
        return optax.chain(decay, optax.adam(1.0))
    return optax.adamw(1.0, weight_decay=cfg.train.weight_decay)


def rate(cfg: Config, steps: int, step: Int[Array, ""]) -> Float[Array, ""]:
    """The learning rate of a step; `steps` an epoch.

    As torch's MultiStepLR: epoch m starts at `train.decay` times the rate of epoch m − 1. With
    `train.cosine` also as its CosineAnnealingLR, epoch by epoch, whose period that many epochs
    halve.
    """
    milestones = {m * steps: cfg.train.decay for m in cfg.train.milestones}
    falling = jnp.asarray(optax.piecewise_constant_schedule(cfg.train.lr, milestones)(step))
    if not cfg.train.cosine:
        return falling
    epoch = (step // steps).astype(jnp.float32)
    return falling * (1 + jnp.cos(jnp.pi * epoch / cfg.train.cosine)) / 2


def descend(
    cfg: Config, steps: int, grads: PyTree, opt: PyTree, params: PyTree, step: Int[Array, ""]
) -> tuple[PyTree, PyTree]:
    """Parameters and optimiser after one update; `steps` an epoch.

    The run's step decides on the learning rate, not the updates made, since an early stop skips
    updates.
    """
    # optax multiplies floats with whole step numbers, which strict promotion (in tests) refuses
    with jax.numpy_dtype_promotion("standard"):
        now = rate(cfg, steps, step)
        updates, opt = optimizer(cfg).update(grads, opt, params)
    return optax.apply_updates(params, jax.tree.map(lambda u: now * u, updates)), opt


def evaluations(cfg: Config, steps: int) -> list[int]:
    """The steps after which a run is evaluated: every `eval.every` of an epoch, and the last.

    With `train.protocol=reload_best` the last one is left out: nothing comes of it there. Raises
    BadInput where it would never evaluate.
    """
    every, last = cfg.eval.every, cfg.train.epochs * steps
    within = range(every + 1, steps + 1, every) if every else [steps]
    inside = {e * steps + s for e in range(cfg.train.epochs) for s in within}
    if cfg.train.protocol == "plain":
        return sorted(inside | {last})
    if not inside:
        raise BadInput(
            f"eval.every {every} leaves an epoch of {steps} steps without an evaluation, and the "
            "reload_best protocol goes on from the best one; set eval.every=0 for one at its end"
        )
    return sorted(inside)


def pauses(cfg: Config, steps: int) -> list[int]:
    """The steps at which the program stops: evaluations and, where the best weights are reloaded
    (`train.protocol`), the ends of epochs.
    """
    steps_to_stop_at = set(evaluations(cfg, steps))
    if cfg.train.protocol == "reload_best":
        steps_to_stop_at |= {e * steps for e in range(1, cfg.train.epochs + 1)}
    return sorted(steps_to_stop_at)


def make_state(
    cfg: Config, selections: tuple[str, ...], weight_key: Key[Array, ""], data_key: Key[Array, ""]
) -> TrainState:
    """Step 0: parameters from one key, the order of the data from another. Every selection starts
    at step 0's weights.
    """
    params, state = model(cfg).init(cfg, weight_key), init_state(cfg)
    best = Best(jnp.full((), -jnp.inf), jnp.zeros((), jnp.int32), params, state)
    return TrainState(
        params=params,
        opt=optimizer(cfg).init(params),
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(data_key),
        best=dict.fromkeys(selections, best),
        since_best=jnp.zeros((), jnp.int32),
        stopped=jnp.zeros((), bool),
        state=state,
    )


def loss(
    cfg: Config,
    params: PyTree,
    state: PyTree | None,
    frozen: Frozen,
    batch: Batch,
    key: Key[Array, ""],
    step: Array,
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], PyTree | None]]:
    """The loss of a batch by the model's own `loss`, or by `losses.total`; its parts, and the batch
    statistics after it.
    """
    own = model(cfg)
    outputs = own.apply(cfg, params, frozen, batch, state=state, key=key, train=True)
    total, parts = getattr(own, "loss", losses.total)(cfg, outputs, batch, key=key, step=step)
    return total, (parts, outputs.state)


def gradients(
    cfg: Config, frozen: Frozen, batch: Batch, state: TrainState, key: Key[Array, ""]
) -> tuple[dict[str, Float[Array, ""]], PyTree | None, PyTree]:
    """The losses of a batch, the total and its parts, the batch statistics after it, and the
    gradients.

    With `train.microbatch` so many rows at a time. Every loss that may be computed so is a mean
    over valid rows, or does not depend on rows: each part counts by its share of the valid rows.
    What dropout leaves out is drawn anew for each part.
    """

    def of_rows(batch: Batch, key: Key[Array, ""]):
        value_and_grad = jax.value_and_grad(loss, argnums=1, has_aux=True)
        (total, (parts, statistics)), grads = value_and_grad(
            cfg, state.params, state.state, frozen, batch, key, state.step
        )
        return {"loss": total} | parts, statistics, grads

    if not cfg.train.microbatch:
        return of_rows(batch, key)
    count = cfg.train.batch // cfg.train.microbatch
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

    def add(sums: PyTree, now: tuple[Batch, Int[Array, ""]]) -> tuple[PyTree, None]:
        part, number = now
        of_part, _, grads = of_rows(part, jax.random.fold_in(key, number))
        share = part.weight.sum() / batch.weight.sum()
        return jax.tree.map(lambda s, x: s + share * x, sums, (of_part, grads)), None

    of_batch, _, like = jax.eval_shape(of_rows, batch, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (of_batch, like))
    (measured, grads), _ = jax.lax.scan(add, zeros, (parts, jnp.arange(count)))
    return measured, state.state, grads


def step(
    cfg: Config, steps: int, frozen: Frozen, batch: Batch, state: TrainState
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One update by a batch; `steps` an epoch. Returns the state and the losses before it: the
    total and its parts.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), LOSS)
    key = jax.random.fold_in(key, state.step)
    measured, statistics, grads = gradients(cfg, frozen, batch, state, key)
    params, opt = descend(cfg, steps, grads, state.opt, state.params, state.step)
    new = replace(state, params=params, opt=opt, state=statistics)
    if cfg.train.protocol == "reload_best":
        new = _where(state.stopped, state, new)
    return replace(new, step=state.step + 1), measured


def _where(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def run_interval(
    cfg: Config, frozen: Frozen, data: TrainData, active: Bool[Array, " I"], state: TrainState
) -> tuple[TrainState, dict[str, Float[Array, " I"]]]:
    """A scan over I steps; an inactive step leaves the state as it is and reports 0."""
    steps, key = steps_per_epoch(cfg, data), jax.random.wrap_key_data(state.key)
    rows = batch_rows(cfg, data, key, state.step, len(active))

    def trained(state: TrainState, rows: Rows) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        return step(cfg, steps, frozen, gather(data, rows), state)

    def idle(state: TrainState, rows: Rows) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        _, shapes = jax.eval_shape(trained, state, rows)
        return state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def body(state: TrainState, now: tuple[Bool[Array, ""], Rows]):
        on, rows = now
        return jax.lax.cond(on, trained, idle, state, rows)

    return jax.lax.scan(body, state, (active, rows))


def keep_best(cfg: Config, state: TrainState, metrics: dict[str, Float[Array, ""]]) -> TrainState:
    """The state after an evaluation (`models.tested`), with the present weights under every
    selection whose metric is better than before; the first of equals stays. With
    `train.protocol=reload_best` a seed stops at its 30th evaluation without a better one.
    """
    state = replace(state, state=tested(cfg, state.params, state.state))
    now = {
        name: Best(metric, state.step, state.params, state.state)
        for name, metric in metrics.items()
    }
    better = {name: metric > state.best[name].metric for name, metric in metrics.items()}
    best = {name: _where(better[name], now[name], state.best[name]) for name in metrics}
    if "test" not in better:
        return replace(state, best=best)
    since_best = jnp.where(better["test"], 0, state.since_best + 1)
    if cfg.train.protocol == "plain":
        return replace(state, best=best, since_best=since_best)
    judged = replace(
        state, best=best, since_best=since_best, stopped=since_best >= EVALUATIONS_WITHOUT_BEST
    )
    return _where(state.stopped, state, judged)


def end_epoch(cfg: Config, state: TrainState) -> TrainState:
    """What `train.protocol=reload_best` does after an epoch: goes on from the weights that are best
    on test, with the optimiser's moments of the last ones.

    An early stop that was to end an epoch is over.
    """
    stopped = state.stopped & (cfg.train.early_stop == "run")
    best = state.best["test"]
    return replace(state, params=best.params, state=best.state, stopped=stopped)
