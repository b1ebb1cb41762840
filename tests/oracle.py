"""A slow float64 NumPy reference of SemVAD, VadCLIP and their losses, from the formulas.

Video by video, with plain loops, sharing no code with the package. Axis letters: B batch, T time,
F and Q the store's feature and caption sizes, D dim, W = 2D (VadCLIP: D), C classes. `params` is a
nested dict of float64 arrays; `frozen` and `batch` have the fields of the package's types of these
names. y = x @ kernel + bias throughout.
"""

import math
from functools import partial

import numpy as np
from scipy.special import erf, expit, log_softmax, softmax

TEMPERATURE = 0.07
PREFIX = POSTFIX = 10


def forward(params, frozen, batch, model):
    """SemVAD §3.3: binary_logits [B,T], class_logits [B,T,C], class_text [C,W], captions [B,T,D],
    class_captions [C,D], features [B,T,W]. `model` has the fields of the config's section."""
    text = linear(params["text_proj"], class_text(params["class_text"], frozen))
    rows = []
    for visual, captions, length in zip(batch.visual, batch.captions, batch.length, strict=True):
        f = linear(params["visual_proj"], double(visual))
        t = linear(params["caption_proj"], double(captions))
        fused = t
        if model.attention:
            fused = cross_attention(params["attention"], f, t, int(length), model)
        if model.mixer:
            fused = conv_mixer(params["mixer"], f, fused)
        x = np.concatenate([f, fused], axis=1)
        x = lgt_adapter(params["temporal"], x, int(length), model)
        binary = binary_head(params["binary_head"], x)
        rows.append((binary, class_head(params["class_head"], x, binary, text), t, x))
    names = ("binary_logits", "class_logits", "captions", "features")
    outputs = {
        name: np.stack(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    class_captions = linear(params["caption_proj"], double(frozen.class_caption))
    return outputs | {"class_text": text, "class_captions": class_captions}


def forward_vadclip(params, frozen, batch, model):
    """As `forward`, without captions; a Linear only where sizes differ."""
    text = class_text(params["class_text"], frozen)
    text = linear(params["text_proj"], text) if "text_proj" in params else text
    rows = []
    for visual, length in zip(batch.visual, batch.length, strict=True):
        x = double(visual)
        x = linear(params["visual_proj"], x) if "visual_proj" in params else x
        x = lgt_adapter(params["temporal"], x, int(length), model)
        binary = binary_head(params["binary_head"], x)
        rows.append((binary, class_head(params["class_head"], x, binary, text), x))
    names = ("binary_logits", "class_logits", "features")
    outputs = {
        name: np.stack(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    return outputs | {"class_text": text}


def losses(outputs, batch, text_weight, sem_weight=1.0, greedy=False, release=False):
    """SemVAD §3.4: binary and class MIL, text separation (Eq. 4), semantic; `total` is their sum.

    With `greedy` (σ-greedy when it explores) both MIL losses of abnormal videos pick the snippets
    that are farthest from all nominal snippets of the batch. `release`: the public program's |cos|
    in Eq. 4, and its semantic loss of the first label alone, which also picks padding.
    """
    labels, weight = double(batch.labels), double(batch.weight)
    distance = nominal_distance(outputs["features"], batch) if greedy else None
    binary, classes, sem = [], [], []
    for b, length in enumerate(int(n) for n in batch.length):
        logits = outputs["class_logits"][b]
        rank_binary, rank_class = outputs["binary_logits"][b], logits
        if distance is not None and labels[b, 0] != 1:
            rank_binary = distance[b]
            rank_class = np.repeat(distance[b][:, None], logits.shape[1], axis=1)

        p = mean(expit(outputs["binary_logits"][b][top(rank_binary, length)]))
        binary.append(cross_entropy(p, 1 - labels[b, 0]))

        video = [
            mean(column[top(rank, length)])
            for column, rank in zip(logits.T, rank_class.T, strict=True)
        ]
        classes.append(-(labels[b] / labels[b].sum()) @ log_softmax(np.array(video)))

        probability = softmax(logits, axis=1)
        per_class = []
        for c in np.flatnonzero(labels[b] > 0)[: 1 if release else None]:
            if "captions" not in outputs:
                continue
            picks = top(probability[:, c], length, len(logits) if release else length)
            target = outputs["class_captions"][c]
            distances = [1 - cosine(caption, target) for caption in outputs["captions"][b][picks]]
            per_class.append(mean(distances))
        sem.append(mean(per_class))

    text = outputs["class_text"]
    form = abs if release else partial(max, 0.0)
    apart = sum(form(cosine(text[0], other)) for other in text[1:])
    parts = {
        "binary": (np.array(binary) @ weight) / weight.sum(),
        "class": (np.array(classes) @ weight) / weight.sum(),
        "text": text_weight * apart,
        "sem": sem_weight * (np.array(sem) @ weight) / weight.sum(),
    }
    return parts | {"total": sum(parts.values())}


# ---- losses


def top(ranking, length, slots=None):
    """The k = ⌊length/16⌋ + 1 best of the first `slots`, by default the valid snippets; earlier
    ones first under ties."""
    slots = length if slots is None else slots
    return np.argsort(-ranking[:slots], kind="stable")[: length // 16 + 1]


def mean(values):
    """0 for an empty video."""
    return np.mean(values) if len(values) else 0.0


def cross_entropy(p, y):
    """Binary; the logarithm is at least −100."""
    return -sum(
        share * (max(math.log(q), -100.0) if q > 0 else -100.0)
        for share, q in ((y, p), (1 - y, 1 - p))
    )


def nominal_distance(features, batch):
    """[B,T]: mean of 1 − cos to all valid snippets of all nominal videos; None without any."""
    nominal = [
        snippet
        for x, length, labels, weight in zip(
            features, batch.length, batch.labels, batch.weight, strict=True
        )
        if labels[0] == 1 and weight > 0
        for snippet in x[: int(length)]
    ]
    if not nominal:
        return None
    return np.array([[np.mean([1 - cosine(s, n) for n in nominal]) for s in x] for x in features])


# ---- fusion (§3.3)


def cross_attention(p, f, t, length, model):
    """Queries f, keys t, values t (or a Linear of t). Post-norm.

    Over snippets padded captions are no keys; over channels every slot counts.
    """
    values = linear(p["value"], t) if model.qkv else t
    if model.attention_over == "snippets":
        attention = softmax(f @ t[:length].T / math.sqrt(f.shape[1]), axis=1)
        attended = attention @ values[:length]
    else:
        attention = softmax(f.T @ t / math.sqrt(len(f)), axis=1)  # [D, D]
        attended = np.stack([attention @ value for value in values])
    h = norm(p["norm1"], (f if model.residual == "visual" else t) + attended)
    last = p["norm1" if model.shared_norm else "norm2"]
    return norm(last, h + linear(p["down"], np.maximum(linear(p["up"], h), 0)))


def conv_mixer(p, f, t):
    y = convolution(p["conv"], np.concatenate([f, t], axis=1))
    return linear(p["out"], y * (1 + erf(y / math.sqrt(2))) / 2)


# ---- temporal: VadCLIP's local-global adapter


def lgt_adapter(p, x, length, model):
    x = x + p["position"]
    for i in range(len(p["blocks"])):
        block = p["blocks"][i]
        q, k, v = np.split(linear(block["qkv"], norm(block["norm1"], x)), 3, axis=1)
        own = np.arange(len(x)) // model.window
        same = own[:, None] == own[None, :]
        x = x + linear(block["out"], attention_heads(q, k, v, model.heads, same))
        h = linear(block["up"], norm(block["norm2"], x))
        x = x + linear(block["down"], quick_gelu(h))
    similar = graph_branch(p["similarity"], x, similarity(x, length))
    near = graph_branch(p["distance"], x, nearness(len(x)))
    return linear(p["out"], np.concatenate([similar, near], axis=1))


def attention_heads(q, k, v, heads, allowed):
    """Attention [T,W] of q, k, v [T,W] in `heads` parts, where `allowed` [T,T]."""
    size = q.shape[1] // heads
    out = np.zeros_like(q)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        logits = q[:, part] @ k[:, part].T / math.sqrt(size)
        out[:, part] = softmax(np.where(allowed, logits, -np.inf), axis=1) @ v[:, part]
    return out


def similarity(x, length):
    """Row softmax over the valid block of cosines, those up to 0.7 taken as 0; zero elsewhere."""
    size = np.sqrt((x * x).sum(axis=1))
    cosines = x @ x.T / (np.outer(size, size) + 1e-20)
    block = cosines[:length, :length]
    adjacency = np.zeros((len(x), len(x)))
    adjacency[:length, :length] = softmax(np.where(block > 0.7, block, 0), axis=1)
    return adjacency


def nearness(steps):
    """exp(−|i − j|/e) over all snippets, not normalised."""
    return np.exp(-np.abs(np.subtract.outer(np.arange(steps), np.arange(steps))) / math.e)


def graph_branch(p, x, adjacency):
    first = p["first"]
    x = quick_gelu(adjacency @ (x @ first["kernel"]) + convolution(first["residual"], x))
    return quick_gelu(adjacency @ (x @ p["second"]["kernel"]) + x)


# ---- heads


def binary_head(p, x):
    return linear(p["score"], x + feed_forward(p, x))[:, 0]


def class_head(p, x, binary_logits, text):
    """Cosines of snippets with class vectors that carry the video, over 0.07. [T,C]"""
    video = np.zeros(x.shape[1])
    for logit, snippet in zip(binary_logits, x, strict=True):  # padding included
        video += logit * snippet
    text = text + video / np.linalg.norm(video)
    text = text + feed_forward(p, text)
    length = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(text, axis=1)
    return x @ text.T / length / TEMPERATURE


def class_text(p, frozen):
    """[C, D_text]: the store's class vectors plus a residual, or the prompted CLIP tower."""
    if "prompt" not in p:
        return double(frozen.class_name) + p["residual"]
    tower = {name: double(value) for name, value in frozen.text_tower.items()}
    return np.stack([prompted(p["prompt"], tower, tokens) for tokens in frozen.class_tokens])


def prompted(prompt, tower, tokens):
    """One class: start, 10 learned, words, 10 learned, end, filler, through CLIP's text tower."""
    words = tower["token_embedding.weight"][np.asarray(tokens)]
    end = int(np.argmax(tokens))
    x = prompt.copy()
    x[0] = words[0]
    for i in range(1, end):
        x[PREFIX + i] = words[i]
    last = PREFIX + end + POSTFIX
    x[last] = words[end]

    x = x + tower["positional_embedding"]
    heads = max(1, x.shape[1] // 64)
    causal = np.tril(np.ones((len(x), len(x)), dtype=bool))
    for i in range(sum(name.endswith("in_proj_weight") for name in tower)):

        def weight(name, i=i):
            return tower[f"transformer.resblocks.{i}.{name}"]

        h = layer_norm(x, weight("ln_1.weight"), weight("ln_1.bias"))
        h = h @ weight("attn.in_proj_weight").T + weight("attn.in_proj_bias")
        h = attention_heads(*np.split(h, 3, axis=1), heads, causal)
        x = x + h @ weight("attn.out_proj.weight").T + weight("attn.out_proj.bias")
        h = layer_norm(x, weight("ln_2.weight"), weight("ln_2.bias"))
        h = quick_gelu(h @ weight("mlp.c_fc.weight").T + weight("mlp.c_fc.bias"))
        x = x + h @ weight("mlp.c_proj.weight").T + weight("mlp.c_proj.bias")
    x = layer_norm(x, tower["ln_final.weight"], tower["ln_final.bias"])
    return x[last] @ tower["text_projection"]


# ---- parts


def double(x):
    return np.asarray(x, dtype=np.float64)


def linear(p, x):
    return x @ p["kernel"] + p["bias"]


def quick_gelu(x):
    return x * expit(1.702 * x)


def feed_forward(p, x):
    return linear(p["down"], quick_gelu(linear(p["up"], x)))


def layer_norm(x, scale, bias):
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * scale + bias


def norm(p, x):
    return layer_norm(x, p["scale"], p["bias"])


def convolution(p, x):
    """Over time, kernel [K,in,out], zeros around: y[t] = bias + Σ_k x[t + k − K//2] @ kernel[k]."""
    y = np.tile(p["bias"], (len(x), 1))
    for k, kernel in enumerate(p["kernel"]):
        shift = k - len(p["kernel"]) // 2
        inside = slice(max(0, -shift), len(x) - max(0, shift))
        y[inside] += x[max(0, shift) : len(x) - max(0, -shift)] @ kernel
    return y


def cosine(a, b):
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / length if length > 0 else 0.0
