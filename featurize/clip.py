"""OpenAI's CLIP through open_clip: from the hub, or from a folder that holds its weights.

The names that end in `-quickgelu` matter: those weights were trained with QuickGELU, and open_clip
builds another activation for the plain names without failing.
"""

from functools import cache
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.logging import set_verbosity_error as tell_only_errors
from safetensors import SafetensorError

from semvad_jax.files import BadInput, sha256

tell_only_errors()  # not each try to reach the hub
MODELS = {"clip-vit-b16": "ViT-B-16-quickgelu", "clip-vit-l14": "ViT-L-14-quickgelu"}
TAG = "openai"
FILE = "open_clip_model.safetensors"


def width(name: str) -> int:
    """The length of a model's embeddings: 512 of clip-vit-b16, 768 of clip-vit-l14."""
    config = open_clip.get_model_config(MODELS[name])
    assert config is not None
    return config["embed_dim"]


def producer(name: str, weights: Path | None) -> dict[str, str]:
    """Model and revision, for the record: the hub's repository, or the local file's digest."""
    model = f"{name} (open_clip {MODELS[name]}, {TAG})"
    if weights is None:
        return {"model": model, "revision": f"{_hub(name)}, main"}
    return {"model": model, "revision": f"sha256 {_digest(_file(name, weights))}"}


def load(name: str, weights: Path | None) -> Any:
    """The model in float32 on the CPU, strictly every weight of it; BadInput where that fails."""
    try:
        path = _file(name, weights) if weights else hf_hub_download(_hub(name), FILE)
        model = open_clip.create_model(MODELS[name], pretrained=str(path))
    except (OSError, RuntimeError, HfHubHTTPError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"{name} cannot be loaded from {weights or 'the hub'} ({reason}); with a connection it "
            f"comes from the hub, else give --weights {name}=DIR, a folder with its {FILE}."
        ) from None
    return model.eval().requires_grad_(False)


def _hub(name: str) -> str:
    return open_clip.get_pretrained_cfg(MODELS[name], TAG)["hf_hub"].strip("/")


def _file(name: str, weights: Path) -> Path:
    if not (weights / FILE).is_file():
        raise BadInput(
            f"{weights} holds no {FILE}; --weights {name}=DIR needs a folder with CLIP's weights "
            "in open_clip's names."
        )
    return weights / FILE


@cache
def _digest(path: Path) -> str:
    return sha256(path)
