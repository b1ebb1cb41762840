"""Rows, windows, and the order of an epoch."""

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import config, data
from semvad_jax.files import BadInput
from tests.support.stores import make_store


def tiny(store, *overrides):
    base = ["model.dim=8", "model.length=16", "train.batch=8", "data.dataset=synthetic", *overrides]
    return config.resolve(config.load("ucf", base), store)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "store", crops=2)


def test_long_videos_are_binned_and_short_ones_padded():
    rows = np.arange(10, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(
        data.fit_length(rows, 4)[:, 0], [0.5, 3, 5.5, 8]
    )  # edges 0 2 5 7 10
    np.testing.assert_array_equal(data.fit_length(rows, 12)[:, 0], [*range(10), 0, 0])


def test_a_short_video_repeats_its_rows_where_the_program_does():
    rows = np.arange(5, dtype=np.float32)[:, None]
    found = data.fit_length(rows, 8, "bins_repeat")  # edges 0 0 1 1 2 3 3 4 5
    np.testing.assert_array_equal(found[:, 0], [0, 0, 1, 1, 2, 3, 3, 4])
    long = np.arange(10, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(
        data.fit_length(long, 4, "bins_repeat"), data.fit_length(long, 4, "bins")
    )


def test_rows_can_be_picked():
    rows = np.arange(10, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(data.fit_length(rows, 4, "pick")[:, 0], [0, 3, 6, 9])
    np.testing.assert_array_equal(data.fit_length(rows[:3], 4, "pick")[:, 0], [0, 1, 2, 0])


@pytest.mark.parametrize(("n", "length"), [(10, 4), (3, 8), (7, 7), (1, 5)])
def test_resizing_is_linear_between_the_middles_of_rows(n, length):
    rows = np.random.default_rng(n).standard_normal((n, 2)).astype(np.float32)
    found = data.fit_length(rows, length, "resize")
    middle = (np.arange(length) + 0.5) * n / length
    for column in range(2):
        expected = np.interp(middle, np.arange(n) + 0.5, rows[:, column])
        np.testing.assert_allclose(found[:, column], expected, atol=1e-6)


def test_crops_can_be_trained_together(store):
    cfg = tiny(store, "train.crops=joint", "model.fit=bins_repeat")
    train, _, _ = data.split(cfg, store)
    rows = data.train_data(cfg, store, train)
    assert rows.visual.shape == (24, 2, 16, 12) and rows.video.tolist() == list(range(24))
    assert set(rows.length.tolist()) == {16}  # nothing is padded
    for crop in range(2):
        expected = data.fit_length(store.visual_rows(train[3], crop), 16, "bins_repeat")
        np.testing.assert_array_equal(rows.visual[3, crop], expected)
    assert len(rows.normal) + len(rows.abnormal) == 24
    batch = data.gather(rows, drawn_at(cfg, rows, 0, 0))
    assert batch.visual.shape == (8, 2, 16, 12)
    assert data.run_steps(cfg, store) == cfg.train.epochs * data.steps_per_epoch(cfg, rows)


def test_crops_of_different_numbers_cannot_be_joined(store):
    videos = tuple(replace(v, crops=1 + k % 2) for k, v in enumerate(store.videos))
    mixed = replace(store, videos=videos)
    cfg = tiny(store, "train.crops=joint")
    with pytest.raises(BadInput, match="have 1 or 2 crops, and train.crops=joint needs as many"):
        data.train_data(cfg, mixed, data.split(cfg, store)[0])


def test_whole_videos_are_grouped_by_powers_of_two(store):
    cfg = tiny(store, "eval.whole=true")
    short, long = data.windows(cfg, store, [(0, 0), (6, 1), (2, 0)])  # 5, 20 and 12 snippets
    assert short.visual.shape == (1, 2, 16, 12) and short.length.tolist() == [[5, 12]]
    assert long.visual.shape == (1, 1, 32, 12) and long.length.tolist() == [[20]]
    np.testing.assert_array_equal(long.visual[0, 0, :20], store.visual_rows(6, 1))
    assert not long.visual[0, 0, 20:].any()
    many = data.windows(cfg, store, [(6, c % 2) for c in range(10)])[0]
    assert many.visual.shape[:3] == (3, 4, 32)  # as many slots a batch as in training: 8 of 16


def test_rows_follow_videos_and_crops(store):
    cfg = tiny(store)
    train, _, _ = data.split(cfg, store)
    rows = data.train_data(cfg, store, train)
    assert rows.visual.shape == (48, 16, 12) and rows.captions.shape == (24, 16, 10)
    video = train[3]
    expected = data.fit_length(store.visual_rows(video, 1), 16)
    np.testing.assert_array_equal(rows.visual[2 * 3 + 1], expected)
    assert rows.video[7] == 3 and rows.length[3] == min(16, store.videos[video].snippets)
    assert sorted([*rows.normal.tolist(), *rows.abnormal.tolist()]) == list(range(48))
    assert rows.labels[rows.video[rows.normal], 0].all()
    assert not rows.labels[rows.video[rows.abnormal], 0].any()


def test_the_held_out_share_is_by_video_and_stratified(store):
    cfg = tiny(store, "data.val_fraction=0.25")
    train, val, test = data.split(cfg, store)
    assert sorted(train + val) == [i for i, v in enumerate(store.videos) if v.split == "train"]
    count = lambda part: [sum(store.videos[i].labels[0] == c for i in part) for c in store.classes]  # noqa: E731
    assert count(val) == [round(n / 4) for n in count(train + val)]
    assert (
        len(test) == 8
        and data.split(tiny(store, "data.val_fraction=0.25", "data.val_seed=1"), store)[1] != val
    )


def on_device(cfg, store):
    train, _, _ = data.split(cfg, store)
    return jax.tree.map(jnp.asarray, data.train_data(cfg, store, train))


def drawn_at(cfg, rows, key, step):
    """The rows of one step."""
    one = data.batch_rows(cfg, rows, jax.random.key(key), jnp.int32(step), 1)
    return jax.tree.map(lambda x: x[0], one)


def test_balanced_epochs_take_each_row_once_and_drop_the_rest(store):
    cfg = tiny(store, "train.batch=10")
    rows = on_device(cfg, store)
    steps = data.steps_per_epoch(cfg, rows)
    assert steps == 24 // 5
    for epoch in range(2):
        drawn = [drawn_at(cfg, rows, 3, epoch * steps + s).features for s in range(steps)]
        for batch in drawn:
            assert set(np.asarray(batch[:5])) <= set(np.asarray(rows.normal))
            assert set(np.asarray(batch[5:])) <= set(np.asarray(rows.abnormal))
        assert len(set(np.concatenate(drawn))) == 10 * steps
    again, other = (drawn_at(cfg, rows, key, 0).features for key in (3, 4))
    assert (again == drawn_at(cfg, rows, 3, 0).features).all() and (again != other).any()


def test_mixed_epochs_take_every_row_once_and_the_last_batch_is_ragged(store):
    cfg = tiny(store, "train.batching=mixed", "train.batch=9")
    rows = on_device(cfg, store)
    steps = data.steps_per_epoch(cfg, rows)
    assert steps == 6  # 48 rows
    drawn = [drawn_at(cfg, rows, 0, s) for s in range(steps)]
    np.testing.assert_array_equal(drawn[-1].weight, [1, 1, 1, 0, 0, 0, 0, 0, 0])
    assert sorted(np.concatenate([r[w == 1] for r, _, w in drawn])) == list(range(48))


def plain_rows(cfg, rows, key, step):
    """The rows of a step by an order of its whole epoch, made for this step alone."""
    steps, size = data.steps_per_epoch(cfg, rows), cfg.train.batch
    key = jax.random.fold_in(jax.random.fold_in(key, data.ORDER), step // steps)
    place = step % steps
    if cfg.train.batching == "balanced":
        keys, half = jax.random.split(key), size // 2
        pairs = zip(keys, (rows.normal, rows.abnormal), strict=True)
        orders = [jax.random.permutation(k, of_kind) for k, of_kind in pairs]
        return np.concatenate([order[place * half : (place + 1) * half] for order in orders])
    order = np.pad(jax.random.permutation(key, 48), (0, steps * size - 48))
    return order[place * size : (place + 1) * size]


@pytest.mark.parametrize(
    ("batching", "start", "count"),
    [("balanced", 2, 5), ("balanced", 1, 11), ("mixed", 0, 6), ("mixed", 5, 8), ("mixed", 3, 1)],
)
def test_an_interval_that_ends_in_a_later_epoch_has_the_rows_of_its_steps(
    store, batching, start, count
):
    cfg = tiny(store, f"train.batching={batching}", "train.batch=10")
    rows, key = on_device(cfg, store), jax.random.key(3)
    drawn = data.batch_rows(cfg, rows, key, jnp.int32(start), count)
    expected = [plain_rows(cfg, rows, key, step) for step in range(start, start + count)]
    np.testing.assert_array_equal(drawn.features, expected)
    np.testing.assert_array_equal(drawn.labels, expected)


def test_shuffled_labels_keep_the_batch_balanced_and_move_the_features(store):
    cfg = tiny(store)
    shuffled = replace(cfg, data=replace(cfg.data, shuffle_labels=True))
    rows = on_device(cfg, store)
    cfg, shuffled = (replace(c, train=replace(c.train, batch=48)) for c in (cfg, shuffled))
    true, false = (data.gather(rows, drawn_at(c, rows, 0, 0)) for c in (cfg, shuffled))
    np.testing.assert_array_equal(true.labels, false.labels)
    moved = [
        int(np.flatnonzero((np.asarray(rows.visual) == v).all((1, 2)))[0])
        for v in np.asarray(false.visual)
    ]
    assert sorted(moved) == list(range(48)) and moved != list(range(48))
    agree = np.mean(
        np.argmax(true.labels, -1) == np.argmax(rows.labels[rows.video[jnp.array(moved)]], -1)
    )
    assert agree < 0.75


def test_windows_cover_each_video_once(store):
    cfg = tiny(store, "train.batch=3", "train.batching=mixed")
    (windows,) = data.windows(cfg, store, [(0, 0), (6, 1)])  # 5 and 20 snippets
    assert windows.visual.shape == (1, 3, 16, 12)
    np.testing.assert_array_equal(windows.length, [[5, 16, 4]])
    np.testing.assert_array_equal(windows.visual[0, 2, :4], store.visual_rows(6, 1)[16:])
    assert not windows.visual[0, 2, 4:].any()


def test_too_few_rows_for_a_batch_is_one_sentence(store):
    cfg = tiny(store, "train.batch=128")
    with pytest.raises(
        BadInput,
        match="takes 64 normal and 64 abnormal train rows, but the store has 24 and 24; "
        "lower train.batch to at most 48",
    ):
        data.steps_per_epoch(cfg, on_device(cfg, store))


def test_a_store_without_train_videos_is_refused(tmp_path):
    store = make_store(tmp_path / "store", train=0)
    with pytest.raises(BadInput, match="has no train videos; a run needs some"):
        data.split(tiny(store), store)


def test_test_videos_are_judged_where_their_truth_is_known(tmp_path):
    store = make_store(tmp_path / "store", train=8, test=6)
    unknown = dataclasses.replace(store.videos[9], intervals=())
    videos = (*store.videos[:9], unknown, *store.videos[10:])
    store = dataclasses.replace(store, videos=videos)
    assert data.split(tiny(store), store)[2] == [8, 10, 11, 12, 13]
    assert data.left_out(store) == [unknown.video]
