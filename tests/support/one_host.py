"""main.py as one of several hosts, which sends itself a signal after a step.

python tests/support/one_host.py SIGTERM|SIGKILL STEP --config …
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import main  # noqa: E402


def signalled(number: int, step: int) -> None:
    """Makes training send the signal to this process when it has told the others of the step."""
    from semvad_jax import seeds
    from semvad_jax.types import TrainState

    train = seeds.Program.train

    def to_the_step(program: seeds.Program, chunks: Sequence[TrainState]) -> Iterator:
        for interval in train(program, chunks):
            if interval.step == step:
                os.kill(os.getpid(), number)
            yield interval

    seeds.Program.train = to_the_step  # type: ignore[method-assign]


if __name__ == "__main__":
    os.environ["JAX_NUM_CPU_DEVICES"] = "2"  # jax is imported before main.py would say so
    signalled(signal.Signals[sys.argv[1]], int(sys.argv[2]))
    main.main(sys.argv[3:])
