"""The featurizer's models at full size on one GPU, random weights: time, memory, repeatability.

PYTHONPATH=. python tests/benchmarks/featurize_gpu.py VIDEO [--small]

A line of JSON a measurement: VideoLLaMA 3 of both sizes in batches of 8 and of as many windows as
the video has, and CLIP's image towers. Random weights never end a caption, so that each has all of
its new tokens: times are upper bounds. `--small` takes toy sizes, for a try on a CPU.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from featurize import arithmetic, captions, clip, vision
from featurize.sources import Entry, edges
from featurize.videos import probe
from tests.support import tiny_videollama3 as tiny

LANGUAGE = {  # Qwen2.5's, as the published checkpoints have it
    "2b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
}
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
ON_GPU = torch.cuda.is_available()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    frames = probe(args.video)[0]
    entry = Entry("video", "test", ("Normal",), frames, 30.0, args.video)
    say(device=torch.cuda.get_device_name() if ON_GPU else "cpu", torch=torch.__version__)
    for size in LANGUAGE:
        with tempfile.TemporaryDirectory() as folder:
            captioning(size, write(Path(folder) / size, size, args.small), entry)
    for name in list(clip.MODELS)[: 1 if args.small else None]:
        images(name, entry)


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    if ON_GPU:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    result = work()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - begun, result


def write(folder: Path, size: str, small: bool) -> Path:
    """A checkpoint in the published format, of random weights."""
    text, sight = ({"vocab_size": 300}, {}) if small else (LANGUAGE[size], VISION)
    torch.set_default_dtype(torch.bfloat16 if ON_GPU else torch.float32)
    with torch.device(arithmetic.device()):
        made = tiny.model(tiny.TEXT | text, tiny.VISION | sight, tied=size == "2b", spread=0.02)
    torch.set_default_dtype(torch.float32)
    return tiny.write_remote(folder, made)


def captioning(size: str, folder: Path, entry: Entry) -> None:
    captioner = captions.VideoLlama3(size, folder)
    n = len(edges(entry.frames)) - 1
    for batch in (captions.BATCH, captions.BATCH, n):  # the first one warms up
        captions.BATCH = batch
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
        seconds, first = timed(lambda: list(captioner.tokens(entry)))
        peak = torch.cuda.max_memory_allocated() / 1e9 if ON_GPU else None
        say(size=size, batch=batch, snippets=n, seconds_a_caption=seconds / n, peak_gb=peak)
        again = list(captioner.tokens(entry))
        same = all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        say(size=size, batch=batch, new_tokens=len(first[0]), repeats_to_the_token=same)
    captions.BATCH = 8


def images(name: str, entry: Entry) -> None:
    clip.producer = lambda *_: {"model": name, "revision": "random weights"}
    embed = vision.ClipImages(name, None, 10, "middle")
    model = open_clip.create_model(clip.MODELS[name]).eval().requires_grad_(False)
    embed.__dict__["_model"] = model.visual.to(arithmetic.device())
    snippets = edges(entry.frames)
    embed(entry.path, snippets[:5])
    seconds, rows = timed(lambda: embed(entry.path, snippets))
    batch = [np.zeros((vision.SIDE, vision.SIDE, 3), np.uint8)] * vision.BATCH
    alone, _ = timed(lambda: [embed._embed(batch) for _ in range(5)])
    say(
        model=name,
        seconds_a_snippet=seconds / rows.shape[1],
        embedded_images_a_second=5 * len(batch) / alone,
        repeats_to_the_bit=bool(np.array_equal(rows, embed(entry.path, snippets))),
    )


if __name__ == "__main__":
    main()
