"""Ten seeds in one program, raced against three ways to train them one after the other.

python tests/benchmarks/seeds.py [--store DIR] [--config NAME] [--steps N] [--seeds S]
                                 [--chunk K] [--quick] [--cpu]

    ours            `seeds.Program` as main.py runs it: a core a device, a seed at a time on each
    vmapped         the same on one device, all seeds at once, as a GPU runs it
    (a) sequential  the same program compiled for one seed, run once per seed
    (b) batched     `torch_semvad.BATCHED`, once per seed
    (c) per video   `torch_semvad.PER_VIDEO`, once per seed

All start from the same parameters and train on the same rows; the script stops unless logits and
losses agree. A round gives each contender one turn, so that whatever else the machine does falls on
all; the table holds medians over the rounds. PyTorch may use every core, as JAX does, and gets the
rows of its steps ready drawn. Compilation is measured apart.

On a machine that others use too, wall-clock time says little, least of all of PyTorch, whose
threads wait for each other at every operation. There, one core and its CPU time still compare the
work:
`taskset -c 0 python tests/benchmarks/seeds.py --cpu`.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from unittest import mock

CORES = len(os.sched_getaffinity(0))
os.environ["JAX_NUM_CPU_DEVICES"] = str(CORES)  # before jax is imported

import jax
import numpy as np
import torch
import torch_semvad

from semvad_jax import config, data, seeds, store, train
from semvad_jax.config import Config
from semvad_jax.types import TrainState

ROUNDS = 3
QUICK_SEEDS = 2  # run by each sequential contender under --quick; the rest is extrapolated
TOLERANCE = 1e-4  # between the programs' logits and losses at the first step


@dataclass
class Contender:
    """One way to train all seeds. Each call of `train` and `evaluate` is one turn's work."""

    name: str
    train: Callable[[], np.ndarray]  # goes on for the steps of a turn; the losses [S, steps]
    evaluate: Callable[[], object]  # scores all val and test windows with every seed
    compilation: float = 0.0
    share: float = 1.0  # of the seeds that it runs
    times: dict[str, list[float]] = field(default_factory=lambda: {"train": [], "evaluate": []})

    def turn(self, clock: Callable[[], float]) -> None:
        for name, times in self.times.items():
            times.append(timed(getattr(self, name), clock) / self.share)

    def median(self, name: str) -> float:
        return statistics.median(self.times[name])


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def on_one_device(*args: Any) -> seeds.Program:
    """A program that sees the first device alone; its operations still use every core."""
    first = jax.devices()[:1]
    with mock.patch.object(jax, "devices", lambda: first):
        return seeds.Program(*args)


def in_jax(
    name: str, program: seeds.Program, runs: list[list[TrainState]], intervals: int
) -> Contender:
    """Runs, each of as many seeds as the program holds, trained one after the other."""
    compilation = timed(program.compile)

    def go_on(i: int) -> np.ndarray:
        losses = []
        for _ in range(intervals):
            measured = program.run_interval(runs[i], program.longest)
            losses.append(program.own(measured)["loss"])
        jax.block_until_ready(runs[i])
        return np.concatenate(losses, axis=1)

    def evaluate() -> None:
        windows = (program.frozen, program.windows)
        for run in runs:
            for chunk in run:
                jax.block_until_ready(program.score_windows(windows, chunk.weights))

    return Contender(
        name, lambda: np.concatenate([go_on(i) for i in range(len(runs))]), evaluate, compilation
    )


def in_torch(
    name: str,
    ways: torch_semvad.Ways,
    program: seeds.Program,
    models: list[torch_semvad.SemVAD],
    orders: np.ndarray,
    steps: int,
) -> Contender:
    """One model per seed; `orders` [S, steps of all turns, B] are the rows they are trained on."""
    cfg, t = program.cfg, program.cfg.train
    rows = jax.tree.map(torch_semvad.tensor, jax.device_get(program.rows))
    windows = jax.tree.map(torch_semvad.tensor, jax.device_get(program.windows[0]))
    optimisers = [
        torch.optim.AdamW(
            model.parameters(),
            lr=t.lr,
            weight_decay=t.weight_decay,
            fused=ways is torch_semvad.BATCHED,
        )
        for model in models
    ]
    queues = [iter(torch_semvad.tensor(order)) for order in orders]

    def go_on() -> np.ndarray:
        losses = []
        for model, optimiser, queue in zip(models, optimisers, queues, strict=True):
            for chosen in islice(queue, steps):
                video = rows.video[chosen]
                length = rows.length[video]
                out = model(rows.visual[chosen], rows.captions[video], length)
                loss = torch_semvad.loss(cfg, ways, out, length, rows.labels[video])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
        return np.reshape(losses, (len(models), steps))

    @torch.inference_mode()
    def evaluate() -> None:
        for model in models:
            for visual, captions, length in zip(
                windows.visual, windows.captions, windows.length, strict=True
            ):
                out = model(visual, captions, length)
                out.binary_logits.sigmoid(), out.class_logits.softmax(-1)

    return Contender(name, go_on, evaluate)


def draw(program: seeds.Program, keys: jax.Array, steps: int) -> np.ndarray:
    """The rows of the first steps of every seed, [S, steps, B]."""

    def of_seed(key: jax.Array) -> jax.Array:
        return data.batch_rows(program.cfg, program.rows, key, np.int32(0), steps).features

    return np.asarray(jax.jit(jax.vmap(of_seed))(keys))


def logits_differ(
    cfg: Config,
    program: seeds.Program,
    state: TrainState,
    rows: np.ndarray,
    models: list[torch_semvad.SemVAD],
) -> float:
    """The largest difference between any model's logits and ours, on one seed's first batch."""
    apply = jax.jit(train.model(cfg).apply, static_argnums=0)
    batch = jax.jit(data.gather)(program.rows, data.Rows(rows, rows, None))
    ours = apply(cfg, state.params, program.frozen, batch)
    inputs = [torch_semvad.tensor(x) for x in (batch.visual, batch.captions, batch.length)]
    with torch.inference_mode():
        found = [model(*inputs) for model in models]
    return max(
        float(np.abs(getattr(theirs, name).numpy() - getattr(ours, name)).max())
        for theirs in found
        for name in ("binary_logits", "class_logits")
    )


def table(contenders: list[Contender], steps: int, steps_per_epoch: int) -> str:
    """Markdown. A ratio is a contender's time over ours: above 1, ours wins."""
    measures = {
        "one step": lambda c: c.median("train") / steps,
        "one evaluation": lambda c: c.median("evaluate"),
        f"one epoch: {steps_per_epoch} steps, one evaluation": lambda c: (
            c.median("train") / steps * steps_per_epoch + c.median("evaluate")
        ),
    }
    cells = [["all seeds, seconds", *(part for m in measures for part in (m, "ratio")), "compile"]]
    cells.append(["---"] + ["---:"] * (len(cells[0]) - 1))
    for c in contenders:
        row = [c.name]
        for measure in measures.values():
            row += [f"{measure(c):.3f}", f"{measure(c) / measure(contenders[0]):.2f}"]
        cells.append([*row, f"{c.compilation:.0f}" if c.compilation else "none"])
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", default="demo", help="a feature store without a text tower")
    parser.add_argument("--config", default="demo", help="of preset paper, with balanced batches")
    parser.add_argument("--steps", type=int, default=8, help="of a turn; whole intervals are run")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--quick", action="store_true", help=f"run {QUICK_SEEDS} seeds in sequence, not all"
    )
    parser.add_argument("--cpu", action="store_true", help="CPU seconds, not wall-clock seconds")
    args = parser.parse_args()
    clock = time.process_time if args.cpu else time.perf_counter
    torch.set_num_threads(CORES)
    load = os.getloadavg()[0]

    features = store.open(args.store)
    cfg = config.resolve(config.load(args.config, [f"data.store={args.store}"]), features)
    if cfg.data.text_tower or cfg.model.preset != "paper" or cfg.train.batching != "balanced":
        parser.error("the PyTorch programs know static class text, preset paper, balanced batches")
    ours = seeds.Program(cfg, features, args.seeds)
    together = on_one_device(cfg, features, args.seeds, args.seeds)
    alone = on_one_device(cfg, features, 1)
    intervals = -(-args.steps // together.longest)
    steps = intervals * together.longest

    numbers = list(range(args.seeds))
    few = numbers[:QUICK_SEEDS] if args.quick else numbers
    runs = [alone.init([k], [k]) for k in few]
    firsts = [seeds.select(run[0], 0) for run in runs]
    keys = jax.vmap(jax.random.key)(np.array(few, np.uint32))
    orders = draw(together, keys, (ROUNDS + 1) * steps)

    def load_models(ways: torch_semvad.Ways) -> list[torch_semvad.SemVAD]:
        text = (together.frozen.class_name, together.frozen.class_caption)
        return [
            torch_semvad.load(torch_semvad.SemVAD(cfg, *text, ways), first.params)
            for first in firsts
        ]

    batched, per_video = (
        load_models(ways) for ways in (torch_semvad.BATCHED, torch_semvad.PER_VIDEO)
    )
    logits = logits_differ(cfg, together, firsts[0], orders[0, 0], [batched[0], per_video[0]])
    contenders = [
        in_jax("ours", ours, [ours.init(numbers, numbers)], intervals),
        in_jax("vmapped", together, [together.init(numbers, numbers)], intervals),
        in_jax("(a) sequential", alone, runs, intervals),
        in_torch("(b) batched PyTorch", torch_semvad.BATCHED, together, batched, orders, steps),
        in_torch(
            "(c) per-video PyTorch", torch_semvad.PER_VIDEO, together, per_video, orders, steps
        ),
    ]
    for c in contenders[2:]:
        c.share = len(few) / args.seeds

    losses = [c.train()[: len(few)] for c in contenders]  # the warm-up
    for c in contenders:
        c.evaluate()
    differences = np.abs(np.stack(losses[1:]) - losses[0]).max((0, 1))  # by step
    if max(logits, differences[0]) > TOLERANCE:
        sys.exit(f"the programs differ: logits by {logits:.1e}, losses by {differences[0]:.1e}")
    for _ in range(ROUNDS):
        for c in contenders:
            c.turn(clock)

    print(
        f"`python {' '.join(sys.argv)}`\n\n"
        f"{args.seeds} seeds, batch {cfg.train.batch}, T {cfg.model.length}, dim {cfg.model.dim}; "
        f"{ROUNDS} rounds of {steps} steps and one evaluation.\n"
        f"{'CPU' if args.cpu else 'Wall-clock'} seconds on {CORES} of {os.cpu_count()} cores: "
        f"as many threads for JAX (its default), {torch.get_num_threads()} for PyTorch; "
        f"load {load:.1f} at the start.\n"
        f"Python {sys.version.split()[0]}, jax {jax.__version__}, torch {torch.__version__}.\n"
        f"Equal at the first step: logits within {logits:.1e}, losses within {differences[0]:.1e} "
        f"(within {differences[-1]:.1e} at step {steps}).\n"
    )
    print(table(contenders, steps, together.steps_per_epoch))
    if args.quick:
        print(f"\n(a), (b) and (c) are extrapolated from {len(few)} seeds")


if __name__ == "__main__":
    main()
