"""How the models compute, so that a video's results depend on nothing but the video: one thread,
batches of one shape that never hold two videos, bfloat16 on a GPU alone.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import numpy as np
import torch

from featurize.progress import Told, nobody

# Sums would be shared out differently among more; --shard and --engine ray use more cores.
THREADS = 1
torch.set_num_threads(THREADS)
# cuDNN's attention gave one batch other captions each time (seen on an H100); the others repeat
torch.backends.cuda.enable_cudnn_sdp(False)
RECORD = {"dtype": "float32, and autocast to bfloat16 on a GPU", "threads": THREADS}


def on_gpu() -> bool:
    """Whether the large models compute on a GPU."""
    return torch.cuda.is_available()


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if on_gpu() else "cpu")


def dtype() -> torch.dtype:
    """Of VideoLLaMA 3's weights and pixels."""
    return torch.bfloat16 if on_gpu() else torch.float32


def autocast() -> AbstractContextManager:
    """bfloat16 for what tolerates it, on a GPU."""
    if on_gpu():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def in_batches(
    run: Callable[[list[Any]], np.ndarray], items: Iterable[Any], batch: int
) -> Iterator[np.ndarray]:
    """The rows of `run` for every item, in order; `run` gets `batch` items each time, the last ones
    filled up with repeats.
    """
    left = iter(items)
    while part := list(islice(left, batch)):
        filled = part + part[-1:] * (batch - len(part))
        yield from run(filled)[: len(part)]


def embed_distinct(
    run: Callable[[list[str]], np.ndarray],
    texts: Sequence[str],
    batch: int,
    width: int,
    told: Told = nobody,
) -> np.ndarray:
    """Embeddings of one video's texts, float32 [n, width]; equal texts are embedded once.

    `told` is called with the number of texts of each embedding that is done.
    """
    counts, vectors = Counter(texts), dict[str, np.ndarray]()
    for text, row in zip(counts, in_batches(run, counts, batch), strict=True):
        vectors[text] = row
        told(counts[text])
    return np.array([vectors[text] for text in texts], np.float32).reshape(-1, width)
