"""Two cores as one device and as two: an epoch of the demo's ten seeds, steps and one evaluation.

python tests/benchmarks/cpu_devices.py [--rounds N]

One process has one device and all seeds vmapped, the other two devices and one seed at a time on
each (`--cpu-devices 2 --seed-chunk 1`). They take turns, so that whatever else the machine does
falls on both.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (9, 234, 42, 1, 256, 512, 7, 72, 34, 100)
WAYS = {"one device, ten seeds vmapped": ("1", "10"), "two devices, one seed on each": ("2", "1")}


def child(chunk: int) -> None:
    """For each line of its input one epoch; prints the seconds of its steps and its evaluation."""
    import jax

    from semvad_jax import config, seeds, store

    features = store.open(ROOT / "demo")
    cfg = config.resolve(config.load("demo", [f"data.store={ROOT / 'demo'}"]), features)
    program = seeds.Program(cfg, features, len(SEEDS), chunk)
    program.compile()
    chunks = program.init(SEEDS, SEEDS)

    def epoch() -> tuple[float, float]:
        begun, done = time.perf_counter(), 0
        while done < program.steps_per_epoch:
            count = min(program.longest, program.steps_per_epoch - done)
            measured = program.run_interval(chunks, count)
            jax.block_until_ready((chunks, measured))
            done += count
        trained = time.perf_counter()
        program.judge([chunk.weights for chunk in chunks])
        return trained - begun, time.perf_counter() - trained

    epoch()
    print(len(jax.devices()), flush=True)
    for _ in sys.stdin:
        print(*epoch(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunk", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.chunk:
        child(args.chunk)
        return
    running = {}
    for name, (devices, chunk) in WAYS.items():
        env = os.environ | {"JAX_NUM_CPU_DEVICES": devices, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, __file__, "--chunk", chunk]
        running[name] = subprocess.Popen(
            command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert running[name].stdout.readline().strip() == devices
    taken = {name: [] for name in running}
    for _ in range(args.rounds):
        for name, process in running.items():
            print(file=process.stdin, flush=True)
            taken[name].append([float(s) for s in process.stdout.readline().split()])
            print(f"{name}: {taken[name][-1]}", file=sys.stderr)
    for process in running.values():
        process.communicate()
    (one, other) = (list(zip(*of_way, strict=True)) for of_way in taken.values())
    for what, a, b in zip(("steps", "evaluation"), one, other, strict=True):
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        print(
            f"{what}: {statistics.median(a):.2f} and {statistics.median(b):.2f} s, ratio "
            f"{statistics.median(ratios):.2f} (each: {' '.join(f'{r:.2f}' for r in ratios)})"
        )
    whole = [(sum(x), sum(y)) for x, y in zip(*taken.values(), strict=True)]
    print(
        f"an epoch: ratio {statistics.median(x / y for x, y in whole):.2f}; "
        f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
