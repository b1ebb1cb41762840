"""Text embeddings by CLIP's text tower, as they come: no row is normalised (fusion is not blind to
length).

A text longer than the tower's 77 tokens is cut there, its end token kept; the share of such texts
is recorded in the store.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from featurize import arithmetic, clip
from featurize.progress import Told, nobody
from featurize.sources import prompt_text

BATCH = 32
CONTEXT = 77
PROMPTED = "clip-vit-b16"  # the tower that VadCLIP's learned prompt runs through, whatever embeds


class ClipText:
    """Embeds texts with the model `name`; `prompted` are clip-vit-b16's weights, for the export."""

    context = CONTEXT

    def __init__(self, name: str, weights: Path | None, prompted: Path | None) -> None:
        self._name, self._weights, self._prompted = name, weights, prompted
        self.width = clip.width(name)
        self.producer: dict[str, Any] = {
            **clip.producer(name, weights),
            "context": f"{CONTEXT} tokens; longer texts are cut, their end token kept",
            "batch": f"{BATCH} texts",
            **arithmetic.RECORD,
        }
        self.class_producer = clip.producer(PROMPTED, prompted)

    @cached_property
    def _tokenizer(self) -> Any:
        return open_clip.get_tokenizer(clip.MODELS[self._name])

    @cached_property
    def _model(self) -> Any:
        return _tower(self._name, self._weights).to(arithmetic.device())

    def __call__(self, texts: Sequence[str], told: Told = nobody) -> np.ndarray:
        """Embeddings of one video's texts, float32 [n, Q]; equal texts are embedded once."""
        return arithmetic.embed_distinct(self.embed, texts, BATCH, self.width, told)

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> np.ndarray:
        """Texts in one batch, as many as are given, float32 [n, Q]."""
        tokens = self._tokenizer(texts).to(arithmetic.device())
        with arithmetic.autocast():
            return self._model.encode_text(tokens).float().cpu().numpy()

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without the start and end token."""
        return len(self._tokenizer.encode(text))

    def class_texts(self, dataset: str, classes: Sequence[str]) -> dict[str, np.ndarray]:
        """What the learned prompt needs, in the store's names, from CLIP ViT-B/16.

        class_name [C, 512]; class_tokens [C, 77]; text_tower.* by CLIP's own names, the token
        embedding cut to the rows that these tokens use, in the order of their ids.
        """
        tower = _tower(PROMPTED, self._prompted)
        prompts = [prompt_text(dataset, name) for name in classes]
        tokens = open_clip.get_tokenizer(clip.MODELS[PROMPTED])(prompts)
        with torch.inference_mode():
            tensors = {"class_name": tower.encode_text(tokens), "class_tokens": tokens}
        for name, value in tower.state_dict().items():
            if name != "logit_scale":
                used = value[tokens.unique()] if name == "token_embedding.weight" else value
                tensors[f"text_tower.{name}"] = used
        return {name: value.numpy() for name, value in tensors.items()}


def _tower(name: str, weights: Path | None) -> Any:
    model = clip.load(name, weights)
    del model.visual
    return model
