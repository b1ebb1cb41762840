"""How long a snippet takes at batch 1 in each stage that needs PyTorch or a decoder.

Each stage is timed in a process of its own and loads only what it needs there. Frames are decoded
between the calls of vision and captioner, so that decoding counts once.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featurize import producers
from featurize.own_videos import ONCE
from featurize.run import TOLD
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


class Asked(NamedTuple):
    """What a stage's process is given."""

    arguments: argparse.Namespace  # as those of featurize/run.py that name the models
    video: Video
    texts: list[str]
    warm_up: int
    count: int


def stages(
    path: Path | None,
    features: Store,
    weights: Sequence[str],
    warm_up: int,
    count: int,
    folder: Path,
) -> tuple[Video, list[Stage]]:
    """Times the stages, with the models that the store's flags name, on a video.

    Without a path the longest of the demo's videos is rendered into FOLDER. Raises BadInput for a
    video without a whole snippet, for a store that names no models and where a library, a model
    or memory is missing.
    """
    with _told():
        path = path or demo_video(folder)
        video = look(path, warm_up + count)
        arguments = _arguments(features, weights)
        asked = Asked(arguments, video, _texts(features, warm_up + count), warm_up, count)
        return video, [_stage(work, asked) for work in (decode, vision, captioner, text)]


def look(path: Path, most: int) -> Video:
    """The first `most` whole snippets of a video; BadInput where it has none, UnreadableVideo where
    none of its frames can be read.
    """
    if not path.is_file():
        raise BadInput(f"there is no video {path}; give the path of one, --data video=FILE")
    from featurize.videos import probe

    frames, fps = probe(path, most * SNIPPET_FRAMES)
    if frames < SNIPPET_FRAMES:
        raise BadInput(f"{path} has {frames} frames; give a video of {SNIPPET_FRAMES} or more")
    return Video(path, frames // SNIPPET_FRAMES, fps)


def demo_video(folder: Path) -> Path:
    """The longest of the demo's videos, rendered into FOLDER unless it is there."""
    from featurize.demo import scripts as demo

    longest = max(demo.scripts(), key=lambda script: script.frames)
    demo.render(folder, [longest])
    return folder / f"{longest.video}.mp4"


def decode(asked: Asked) -> Measured:
    """The next 16 frames of the file, one after the other, as pictures of the video's size."""
    frames = _again(asked.video, SNIPPET_FRAMES)
    seconds = stopwatch.measure(lambda _: next(frames), repeat(None), asked.warm_up, asked.count)
    return Measured(seconds, stopwatch.host_peak(), None, stopwatch.processor(threads=1))


def vision(asked: Asked) -> Measured:
    """A snippet's image embedding, all crops, from its decoded frames."""
    model = producers.vision(asked.arguments)
    return _by_torch(model.snippet, _again(asked.video, model.frames), asked)


def captioner(asked: Asked) -> Measured:
    """A snippet's caption from its decoded frames; its window's other frames were seen before."""
    model = producers.captioner(asked.arguments, ())
    return _by_torch(model.in_turn(asked.video.fps), _again(asked.video, model.frames), asked)


def text(asked: Asked) -> Measured:
    """The embedding of one caption."""
    model = producers.text(asked.arguments)
    return _by_torch(model.embed, ([words] for words in cycle(asked.texts)), asked)


def _by_torch(call: Callable[[Any], Any], items: Iterable[Any], asked: Asked) -> Measured:
    import torch

    from featurize.arithmetic import THREADS

    def finished(item: Any) -> None:
        call(item)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    seconds = stopwatch.measure(finished, items, asked.warm_up, asked.count)
    # The stand-ins stay on the CPU where there is a GPU.
    used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    device = torch.cuda.get_device_name() if used else stopwatch.processor(THREADS)
    return Measured(seconds, stopwatch.host_peak(), used or None, device)


def _again(video: Video, count: int) -> Iterator[list[np.ndarray]]:
    """`count` frames of each snippet, from the start once more after the last."""
    from featurize.videos import snippets

    while True:
        yield from snippets(video.path, edges(video.snippets * SNIPPET_FRAMES), count)


def _stage(work: Callable[[Asked], Measured], asked: Asked) -> Stage:
    name = work.__name__
    model = "PyAV" if work is decode else getattr(asked.arguments, name)
    reason = _untimed(name, asked)
    if reason:
        return Stage(name, model, None, note=f"{name} was not timed: {reason}")
    print(f"timing {name}: {model} …", flush=True)
    stand_in = ", a stand-in" if model in producers.STAND_INS else ""
    crops = f", {asked.arguments.crops} crops" if name == "vision" and asked.arguments.crops else ""
    return Stage(name, model + crops + stand_in, stopwatch.alone(name, work, asked))


def _untimed(name: str, asked: Asked) -> str:
    """Why a stage has no model to be timed; empty where it has one."""
    kind = getattr(asked.arguments, name, "")
    if kind in ONCE.get(name, ()):
        return f"what the store has, `{kind}`, was made once, by no model that is at hand"
    if kind == "none":
        return "the store was made without looking at the videos"
    if name == "text" and not asked.texts:
        return "the store has no captions to embed"
    return ""


def _texts(features: Store, most: int) -> list[str]:
    """The store's first captions."""
    texts = (text for i in range(len(features.videos)) for text in features.texts(i) if text)
    return list(islice(texts, most))


def _arguments(features: Store, weights: Sequence[str]) -> argparse.Namespace:
    """What the store's flags and --weights tell `producers`."""
    flags: Mapping[str, Any] | None = features.info["producers"].get("flags")
    if flags is None:
        raise BadInput(
            f"{features.path} does not tell which flags of featurize/run.py made it; make it again"
        )
    local = producers.all_local_weights(weights)
    unset = dict.fromkeys(("crops", "pool", "temperature", "top_p", "caption_spans"))
    own = {"dataset": features.info["dataset"], "weights": local}
    return argparse.Namespace(**(unset | dict(flags) | own))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the user can mend, as one sentence."""
    try:
        yield
    except UnreadableVideo as reason:
        raise BadInput(f"the video: {reason}; give one that a player shows") from None
    except ModuleNotFoundError as error:
        name = error.name or "a package of the featurizer"
        raise BadInput(
            f'{name} is missing, which looks at videos; run pip install -e ".[featurize]"'
        ) from None
    except RuntimeError as error:
        for sign, sentence in TOLD.items():
            if sign in str(error):
                raise BadInput(sentence) from None
        raise
