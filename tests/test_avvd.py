"""The AVVD-style model against a second one, slow and in float64, from the formulas; there is no
public program to compare with.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from semvad_jax import config
from semvad_jax.files import BadInput
from semvad_jax.models import avvd
from semvad_jax.types import Batch
from tests import oracle
from tests.support import programs
from tests.support.model_cases import (
    STEP,
    compiled,
    double,
    make_batch,
    make_params,
    moved,
    numpy_fields,
)


def settings(*overrides, classes=5, features=12):
    small = ("model.dim=3", "model.hidden=10,8", "model.kernel=4", "model.length=40", *overrides)
    return programs.settings("avvd", *small, features=features, classes=classes)


# ---- the second one, video by video


def alike(scores):
    """Softmax over each row of σ((½ − |s_i − s_j|)/0.1)."""
    return softmax(expit((0.5 - np.abs(np.subtract.outer(scores, scores))) / 0.1), axis=1)


def causal_scores(p, x):
    """Logits [T]: the convolution sees a snippet and those before it."""
    for name in ("first", "second"):
        x = np.maximum(oracle.linear(p[name], x), 0)
    kernel, out = p["score"]["kernel"], []
    for t in range(len(x)):
        logit = p["score"]["bias"][0]
        for back in range(min(len(kernel), t + 1)):
            logit += x[t - back] @ kernel[len(kernel) - 1 - back, :, 0]
        out.append(logit)
    return np.array(out)


def forward(params, visual, fixed=None):
    """(score logits [n], class logits [n, C], causal logits [n]) of one video, without padding.

    `fixed` [n] stands for the causal logits where no gradient goes through them.
    """
    x = oracle.double(visual)
    x = oracle.linear(params["narrow"], x) if "narrow" in params else x
    for name in ("first", "second"):
        x = np.maximum(oracle.linear(params[name], x), 0)
    causal = causal_scores(params["causal"], x)
    graphs = {
        "similarity": oracle.similarity(x, len(x)),
        "distance": oracle.nearness(len(x)),
        "score_graph": alike(expit(causal if fixed is None else fixed)),
    }
    joined = np.concatenate(
        [oracle.graph_branch(params[name], x, graph) for name, graph in graphs.items()], axis=1
    )
    score = oracle.linear(params["score"], joined)[:, 0]
    return score, oracle.linear(params["classes"], joined), causal


def losses(outputs, labels, weight, targets=None):
    """The parts over some videos; `targets` are the scores that the causal ones imitate."""
    parts = {"binary": [], "causal": [], "imitation": [], "class": []}
    for i, (score, classes, causal) in enumerate(outputs):
        y, n = 1 - labels[i, 0], len(score)
        for name, logits in (("binary", score), ("causal", causal)):
            best = expit(logits[oracle.top(logits, n)]).mean()
            parts[name].append(oracle.cross_entropy(best, y))
        target = expit(score if targets is None else targets[i])
        parts["imitation"].append(5 * np.mean(-target * np.log(expit(causal))))
        video = np.array([column[oracle.top(column, n)].mean() for column in classes.T])
        parts["class"].append(-(labels[i] / labels[i].sum()) @ log_softmax(video))
    found = {name: np.array(values) @ weight / weight.sum() for name, values in parts.items()}
    return found | {"total": sum(found.values())}


def reference(params, batch, held=None):
    """(outputs of each video, losses). `held`: outputs that stand where no gradient goes."""
    videos = [v[: int(n)] for v, n in zip(batch.visual, batch.length, strict=True)]
    fixed = [None] * len(videos) if held is None else [causal for _, _, causal in held]
    outputs = [forward(params, v, f) for v, f in zip(videos, fixed, strict=True)]
    targets = None if held is None else [score for score, _, _ in held]
    labels, weight = oracle.double(batch.labels), oracle.double(batch.weight)
    return outputs, losses(outputs, labels, weight, targets)


@pytest.fixture(scope="module", params=[12, 2050], ids=["features as they are", "narrowed"])
def case(request):
    cfg = settings(features=request.param)
    return cfg, make_batch(cfg), make_params(cfg)


def evaluated(cfg, params, batch):
    """(loss, (parts, outputs)), and the gradient."""

    def loss(params):
        outputs = avvd.apply(cfg, params, programs.NOTHING, batch, train=True)
        value, parts = avvd.loss(cfg, outputs, batch)
        return value, (parts, outputs)

    return compiled(jax.value_and_grad(loss, has_aux=True), params)


def test_outputs_losses_and_gradients(case):
    cfg, batch, params = case
    (value, (parts, outputs)), gradient = evaluated(cfg, params, batch)
    exact, rows = double(params), numpy_fields(batch)
    expected, expected_losses = reference(exact, rows)
    for i, (score, classes, causal) in enumerate(expected):
        n = len(score)
        np.testing.assert_allclose(outputs.binary_logits[i, :n], score, atol=1e-4)
        np.testing.assert_allclose(outputs.class_logits[i, :n], classes, atol=1e-4)
        np.testing.assert_allclose(outputs.for_loss["causal"][i, :n], causal, atol=1e-4)
    for name, part in parts.items():
        assert float(part) == pytest.approx(expected_losses[name], rel=1e-5), name
    assert float(value) == pytest.approx(expected_losses["total"], rel=1e-5)
    rng = np.random.default_rng(3)
    for path, g in jax.tree_util.tree_leaves_with_path(double(gradient)):
        name, size = jax.tree_util.keystr(path), np.linalg.norm(g)
        assert size > 1e-6, f"{name} does not learn"
        for direction in (g, rng.normal(size=g.shape)):
            u = direction / np.linalg.norm(direction)
            up, down = (
                reference(moved(exact, path, sign * STEP * u), rows, expected)[1]["total"]
                for sign in (1, -1)
            )
            assert abs((up - down) / (2 * STEP) - (g * u).sum()) < 1e-3 * size, name


def test_a_video_is_scored_alike_with_padding():
    """A test scores whole videos in windows of several lengths."""
    cfg = settings()
    params, x = make_params(cfg), np.asarray(make_batch(cfg).visual)[[3, 3]]
    alone = avvd.apply(cfg, params, programs.NOTHING, programs.batch(x, classes=5))
    for more in (20, 50):
        padded = programs.batch(np.pad(x, ((0, 0), (0, more), (0, 0))), None, [40, 40], 5)
        found = avvd.apply(cfg, params, programs.NOTHING, padded)
        for name in ("binary_logits", "class_logits"):
            np.testing.assert_allclose(
                getattr(found, name)[:, :40], getattr(alone, name), rtol=0, atol=1e-5
            )
    empty = replace(programs.batch(0 * x, classes=5), length=jnp.zeros(2, jnp.int32))
    outputs = avvd.apply(cfg, params, programs.NOTHING, empty)  # windows that fill a batch
    assert np.isfinite(outputs.binary_logits).all()


def test_snippets_of_zeros_have_gradients():
    """Dropout and ReLU make some, whose cosines are 0 / 0."""
    cfg = settings()
    batch, params = make_batch(cfg), make_params(cfg)
    params["second"]["bias"] = params["second"]["bias"] - 100
    _, gradient = evaluated(cfg, params, batch)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_the_parts_by_hand():
    """One anomalous video of two snippets and a row that does not count."""
    logits, causal = np.array([0.0, np.log(3)]), np.array([np.log(4), 0.0])
    classes = np.array([[0, 1, 5.0], [2, 0, 1.0]])
    twice = [jnp.asarray(np.stack([v, v + 1]), jnp.float32) for v in (logits, causal, classes)]
    batch = Batch(
        jnp.zeros((2, 2, 4)),
        jnp.zeros((2, 2, 4)),
        jnp.asarray([2, 2]),
        jnp.asarray([[0, 1.0, 0], [1.0, 0, 0]]),
        jnp.asarray([1.0, 0]),
    )
    outputs = avvd.Outputs(twice[0], twice[2], for_loss={"causal": twice[1]})
    total, parts = avvd.loss(settings(classes=3), outputs, batch)
    expected = {
        "binary": -math.log(0.75),
        "causal": -math.log(0.8),
        "imitation": 5 * (0.5 * -math.log(0.8) + 0.75 * math.log(2)) / 2,
        "class": math.log(math.exp(2) + math.exp(1) + math.exp(5)) - 1,
    }
    for name, value in expected.items():
        assert float(parts[name]) == pytest.approx(value, rel=1e-5), name
    assert float(total) == pytest.approx(sum(expected.values()), rel=1e-5)


def test_dropout_acts_in_training_alone():
    cfg = settings("model.dropout=0.5")
    batch, params = make_batch(cfg), make_params(cfg)

    def scores(**how):
        return avvd.apply(cfg, params, programs.NOTHING, batch, **how).binary_logits

    key = jax.random.key(0)
    assert np.array_equal(scores(), scores(key=key))
    np.testing.assert_allclose(scores(train=True), scores(), rtol=1e-6)
    assert not np.allclose(scores(key=key, train=True), scores(), atol=1e-2)


def test_settings_that_cannot_run_are_refused():
    with pytest.raises(BadInput, match="must end in 4"):
        avvd.init(settings("model.hidden=8,3"), jax.random.key(0))


def test_the_settings_are_hl_nets():
    ucf, xd = (config.load(name, ["model.name=avvd"]) for name in ("ucf", "xd"))
    assert (xd.model.hidden, xd.model.dim, xd.model.dropout) == ((512, 128), 32, 0.6)
    assert (xd.train.lr, xd.train.milestones, xd.train.decay) == (1e-4, (10,), 0.1)
    assert (ucf.eval.metric, xd.eval.metric, ucf.eval.whole) == ("auc", "ap", True)
