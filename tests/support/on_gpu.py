"""Seconds of what PyTorch computes, on a GPU where there is one."""

import time
from collections.abc import Callable
from typing import Any

import torch

ON_GPU = torch.cuda.is_available()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it gave."""
    if ON_GPU:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    result = work()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - begun, result
