"""How long a snippet takes at batch 1 in each stage that needs PyTorch or a decoder.

Each stage is timed in a process of its own and loads only what it needs there. Frames are decoded
between the calls of vision and captioner, so that decoding counts once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featurize import mistakes, producers
from featurize.request import MADE_ONCE, STAND_INS, VISION, Request, flags_of
from featurize.sources import SNIPPET_FRAMES, UnreadableVideo, edges
from semvad_jax import stopwatch
from semvad_jax.files import BadInput
from semvad_jax.stopwatch import Measured, Stage
from semvad_jax.store import Store


class Video(NamedTuple):
    """The video that is looked at: its first whole snippets."""

    path: Path
    snippets: int
    fps: float


class Task(NamedTuple):
    """What the process of a stage works with."""

    request: Request  # names the models
    video: Video
    texts: list[str]  # captions to embed
    warm_up: int  # calls before those that count
    count: int  # of the calls that count


def stages(
    path: Path | None,
    features: Store,
    weights: Mapping[str, Path],
    warm_up: int,
    count: int,
    folder: Path,
) -> tuple[Video, list[Stage]]:
    """Times the stages, with the models that the store's flags name, on a video.

    Without a path the longest of the demo's videos is rendered into FOLDER. Raises BadInput for a
    video without a whole snippet, for a store that names no models and where a library, a model
    or memory is missing.
    """
    with mistakes.as_bad_input():
        try:
            path = path or demo_video(folder)
            video = look(path, warm_up + count)
            request = _request(features, path, weights)
            texts = _texts(features, warm_up + count)
            task = Task(request, video, texts, warm_up, count)
            return video, [
                _stage("decode", "PyAV", decode, task),
                _stage("vision", str(request.vision), vision, task),
                _stage("captioner", str(request.captioner), captioner, task),
                _stage("text", request.text, text, task),
            ]
        except UnreadableVideo as reason:
            raise BadInput(f"the video: {reason}; give one that a player shows") from None


def look(path: Path, most: int) -> Video:
    """The first `most` whole snippets of a video; BadInput where it has none, UnreadableVideo where
    none of its frames can be read.
    """
    if not path.is_file():
        raise BadInput(f"there is no video {path}; give the path of one, --data video=FILE")
    from featurize.videos import probe

    frames, fps, _ = probe(path, most * SNIPPET_FRAMES)
    if frames < SNIPPET_FRAMES:
        raise BadInput(f"{path} has {frames} frames; give a video of {SNIPPET_FRAMES} or more")
    return Video(path, frames // SNIPPET_FRAMES, fps)


def demo_video(folder: Path) -> Path:
    """The longest of the demo's videos, rendered into FOLDER unless it is there."""
    from featurize.demo.scripts import scripts
    from featurize.demo.videos import render

    longest = max(scripts(), key=lambda script: script.frames)
    render(folder, [longest])
    return folder / f"{longest.video}.mp4"


def decode(task: Task) -> Measured:
    """The next 16 frames of the file, one after the other, as pictures of the video's size."""
    frames = _again(task.video, SNIPPET_FRAMES)
    seconds = stopwatch.measure(lambda _: next(frames), repeat(None), task.warm_up, task.count)
    return Measured(seconds, stopwatch.host_peak(), None, stopwatch.processor(threads=1))


def vision(task: Task) -> Measured:
    """A snippet's image embedding, all crops, from its decoded frames."""
    model = producers.vision(task.request, ())
    return _by_torch(model.snippet, _again(task.video, model.frames), task)


def captioner(task: Task) -> Measured:
    """A snippet's caption from its decoded frames; its window's other frames were seen before."""
    model = producers.captioner(task.request, ())
    return _by_torch(model.in_turn(task.video.fps), _again(task.video, model.frames), task)


def text(task: Task) -> Measured:
    """The embedding of one caption."""
    model = producers.text(task.request)
    return _by_torch(model.embed, ([words] for words in cycle(task.texts)), task)


def _by_torch(call: Callable[[Any], Any], items: Iterable[Any], task: Task) -> Measured:
    import torch

    from featurize.arithmetic import THREADS

    def finished(item: Any) -> None:
        call(item)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    seconds = stopwatch.measure(finished, items, task.warm_up, task.count)
    # The stand-ins stay on the CPU where there is a GPU.
    used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    device = torch.cuda.get_device_name() if used else stopwatch.processor(THREADS)
    return Measured(seconds, stopwatch.host_peak(), used or None, device)


def _again(video: Video, count: int) -> Iterator[list[np.ndarray]]:
    """`count` frames of each snippet, from the start once more after the last."""
    from featurize.videos import snippets

    while True:
        yield from snippets(video.path, edges(video.snippets * SNIPPET_FRAMES), count)


def _stage(name: str, model: str, work: Callable[[Task], Measured], task: Task) -> Stage:
    """A stage's line of the table: timed, or with the reason why it was not."""
    reason = untimed(name, model, task.texts)
    if reason:
        return Stage(name, model, None, note=f"{name} was not timed: {reason}")
    print(f"timing {name}: {model} …", flush=True)
    by_clip = name == "vision" and model == VISION
    crops = f", {task.request.crops_and_pool[0]} crops" if by_clip else ""
    stand_in = ", a stand-in" if model in STAND_INS else ""
    return Stage(name, model + crops + stand_in, stopwatch.alone(name, work, task))


def untimed(name: str, model: str, texts: Sequence[str]) -> str:
    """Why a stage has no model to be timed; empty where it has one."""
    if model in MADE_ONCE.get(name, ()):
        return f"what the store has, `{model}`, was made once, by no model that is at hand"
    if model == "none":
        return "the store was made without looking at the videos"
    if name == "text" and not texts:
        return "the store has no captions to embed"
    return ""


def _texts(features: Store, most: int) -> list[str]:
    """The store's first captions."""
    texts = (text for i in range(len(features.videos)) for text in features.texts(i) if text)
    return list(islice(texts, most))


def _request(features: Store, path: Path, weights: Mapping[str, Path]) -> Request:
    """The request for features of the store's kind, of the video that is timed."""
    flags = flags_of(features.info["producers"], str(features.path), "make it again")
    dataset = "demo" if features.info["dataset"] == "demo" else "folder"
    return Request.like(flags, dataset, videos=path, weights=weights)
