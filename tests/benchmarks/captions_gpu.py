"""VideoLLaMA 3's captions on one GPU, at the real size and with random weights: what the featurizer
does (generation.py) beside transformers' own generation, and where the time goes.

PYTHONPATH=. python tests/benchmarks/captions_gpu.py [--seconds S] [--small]

A line of JSON a measurement; what does not fit into S seconds is left out. No video is decoded:
frames are noise, of which nothing is pruned, and a random model never ends a caption, so that times
are upper bounds. `--small` takes toy sizes, for a try on a CPU.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import GenerationConfig

try:
    import av  # noqa: F401
except ModuleNotFoundError:  # no video is decoded here
    error = MagicMock(FFmpegError=type("FFmpegError", (Exception,), {}))
    packages = {"av.container": MagicMock(), "av.stream": MagicMock(), "av.error": error}
    sys.modules |= {"av": MagicMock(__version__="19.0"), **packages}

from featurize import arithmetic, captions, generation, videollama3
from featurize.sources import Entry
from tests.support import tiny_videollama3 as tiny
from tests.support.on_gpu import ON_GPU, timed

NEW = 96  # tokens a caption
WORDS = (
    90  # bytes, of which the toy tokenizer makes as many tokens as Qwen's of the paper's prompts
)
BATCHES = (64, 8, 32)
SIZES = {"320 x 240": (240, 320), "640 x 360": (360, 640)}
BEGUN = time.perf_counter()


def say(**facts: Any) -> None:
    print(json.dumps({"at": round(time.perf_counter() - BEGUN, 1)} | facts), flush=True)


def peak() -> float | None:
    """GB allocated at most since the last call."""
    if not ON_GPU:
        return None
    most = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return round(most, 1)


def captioner(small: bool) -> captions.VideoLlama3:
    """The captioner, its model made in place of being loaded."""
    captions.NEW_TOKENS = 12 if small else NEW
    prompts: captions.Prompts = {"source": "", "system": "s" * 10, "user": "u" * WORDS}
    made = captions.VideoLlama3("7b", Path("random weights"), prompts=prompts)
    text, sight = (
        ({"vocab_size": 300}, {}) if small else (tiny.PUBLISHED_TEXT["7b"], tiny.PUBLISHED_VISION)
    )
    torch.set_default_dtype(arithmetic.dtype())
    with torch.device(arithmetic.device()):
        model = tiny.model(tiny.TEXT | text, tiny.VISION | sight, spread=0.02)
    torch.set_default_dtype(torch.float32)
    tokenizer = tiny.tokenizer()
    processor = videollama3._processor({}, model.config, tokenizer)
    made.__dict__["_processor"] = processor
    made.__dict__["_model"] = made._ready(model)
    return made


def noise(size: tuple[int, int]) -> Callable[..., Iterator[list[np.ndarray]]]:
    """In place of decoding."""
    random = np.random.default_rng(0)

    def snippets(path: Path, edges: np.ndarray, count: int) -> Iterator[list[np.ndarray]]:
        for _ in edges[1:]:
            yield list(random.integers(0, 255, (count, *size, 3), dtype=np.uint8))

    return snippets


def steps(step: Callable[[Any], Any], token: Any) -> None:
    for _ in range(8):
        step(token)


@torch.inference_mode()
def ours(made: captions.VideoLlama3, size: str, batch: int) -> list[captions.Window]:
    """Measures a batch of windows by the featurizer's own way, and gives them."""
    captions.snippets, captions.BATCH = noise(SIZES[size]), batch
    entry = Entry("video", "test", ("Normal",), 16 * batch, 30.0, Path("video"))
    about = {"way": "ours", "size": size, "batch": batch}
    prepared, (unseen,) = timed(lambda: list(made._unseen(entry)))
    made._windows_of(unseen)  # warms up
    tower, windows = timed(lambda: made._windows_of(unseen))
    prompts = [made._embedded(window) for window in windows]
    first, tokens = timed(lambda: made._generation(prompts))  # records the step
    peak()
    again = [timed(lambda: made._generation(prompts)) for _ in range(2)]
    seconds, memory = min(s for s, _ in again), peak()
    step = made._generation._step
    assert step is not None
    read, _ = timed(lambda: [step.read(row, prompt) for row, prompt in enumerate(prompts)])
    token = torch.zeros(len(prompts), dtype=torch.long, device=prompts[0].device)
    step.begin()
    written, _ = timed(partial(steps, step, token))
    say(
        **about,
        tokens_a_prompt=len(prompts[0]),
        seconds_a_caption=(tower + seconds) / batch,
        tower=tower / batch,
        reading=read / batch,
        writing=(seconds - read) / batch,
        seconds_a_step=written / 8,
        cpu_preparing=prepared / batch,
        first_with_recording=first,
        peak_gb=memory,
        three_times_equal=all(tokens.equal(t) for _, t in again),
        new_tokens=tokens.shape[1],
    )
    return windows


@torch.inference_mode()
def theirs(made: captions.VideoLlama3, size: str, windows: list, static: bool) -> None:
    """The same windows by transformers' generation, padded on the left to the longest."""
    model, batch = made._model, len(windows)
    made._generation._step = None
    prompts = [made._embedded(window) for window in windows]
    longest = max(map(len, prompts))
    padded = torch.stack([torch.nn.functional.pad(p, (0, 0, longest - len(p), 0)) for p in prompts])
    mask = torch.stack(
        [torch.arange(longest, device=padded.device) >= longest - len(p) for p in prompts]
    ).long()
    more = {"cache_implementation": "static", "disable_compile": True} if static else {}

    def write(new: int) -> Any:
        asked = GenerationConfig.from_dict(model.generation_config.to_dict() | more)
        asked.max_new_tokens = new
        return model.generate(inputs_embeds=padded, attention_mask=mask, generation_config=asked)

    peak()
    write(2)
    read, _ = timed(lambda: write(1))
    few = 12
    seconds, _ = timed(lambda: write(few))
    step = (seconds - read) / (few - 1)
    say(
        way="transformers, " + ("static" if static else "dynamic"),
        size=size,
        batch=batch,
        seconds_a_caption_without_tower=(read + step * (captions.NEW_TOKENS - 1)) / batch,
        reading=read / batch,
        seconds_a_step=step,
        peak_gb=peak(),
    )


@torch.inference_mode()
def variants(made: captions.VideoLlama3, size: str, windows: list) -> None:
    """A step without its graph, and with attention as two products."""
    prompts = [made._embedded(window) for window in windows]
    token = torch.zeros(len(prompts), dtype=torch.long, device=prompts[0].device)
    plain = generation.scaled_dot_product_attention

    def products(query: Any, key: Any, value: Any, attn_mask: Any = None, **more: Any) -> Any:
        if attn_mask is None:
            return plain(query, key, value, **more)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + attn_mask
        return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value

    for name, attention in (("sdpa", plain), ("two products", products)):
        generation.scaled_dot_product_attention = attention
        model, longest = made._model, len(prompts[0]) + captions.NEW_TOKENS + 8
        language, rows = model.model.language_model, len(prompts)
        step = generation._Step(language, model.lm_head, rows, -(-longest // 256) * 256)
        graph, step._position[:] = step._graph, len(prompts[0])
        with_graph, _ = timed(partial(steps, step, token))
        step._graph = None
        step(token)
        eager, _ = timed(partial(steps, step, token))
        say(
            step=name, size=size, batch=len(prompts), graph=with_graph / 8 if graph else None,
            eager=eager / 8,
        )  # fmt: skip
    generation.scaled_dot_product_attention = plain
    made._generation._step = None


@torch.inference_mode()
def kernels(made: captions.VideoLlama3, size: str, windows: list) -> None:
    """Which kernels take the time of the tower, of reading a prompt, and of a step."""
    if not ON_GPU:
        return
    prompts = [made._embedded(window) for window in windows]
    made._generation(prompts)
    step = made._generation._step
    assert step is not None
    token = torch.zeros(len(prompts), dtype=torch.long, device=prompts[0].device)
    step.begin()
    step._position[:] = len(prompts[0])
    works = {"a step": lambda: step(token), "reading one": lambda: step.read(0, prompts[0])}
    for name, work in works.items():
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
            work()
            torch.cuda.synchronize()
        rows = [row for row in found.key_averages() if row.self_device_time_total]
        rows.sort(key=lambda row: -row.self_device_time_total)
        whole = sum(row.self_device_time_total for row in rows) / 1e3
        top = {r.key[:70]: [round(r.self_device_time_total / 1e3, 2), r.count] for r in rows[:10]}
        say(kernels_of=name, size=size, milliseconds=whole, top=top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    say(device=torch.cuda.get_device_name() if ON_GPU else "cpu", torch=torch.__version__)
    if not ON_GPU:
        arithmetic.on_gpu = lambda: True
        arithmetic.device = lambda: torch.device("cpu")
        arithmetic.dtype = lambda: torch.float32
    small = args.small
    batches = (8, 4) if small else BATCHES
    made = captioner(small)
    say(made=True, parameters=sum(p.numel() for p in made._model.parameters()), peak_gb=peak())
    if small:
        SIZES.update({name: (48, 64) for name in SIZES})
    try:
        windows = {size: ours(made, size, batches[0]) for size in SIZES}
    except Exception:
        say(without_graph=traceback.format_exc()[-1500:])
        generation._Step._record = lambda self: None
        made._generation._step = None
        windows = {size: ours(made, size, batches[0]) for size in SIZES}
    tasks = [lambda s=s, b=b: ours(made, s, b) for b in batches[1:] for s in SIZES]
    tasks += [lambda s=s: kernels(made, s, windows[s]) for s in reversed(SIZES)]
    tasks += [lambda s=s: variants(made, s, windows[s]) for s in SIZES]
    tasks += [
        lambda b=b, s=s, size=size: theirs(made, size, windows[size][:b], s)
        for size in SIZES
        for s in (False, True)
        for b in sorted(batches)
        if small or size == "320 x 240" or b == 8
    ]
    for number, task in enumerate(tasks):
        if time.perf_counter() - BEGUN > args.seconds:
            say(left_out=len(tasks) - number)
            return
        try:
            task()
        except torch.OutOfMemoryError as error:
            say(out_of_memory=str(error)[:80])
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
