"""CLIP's image towers on one GPU, random weights: time and repeatability.

PYTHONPATH=. python tests/benchmarks/images_gpu.py VIDEO [--small]

A line of JSON a tower; captions are measured by captions_gpu.py. `--small` takes one of them, for a
try on a CPU.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from featurize import arithmetic, clip, vision
from featurize.rows import of_video
from featurize.sources import Entry, edges
from featurize.videos import probe
from tests.support.on_gpu import ON_GPU, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    frames = probe(args.video)[0]
    entry = Entry("video", "test", ("Normal",), frames, 30.0, args.video)
    say(device=torch.cuda.get_device_name() if ON_GPU else "cpu", torch=torch.__version__)
    for name in list(clip.MODELS)[: 1 if args.small else None]:
        images(name, entry)


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def images(name: str, entry: Entry) -> None:
    clip.producer = lambda *_: {"model": name, "revision": "random weights"}
    embed = vision.ClipImages(name, None, 10, "middle")
    model = open_clip.create_model(clip.MODELS[name]).eval().requires_grad_(False)
    embed.__dict__["_model"] = model.visual.to(arithmetic.device())
    snippets = edges(entry.frames)
    of_video(embed, entry.path, snippets[:5])
    seconds, rows = timed(lambda: of_video(embed, entry.path, snippets))
    batch = [np.zeros((vision.SIDE, vision.SIDE, 3), np.uint8)] * vision.BATCH
    alone, _ = timed(lambda: [embed.embed(batch) for _ in range(5)])
    say(
        model=name,
        seconds_a_snippet=seconds / rows.shape[1],
        embedded_images_a_second=5 * len(batch) / alone,
        repeats_to_the_bit=bool(np.array_equal(rows, of_video(embed, entry.path, snippets))),
    )


if __name__ == "__main__":
    main()
