"""A VideoLLaMA 3 with random weights as a checkpoint on disk: native, or in the format of the
published video checkpoints (their key names and config.json), which are code of their own.
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import (
    Qwen2Tokenizer,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"]
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_channels": 3,
    "patch_size": 14,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "attention_dropout": 0.0,
}
# What differs in the published checkpoints: Qwen2.5's sizes, and the vision tower's.
PUBLISHED_TEXT = {
    "2b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
}
PUBLISHED_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
ROPE_THETA = 1e4
# The published names, from the native ones; not derived from the loader's own table.
REMOTE_NAMES = {
    r"^model\.vision_model\.": "model.vision_encoder.",
    r"^model\.projector\.": "model.mm_projector.",
    r"^model\.language_model\.": "model.",
}


def tokenizer() -> Qwen2Tokenizer:
    """Bytes and five special tokens."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet()) + SPECIAL
    return Qwen2Tokenizer(
        vocab={symbol: i for i, symbol in enumerate(symbols)},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:],
    )


def model(text=TEXT, vision=VISION, *, tied=False, spread=0.2):
    """Random weights, large enough (`spread`) for what is written to depend on what is seen."""
    tokens = tokenizer()
    config = VideoLlama3Config(
        text_config={"model_type": "qwen2", "vocab_size": len(tokens), "initializer_range": spread}
        | text
        | {
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
            "bos_token_id": tokens.convert_tokens_to_ids("<|endoftext|>"),
            "eos_token_id": tokens.eos_token_id,
            "tie_word_embeddings": tied,
        },
        vision_config=vision | {"initializer_range": spread},
        image_token_id=tokens.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    return VideoLlama3ForConditionalGeneration(config).eval()


def write_native(folder: Path, made) -> Path:
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_remote(folder: Path, made, **changes) -> Path:
    """As published; `changes` go to config.json."""
    folder.mkdir()
    weights = {}
    for name, weight in made.state_dict().items():
        for native, remote in REMOTE_NAMES.items():
            name = re.sub(native, remote, name)
        weights[name] = weight.contiguous()
    if made.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    text, vision = made.config.text_config, made.config.vision_config
    raw = {
        "architectures": ["Videollama3Qwen2ForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_videollama3.Videollama3Qwen2Config",
            "AutoModelForCausalLM": "modeling_videollama3.Videollama3Qwen2ForCausalLM",
        },
        "model_type": "videollama3_qwen2",
        **{name: getattr(text, name) for name in TEXT},
        "vocab_size": text.vocab_size,
        "bos_token_id": text.bos_token_id,
        "eos_token_id": text.eos_token_id,
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": made.config.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "image_token_index": 151665,
        "mm_projector_type": "mlp2x_gelu",
        "use_token_compression": True,
        "vision_encoder_config": {name: getattr(vision, name) for name in VISION}
        | {"model_type": "videollama3_vision_encoder"},
    }
    (folder / "config.json").write_text(json.dumps(raw | changes))
    # Sampling and a repetition penalty: what published checkpoints ask for unless told otherwise.
    asked = {"do_sample": True, "temperature": 0.7, "top_k": 20, "repetition_penalty": 1.5}
    (folder / "generation_config.json").write_text(json.dumps(asked))
    tokenizer().save_pretrained(folder)
    return folder
