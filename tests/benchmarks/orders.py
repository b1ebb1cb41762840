"""The rows of ten steps of ten seeds, with each epoch put in order once, and once a step.

python tests/benchmarks/orders.py [--rows N]

CPU seconds, since other programs may run; three rounds in turns.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from semvad_jax import config, data
from semvad_jax.types import TrainData

STEPS, SEEDS = 10, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    count = parser.parse_args().rows
    nothing, rows = np.zeros((count, 0, 0), np.float16), np.arange(count, dtype=np.int32)
    labels, one = np.zeros((count, 2), np.float32), np.ones(count, np.int32)
    half = count // 2
    known = TrainData(nothing, nothing, rows, one, labels, rows[:half], rows[half:])

    def once(cfg: config.Config, key: jax.Array) -> jax.Array:
        return data.batch_rows(cfg, known, key, jnp.int32(0), STEPS).features

    def each_step(cfg: config.Config, key: jax.Array) -> jax.Array:
        def of_step(step: jax.Array) -> jax.Array:
            return data.batch_rows(cfg, known, key, step, 1).features[0]

        return jax.lax.map(of_step, jnp.arange(STEPS))

    keys = jax.vmap(jax.random.key)(np.arange(SEEDS, dtype=np.uint32))
    for name in ("ucf", "xd"):
        cfg, found = config.load(name), []
        ways = [jax.jit(jax.vmap(lambda key, f=f, c=cfg: f(c, key))) for f in (once, each_step)]
        same = np.array_equal(*(way(keys) for way in ways))
        for _ in range(3):
            for way in ways:
                begun = time.process_time()
                jax.block_until_ready(way(keys))
                found.append(time.process_time() - begun)
        seconds = [sorted(found[i::2])[1] / STEPS for i in range(2)]
        print(
            f"{cfg.train.batching} batches of {count} rows, a step of {SEEDS} seeds: "
            f"{seconds[0]:.4f} and {seconds[1]:.4f} CPU s, ratio {seconds[1] / seconds[0]:.1f}; "
            f"equal rows: {same}"
        )


if __name__ == "__main__":
    main()
