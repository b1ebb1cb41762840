"""A causal language model from a local folder, through transformers: greedy, a batch of one shape
at a time.

No hub is asked, no code of the folder's is run, and safetensors alone are read. A prompt is one
message of a user, in the tokenizer's own chat template where there is one.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from featurize import arithmetic, videollama3
from featurize.answers import BATCH
from semvad_jax.files import BadInput

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
DECODING: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.0}


class LocalLLM:
    """The model in `folder`: config.json, *.safetensors and the tokenizer's files.

    Raises BadInput for a folder without them, with weights that are no safetensors, that do not fit
    key by key, and for models that only code of the folder's own could run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def producer(self) -> dict[str, Any]:
        """All that an answer depends on but its prompt and its limit of tokens."""
        template = self._tokenizer.chat_template
        told = "none: the prompt as it is"
        if template is not None:
            told = f"sha256 {hashlib.sha256(str(template).encode()).hexdigest()[:16]}"
        return {
            "model": self._folder.resolve().name,
            "revision": videollama3.revision(self._folder),
            "chat_template": told,
            "decoding": DECODING,
            "batch": f"{BATCH} prompts of one video, padded on the left to the longest",
            "dtype": "bfloat16 on a GPU, float32 on a CPU",
            "threads": arithmetic.THREADS,
        }

    @torch.inference_mode()
    def generate(self, prompts: list[str], new_tokens: int) -> list[str]:
        """An answer to each of at most BATCH prompts, without special tokens and outer blanks."""
        filled = prompts + prompts[-1:] * (BATCH - len(prompts))
        tokens = self._tokenizer(
            [self._as_chat(prompt) for prompt in filled],
            padding=True,
            padding_side="left",
            add_special_tokens=self._tokenizer.chat_template is None,  # a template has its own
            return_token_type_ids=False,
            return_tensors="pt",
        ).to(self._model.device)
        out = self._model.generate(**tokens, max_new_tokens=new_tokens)
        new = out[: len(prompts), tokens["input_ids"].shape[1] :]
        texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _as_chat(self, prompt: str) -> str:
        if self._tokenizer.chat_template is None:
            return prompt
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # of templates that know it: an answer's tokens are few
        )

    @cached_property
    def _tokenizer(self) -> Any:
        videollama3.revision(self._folder)  # a missing config.json is told first
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder, **LOCAL)
        except videollama3.UNUSABLE as error:
            raise BadInput(self._unusable(error)) from None
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token is None:
            raise BadInput(f"{self._folder}: the tokenizer has no token that ends a text.")
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        disable_progress_bar()
        set_verbosity_error()  # it would print tables before our sentence
        videollama3.require_safetensors(self._folder)
        device = arithmetic.device()
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                self._folder,
                dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below, with the missing ones
                output_loading_info=True,
                **LOCAL,
            )
        except videollama3.UNUSABLE as error:
            raise BadInput(self._unusable(error)) from None
        model, report = loaded
        videollama3.require_fit(self._folder, "its config.json", report)
        ends = model.generation_config.eos_token_id
        # In place of the checkpoint's own, which may ask for sampling.
        model.generation_config = GenerationConfig(
            **DECODING,
            eos_token_id=self._tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        return model.to(device).eval()

    def _unusable(self, error: Exception) -> str:
        return (
            f"{self._folder} is no causal language model that transformers can load "
            f"({videollama3.first_line(error)}); --weights llm=DIR needs config.json, "
            "*.safetensors and the tokenizer's files."
        )
