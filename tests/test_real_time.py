"""Scores in real time against a loop over snippets."""

from contextlib import nullcontext
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import config, data, evaluate, seeds
from semvad_jax.files import BadInput
from semvad_jax.models import model
from semvad_jax.types import Batch, Weights
from tests.support.stores import make_store

LOOKAHEADS = (0, 3)


def test_a_window_ends_a_lookahead_after_its_snippet():
    assert data.window_of(4, 10, snippet=5, lookahead=0) == range(2, 6)
    assert data.window_of(4, 10, snippet=5, lookahead=2) == range(4, 8)
    assert data.window_of(4, 10, snippet=1, lookahead=0) == range(0, 2)  # the beginning
    assert data.window_of(4, 10, snippet=8, lookahead=3) == range(6, 10)  # the end
    assert data.window_of(16, 10, snippet=0, lookahead=9) == range(0, 10)


@pytest.mark.parametrize(
    "settings",
    [
        ("model.name=vadclip", "model.layers=1", "model.dim=4", "eval.crop=mean", "eval.smooth=3"),
        ("model.name=pel4vad", "model.smoothing=sliding", "eval.crop=0"),  # scores are finished
    ],
    ids=["smoothed", "finished"],
)
def test_scores_equal_a_loop_over_snippets(tmp_path, settings):
    """Videos longer and shorter than a window, several a batch, two seeds, the mean over crops."""
    store = make_store(tmp_path / "store", train=4, test=6, lengths=(11, 3, 8), crops=2)
    small = ["model.length=8", "train.batch=4"]
    cfg = config.resolve(config.load("ucf", [*small, *settings]), store)
    frozen, keys = data.frozen(store), jax.random.split(jax.random.key(0), 2)
    init_state = getattr(model(cfg), "init_state", lambda cfg: None)
    state = jax.tree.map(lambda x: jnp.stack([x, x]), init_state(cfg))
    weights = Weights(jax.vmap(lambda key: model(cfg).init(cfg, key))(keys), state)
    videos = data.readable(store, "test")
    told = []
    found = seeds.score_in_real_time(
        cfg, frozen, weights, store, videos, LOOKAHEADS, lambda *counts: told.append(counts)
    )
    windows = len(evaluate.moments(cfg, store, videos, LOOKAHEADS))
    assert told[0] == (4, windows) and told[-1] == (windows, windows)

    @jax.jit
    def window_scores(weights, visual, captions, length):
        labels, one = jnp.zeros((1, len(cfg.data.classes))), jnp.ones(1)
        batch = Batch(visual[None], captions[None], length[None], labels, one)
        out = model(cfg).apply(cfg, weights.params, frozen, batch, state=weights.state)
        binary = jax.nn.sigmoid(out.binary_logits)[0, :, None]  # [T, 1], classes beside it
        classes = [] if out.class_logits is None else [jax.nn.softmax(out.class_logits)[0]]
        return jnp.concatenate([binary, *classes], axis=1)

    def scored(weights, i, crop, first, count):
        def padded(rows):
            return np.pad(rows[first : first + count], ((0, 8 - count), (0, 0)))

        rows = padded(store.visual_rows(i, crop)), padded(store.caption_rows(i))
        return window_scores(weights, *rows, np.int32(count))[:count]

    for seed, (place, i), ahead in product(range(2), enumerate(videos), LOOKAHEADS):
        of_seed, n = jax.tree.map(lambda x, k=seed: x[k], weights), store.videos[i].snippets
        crops, own = evaluate.crops_of(cfg, store, i), found[ahead][seed]
        for snippet in range(n):
            last = min(snippet + ahead, n - 1)
            first = max(last - 7, 0)
            slot, count = snippet - first, last - first + 1
            parts = [np.asarray(scored(of_seed, i, crop, first, count)) for crop in crops]
            rows = np.mean(parts, axis=0)
            if cfg.model.name == "pel4vad":  # a score and the six after it, 0 beyond the end
                expected = rows[slot : slot + 7].sum(0) / 7
            else:
                expected = rows[max(slot - 1, 0) : slot + 2].mean(0)
            assert own.binary[place][snippet] == pytest.approx(expected[0], abs=1e-5)
            if own.classes is not None:
                np.testing.assert_allclose(own.classes[place][snippet], expected[1:], atol=1e-5)
    assert (found[0][0].classes is None) == (cfg.model.name == "pel4vad")


def test_a_lookahead_beyond_the_window_is_refused(tmp_path):
    store = make_store(tmp_path / "store", train=2, test=2, lengths=(9,))
    for length, refused in ((8, True), (9, False)):
        cfg = config.resolve(
            config.load("ucf", ["model.name=mil", f"model.length={length}"]), store
        )
        with pytest.raises(BadInput, match="give at most 7, or all") if refused else nullcontext():
            evaluate.moments(cfg, store, [2], [8, 9])
