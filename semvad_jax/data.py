"""From the store to arrays on the device: training rows, test windows, and the rows of steps from a
key.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float16, Int, Key

from semvad_jax.config import Config
from semvad_jax.files import BadInput, require
from semvad_jax.models.class_text import crop_tower
from semvad_jax.store import Store
from semvad_jax.store.format import truth_known
from semvad_jax.store.prompts import read_prompts
from semvad_jax.store.val import recorded, set_aside
from semvad_jax.types import Batch, Frozen, TrainData, Windows

ORDER, LOSS, SHUFFLE = 0, 1, 2  # what a data key is folded with for each of its uses
RELEASE = 64  # videos after which the memory of what was read is given back
SHORTEST = 16  # slots of a window that holds a whole video


class Piece(NamedTuple):
    """Consecutive snippets of one crop of a video."""

    video: int
    crop: int
    snippets: range


def split(cfg: Config, store: Store) -> tuple[list[int], list[int], list[int]]:
    """Indices of the train and val videos and of the test videos that are judged (`judged`; there
    may be none); val is a share of each first label's train videos
    (`data.val_fraction`), or what the store's class captions left out (`store/val.py`).
    """
    train, test = readable(store, "train"), judged(store)
    if not train:
        raise BadInput(f"the store at {store.path} has no train videos; a run needs some")
    if (left_out := recorded(store.info["producers"])) is not None:
        val = {i for i in train if store.videos[i].video in left_out[1]}
    else:
        labels = [store.videos[i].labels[0] for i in train]
        places = set_aside(labels, store.classes, cfg.data.val_fraction, cfg.data.val_seed)
        val = {train[place] for place in places}
    return [i for i in train if i not in val], sorted(val), test


def folds(cfg: Config, store: Store, videos: Sequence[int], count: int) -> list[np.ndarray]:
    """The places in `videos` of each of `count` folds, stratified by first label
    (`data.val_seed`): every video is in one of them.

    Raises BadInput where there are fewer normal or fewer anomalous videos than folds.
    """
    rng = np.random.default_rng(cfg.data.val_seed)
    first = [store.videos[i].labels[0] for i in videos]
    normal = first.count(store.classes[0])
    if min(normal, len(first) - normal) < count:
        raise BadInput(
            f"the store at {store.path} has {normal} normal and {len(first) - normal} anomalous "
            f"train videos, too few for {count} folds"
        )
    groups = [[j for j, label in enumerate(first) if label == name] for name in store.classes]
    dealt = np.concatenate([rng.permutation(group) for group in groups if group])
    return [np.sort(dealt[fold::count]) for fold in range(count)]


def without_each(data: TrainData, folds: Sequence[np.ndarray]) -> list[TrainData]:
    """For each fold the training rows of all other videos. All have one shape: where a fold leaves
    fewer rows than another, some of its own stand twice.
    """
    video = np.asarray(data.video)

    def kept(rows: np.ndarray) -> list[np.ndarray]:
        left = [rows[~np.isin(video[rows], fold)] for fold in folds]
        most = max(map(len, left))
        return [np.resize(part, most) for part in left]

    pairs = zip(kept(np.asarray(data.normal)), kept(np.asarray(data.abnormal)), strict=True)
    return [replace(data, normal=n, abnormal=a) for n, a in pairs]


def readable(store: Store, split: str) -> list[int]:
    """Indices of the videos of a split that have features."""
    videos = enumerate(store.videos)
    return [i for i, v in videos if v.split == split and v.error is None and v.snippets > 0]


def judged(store: Store) -> list[int]:
    """Indices of the test videos that have features and whose truth is known."""
    normal = store.classes[0]
    return [i for i in readable(store, "test") if truth_known(store.videos[i], normal)]


def left_out(store: Store) -> list[str]:
    """The test videos that have features and cannot be judged: anomalous, and it is not known
    where.
    """
    known = set(judged(store))
    return [store.videos[i].video for i in readable(store, "test") if i not in known]


def frozen(store: Store, prompts: str | None = None) -> Frozen:
    """What the models read from the store's class_text.safetensors; `prompts` is a file of other
    vectors of the class names (`model.prompts`).
    """
    text, tokens, tower = store.class_text, store.class_text.get("class_tokens"), None
    if tokens is not None:
        named = (name.partition("text_tower.") for name in text)
        tower = {tail: text[head + dot + tail] for head, dot, tail in named if dot}
        tower, tokens = crop_tower(tower, tokens)
        tower = jax.tree.map(jnp.asarray, tower)
    names = text["class_name"]
    if prompts:
        names = read_prompts(prompts, store.info["dataset"], store.classes)
    return Frozen(
        class_caption=jnp.asarray(text["class_caption"], jnp.float32),
        class_name=jnp.asarray(names, jnp.float32),
        class_tokens=None if tokens is None else jnp.asarray(tokens, jnp.int32),
        text_tower=tower,
    )


def fit_length(
    rows: Float[np.ndarray, "n F"], length: int, fit: str = "bins"
) -> Float[np.ndarray, "T F"]:
    """n rows as T, in one of the ways of `model.fit`.

    bins: means of bins with edges ⌊linspace(0, n, T + 1)⌋ where n > T, zero padding where n ≤ T.
    bins_repeat: the same bins for any n; where n < T rows stand several times.
    pick: rows ⌊linspace(0, n − 1, T)⌋ where n > T, zero padding where n ≤ T.
    resize: linear interpolation between the rows' middles, for any n.
    """
    n = len(rows)
    if n <= length and fit in ("bins", "pick"):
        return np.pad(rows, ((0, length - n), (0, 0)))
    if fit == "pick":
        return rows[np.linspace(0, n - 1, length).astype(int)]
    if fit == "resize":
        middle = np.clip((np.arange(length) + 0.5) * n / length - 0.5, 0, n - 1)
        below = np.floor(middle).astype(int)
        share = (middle - below)[:, None].astype(np.float32)
        above = rows[np.minimum(below + 1, n - 1)]
        return (rows[below] * (1 - share) + above * share).astype(rows.dtype)
    edges = np.linspace(0, n, length + 1).astype(int)
    if n >= length:
        sums = np.add.reduceat(rows.astype(np.float32), edges[:-1], axis=0)
        return (sums / np.diff(edges)[:, None]).astype(rows.dtype)
    return rows[edges[:-1]]


def train_data(cfg: Config, store: Store, videos: Sequence[int]) -> TrainData:
    """Every crop of the given videos as one row of T snippets; or, where `train.crops` is joint,
    every video as one row of all its crops.

    Raises BadInput where crops are to be joined and videos have different numbers of them.
    """
    length, fit = cfg.model.length, cfg.model.fit
    members = [store.videos[i] for i in videos]
    labels = np.array([[name in v.labels for name in store.classes] for v in members], np.float32)
    joint = cfg.train.crops == "joint"
    if joint:
        counts = sorted({v.crops for v in members})
        require(
            len(counts) == 1,
            f"the videos of {store.path} have {' or '.join(map(str, counts))} crops, and "
            "train.crops=joint needs as many of each; set train.crops=rows",
        )
    crops = [v.crops for v in members]
    visual = aligned((sum(crops), length, store.feature_dim))
    captions = aligned((len(videos), length, store.caption_dim))
    row = 0
    for place, (i, v) in enumerate(zip(videos, members, strict=True)):
        captions[place] = fit_length(store.caption_rows(i), length, fit)
        for crop in range(v.crops):
            visual[row] = fit_length(store.visual_rows(i, crop), length, fit)
            row += 1
        if place % RELEASE == 0:
            store.release()
    if joint:
        visual = visual.reshape(len(members), -1, *visual.shape[1:])
    video = np.repeat(np.arange(len(members), dtype=np.int32), 1 if joint else crops)
    normal = labels[video, 0] == 1
    padded = fit in ("bins", "pick")
    return TrainData(
        visual=visual,
        captions=captions,
        video=video,
        length=np.array([min(v.snippets, length) if padded else length for v in members], np.int32),
        labels=labels,
        normal=np.flatnonzero(normal).astype(np.int32),
        abnormal=np.flatnonzero(~normal).astype(np.int32),
    )


def train_shapes(cfg: Config, store: Store, videos: Sequence[int]) -> TrainData:
    """The shapes of `train_data`, without reading a feature."""
    members, length = [store.videos[i] for i in videos], cfg.model.length
    of_normal = np.array([store.classes[0] in v.labels for v in members])
    crops = np.array([v.crops for v in members])
    joint = cfg.train.crops == "joint"
    normal = int(of_normal.sum() if joint else crops[of_normal].sum())
    rows, of_row = (len(members), (int(crops.max()),)) if joint else (int(crops.sum()), ())
    return TrainData(
        visual=_shape(np.float16, rows, *of_row, length, store.feature_dim),
        captions=_shape(np.float16, len(members), length, store.caption_dim),
        video=_shape(np.int32, rows),
        length=_shape(np.int32, len(members)),
        labels=_shape(np.float32, len(members), len(store.classes)),
        normal=_shape(np.int32, normal),
        abnormal=_shape(np.int32, rows - normal),
    )


def _shape(dtype: type, *shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def aligned(shape: tuple[int, ...]) -> Float16[np.ndarray, "..."]:
    """Zeros of which JAX makes no copy where the device is the CPU: they begin at a whole multiple
    of 64 bytes.
    """
    size = 2 * math.prod(shape)
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float16).reshape(shape)


def steps_per_epoch(cfg: Config, data: TrainData) -> int:
    """Balanced: what the smaller class fills, the rest dropped. Mixed: all rows, the last batch
    ragged.
    """
    if cfg.train.batching == "mixed":
        return -(-len(data.video) // cfg.train.batch)
    half, normal, abnormal = cfg.train.batch // 2, len(data.normal), len(data.abnormal)
    smaller = min(normal, abnormal)
    if smaller < half:
        raise BadInput(
            f"a balanced batch takes {half} normal and {half} abnormal train rows, but the store "
            f"has {normal} and {abnormal}; "
            f"lower train.batch to at most {2 * smaller}"
        )
    return smaller // half


def run_steps(cfg: Config, store: Store) -> int:
    """The steps of a run on a store, without its arrays. Raises BadInput as `steps_per_epoch`."""
    rows = train_shapes(cfg, store, split(cfg, store)[0])
    return cfg.train.epochs * steps_per_epoch(cfg, rows)


class Rows(NamedTuple):
    """The rows of a batch; of several batches with their number first."""

    features: Int[Array | np.ndarray, "*I B"]  # whose snippets
    labels: Int[Array | np.ndarray, "*I B"]  # whose labels: with `data.shuffle_labels`, of others
    # 0 for those that fill a mixed epoch's last batch; None for balanced batches, where all count
    weight: Float[Array | np.ndarray, "*I B"] | None


def epoch_rows(
    cfg: Config, data: TrainData, key: Key[Array, ""], epoch: Int[Array, ""]
) -> tuple[Int[Array, "I B"], Float[Array, "I B"] | None]:
    """The rows of all steps of an epoch and their `Rows.weight`: the key and the epoch decide them,
    nothing else. Balanced batches hold the normal rows first.
    """
    steps, size = steps_per_epoch(cfg, data), cfg.train.batch
    key = jax.random.fold_in(jax.random.fold_in(key, ORDER), epoch)
    if cfg.train.batching == "balanced":
        halves = [
            jax.random.permutation(k, rows)[: steps * (size // 2)].reshape(steps, size // 2)
            for k, rows in zip(jax.random.split(key), (data.normal, data.abnormal), strict=True)
        ]
        return jnp.concatenate(halves, axis=1), None
    count = len(data.video)
    order = jnp.pad(jax.random.permutation(key, count), (0, steps * size - count))
    weight = jnp.arange(steps * size) < count
    return order.reshape(steps, size), weight.astype(jnp.float32).reshape(steps, size)


def batch_rows(
    cfg: Config, data: TrainData, key: Key[Array, ""], start: Int[Array, ""], count: int
) -> Rows:
    """The rows of `count` steps from step `start` on, which may end in a later epoch; each epoch is
    put in order once.
    """
    steps, size = steps_per_epoch(cfg, data), cfg.train.batch
    epochs = start // steps + jnp.arange(-(-(steps - 1 + count) // steps))
    order = jax.vmap(lambda epoch: epoch_rows(cfg, data, key, epoch))(epochs)
    rows, weight = jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x.reshape(-1, size), start % steps, count), order
    )
    if not cfg.data.shuffle_labels:
        return Rows(rows, rows, weight)
    shuffled = jax.random.permutation(jax.random.fold_in(key, SHUFFLE), len(data.video))
    return Rows(shuffled[rows], rows, weight)


def taken(data: TrainData, rows: Rows) -> tuple[Any, ...]:
    """The arrays of the batch of the given rows; NumPy's where these are."""
    video = data.video[rows.features]
    labels = data.labels[data.video[rows.labels]]
    features = data.visual[rows.features], data.captions[video]
    return *features, data.length[video], labels, rows.weight


def batch_of(arrays: tuple[Any, ...]) -> Batch:
    """The batch of what is `taken`. That all rows count is a constant, which compiles to less."""
    visual, captions, length, labels, weight = arrays
    if weight is None:
        weight = jnp.ones(len(length))
    return Batch(visual, captions, length, labels, weight)


def gather(data: TrainData, rows: Rows) -> Batch:
    """The batch of the given rows."""
    return batch_of(taken(data, rows))


def slots_of(cfg: Config, snippets: int) -> int:
    """The slots of a window that a video of so many snippets is scored in: T; or, with
    `eval.whole`, the power of two that holds the whole video, so that few shapes are compiled.
    """
    if not cfg.eval.whole:
        return cfg.model.length
    return max(SHORTEST, 1 << (snippets - 1).bit_length())


def windows(cfg: Config, store: Store, videos: Sequence[tuple[int, int]]) -> tuple[Windows, ...]:
    """The (video, crop) pairs, each cut into ⌈n/T⌉ windows of T = `slots_of` snippets, zero padded;
    a group for each T, the shortest first.
    """
    return tuple(
        cut(store, pieces, steps, _batches(cfg, len(pieces), steps)[1])
        for steps, pieces in _pieces(cfg, store, videos)
    )


def window_shapes(
    cfg: Config, store: Store, videos: Sequence[tuple[int, int]]
) -> tuple[Windows, ...]:
    """The shapes of `windows`, without reading a feature."""
    groups = []
    for steps, pieces in _pieces(cfg, store, videos):
        batches = _batches(cfg, len(pieces), steps)
        visual = _shape(np.float16, *batches, steps, store.feature_dim)
        captions = _shape(np.float16, *batches, steps, store.caption_dim)
        groups.append(Windows(visual, captions, _shape(np.int32, *batches)))
    return tuple(groups)


def _pieces(
    cfg: Config, store: Store, videos: Sequence[tuple[int, int]]
) -> list[tuple[int, list[Piece]]]:
    """T, and each window of that T; the shortest T first."""
    by_slots: dict[int, list[Piece]] = {}
    for i, crop in videos:
        n = store.videos[i].snippets
        steps = slots_of(cfg, n)
        starts = range(0, n, steps)
        pieces = (Piece(i, crop, range(start, min(start + steps, n))) for start in starts)
        by_slots.setdefault(steps, []).extend(pieces)
    return sorted(by_slots.items())


def _batches(cfg: Config, pieces: int, steps: int) -> tuple[int, int]:
    """How many batches of how many windows: as many slots a batch as training has."""
    size = min(max(cfg.train.batch * cfg.model.length // steps, 1), pieces)
    return -(-pieces // size), size


def cut(store: Store, pieces: Sequence[Piece], steps: int, size: int) -> Windows:
    """The pieces as windows of `steps` slots, zero padded, in batches of `size`; windows of length
    0 fill the last batch.
    """
    count = -(-len(pieces) // size)
    visual = aligned((count * size, steps, store.feature_dim))
    captions = aligned((count * size, steps, store.caption_dim))
    length = np.zeros(count * size, np.int32)
    for row, (i, crop, snippets) in enumerate(pieces):
        v = store.visual_rows(i, crop)[snippets.start : snippets.stop]
        visual[row, : len(v)] = v
        captions[row, : len(v)] = store.caption_rows(i)[snippets.start : snippets.stop]
        length[row] = len(v)
        if row % RELEASE == 0:
            store.release()
    of_batches = (x.reshape(count, size, *x.shape[1:]) for x in (visual, captions, length))
    return Windows(*of_batches)


def window_of(length: int, snippets: int, snippet: int, lookahead: int) -> range:
    """The snippets that one is scored within in real time: the last `length` that are there once
    `lookahead` more have come after it. At the beginning there are fewer, and a video of so many
    `snippets` ends with its last.
    """
    stop = min(snippet + lookahead + 1, snippets)
    return range(max(stop - length, 0), stop)
