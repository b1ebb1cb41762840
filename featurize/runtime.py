"""How long a snippet takes at batch 1 in each stage that needs PyTorch or a decoder.

Each stage is timed in a process of its own and loads only what it needs there. Frames are decoded
between the calls of vision and captioner, so that decoding counts once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from featurize import mistakes, producers, scores
from featurize.answers import BATCH
from featurize.request import (
    CAPTIONERS,
    LLM,
    MADE_ONCE,
    OF_AN_LLM,
    SCORES,
    STAND_INS,
    VISION,
    Request,
    flags_of,
)
from featurize.sources import SNIPPET_FRAMES, UnreadableVideo, edges
from semvad_jax import stopwatch, store
from semvad_jax.files import BadInput
from semvad_jax.stopwatch import Measured, Stage
from semvad_jax.store import Store
from semvad_jax.store.scorers import SCORERS, scores_file

# whose weights a training-free system needs
NEEDED = {"vlm": CAPTIONERS} | dict.fromkeys(OF_AN_LLM, (LLM,))


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


def scorers(
    video: Video, features: Store, weights: Mapping[str, Path], warm_up: int, count: int
) -> list[Stage]:
    """Times each training-free system whose scores lie beside the store: on `count` snippets of its
    test videos, captions and their embeddings given, or, for one that looks, of `video`.

    One whose model's weights are not given gets the reason in place of its time. Raises BadInput as
    `stages` does.
    """
    with mistakes.as_bad_input():
        request = _request(features, video.path, weights)
        task = Task(request, video, [], warm_up, count)
        there = [name for name in SCORERS if scores_file(features.path, name).is_file()]
        return [_scorer(name, features, task) for name in there]


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


def score_videos(task: Task, name: str, folder: Path) -> Measured:
    """Whole test videos of the store in FOLDER by a scorer that reads captions, seconds a snippet
    of each: the shortest first, which does not count, then others up to `task.count` snippets.
    """
    features = store.open(folder)
    with TemporaryDirectory() as place:  # answers that were kept before take no time
        asked = replace(
            task.request, out=Path(place) / "store", stages=(SCORES,), scorer=name, resume=False
        )
        system = scores.scorer(asked, features)
        videos = _test_videos(features, task.count)
        seconds = stopwatch.measure(system, videos, 1, len(videos) - 1)
    host = stopwatch.host_peak()
    peak, device = _device()
    snippets = [features.videos[i].snippets for i in videos[1:]]
    return Measured([s / n for s, n in zip(seconds, snippets, strict=True)], host, peak, device)


def ask_for_scores(task: Task) -> Measured:
    """A snippet's score by VideoLLaMA 3 from its decoded frames."""
    from featurize import vlm

    model = vlm.looker(task.request)
    return _by_torch(model.in_turn(task.video.fps), _again(task.video, model.frames), task)


def _test_videos(features: Store, count: int) -> list[int]:
    """The shortest test video, then those after it up to `count` snippets."""
    test = [i for i, v in enumerate(features.videos) if v.split == "test" and v.snippets]
    test.sort(key=lambda i: features.videos[i].snippets)
    before = np.cumsum([0, *(features.videos[i].snippets for i in test[1:])])
    return test[:1] + [i for i, done in zip(test[1:], before, strict=False) if done < count]


def _by_torch(call: Callable[[Any], Any], items: Iterable[Any], task: Task) -> Measured:
    import torch

    def finished(item: Any) -> None:
        call(item)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    seconds = stopwatch.measure(finished, items, task.warm_up, task.count)
    peak, device = _device()
    return Measured(seconds, stopwatch.host_peak(), peak, device)


def _device() -> tuple[int | None, str]:
    """What this process took of a GPU at most, and that GPU; None and the processor where it took
    nothing, as the stand-ins do.
    """
    import torch

    from featurize.arithmetic import THREADS

    used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return used or None, torch.cuda.get_device_name() if used else stopwatch.processor(THREADS)


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


def _scorer(name: str, features: Store, task: Task) -> Stage:
    """A training-free system's line: timed, or with the reason why it was not."""
    title, given = SCORERS[name], [n for n in NEEDED.get(name, ()) if n in task.request.weights]
    if name in NEEDED and not given:
        needs = " or ".join(f"{n}=DIR" for n in NEEDED[name])
        note = f"{title} was not timed: give its model by --weights {needs}"
        return Stage(title, "not given", None, note=note)
    if name == "vlm":
        print(f"timing {title}: {given[0]} …", flush=True)
        return Stage(title, given[0], stopwatch.alone(title, ask_for_scores, task))
    model = task.request.weights[LLM].resolve().name if given else "no model"
    count = len(_test_videos(features, task.count)) - 1
    if count < 1:
        note = f"{title} was not timed: of fewer than two test videos none is left after warming up"
        return Stage(title, model, None, note=note)
    print(f"timing {title}: {model} …", flush=True)
    measured = stopwatch.alone(title, score_videos, task, name, features.path)
    prompts = f", {BATCH} prompts at a time" if given else ""
    note = f"{title}: {count} whole test videos ÷ their snippets{prompts}; captions are given."
    return Stage(title, model, measured, note=note)


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
