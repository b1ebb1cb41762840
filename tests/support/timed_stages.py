"""Stages for the runtime study's processes, which import no more than this to run them."""

import os
import time

from semvad_jax import stopwatch
from semvad_jax.files import BadInput


def hold(megabytes, seconds=0.0):
    """A stage whose calls need so much memory and time."""

    def call(_):
        held = b"x" * (megabytes << 20)  # written, so that it is there
        time.sleep(seconds)
        return len(held)

    found = stopwatch.measure(call, range(3), 1, 2)
    return stopwatch.Measured(found, stopwatch.host_peak(), None, "a processor")


def refuse(sentence):
    raise BadInput(sentence)


def die():
    os._exit(9)
