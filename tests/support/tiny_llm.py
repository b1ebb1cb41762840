"""A causal language model with random weights as a checkpoint on disk, in transformers' format."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tests.support.tiny_videollama3 import tokenizer

SIZES = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
}
KINDS = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(folder: Path, kind: str = "qwen2", chat: str | None = CHAT, spread: float = 0.2) -> Path:
    """Weights large enough (`spread`) for an answer to depend on its prompt; bytes as tokens.

    Its generation_config.json asks for sampling and a repetition penalty, as published ones do.
    """
    tokens = tokenizer()
    tokens.chat_template = chat
    config, model = KINDS[kind]
    torch.manual_seed(0)
    made = model(
        config(
            vocab_size=len(tokens),
            initializer_range=spread,
            bos_token_id=tokens.convert_tokens_to_ids("<|endoftext|>"),
            eos_token_id=tokens.eos_token_id,
            pad_token_id=tokens.pad_token_id,
            **SIZES,
        )
    ).eval()
    asked = {"do_sample": True, "temperature": 0.7, "top_k": 20, "repetition_penalty": 1.5}
    for name, value in asked.items():
        setattr(made.generation_config, name, value)
    made.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder
