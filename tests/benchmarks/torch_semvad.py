"""SemVAD (preset `paper`, static class text) in PyTorch: what the JAX program is raced and checked
against. Same parameters by the same names, same losses, same AdamW.

Three operations are computed in one of two ways, which give the same numbers:

`BATCHED`   what PyTorch does best: windows of snippets as a batch of small attentions, one masked
            softmax for every adjacency, one masked top-k for every video.
`PER_VIDEO` what the public programs do: attention over all T snippets under a block-diagonal
            additive mask; a Python loop over the videos for the adjacency (softmax over a video's
            own length × length block) and another for the losses (top-k over its own length).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semvad_jax.config import Config

SNIPPETS_PER_PICK = 16  # k = ⌊length/16⌋ + 1


class Ways(NamedTuple):
    """How the operations that tell the two programs apart are computed."""

    attend: Callable[[Tensor, int, int], Tensor]  # stacked q, k, v [B, T, 3W], heads, window
    adjacency: Callable[[Tensor, Tensor], Tensor]  # cosines [B, T, T], lengths [B]
    top_k_mean: Callable[[Tensor, Tensor, Tensor], Tensor]  # values, ranking [B, T, C], lengths


def attend_in_windows(qkv: Tensor, heads: int, window: int) -> Tensor:
    b, t, _ = qkv.shape
    q, k, v = qkv.view(b * t // window, window, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, -1)


def attend_under_mask(qkv: Tensor, heads: int, window: int) -> Tensor:
    b, t, _ = qkv.shape
    q, k, v = qkv.view(b, t, 3, heads, -1).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=block_mask(t, window))
    return y.transpose(1, 2).reshape(b, t, -1)


@lru_cache
@torch.inference_mode(False)  # kept for training too, whoever asks first
def block_mask(steps: int, window: int) -> Tensor:
    block = torch.arange(steps) // window
    return torch.where(block[:, None] == block, 0.0, -math.inf)


def adjacency_masked(cosine: Tensor, length: Tensor) -> Tensor:
    valid = torch.arange(cosine.shape[1]) < length[:, None]
    logits = F.threshold(cosine, 0.7, 0.0)  # in [0, 1]: no shift needed
    weights = logits.exp() * (valid[:, :, None] & valid[:, None, :])
    return weights / weights.sum(-1, keepdim=True).clamp(min=1)


def adjacency_looped(cosine: Tensor, length: Tensor) -> Tensor:
    weights = torch.zeros_like(cosine)
    for i, n in enumerate(length.tolist()):
        weights[i, :n, :n] = torch.softmax(F.threshold(cosine[i, :n, :n], 0.7, 0.0), dim=1)
    return weights


def top_k_mean_masked(values: Tensor, ranking: Tensor, length: Tensor) -> Tensor:
    steps = ranking.shape[1]
    valid = (torch.arange(steps) < length[:, None])[..., None]
    most = min(steps // SNIPPETS_PER_PICK + 1, steps)
    picks = ranking.detach().masked_fill(~valid, -math.inf).topk(most, dim=1).indices
    count = torch.minimum(length // SNIPPETS_PER_PICK + 1, length)[:, None]
    counted = (torch.arange(most) < count)[..., None]
    return (values.gather(1, picks) * counted).sum(1) / count


def top_k_mean_looped(values: Tensor, ranking: Tensor, length: Tensor) -> Tensor:
    means = []
    for i, n in enumerate(length.tolist()):
        picks = ranking[i, :n].topk(min(n // SNIPPETS_PER_PICK + 1, n), dim=0).indices
        means.append(values[i].gather(0, picks).mean(0))
    return torch.stack(means)


BATCHED = Ways(attend_in_windows, adjacency_masked, top_k_mean_masked)
PER_VIDEO = Ways(attend_under_mask, adjacency_looped, top_k_mean_looped)


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1, eps=1e-8)


class Conv(nn.Conv1d):
    """Over the time axis of [B, T, channels]."""

    def __init__(self, size: int, inputs: int, outputs: int):
        super().__init__(inputs, outputs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class CrossAttention(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, dim // 2), nn.Linear(dim // 2, dim)

    def forward(self, f: Tensor, t: Tensor, length: Tensor) -> Tensor:
        valid = torch.arange(t.shape[1]) < length.clamp(min=1)[:, None]
        heads = [x.unsqueeze(1) for x in (f, t, t)]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=valid[:, None, None])
        x = self.norm1(f + attended.squeeze(1))
        return self.norm2(x + self.down(F.relu(self.up(x))))


class ConvMixer(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.conv, self.out = Conv(3, 2 * dim, dim), nn.Linear(dim, dim)

    def forward(self, f: Tensor, t: Tensor) -> Tensor:
        return self.out(F.gelu(self.conv(torch.cat([f, t], dim=-1))))


class WindowBlock(nn.Module):
    def __init__(self, width: int, heads: int, window: int, ways: Ways):
        super().__init__()
        self.heads, self.window, self.attend = heads, window, ways.attend
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attend(self.qkv(self.norm1(x)), self.heads, self.window))
        return x + self.down(quick_gelu(self.up(self.norm2(x))))


class GraphConv(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(inputs, outputs))
        self.residual = Conv(5, inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return adjacency @ (x @ self.kernel) + self.residual(x)


class GraphBranch(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = GraphConv(width, width // 2)
        self.second = GraphConv(width // 2, width // 2)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return quick_gelu(self.second(quick_gelu(self.first(x, adjacency)), adjacency))


class LGTAdapter(nn.Module):
    near: Tensor  # adjacency by distance in time [T, T]

    def __init__(self, length: int, width: int, layers: int, heads: int, window: int, ways: Ways):
        super().__init__()
        self.similar = ways.adjacency
        self.position = nn.Parameter(torch.empty(length, width))
        self.blocks = nn.ModuleList(WindowBlock(width, heads, window, ways) for _ in range(layers))
        self.similarity, self.distance = GraphBranch(width), GraphBranch(width)
        self.out = nn.Linear(width, width)
        i = torch.arange(length, dtype=torch.float32)
        near = torch.exp(-(i[:, None] - i).abs() / math.e)
        self.register_buffer("near", near, persistent=False)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        norm = x.norm(dim=-1, keepdim=True)
        cosine = x @ x.mT / (norm @ norm.mT + 1e-20)
        similar = self.similarity(x, self.similar(cosine, length))
        return self.out(torch.cat([similar, self.distance(x, self.near)], dim=-1))


class BinaryHead(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x + self.down(quick_gelu(self.up(x)))).squeeze(-1)


class StaticText(nn.Module):
    def __init__(self, classes: int, width: int):
        super().__init__()
        self.residual = nn.Parameter(torch.empty(classes, width))

    def forward(self, class_name: Tensor) -> Tensor:
        return class_name + self.residual


class ClassHead(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, binary_logits: Tensor, text: Tensor) -> Tensor:
        prompted = text + unit(binary_logits.unsqueeze(1) @ x)
        prompted = prompted + self.down(quick_gelu(self.up(prompted)))
        return unit(x) @ unit(prompted).mT / 0.07


class Outputs(NamedTuple):
    binary_logits: Tensor  # [B, T]
    class_logits: Tensor  # [B, T, C]
    class_text: Tensor  # [C, W]
    captions: Tensor  # [B, T, D]
    class_captions: Tensor  # [C, D]


class SemVAD(nn.Module):
    class_name: Tensor
    class_caption: Tensor

    def __init__(self, cfg: Config, class_name: Any, class_caption: Any, ways: Ways):
        super().__init__()
        m, d, w = cfg.model, cfg.data, 2 * cfg.model.dim
        self.visual_proj = nn.Linear(d.feature_dim, m.dim)
        self.caption_proj = nn.Linear(d.caption_dim, m.dim)
        self.attention, self.mixer = CrossAttention(m.dim), ConvMixer(m.dim)
        self.temporal = LGTAdapter(m.length, w, m.layers, m.heads, m.window, ways)
        self.binary_head = BinaryHead(w)
        self.class_text = StaticText(len(d.classes), d.text_dim)
        self.text_proj = nn.Linear(d.text_dim, w)
        self.class_head = ClassHead(w)
        self.register_buffer("class_name", tensor(class_name), persistent=False)
        self.register_buffer("class_caption", tensor(class_caption), persistent=False)

    def forward(self, visual: Tensor, captions: Tensor, length: Tensor) -> Outputs:
        f, t = self.visual_proj(visual.float()), self.caption_proj(captions.float())
        x = torch.cat([f, self.mixer(f, self.attention(f, t, length))], dim=-1)
        x = self.temporal(x, length)
        binary_logits, text = self.binary_head(x), self.text_proj(self.class_text(self.class_name))
        class_logits = self.class_head(x, binary_logits, text)
        class_captions = self.caption_proj(self.class_caption)
        return Outputs(binary_logits, class_logits, text, t, class_captions)


def loss(cfg: Config, ways: Ways, out: Outputs, length: Tensor, labels: Tensor) -> Tensor:
    """The sum of the four weighted losses, means over the batch. No video may be empty."""
    abnormal, share = 1 - labels[:, 0], labels / labels.sum(1, keepdim=True)
    ranking = out.binary_logits[..., None]
    probability = ways.top_k_mean(ranking.sigmoid(), ranking, length)[:, 0]
    classes = ways.top_k_mean(out.class_logits, out.class_logits, length)
    distance = 1 - unit(out.captions) @ unit(out.class_captions).T
    semantic = ways.top_k_mean(distance, out.class_logits.softmax(-1), length)
    text = unit(out.class_text)
    return (
        F.binary_cross_entropy(probability, abnormal)
        - (share * classes.log_softmax(-1)).sum(-1).mean()
        + cfg.loss.text * F.relu(text[1:] @ text[0]).sum()
        + cfg.loss.sem * (share * semantic).sum(-1).mean()
    )


def tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))


def load(model: SemVAD, params: Mapping[Any, Any]) -> SemVAD:
    """Gives the module the parameters of one seed of the JAX model; every array finds a place."""

    def arrays(tree: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, np.ndarray]]:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                yield from arrays(value, f"{path}{name}.")
            else:
                yield f"{path}{name}", np.asarray(value)

    found = {}
    for name, value in arrays(params):
        owner, _, leaf = name.rpartition(".")
        if isinstance(model.get_submodule(owner), (nn.Linear, nn.Conv1d)) and leaf == "kernel":
            leaf, value = "weight", value.T  # [size,] inputs, outputs → outputs, inputs [, size]
        found[f"{owner}.{'weight' if leaf == 'scale' else leaf}"] = tensor(value)
    model.load_state_dict(found)
    return model
