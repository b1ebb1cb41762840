"""Fields for what the paper leaves open or our own preset may use: each does what it says."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import config as configs
from semvad_jax import evaluate, losses, run
from semvad_jax.config import UNSET
from semvad_jax.models import layers, model, semvad
from semvad_jax.models.fusion import over_snippets
from tests.support.model_cases import config, make_batch, make_frozen
from tests.support.stores import make_store


def scores(cfg, params, batch):
    outputs = jax.jit(lambda b: model(cfg).apply(cfg, params, make_frozen(cfg), b))(batch)
    return outputs.binary_logits


def exchanged(batch):
    """The captions of each video in another order, its padding where it was."""
    captions = np.array(batch.captions)
    for row, n in zip(captions, np.asarray(batch.length), strict=True):
        row[:n] = np.roll(row[:n], max(1, n // 3), axis=0)
    return replace(batch, captions=jnp.asarray(captions))


# ---- the order of captions (method: the literal fusion is blind to when a caption was said)


@pytest.mark.parametrize(
    ("fields", "blind"),
    [
        ({"preset": "paper"}, True),
        ({"preset": "paper", "qkv": True}, True),
        ({"preset": "release"}, False),
        ({"residual": "caption"}, False),
        ({"residual": "both"}, False),
        ({"residual": "gated"}, False),
        ({"near": True}, False),
        ({"preset": "best"}, False),
        ({"attention": False}, False),
    ],
    ids=str,
)
def test_whether_the_order_of_captions_says_anything(fields, blind):
    cfg = config(classes=4, **fields)
    batch = make_batch(cfg)
    params = semvad.init(cfg, jax.random.key(1))
    changed = np.abs(scores(cfg, params, batch) - scores(cfg, params, exchanged(batch)))
    long = np.asarray(batch.length) > 2
    if blind:
        assert changed.max() <= 1e-5
    else:
        assert changed[long].max(axis=1).min() > 1e-3


# ---- of the model


def test_attention_falls_with_distance_by_its_rate():
    rng = np.random.default_rng(0)
    f, t = (jnp.asarray(rng.normal(size=(1, 6, 4)), jnp.float32) for _ in range(2))
    length = jnp.array([5])
    found = over_snippets(f, t, t, length, jnp.float32(0.7))[0]
    for i in range(6):
        logits = [float(f[0, i] @ t[0, j]) / 2 - 0.7 * abs(i - j) for j in range(5)]
        weights = np.exp(logits) / np.sum(np.exp(logits))
        np.testing.assert_allclose(found[i], weights @ np.asarray(t[0, :5]), atol=1e-5)
    zero = over_snippets(f, t, t, length, jnp.float32(0))
    np.testing.assert_allclose(zero, over_snippets(f, t, t, length), atol=1e-6)


def test_raw_captions_go_through_one_linear_beside_the_features():
    cfg = config(classes=4)
    raw = replace(cfg.model, attention=False, mixer=False, captions_raw=True)
    cfg = replace(cfg, model=raw, loss=replace(cfg.loss, sem=0.0))
    batch, params = make_batch(cfg), semvad.init(cfg, jax.random.key(0))
    assert params["beside"]["kernel"].shape == (12 + 10, 2 * cfg.model.dim)
    assert not {"visual_proj", "caption_proj", "attention", "mixer"} & params.keys()
    outputs = semvad.apply(cfg, params, make_frozen(cfg), batch)
    assert outputs.captions is None and outputs.class_captions is None
    zeroed = jax.tree.map(lambda x: x, params)
    zeroed["beside"]["kernel"] = params["beside"]["kernel"].at[12:].set(0)
    np.testing.assert_array_equal(
        scores(cfg, zeroed, batch), scores(cfg, zeroed, exchanged(batch))
    )  # the last rows are the captions'
    for refused in ("model.captions_raw=true", "model.captions_raw=true model.attention=false"):
        with pytest.raises(configs.BadInput, match="model.attention=false, model.mixer=false"):
            configs.load("ucf", refused.split())


def test_dropout_leaves_out_a_share_by_its_key_and_nothing_without_one():
    x = jnp.ones((50, 40))
    kept = layers.dropout(x, 0.75, jax.random.key(0))
    assert set(np.unique(kept)) == {0.0, 4.0} and abs(float(kept.mean()) - 1) < 0.1
    np.testing.assert_array_equal(kept, layers.dropout(x, 0.75, jax.random.key(0)))
    assert (kept != layers.dropout(x, 0.75, jax.random.key(1))).any()
    for same in (layers.dropout(x, 0.75, None), layers.dropout(x, 0.0, jax.random.key(0))):
        assert same is x


@pytest.mark.parametrize("name", ["semvad", "mil"])
def test_dropout_is_of_training_alone(name):
    cfg = config(classes=4) if name == "semvad" else None
    if cfg is None:
        cfg = config(classes=4)
        cfg = replace(cfg, model=configs.load("ucf", ["model.name=mil", "model.dim=8"]).model)
    cfg = replace(cfg, model=replace(cfg.model, dropout=0.5))
    batch, frozen, key = make_batch(config(classes=4)), make_frozen(config(classes=4)), None
    params = model(cfg).init(cfg, jax.random.key(0))
    key = jax.random.key(3)

    def logits(**how):
        return model(cfg).apply(cfg, params, frozen, batch, **how).binary_logits

    np.testing.assert_array_equal(logits(), logits(key=key))
    assert np.abs(logits() - logits(key=key, train=True)).max() > 1e-4
    np.testing.assert_array_equal(logits(key=key, train=True), logits(key=key, train=True))


def test_input_norm_makes_lengths_of_features_alike():
    cfg = config(classes=4, input_norm=True)
    batch, params = make_batch(cfg), semvad.init(cfg, jax.random.key(0))
    longer = replace(batch, visual=20 * batch.visual, captions=20 * batch.captions)
    np.testing.assert_allclose(scores(cfg, params, batch), scores(cfg, params, longer), atol=2e-3)
    plain = config(classes=4)
    assert np.abs(scores(plain, params, batch) - scores(plain, params, longer)).max() > 0.1


def test_the_mil_scorer_reads_the_streams_it_is_told(tmp_path):
    features = make_store(tmp_path / "store", train=8, test=4)
    rows = {"visual": 12, "captions": 10, "both": 22}
    for inputs, width in rows.items():
        asked = ["model.name=mil", f"model.inputs={inputs}"]
        cfg = configs.resolve(configs.load("ucf", asked), features)
        params = model(cfg).init(cfg, jax.random.key(0))
        assert params["hidden"]["kernel"].shape == (width, 128)


# ---- of the losses


def test_how_many_snippets_stand_for_a_video():
    values = jnp.arange(40.0)
    for every in (4, 8, 16):
        k = 37 // every + 1
        found = losses.top_k_mean(values, values, jnp.int32(37), None, every)
        assert float(found) == pytest.approx(np.arange(37)[-k:].mean())


def test_text_separation_of_all_pairs_by_hand():
    # cosines: (2, 0) and (3, 4) 3/5, (2, 0) and (−1, 0) −1, (3, 4) and (−1, 0) −3/5
    text = jnp.array([[2.0, 0], [3, 4], [-1, 0]])
    assert losses.text_separation(text, all_pairs=True) == pytest.approx(0.6)
    assert losses.text_separation(text, True, True) == pytest.approx(0.6 + 1 + 0.6)


def test_sem_of_anomalous_videos_alone_is_their_mean():
    cfg = config(classes=4)
    batch, frozen = make_batch(cfg), make_frozen(cfg)
    params = semvad.init(cfg, jax.random.key(0))
    outputs = semvad.apply(cfg, params, frozen, batch)
    of_each = []
    for i in range(4):
        alone = replace(batch, weight=jnp.eye(5)[i])
        of_each.append(float(losses.total(cfg, outputs, alone)[1]["sem"]))
    normal = np.asarray(batch.labels[:4, 0]) == 1
    anomalous = replace(cfg, loss=replace(cfg.loss, sem_videos="anomalous"))
    found = [float(losses.total(c, outputs, batch)[1]["sem"]) for c in (cfg, anomalous)]
    values = np.array(of_each)
    assert found == pytest.approx([values.mean(), values[~normal].mean()], abs=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_sigma_falls_by_its_decay(decay):
    cfg = config(classes=4)
    batch = make_batch(cfg)
    features = jnp.asarray(np.random.default_rng(0).normal(size=(5, 40, 16)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    explored = [
        jax.vmap(lambda k: losses.sigma_greedy(features, batch, k, jnp.int32(7), decay).use.any())(
            keys
        ).mean()
    ]
    assert float(explored[0]) == pytest.approx(decay**7, abs=0.08)


# ---- of the evaluation


def test_smoothing_is_a_mean_over_neighbours():
    rows = np.random.default_rng(0).random((9, 3)).astype(np.float32)
    for width in (1, 3, 5, 21):
        half = width // 2
        slow = [rows[max(i - half, 0) : i + half + 1].mean(axis=0) for i in range(9)]
        np.testing.assert_allclose(evaluate.smoothed(rows, width), slow, atol=1e-6)
    np.testing.assert_array_equal(evaluate.smoothed(rows, 1), rows)


def test_heads_are_fused_as_dsanet_infers_them():
    rng = np.random.default_rng(0)
    binary, classes = rng.normal(size=(2, 5)), rng.normal(size=(2, 5, 4))
    found = np.asarray(evaluate.fused_classes(jnp.asarray(binary), jnp.asarray(classes)))
    anomaly = 1 / (1 + np.exp(-binary))
    kinds = np.exp(classes[..., 1:])
    slow = anomaly[..., None] * kinds / kinds.sum(-1, keepdims=True)
    np.testing.assert_allclose(found[..., 0], 1 - anomaly, atol=1e-6)
    np.testing.assert_allclose(found[..., 1:], slow, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


# ---- runs from before there were these fields


def test_a_run_from_before_keeps_its_identity_and_its_settings(tmp_path):
    cfg = configs.load("demo")
    old = cfg
    for name in configs.ADDED:
        section, _, leaf = name.partition(".")
        part = getattr(old, section)
        if section in ("model", "loss"):
            old = replace(old, **{section: replace(part, **{leaf: UNSET})})
    assert run.identity({}, old, [9], [9]) == run.identity({}, cfg, [9], [9])
    (tmp_path / "config.json").write_text(configs.to_json(old))
    assert configs.read(tmp_path / "config.json") == cfg
    other = replace(cfg, model=replace(cfg.model, dropout=0.5))
    assert run.identity({}, other, [9], [9]) != run.identity({}, cfg, [9], [9])
