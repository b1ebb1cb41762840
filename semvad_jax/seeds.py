"""All seeds in one program. The only file that knows the seed axis S; everything it calls is
written for one seed.

Seeds share nothing but the data, so S is a batch axis: `vmap` over chunks of seeds, chunk after
chunk (`lax.map`) on each device, devices side by side (`shard_map`) without a word between them. A
chunk that seeds do not fill is filled with copies of the last one, so that a seed's numbers depend
on the chunk's width alone, not on its company.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from semvad_jax import data, evaluate
from semvad_jax import train as one_seed
from semvad_jax.config import Config
from semvad_jax.files import BadInput
from semvad_jax.metrics import MetricName
from semvad_jax.store import Store
from semvad_jax.types import Frozen, TrainData, TrainState, Weights, Windows


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where S seeds lie: devices × chunks × `width` slots, the last seed repeated to fill them."""

    seeds: int
    width: int
    devices: int

    @property
    def slots(self) -> int:
        step = self.width * self.devices
        return -(-self.seeds // step) * step

    def fill(self, values: jax.Array) -> jax.Array:
        slot = jnp.minimum(jnp.arange(self.slots), self.seeds - 1)
        return jnp.asarray(values)[slot]


def even_widths(seeds: int) -> list[int]:
    """The chunk widths that are worth a compilation for this many seeds a device, the widest first:
    ⌈seeds/k⌉ for k = 1, 2, 3 … chunks.

    Every width between two of these takes as many chunks as the narrower one, with more copies.
    """
    return list(dict.fromkeys(-(-seeds // chunks) for chunks in range(1, seeds + 1)))


def select(state: PyTree, k: int | slice) -> PyTree:
    """One seed's slice (or several) of a stacked tree."""
    return jax.tree.map(lambda x: x[k], state)


@dataclasses.dataclass(frozen=True)
class Interval:
    """What one interval ended in: the state and, per seed, the mean losses and the metrics.

    Metrics are None for a seed that was not evaluated: it has stopped, or only an epoch ended.
    """

    state: TrainState
    step: int
    losses: list[dict[str, float]]
    metrics: list[dict[MetricName, float] | None]


class Program:
    """A run's two compiled programs and the data they read, placed on the devices once."""

    def __init__(
        self,
        cfg: Config,
        store: Store,
        seeds: int,
        chunk: int | Literal["auto"] | None = None,
        frozen: Frozen | None = None,
    ):
        """`chunk` seeds are in memory at once: all (None), a number, or with "auto" the widest of
        `even_widths` that fits the device. `frozen`: in place of what the store has.

        Raises BadInput for a chunk below 1 and for what `data` refuses.
        """
        if isinstance(chunk, int) and chunk < 1:
            raise BadInput(f"--seed-chunk {chunk} must be at least 1")
        devices = jax.devices()
        self.cfg, self.store = cfg, store
        axes = (len(devices),), ("seed",), (jax.sharding.AxisType.Auto,)
        self.mesh = jax.make_mesh(*axes)
        self.shared = NamedSharding(self.mesh, P())
        self.stacked = NamedSharding(self.mesh, P("seed"))

        train, val, test = data.split(cfg, store)
        self.reload_best = cfg.train.protocol == "reload_best"
        # reloaded weights have seen the test videos: val has nothing to say any more
        self.videos = evaluate.Videos(cfg, store, test, [] if self.reload_best else val)
        if test:
            _ = self.videos.truth  # refused before anything is trained
        elif unjudged := evaluate.unjudged_sentence(store):
            raise BadInput(f"the store at {store.path} has nothing to judge by: {unjudged}")
        elif self.reload_best:
            raise BadInput(
                f"the store at {store.path} has no test videos, and train.protocol=reload_best "
                "goes on from the weights that are best on these; set train.protocol=plain"
            )
        rows = data.train_data(cfg, store, train)
        self.steps_per_epoch = data.steps_per_epoch(cfg, rows)
        frozen = frozen or data.frozen(store, cfg.model.prompts)
        self.frozen, self.rows = jax.device_put((frozen, rows), self.shared)
        has = {"val": bool(self.videos.val), "test": bool(test)}
        self.selections = tuple(name for name, there in has.items() if there)
        self.windows = None
        if self.selections:
            self.windows = jax.device_put(self.videos.windows(), self.shared)
        self.evaluations = one_seed.evaluations(cfg, self.steps_per_epoch)
        ends = one_seed.pauses(cfg, self.steps_per_epoch)
        self.intervals = list(zip([0, *ends[:-1]], ends, strict=True))
        self.steps = ends[-1]
        self.longest = max(end - start for start, end in self.intervals)
        most = -(-seeds // len(devices))
        if chunk != "auto":
            self.layout = Layout(seeds, chunk or most, len(devices))
            return
        for width in even_widths(most):
            self.layout = Layout(seeds, width, len(devices))
            if self._fits():
                return
            if width > 1:
                del self.run_interval  # what it was compiled to is for another width

    def init(self, weight_seeds: Sequence[int], data_seeds: Sequence[int]) -> TrainState:
        """The stacked state at step 0. Made outside `shard_map`, and placed."""
        key = jax.vmap(jax.random.key)
        keys = [key(np.asarray(s, np.uint32)) for s in (weight_seeds, data_seeds)]
        return self.adopt(jax.jit(jax.vmap(self._make_state))(*keys))

    def adopt(self, state: TrainState) -> TrainState:
        """A state of the run's seeds (new, or restored), filled up to the layout's slots and
        placed.
        """
        return jax.device_put(jax.tree.map(self.layout.fill, state), self.stacked)

    def own(self, state: TrainState) -> TrainState:
        """The run's seeds without the copies that fill the last chunk."""
        return select(state, slice(0, self.layout.seeds))

    def saved_state(self) -> TrainState:
        """Shapes of the state as it is saved: the run's own seeds, whatever the devices."""
        return self._abstract_state(self.layout.seeds, SingleDeviceSharding(jax.devices()[0]))

    def _abstract_state(self, count: int, sharding: jax.sharding.Sharding) -> TrainState:
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
        return _placed(jax.eval_shape(jax.vmap(self._make_state), keys, keys), sharding)

    def _make_state(self, weight_key: jax.Array, data_key: jax.Array) -> TrainState:
        return one_seed.make_state(self.cfg, self.selections, weight_key, data_key)

    def _over_seeds(self, f: Callable) -> Callable:
        """g(shared, stacked) from f(*shared, one), the stacked trees' first axis being S."""

        def on_device(shared: tuple, stacked: PyTree) -> PyTree:
            return jax.lax.map(lambda one: f(*shared, one), stacked, batch_size=self.layout.width)

        # Without types of replication autodiff has nothing to sum over devices: seeds must never
        # meet.
        specs = {"in_specs": (P(), P("seed")), "out_specs": P("seed"), "check_vma": False}
        return jax.shard_map(on_device, mesh=self.mesh, **specs)

    def compile(self) -> None:
        """Compiles now what would be compiled at first use."""
        _ = self.run_interval, self.windows and self.score_windows

    @cached_property
    def run_interval(self) -> jax.stages.Compiled:
        """(frozen, rows, active), state → state, losses; the state given is used up."""
        f = self._over_seeds(partial(one_seed.run_interval, self.cfg))
        active = jax.ShapeDtypeStruct((self.longest,), bool, sharding=self.shared)
        state = self._abstract_state(self.layout.slots, self.stacked)
        return jax.jit(f, donate_argnums=1).lower((self.frozen, self.rows, active), state).compile()

    @cached_property
    def score_windows(self) -> jax.stages.Compiled:
        """(frozen, windows), weights → anomaly and class probabilities."""
        f = self._over_seeds(partial(evaluate.score_windows, self.cfg))
        state = self._abstract_state(self.layout.slots, self.stacked)
        return jax.jit(f).lower((self.frozen, self.windows), state.weights).compile()

    @cached_property
    def keep_best(self) -> Callable:
        f = partial(one_seed.keep_best, self.cfg)
        return jax.jit(jax.vmap(f), out_shardings=self.stacked)

    @cached_property
    def end_epoch(self) -> Callable:
        f = partial(one_seed.end_epoch, self.cfg)
        return jax.jit(jax.vmap(f), out_shardings=self.stacked, donate_argnums=0)

    def _fits(self) -> bool:
        """Whether the interval's memory fits the device; True where a device does not tell its
        limit (CPU).
        """
        limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
        need = self.run_interval.memory_analysis()
        if limit is None or need is None:
            return True
        return need.argument_size_in_bytes + need.temp_size_in_bytes < 0.9 * limit

    def scores(self, weights: Weights) -> list[evaluate.Scores]:
        """Each seed's scores of the test videos, then the val videos; none where there are
        neither.
        """
        if self.windows is None:
            return [evaluate.Scores([], None)] * self.layout.seeds
        slots = jax.device_get(self.score_windows((self.frozen, self.windows), weights))
        return [self.videos.scores(select(slots, k)) for k in range(self.layout.seeds)]

    def judge(self, weights: Weights) -> list[dict[MetricName, float]]:
        """`evaluate.Videos.judge` of each seed."""
        return [self.videos.judge(scores) for scores in self.scores(weights)]

    def final_scores(self, state: TrainState) -> dict[str, list[evaluate.Scores]]:
        """{selection: each seed's scores}: of the last weights, and of those selected on val and on
        test. Each of these weights is scored once.

        Where the best weights are reloaded (`train.protocol`) only "test" is there: every weight
        has seen the test videos.
        """
        scores = {} if self.reload_best else {"last": self.scores(state.weights)}
        for selection in self.selections:
            scores[selection] = self.scores(state.best[selection].weights)
        return scores

    def final_metrics(
        self, final_scores: Mapping[str, Sequence[evaluate.Scores]]
    ) -> dict[MetricName, list[float]]:
        """The metrics of `final_scores` on the test videos, a value a seed."""
        metrics: dict[MetricName, list[float]] = {}
        for selection, of_seeds in final_scores.items():
            for scores in of_seeds:
                for name, value in self.videos.test_metrics(scores, selection).items():
                    metrics.setdefault(name, []).append(value)
        return metrics

    def train(self, state: TrainState) -> Iterator[Interval]:
        """Trains on from a state to the last step: an execution an interval, judged after each.

        The state given is used up; the one yielded is the caller's until it asks for the next.
        Raises BadInput where a loss is not finite or the model lacks the selecting head.
        """
        count, done = self.layout.seeds, int(state.step[0])
        for start, end in self.intervals:
            if end <= done or self.finished(state):
                continue
            active = jax.device_put(np.arange(self.longest) < end - start, self.shared)
            state, measured = self.run_interval((self.frozen, self.rows, active), state)
            losses = {k: np.asarray(v)[:count, : end - start] for k, v in measured.items()}
            bad = np.argwhere(~np.isfinite(losses["loss"]))
            if len(bad):
                seed, step = bad[0]
                raise BadInput(
                    f"the loss of seed number {seed} is not finite at step {start + step + 1}; "
                    "lower train.lr"
                )
            metrics: list[dict[MetricName, float] | None] = [None] * count
            if end in self.evaluations:
                state, metrics = self._evaluate(state)
            if self.reload_best and end % self.steps_per_epoch == 0:
                state = self.end_epoch(state)
            means = [{k: float(v[i].mean()) for k, v in losses.items()} for i in range(count)]
            yield Interval(state, end, means, metrics)

    def finished(self, state: TrainState) -> bool:
        """Whether nothing is left to train: the last step, or an early stop of every seed's run."""
        stopped = self.cfg.train.early_stop == "run" and bool(np.all(state.stopped))
        return stopped or int(state.step[0]) == self.steps

    def _evaluate(
        self, state: TrainState
    ) -> tuple[TrainState, list[dict[MetricName, float] | None]]:
        """The state with the best weights so far; each seed's metrics unless it has stopped."""
        head, metric = self.cfg.eval.select_head, self.cfg.eval.metric
        metrics, stopped = self.judge(state.weights), np.asarray(state.stopped)
        if metrics[0] and not any(name.head == head for name in metrics[0]):
            raise BadInput(
                f"eval.select_head is {head!r}, which model {self.cfg.model.name} does not have; "
                "set eval.select_head=binary"
            )
        selecting = {}
        for selection in self.selections:
            values = [of_seed[MetricName(selection, head, metric)] for of_seed in metrics]
            selecting[selection] = self.layout.fill(jnp.array(values, jnp.float32))
        running = [None if over else m for m, over in zip(metrics, stopped, strict=False)]
        return self.keep_best(state, selecting), running


def train(
    cfg: Config,
    store: Store,
    seeds: Sequence[int],
    data_seeds: Sequence[int] | None = None,
    *,
    chunk: int | Literal["auto"] | None = None,
) -> TrainState:
    """Trains every (weight seed, data seed) pair to the end; the stacked final state. Data seeds
    default to `seeds`.
    """
    program = Program(cfg, store, len(seeds), chunk)
    state = program.init(seeds, seeds if data_seeds is None else data_seeds)
    for interval in program.train(state):
        state = interval.state
    return program.own(state)


def out_of_fold(
    cfg: Config, store: Store, seeds: Sequence[int], folds: int
) -> tuple[list[evaluate.Scores], np.ndarray]:
    """Each seed's scores of the train videos, every one by weights that were trained without its
    fold, at their last step; and which of these videos are anomalous, [V].

    Seeds and folds train side by side in one program, as seeds alone do in a run. Raises BadInput
    for mixed batches, and where there are too few videos.
    """
    if cfg.train.batching != "balanced":
        raise BadInput("cross-validation is for balanced batches; set train.batching=balanced")
    videos = data.readable(store, "train")
    rows, frozen = data.train_data(cfg, store, videos), data.frozen(store, cfg.model.prompts)
    members = data.folds(cfg, store, videos, folds)
    kept = data.without_each(rows, members)
    normal, abnormal = (
        jnp.repeat(jnp.stack([getattr(k, part) for k in kept]), len(seeds), axis=0)
        for part in ("normal", "abnormal")
    )
    steps = cfg.train.epochs * data.steps_per_epoch(cfg, kept[0])
    keys = jax.vmap(jax.random.key)(np.tile(np.asarray(seeds, np.uint32), folds))
    state = jax.vmap(partial(one_seed.make_state, cfg, ()))(keys, keys)

    def trained(
        rows: TrainData, frozen: Frozen, windows: tuple[Windows, ...], one: PyTree
    ) -> PyTree:
        normal, abnormal, state = one
        of_fold = dataclasses.replace(rows, normal=normal, abnormal=abnormal)
        state, losses = one_seed.run_interval(cfg, frozen, of_fold, jnp.ones(steps, bool), state)
        return evaluate.score_windows(cfg, frozen, windows, state.weights), losses["loss"]

    seen = evaluate.Videos(cfg, store, [], videos)

    @jax.jit
    def program(
        rows: TrainData, frozen: Frozen, windows: tuple[Windows, ...], stacked: PyTree
    ) -> PyTree:
        return jax.lax.map(partial(trained, rows, frozen, windows), stacked, batch_size=len(seeds))

    slots, losses = jax.device_get(program(rows, frozen, seen.windows(), (normal, abnormal, state)))
    if not np.isfinite(losses).all():
        raise BadInput("a loss is not finite; lower train.lr")
    place = np.empty(len(videos), int)
    for number, fold in enumerate(members):
        place[fold] = number
    pooled = []
    for k in range(len(seeds)):
        of_folds = [seen.scores(select(slots, fold * len(seeds) + k)) for fold in range(folds)]
        own = [of_folds[fold].take(v, v + 1) for v, fold in enumerate(place)]
        pooled.append(evaluate.Scores.joined(own))
    return pooled, seen.val_abnormal


def abstract_weights(cfg: Config, count: int) -> Weights:
    """Shapes of the weights of `count` seeds, on the first device."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))

    def weights(key: jax.Array) -> Weights:
        return one_seed.make_state(cfg, (), key, key).weights

    return _placed(jax.eval_shape(jax.vmap(weights), keys), SingleDeviceSharding(jax.devices()[0]))


def _placed(shapes: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """The shapes and dtypes of a tree, with where its arrays are to lie."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def score_videos(
    cfg: Config, frozen: Frozen, weights: Weights, store: Store, videos: Sequence[int]
) -> list[evaluate.Scores]:
    """Each seed's scores of any videos of a store, from weights stacked over seeds."""
    listed = evaluate.Videos(cfg, store, list(videos), [])
    over_seeds = jax.jit(jax.vmap(evaluate.score_windows, (None, None, None, 0)), static_argnums=0)
    slots = jax.device_get(over_seeds(cfg, frozen, listed.windows(), weights))
    count = jax.tree.leaves(weights)[0].shape[0]
    return [listed.scores(select(slots, k)) for k in range(count)]
