"""New tokens after many prompts at once, on a GPU.

A prompt is read alone, so that none is padded; then all of them go on together, a token a step,
which reads the weights once for all. Their keys and values lie in a cache of fixed size, where the
query heads that share a key head read it once, and a step is recorded as a CUDA graph: it runs
again at the cost of one launch, not of a thousand.

The layers are run by hand, since a cache with rows of different lengths is none of transformers'.
On a CPU the same comes out, without the graph.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

LENGTHS = 256  # the cache's length is a multiple of it, so that a recorded step serves again
ROWS = 8  # and its rows are of this
CACHE = 0.5  # of the memory that the weights leave


class Generation:
    """Continues prompts by a model with Qwen2's layers, as its GenerationConfig says."""

    def __init__(self, language: Any, head: Any, settings: GenerationConfig) -> None:
        self._language, self._head = language, head
        self._new = settings.max_new_tokens
        self._pad, self._ends = settings.pad_token_id, settings.eos_token_id
        self._warp = None
        if settings.do_sample:
            temperature = TemperatureLogitsWarper(settings.temperature)
            self._warp = LogitsProcessorList([temperature, TopPLogitsWarper(settings.top_p)])
        self._step: _Step | None = None

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[Tensor]) -> Tensor:
        """The new tokens, [B, at most the limit], of prompts of embeddings, [L, D] each; after a
        row's end they are padding.
        """
        longest = _multiple(max(map(len, prompts)) + self._new, LENGTHS)
        most = max(self._rows(longest), ROWS)
        parts = [prompts[i : i + most] for i in range(0, len(prompts), most)]
        made = [self._continued(part, longest) for part in parts]
        width = max(tokens.shape[1] for tokens in made)
        pad = torch.nn.functional.pad
        return torch.cat([pad(t, (0, width - t.shape[1]), value=self._pad) for t in made])

    def _rows(self, longest: int) -> int:
        """How many prompts go on together: as many as fit into the GPU's memory."""
        weight = self._head.weight
        if weight.device.type != "cuda":
            return 2**30
        a_row = _Step.bytes_a_row(self._language, longest)
        whole = torch.cuda.get_device_properties(weight.device).total_memory
        taken = sum(p.numel() * p.element_size() for p in self._language.parameters())
        return int(CACHE * (whole - taken) / a_row) // ROWS * ROWS

    def _continued(self, prompts: Sequence[Tensor], longest: int) -> Tensor:
        count, rows = len(prompts), _multiple(len(prompts), ROWS)
        if self._step is None or self._step.shape != (rows, longest):
            self._step = None  # frees its memory before the next one takes its own
            self._step = _Step(self._language, self._head, rows, longest)
        step = self._step
        step.begin()
        logits = torch.cat([step.read(row, prompt) for row, prompt in enumerate(prompts)])
        ends = torch.tensor(self._ends, device=logits.device)
        ended = torch.zeros(count, dtype=torch.bool, device=logits.device)
        tokens = list[Tensor]()
        while True:
            token = self._chosen(logits).masked_fill(ended, self._pad)
            tokens.append(token)
            ended |= torch.isin(token, ends)
            if len(tokens) == self._new or ended.all():
                return torch.stack(tokens, 1)
            logits = step(token)[:count]

    def _chosen(self, logits: Tensor) -> Tensor:
        if self._warp is None:
            return logits.argmax(-1)
        written: Any = None  # the warpers look at no token that was written before
        likely = self._warp(written, logits).softmax(-1)
        return torch.multinomial(likely, 1)[:, 0]


class _Step:
    """One token more of every row: cache, position and logits of `rows` prompts, each with its new
    tokens at most `longest` long.
    """

    def __init__(self, language: Any, head: Any, rows: int, longest: int) -> None:
        self.shape = rows, longest
        self._language, self._head = language, head
        config, weight = language.config, head.weight
        self._width = config.hidden_size // config.num_attention_heads
        size = (rows, config.num_key_value_heads, longest, self._width)
        on: dict[str, Any] = {"device": weight.device}
        self._keys, self._values = (
            [torch.zeros(size, dtype=weight.dtype, **on) for _ in language.layers] for _ in "kv"
        )
        self._token = torch.zeros(rows, dtype=torch.long, **on)
        self._position = torch.zeros(rows, dtype=torch.long, **on)
        self._places, self._rows = torch.arange(longest, **on), torch.arange(rows, **on)
        self._logits, self._graph = None, None
        if weight.device.type == "cuda":
            self._record()

    @staticmethod
    def bytes_a_row(language: Any, longest: int) -> int:
        """Of the cache."""
        config = language.config
        width = config.hidden_size // config.num_attention_heads
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * width * longest
        return numbers * language.embed_tokens.weight.element_size()

    def begin(self) -> None:
        """Forgets all rows."""
        self._position.zero_()

    def read(self, row: int, prompt: Tensor) -> Tensor:
        """Takes a row's prompt, [L, D], in; the logits after it, float32 [1, tokens]."""
        length = len(prompt)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            self._keys[layer][row, :, :length] = key[0]
            self._values[layer][row, :, :length] = value[0]
            return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

        positions = self._places[None, :length]
        seen = self._through(prompt[None], positions, attend)
        self._position[row] = length
        return self._head(seen[:, -1:])[:, 0].float()

    def __call__(self, token: Tensor) -> Tensor:
        """Takes a token of each of the first rows in; the logits after it, float32 [rows, …], valid
        until the next call.
        """
        self._token[: len(token)] = token
        if self._graph is None:
            self._next()
        else:
            self._graph.replay()
        assert self._logits is not None
        return self._logits

    def _next(self) -> None:
        rows, longest = self.shape
        unseen = self._places > self._position[:, None]
        mask = torch.zeros((rows, 1, 1, longest), dtype=self._keys[0].dtype, device=unseen.device)
        mask.masked_fill_(unseen[:, None, None], -torch.inf)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self._keys[layer], self._values[layer]
            keys[self._rows, :, self._position] = key[:, :, 0]
            values[self._rows, :, self._position] = value[:, :, 0]
            # the heads of a key head become its queries, so that no key is repeated
            grouped = query.view(rows, keys.shape[1], -1, self._width)
            seen = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
            return seen.reshape(query.shape)

        embedded = self._language.embed_tokens(self._token)[:, None]
        seen = self._through(embedded, self._position[:, None], attend)
        self._logits = self._head(seen)[:, 0].float()
        self._position += 1

    def _record(self) -> None:
        """Records a step as a graph; what its trial writes is overwritten by the first prompt."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._next()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._next()

    def _through(self, x: Tensor, positions: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        """The layers on embeddings [B, L, D] at their positions, [B, L]."""
        turned = self._language.rotary_emb(x, positions)
        for number, layer in enumerate(self._language.layers):
            normed, attention = layer.input_layernorm(x), layer.self_attn
            query, key, value = (
                project(normed).unflatten(-1, (-1, self._width)).transpose(1, 2)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query, key = apply_rotary_pos_emb(query, key, *turned)
            seen = attend(number, query, key, value).transpose(1, 2).flatten(2)
            x = x + attention.o_proj(seen)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self._language.norm(x)


def _multiple(number: int, of: int) -> int:
    """The number, rounded up."""
    return -(-number // of) * of
