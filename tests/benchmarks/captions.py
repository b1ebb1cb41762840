"""Captions with each frame seen once, against one plain call per window: same tokens, vision FLOPs
and wall time, as a Markdown table.

    PYTHONPATH=tests/cpu_torchvision python tests/benchmarks/captions.py [--snippets 32]

The model is small and random, with the proportions of VideoLLaMA 3 2B: its vision tower has about a
quarter of the language model's weights, and the pixels and tokens of a frame are the real ones.
Both ways write --words tokens a caption, and decode the video once.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# A script's own folder would come before the libraries that have the names of our files.
sys.path[0] = str(Path(__file__).parents[2])

import av  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from featurize import captions, videos  # noqa: E402
from featurize.sources import Entry  # noqa: E402
from tests.support import tiny_videollama3 as tiny  # noqa: E402

SIZE = 240, 320  # UCF-Crime's
FPS = 30
TEXT = tiny.TEXT | {
    "hidden_size": 256,
    "intermediate_size": 1472,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
}
VISION = tiny.VISION | {
    "hidden_size": 160,
    "intermediate_size": 608,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--snippets", type=int, default=32)
    parser.add_argument("--words", type=int, default=16, help="new tokens a caption")
    arguments = parser.parse_args()
    captions.NEW_TOKENS = arguments.words
    with tempfile.TemporaryDirectory() as folder:
        made = tiny.model(TEXT, VISION, spread=0.08)
        captioner = captions.VideoLlama3("2b", tiny.write_remote(Path(folder) / "model", made))
        entry = render(Path(folder) / "v.mp4", 16 * arguments.snippets)
        compare(captioner, entry)


def compare(captioner: captions.VideoLlama3, entry: Entry) -> None:
    model, processor = captioner._model, captioner._processor
    tower = model.model.vision_model
    print(
        f"{entry.frames // 16} snippets of {SIZE[1]} x {SIZE[0]}; {captions.NEW_TOKENS} new tokens "
        f"a caption; weights: vision {weights(tower):.1f} M, "
        f"language model {weights(model.model.language_model):.1f} M; "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} thread; torch {torch.__version__}\n"
    )

    def plain() -> list[list[int]]:
        return plain_calls(model, processor, entry)

    def once(batch: int) -> list[list[int]]:
        captions.BATCH = batch
        return [row.tolist() for row in captioner.tokens(entry)]

    fixed = captions.BATCH
    ways = {
        "a plain call per window": plain,
        "each frame once, windows one by one": lambda: once(1),
        f"each frame once, batches of {fixed} windows (ours)": lambda: once(fixed),
    }
    plain_calls(model, processor, entry, windows=1)  # warm
    found = {name: measured(way, tower) for name, way in ways.items()}
    first, *others = found.values()
    for other in others:
        assert ended(first.tokens) == ended(other.tokens), "the ways write other tokens"
    print("| | vision calls | frames seen | vision GFLOP | vision CPU s | all CPU s | all s |")
    print("|---|---|---|---|---|---|---|")
    for name, (_, calls, frames, *rest) in found.items():
        cells = [
            f"{value:.1f} ({before / value:.2f} ×)"
            for value, before in zip(rest, first[3:], strict=True)
        ]
        print(f"| {name} | {calls} | {frames} | {' | '.join(cells)} |")
    different = len({tuple(row) for row in first.tokens})
    print(f"\nSame tokens in all {len(first.tokens)} captions, {different} of them different.")


class Found(NamedTuple):
    tokens: list[list[int]]
    calls: int  # of the vision tower
    frames: int  # through it
    gflop: float  # in it
    vision: float  # its seconds, of CPU time as the next
    cpu: float
    wall: float


def measured(way: Callable[[], list[list[int]]], tower: torch.nn.Module) -> Found:
    """Run the way twice: once for the times, once under a counter, which slows it."""
    calls: list[tuple[int, float]] = []
    forward, flops = tower.forward, 0

    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.process_time()
        output = forward(*args, **kwargs)
        calls.append((int(kwargs["grid_thw"][:, 0].sum()), time.process_time() - begun))
        return output

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal flops
        with FlopCounterMode(display=False) as counter:
            output = forward(*args, **kwargs)
        flops += counter.get_total_flops()
        return output

    tower.forward = timed
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = way()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tower.forward = counted
    assert way() == tokens
    del tower.forward
    frames, seconds = zip(*calls, strict=True)
    return Found(tokens, len(calls), sum(frames), flops / 1e9, sum(seconds), cpu, wall)


@torch.inference_mode()
def plain_calls(model: Any, processor: Any, entry: Entry, windows: int | None = None) -> Any:
    """The processor and `generate` on the 12 frames of one window after the other."""
    edges = np.append(np.arange(0, entry.frames, 16), entry.frames)
    seen = list(videos.snippets(entry.path, edges, 4))
    places = [16 * i + 2 + 4 * j for i in range(3) for j in range(4)]
    text = captions.TEXT.format(video="<|video_pad|>", **captions._prompts())
    rows = []
    for i in range(windows or len(seen)):
        three = [seen[max(i - 1, 0)], seen[i], seen[min(i + 1, len(seen) - 1)]]
        about = {"total_num_frames": 48, "fps": entry.fps, "frames_indices": places}
        inputs = processor(
            text=[text],
            videos=[np.concatenate(three)],
            do_sample_frames=False,
            video_metadata=[about],
            return_tensors="pt",
        )
        new = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
        rows.append(new.tolist())
    return rows


def ended(rows: list[list[int]]) -> list[list[int]]:
    """Without the padding (256) after a caption's end."""
    return [np.trim_zeros(np.array(row) - 256, "b").tolist() for row in rows]


def weights(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def render(path: Path, frames: int) -> Entry:
    """Blocks that move at their own speeds before a background that stands still."""
    rng = np.random.default_rng(0)
    back = rng.integers(0, 255, (SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
    back = back.repeat(8, 0).repeat(8, 1)
    blocks = rng.integers(0, 255, (6, 40, 40, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for i in range(frames):
            picture = back.copy()
            for j, block in enumerate(blocks):
                x = (50 * j + (j + 1) * i) % (SIZE[1] - 40)
                picture[33 * j : 33 * j + 40, x : x + 40] = block
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return Entry("v", "test", ("Normal",), frames, FPS, path)


if __name__ == "__main__":
    main()
