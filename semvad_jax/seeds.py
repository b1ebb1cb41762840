"""All seeds in one program. The only file that knows the seed axis S; everything it calls is
written for one seed.

Seeds share nothing but the data, so S is a batch axis: `vmap` over the seeds of a chunk, devices
side by side (`shard_map`) without a word between them. Where all seeds do not fit the devices at
once, one compiled program takes chunk after chunk. A chunk that seeds do not fill is filled with
copies of the last one, so that a seed's numbers depend on the chunk's width alone, not on its
company. Several hosts (hosts.py) each run this program for a share of the seeds.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache, partial
from itertools import groupby
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from semvad_jax import data, evaluate
from semvad_jax import train as one_seed
from semvad_jax.config import Config
from semvad_jax.files import BadInput
from semvad_jax.hosts import ALONE, Hosts
from semvad_jax.metrics import MetricName
from semvad_jax.models import prepared
from semvad_jax.store import Store
from semvad_jax.types import Frozen, TrainData, TrainState, Weights, Windows

FREE = 2 * 10**9  # bytes of what JAX may take of a device that a run leaves free


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where S seeds lie: chunks × devices × `width` slots, the last seed repeated to fill them."""

    seeds: int
    width: int
    devices: int

    @property
    def slots(self) -> int:
        """Of one chunk, on all devices."""
        return self.width * self.devices

    @property
    def chunks(self) -> list[np.ndarray]:
        """The numbers of the seeds in each chunk's slots."""
        count = -(-self.seeds // self.slots)
        slots = np.minimum(np.arange(count * self.slots), self.seeds - 1)
        return list(slots.reshape(count, self.slots))


def even_widths(seeds: int) -> list[int]:
    """The chunk widths that so many seeds a device fill without copies, the widest first."""
    return [width for width in range(seeds, 0, -1) if seeds % width == 0]


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a run takes of each device while it trains."""

    data: int  # windows, what is frozen, and the features, or two batches of them
    # of all chunks, or of one where the others rest on the host: parameters, the optimiser's
    # moments, the best weights
    states: int
    temporaries: int  # of one chunk's step
    copies: int  # outputs that take no input's place

    @property
    def peak(self) -> int:
        return self.data + self.states + self.temporaries + self.copies


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices that a run is planned for; they need not be here."""

    mesh: jax.sharding.Mesh
    limit: int | None  # bytes that a run may take of each


def for_device(cfg: Config) -> Config:
    """The config with this device's `train.dtype`, where that is auto: float32 on a CPU, bfloat16
    on others.
    """
    if cfg.train.dtype != "auto":
        return cfg
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, dtype=dtype))


def mesh() -> jax.sharding.Mesh:
    """All devices, side by side."""
    return jax.make_mesh((len(jax.devices()),), ("seed",), (jax.sharding.AxisType.Auto,))


def room() -> int | None:
    """Bytes of a device that a run may take; None where it tells no limit (CPU)."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return None if limit is None else limit - FREE


def narrower(need: Memory, layout: Layout, limit: int) -> int:
    """The widest of `even_widths` that should fit, from what a wider layout needs. Temporaries fall
    a little less than in proportion; 1 where none should.
    """
    for width in even_widths(layout.width)[1:]:
        share = min(1.4 * width / layout.width, 1)
        if need.data + need.states + share * (need.temporaries + need.copies) <= limit:
            return width
    return 1


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _bytes(tree: PyTree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def select(state: PyTree, k: int | slice | np.ndarray) -> PyTree:
    """One seed's slice (or several) of a stacked tree."""
    return jax.tree.map(lambda x: x[k], state)


@dataclasses.dataclass(frozen=True)
class Interval:
    """What one interval ended in: the states and, per seed of all hosts, the mean losses and the
    metrics.

    Metrics are None for a seed that was not evaluated: it has stopped, or only an epoch ended.
    """

    chunks: list[TrainState]
    step: int
    losses: list[dict[str, float]]
    metrics: list[dict[MetricName, float] | None]


class Program:
    """A run's two compiled programs and the data they read, placed on the devices once.

    A run's state is a list of chunks, each the states of some seeds, stacked.
    """

    def __init__(
        self,
        cfg: Config,
        store: Store,
        seeds: int,
        chunk: int | Literal["auto"] | None = None,
        frozen: Frozen | None = None,
        target: Target | None = None,
        hosts: Hosts = ALONE,
    ):
        """`chunk` seeds a device are computed at once; None or "auto": as many as fit, and one on a
        CPU, whose caches hold no more. `frozen`: in place of what the store has. For a `target`
        nothing is read or placed, and nothing can be run. Of several `hosts` this one computes its
        share of the seeds.

        Raises BadInput for a chunk below 1, and for what `data` refuses.
        """
        if isinstance(chunk, int) and chunk < 1:
            raise BadInput(f"--seed-chunk {chunk} must be at least 1")
        self.cfg, self.store = for_device(cfg), store
        self.hosts, self.count, self.numbers = hosts, seeds, hosts.share(seeds)
        self.mesh = target.mesh if target else mesh()
        self.limit = target.limit if target else room()
        self.shared = NamedSharding(self.mesh, P())
        self.stacked = NamedSharding(self.mesh, P("seed"))
        self.on_host = self.stacked.with_memory_kind("pinned_host")
        self.rests = self.stacked  # where a chunk is while others are computed

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
        rows = (data.train_shapes if target else data.train_data)(cfg, store, train)
        self.steps_per_epoch = data.steps_per_epoch(cfg, rows)
        put = _placed if target else jax.device_put
        if frozen is None:
            frozen = prepared(cfg, rows, data.frozen(store, cfg.model.prompts))
        self.frozen, self.rows = put(frozen, self.shared), rows
        has = {"val": bool(self.videos.val), "test": bool(test)}
        self.selections = tuple(name for name, there in has.items() if there)
        self.windows = None
        if self.selections:
            windows = self.videos.window_shapes() if target else self.videos.windows()
            self.windows = put(windows, self.shared)
        self.evaluations = one_seed.evaluations(cfg, self.steps_per_epoch)
        ends = one_seed.pauses(cfg, self.steps_per_epoch)
        self.intervals = list(zip([0, *ends[:-1]], ends, strict=True))
        self.steps = ends[-1]
        self.longest = max(end - start for start, end in self.intervals)
        self._choose(len(self.numbers), chunk)
        if not self.rows_on_host:
            self.rows = put(rows, self.shared)

    def _choose(self, seeds: int, chunk: int | Literal["auto"] | None) -> None:
        """Decides on `layout`, `rests`, `cfg.data.placement` and `cfg.train.remat`, in at most
        three compilations.

        What costs least time comes first: on an H100 one seed at a time took 1.07 times as long a
        step as ten at once, and rematerialised blocks 1.24 times. One seed's batch, 84 MB, is
        gathered on the host while a step of a smaller card runs.
        """
        asked, placement, devices = self.cfg.train.remat, self.cfg.data.placement, self.mesh.size
        most = 1 if self.limit is None else -(-seeds // devices)
        most = chunk if isinstance(chunk, int) else most
        self.layout = Layout(seeds, most, devices)
        remat, on_host = "none" if asked == "auto" else asked, placement == "host"
        self._use(most, remat, on_host)
        if self.limit is None:
            return  # nothing to choose
        given = isinstance(chunk, int) and asked != "auto" and placement != "auto"
        if given or self.memory().peak <= self.limit:
            return
        if not isinstance(chunk, int):
            self._use(narrower(self.memory(), self.layout, self.limit), remat, on_host)
        if (over := self._over(self.limit)) <= 0:
            return
        if placement == "auto":
            over -= self._data(on_host=False) - self._data(on_host=True)
            on_host = True
        if asked == "auto" and over > 0:
            remat = "blocks"
        self._use(self.layout.width, remat, on_host)
        self._over(self.limit)

    def _over(self, limit: int) -> int:
        """By how much a run is too large; states of waiting seeds rest on the host if they must."""
        self.rests = self.stacked
        if self.memory().peak > limit and len(self.layout.chunks) > 1:
            self.rests = self.on_host
        return self.memory().peak - limit

    def _use(self, width: int, remat: str, on_host: bool) -> None:
        before = self.layout.width, self.cfg
        self.layout = dataclasses.replace(self.layout, width=width)
        self.cfg = dataclasses.replace(
            self.cfg,
            data=dataclasses.replace(self.cfg.data, placement="host" if on_host else "device"),
            train=dataclasses.replace(self.cfg.train, remat=remat),
        )
        if before != (self.layout.width, self.cfg):
            self.__dict__.pop("training", None)  # what was compiled is for another choice

    @property
    def rows_on_host(self) -> bool:
        return self.cfg.data.placement == "host"

    def memory(self) -> Memory:
        """What the run takes of each device, by the compiler's figures."""
        sizes = self.training.memory_analysis()
        assert sizes is not None  # CPUs and GPUs tell
        count = 1 if self.rests is self.on_host else len(self.layout.chunks)
        state = self._abstract_state(self.layout.slots, self.stacked)
        return Memory(
            data=self._data(self.rows_on_host),
            states=count * _bytes(state) // self.layout.devices,
            temporaries=sizes.temp_size_in_bytes,
            copies=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
        )

    def _data(self, on_host: bool) -> int:
        """Bytes of each device that `Memory.data` are, with features on the host or on it."""
        batches = 2 * _bytes(self._abstract_batch()) // self.layout.devices
        return _bytes((self.frozen, self.windows)) + (batches if on_host else _bytes(self.rows))

    def init(self, weight_seeds: Sequence[int], data_seeds: Sequence[int]) -> list[TrainState]:
        """The states at step 0. Made outside `shard_map`, and placed."""
        make = jax.jit(jax.vmap(self._make_state), out_shardings=self.stacked)
        key = jax.vmap(jax.random.key)
        both = [np.asarray(s, np.uint32) for s in (weight_seeds, data_seeds)]
        chunks = [self.numbers[chunk] for chunk in self.layout.chunks]
        return [self._rest(make(*(key(s[chunk]) for s in both))) for chunk in chunks]

    def adopt(self, state: TrainState) -> list[TrainState]:
        """The chunks of a stacked state of the run's seeds, filled up and placed."""
        chunks = [self.numbers[chunk] for chunk in self.layout.chunks]
        return [jax.device_put(select(state, c), self.rests) for c in chunks]

    def _rest(self, chunk: PyTree) -> PyTree:
        return jax.device_put(chunk, self.rests)

    def _work(self, chunk: PyTree) -> PyTree:
        return jax.device_put(chunk, self.stacked)

    def own(self, chunks: Sequence[PyTree]) -> PyTree:
        """The stacked tree of this host's seeds in its memory, without what fills chunks up."""
        count = self.layout.seeds
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *jax.device_get(chunks))

    def whole(self, chunks: Sequence[PyTree]) -> PyTree | None:
        """The same of the seeds of all hosts, at host 0; None elsewhere."""
        leaves, structure = jax.tree.flatten(self.own(chunks))
        gathered = self.hosts.gather(leaves)
        if gathered is None:
            return None
        return structure.unflatten([leaf[: self.count] for leaf in gathered])

    def alone(self) -> "Program":
        """This program for the seeds of all hosts, which only the number of chunks tells apart."""
        program = copy.copy(self)
        program.hosts, program.numbers = ALONE, ALONE.share(self.count)
        program.layout = dataclasses.replace(self.layout, seeds=self.count)
        program.rests = self.on_host  # so that no device holds more than it did
        return program

    def saved_state(self) -> TrainState:
        """Shapes of the state as it is saved: the run's own seeds, whatever the devices."""
        return self._abstract_state(self.count)

    def _abstract_state(
        self, count: int, sharding: jax.sharding.Sharding | None = None
    ) -> TrainState:
        return _placed(_state_shapes(self.cfg, self.selections, count), sharding)

    def _make_state(self, weight_key: jax.Array, data_key: jax.Array) -> TrainState:
        return one_seed.make_state(self.cfg, self.selections, weight_key, data_key)

    def _over_seeds(self, f: Callable) -> Callable:
        """g(shared, stacked) from f(*shared, one), the stacked trees' first axis being S."""

        def on_device(shared: tuple, stacked: PyTree) -> PyTree:
            return jax.vmap(lambda one: f(*shared, one))(stacked)

        # Without types of replication autodiff has nothing to sum over devices: seeds must never
        # meet.
        specs = {"in_specs": (P(), P("seed")), "out_specs": P("seed"), "check_vma": False}
        return jax.shard_map(on_device, mesh=self.mesh, **specs)

    def compile(self) -> None:
        """Compiles now what would be compiled at first use.

        Raises BadInput where the device has not the memory that training takes.
        """
        _ = self.training, self.windows and self.score_windows
        if self.limit is not None and self.memory().peak > self.limit:
            raise BadInput(self.too_large())

    def too_large(self) -> str:
        """Says that a run does not fit the device, and what to change."""
        width, need, limit = self.layout.width, self.memory().peak, self.limit or 0
        less = "--seed-chunk" if width > 1 else "train.batch"
        return (
            f"training {width} seed{'s' * (width > 1)} at a time takes {_gb(need)}, and the "
            f"device has {_gb(limit)} for it; lower {less}"
        )

    def says(self) -> str:
        """How many seeds are computed at once, in which numbers, and in how much memory."""
        train, width = self.cfg.train, min(self.layout.width, self.layout.seeds)
        devices = f" on each of {self.mesh.size} devices" if self.mesh.size > 1 else ""
        said = f"{width} seed{'s' * (width > 1)} at a time{devices}, {train.dtype}"
        said += ", blocks rematerialised" if train.remat == "blocks" else ""
        said += ", the others' states on the host" if self.rests is self.on_host else ""
        said += ", features on the host" if self.rows_on_host else ""
        return f"{said}, {_gb(self.memory().peak)}"

    @cached_property
    def training(self) -> jax.stages.Compiled:
        """(frozen, rows, active), state → state, losses of an interval; or, with features on the
        host, (frozen,), batch, state → state, losses of a step. The state given is used up.
        """
        state = self._abstract_state(self.layout.slots, self.stacked)
        if self.rows_on_host:
            step = self._over_seeds(self._one_step)
            f = jax.jit(lambda shared, batch, state: step(shared, (batch, state)), donate_argnums=2)
            return f.lower((self.frozen,), self._abstract_batch(), state).compile()
        interval = self._over_seeds(partial(one_seed.run_interval, self.cfg))
        active = jax.ShapeDtypeStruct((self.longest,), bool, sharding=self.shared)
        shared = self.frozen, _placed(self.rows, self.shared), active
        return jax.jit(interval, donate_argnums=1).lower(shared, state).compile()

    def _one_step(
        self, frozen: Frozen, one: tuple[PyTree, TrainState]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        batch, state = one
        return one_seed.step(self.cfg, self.steps_per_epoch, frozen, data.batch_of(batch), state)

    @cached_property
    def draw_rows(self) -> Callable:
        """(key, step) of the slots of a chunk → `data.Rows` of the longest interval from there."""

        def of_seed(key: jax.Array, step: jax.Array) -> data.Rows:
            key = jax.random.wrap_key_data(key)
            return data.batch_rows(self.cfg, self.rows, key, step, self.longest)

        return jax.jit(jax.vmap(of_seed))

    def _abstract_batch(self) -> PyTree:
        """Shapes of a chunk's batch, as `_gathered` gives it."""
        rows, first = self.rows, (self.layout.slots, self.cfg.train.batch)
        parts = (rows.visual, rows.captions, rows.length, rows.labels)
        shapes = [jax.ShapeDtypeStruct((*first, *x.shape[1:]), x.dtype) for x in parts]
        mixed = self.cfg.train.batching == "mixed"
        weight = jax.ShapeDtypeStruct(first, np.float32) if mixed else None
        return _placed((*shapes, weight), self.stacked)

    def run_interval(self, chunks: list[TrainState], steps: int) -> list[dict[str, jax.Array]]:
        """Takes all chunks so many steps on, each state in its place in the list; returns the
        losses of each chunk's slots, [slots, steps or more].
        """
        if self.rows_on_host:
            return self._step_by_step(chunks, steps)
        active = jax.device_put(np.arange(self.longest) < steps, self.shared)
        measured = []
        for number, chunk in enumerate(chunks):
            state, losses = self.training((self.frozen, self.rows, active), self._work(chunk))
            chunks[number] = self._rest(state)
            measured.append(losses)
        return measured

    def _step_by_step(self, chunks: list[TrainState], steps: int) -> list[dict[str, jax.Array]]:
        """An execution a step. While it runs the next step's batch is gathered and copied, so that
        a device holds two.
        """
        drawn = jax.device_get([self.draw_rows(*self._work((c.key, c.step))) for c in chunks])
        measured, begun = [], []
        for number, rows in enumerate(drawn):
            state, losses = self._work(chunks[number]), []
            for step in range(steps):
                batch = self._gathered(rows, step)
                jax.block_until_ready(begun[-2:-1])  # the step before the one that runs
                batch = jax.device_put(batch, self.stacked)
                state, of_step = self.training((self.frozen,), batch, state)
                losses.append(of_step)
                begun.append(of_step["loss"])
            chunks[number] = self._rest(state)
            measured.append(jax.tree.map(lambda *x: jnp.stack(x, axis=1), *losses))
        return measured

    def _gathered(self, rows: data.Rows, step: int) -> PyTree:
        """The arrays of a step's batches, of all slots of a chunk, taken on the host."""
        slots = self.layout.slots
        batch = data.taken(self.rows, jax.tree.map(lambda x: x[:, step].reshape(-1), rows))
        return jax.tree.map(lambda x: x.reshape(slots, -1, *x.shape[1:]), batch)

    @cached_property
    def score_windows(self) -> jax.stages.Compiled:
        """(frozen, windows), weights → anomaly and class probabilities."""
        f = self._over_seeds(partial(evaluate.score_windows, self.cfg))
        state = self._abstract_state(self.layout.slots, self.stacked)
        return jax.jit(f).lower((self.frozen, self.windows), state.weights).compile()

    @cached_property
    def keep_best(self) -> Callable:
        f = partial(one_seed.keep_best, self.cfg)
        return jax.jit(jax.vmap(f), out_shardings=self.stacked, donate_argnums=0)

    @cached_property
    def end_epoch(self) -> Callable:
        f = partial(one_seed.end_epoch, self.cfg)
        return jax.jit(jax.vmap(f), out_shardings=self.stacked, donate_argnums=0)

    def scores(self, weights: Sequence[Weights]) -> list[evaluate.Scores]:
        """Each seed's scores of the test videos, then the val videos, from each chunk's weights;
        none where there are neither.
        """
        if self.windows is None:
            return [evaluate.Scores([], None)] * self.layout.seeds
        # all are begun before the first is waited for
        shared = (self.frozen, self.windows)
        begun = [self.score_windows(shared, self._work(of_chunk)) for of_chunk in weights]
        scored = []
        for slots in map(jax.device_get, begun):
            own = min(self.layout.slots, self.layout.seeds - len(scored))
            scored += [self.videos.scores(select(slots, k)) for k in range(own)]
        return scored

    def judge(self, weights: Sequence[Weights]) -> list[dict[MetricName, float]]:
        """`evaluate.Videos.judge` of each seed; sorting scores leaves the interpreter to others."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.videos.judge, self.scores(weights)))

    def final_scores(self, chunks: Sequence[TrainState]) -> dict[str, list[evaluate.Scores]]:
        """{selection: each seed's scores}: of the last weights, and of those selected on val and on
        test. Each of these weights is scored once.

        Where the best weights are reloaded (`train.protocol`) only "test" is there: every weight
        has seen the test videos.
        """
        scores = {} if self.reload_best else {"last": self.scores([c.weights for c in chunks])}
        for selection in self.selections:
            scores[selection] = self.scores([c.best[selection].weights for c in chunks])
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

    def train(self, chunks: Sequence[TrainState]) -> Iterator[Interval]:
        """Trains on from a state to the last step: an execution an interval and chunk, judged after
        each interval.

        The states given are used up; those yielded are the caller's until it asks for the next.
        Raises BadInput where a loss is not finite or the model lacks the selecting head, and where
        another host has ended.
        """
        chunks, count, done = list(chunks), self.layout.seeds, self.step(chunks)
        for start, end in self.intervals:
            if end <= done or self.finished(chunks):
                continue
            measured = self.run_interval(chunks, end - start)
            losses = {k: v[:, : end - start] for k, v in self.own(measured).items()}
            bad = np.argwhere(~np.isfinite(losses["loss"]))
            if len(bad):
                own, step = bad[0]
                raise BadInput(
                    f"the loss of seed number {self.numbers[own]} is not finite at step "
                    f"{start + step + 1}; lower train.lr"
                )
            metrics: list[dict[MetricName, float] | None] = [None] * count
            if end in self.evaluations:
                chunks, metrics = self._evaluate(chunks)
            if self.reload_best and end % self.steps_per_epoch == 0:
                chunks = [self._rest(self.end_epoch(self._work(c))) for c in chunks]
            means = [{k: float(v[i].mean()) for k, v in losses.items()} for i in range(count)]
            yield Interval(chunks, end, *self._of_all_hosts(means, metrics))

    def _of_all_hosts(
        self, losses: list[dict[str, float]], metrics: list[dict[MetricName, float] | None]
    ) -> tuple[list[dict[str, float]], list[dict[MetricName, float] | None]]:
        """Each seed's, as hosts tell each other."""
        by_text = [None if m is None else {str(k): v for k, v in m.items()} for m in metrics]
        pairs = self.hosts.of_all_seeds(list(zip(losses, by_text, strict=True)), self.count)
        parse = MetricName.parse
        return [of_seed for of_seed, _ in pairs], [
            None if m is None else {parse(k): v for k, v in m.items()} for _, m in pairs
        ]

    def step(self, chunks: Sequence[TrainState]) -> int:
        """The step that a state is at."""
        return int(np.asarray(chunks[0].step)[0])

    def finished(self, chunks: Sequence[TrainState]) -> bool:
        """Whether nothing is left to train: the last step, or an early stop of every seed's run.
        All hosts ask at the same moments.
        """
        stopped = self.cfg.train.early_stop == "run" and all(
            self.hosts.exchange(all(np.asarray(c.stopped).all() for c in chunks))
        )
        return stopped or self.step(chunks) == self.steps

    def _evaluate(
        self, chunks: Sequence[TrainState]
    ) -> tuple[list[TrainState], list[dict[MetricName, float] | None]]:
        """The states with the best weights so far; each seed's metrics unless it has stopped."""
        head, metric = self.cfg.eval.select_head, self.cfg.eval.metric
        metrics = self.judge([chunk.weights for chunk in chunks])
        stopped = self.own([chunk.stopped for chunk in chunks])
        if metrics[0] and not any(name.head == head for name in metrics[0]):
            raise BadInput(
                f"eval.select_head is {head!r}, which model {self.cfg.model.name} does not have; "
                "set eval.select_head=binary"
            )
        selecting = {
            selection: np.array(
                [of_seed[MetricName(selection, head, metric)] for of_seed in metrics], np.float32
            )
            for selection in self.selections
        }
        running = [None if over else m for m, over in zip(metrics, stopped, strict=True)]
        kept = []
        for chunk, slots in zip(chunks, self.layout.chunks, strict=True):
            kept.append(self._rest(self.keep_best(self._work(chunk), select(selecting, slots))))
        return kept, running


def train(
    cfg: Config,
    store: Store,
    seeds: Sequence[int],
    data_seeds: Sequence[int] | None = None,
    *,
    chunk: int | Literal["auto"] | None = None,
) -> TrainState:
    """Trains every (weight seed, data seed) pair to the end; the stacked final state, on the host.
    Data seeds default to `seeds`.
    """
    program = Program(cfg, store, len(seeds), chunk)
    chunks = program.init(seeds, seeds if data_seeds is None else data_seeds)
    for interval in program.train(chunks):
        chunks = interval.chunks
    return program.own(chunks)


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
    cfg = for_device(cfg)
    videos = data.readable(store, "train")
    rows = data.train_data(cfg, store, videos)
    frozen = prepared(cfg, rows, data.frozen(store, cfg.model.prompts))
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


@lru_cache
def _state_shapes(cfg: Config, selections: tuple[str, ...], count: int) -> TrainState:
    """Shapes of a new state, which a run asks for several times: tracing a large model's start
    takes half a second.
    """
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
    return jax.eval_shape(jax.vmap(partial(one_seed.make_state, cfg, selections)), keys, keys)


def _placed(shapes: PyTree, sharding: jax.sharding.Sharding | None) -> PyTree:
    """The shapes and dtypes of a tree, with where its arrays are to lie."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


_scored_by_all = jax.jit(jax.vmap(evaluate.score_windows, (None, None, None, 0)), static_argnums=0)


def score_videos(
    cfg: Config, frozen: Frozen, weights: Weights, store: Store, videos: Sequence[int]
) -> list[evaluate.Scores]:
    """Each seed's scores of any videos of a store, from weights stacked over seeds."""
    listed = evaluate.Videos(cfg, store, list(videos), [])
    slots = jax.device_get(_scored_by_all(cfg, frozen, listed.windows(), weights))
    return [listed.scores(select(slots, k)) for k in range(_count(weights))]


def score_windows(
    cfg: Config, frozen: Frozen, weights: Weights, crops: Sequence[Windows]
) -> list[evaluate.Scores]:
    """Each seed's scores of windows that count as a video each, from the same windows of each crop
    (`evaluate.of_windows`). Windows of one shape are one compiled program.
    """
    slots = [jax.device_get(_scored_by_all(cfg, frozen, (crop,), weights)[0]) for crop in crops]
    length = np.asarray(crops[0].length)
    return [
        evaluate.of_windows(cfg, [select(crop, k) for crop in slots], length)
        for k in range(_count(weights))
    ]


def score_in_real_time(
    cfg: Config,
    frozen: Frozen,
    weights: Weights,
    store: Store,
    videos: Sequence[int],
    lookaheads: Sequence[int],
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, list[evaluate.Scores]]:
    """{lookahead: each seed's scores of some videos}, each snippet scored when so many more have
    come (`evaluate.moments`). A batch of windows is in memory at a time; `tell` hears after each
    how many windows of all are done.
    """
    found: list[dict[int, evaluate.Scores]] = []
    done = 0
    size, steps = cfg.train.batch, cfg.model.length
    moments = evaluate.moments(cfg, store, videos, lookaheads)
    for crops, same in groupby(moments, lambda m: evaluate.crops_of(cfg, store, m.video)):
        alike = list(same)
        for batch in (alike[start : start + size] for start in range(0, len(alike), size)):
            pieces = [[data.Piece(m.video, crop, m.window) for m in batch] for crop in crops]
            windows = [data.cut(store, of_crop, steps, size) for of_crop in pieces]
            of_seeds = score_windows(cfg, frozen, weights, windows)
            found = found or [evaluate.unscored(s, store, videos, lookaheads) for s in of_seeds]
            for into, scores in zip(found, of_seeds, strict=True):
                evaluate.keep(into, scores, batch)
            done += len(batch)
            tell(done, len(moments))
    return {lookahead: [of_seed[lookahead] for of_seed in found] for lookahead in lookaheads}


def scored_together(
    cfg: Config,
    head: str,
    frozen: Frozen,
    weights: Weights,
    visual: Float[Array, "B T F"],
    captions: Float[Array, "B T Q"],
    length: Int[Array, " B"],
) -> tuple[Float[Array, "S B T"], Float[Array, "S B T C"] | None]:
    """Every seed's anomaly scores by one head, and class probabilities (None without a class head),
    of a batch of windows of any size.
    """
    windows = (Windows(visual[None], captions[None], length[None]),)
    over_seeds = jax.vmap(partial(evaluate.score_windows, cfg), (None, None, 0))
    (scores,) = over_seeds(frozen, windows, weights)
    anomaly = jnp.asarray(scores.binary)[:, 0]
    if scores.classes is None:
        return anomaly, None
    classes = jnp.asarray(scores.classes)[:, 0]
    return 1 - classes[..., 0] if head == "class" else anomaly, classes


def _count(weights: Weights) -> int:
    """The seeds that weights are stacked over."""
    return jax.tree.leaves(weights)[0].shape[0]
