"""RTFM against its public program's own numbers, at both of its widths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax.models import convert, rtfm
from semvad_jax.types import Outputs
from tests.support import programs

PARTS = {
    "bce": "loss_bce",
    "magnitude": "loss_magnitude",
    "smooth": "loss_smooth",
    "sparse": "loss_sparse",
}
CASES = {"rtfm": (2048, ()), "rtfm512": (512, ("model.dim=128", "model.hidden=128,32"))}
close = partial(pytest.approx, rel=1e-5)


@pytest.fixture(scope="module", params=CASES)
def program(request):
    """The program, our settings, its weights in our names, and a batch."""
    program = programs.Program(request.param)
    features, fields = CASES[request.param]
    cfg = programs.settings("rtfm", *fields, features=features)
    rows = programs.batch(program.inputs["x"])
    # the narrow one is CLIP-TSA's program, whose own layers were switched off
    own = {k: v for k, v in program.weights.items() if not k.startswith(("hard_", "mlp."))}
    return program, cfg, convert.from_program(cfg, own), rows


def test_scores_of_a_test(program):
    program, cfg, weights, _ = program
    crops = program.inputs["x_eval"][0]
    found = programs.scores(cfg, weights, programs.batch(crops)).mean(0)
    np.testing.assert_allclose(found, program.numbers["frame_eval"], atol=1e-4)


def test_losses_gradients_and_batch_statistics(program):
    program, cfg, weights, rows = program
    total, parts, state, gradients = programs.trained(cfg, weights, rows)
    assert total == close(float(program.numbers["loss"]))
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == close(float(program.numbers[theirs])), ours
    programs.same_gradients(program, gradients)
    programs.same_statistics(program, state)


def test_with_dropout(program, monkeypatch):
    program, cfg, weights, rows = program
    monkeypatch.setattr(rtfm, "dropout", program.dropouts())
    total, parts, _, gradients = programs.trained(cfg, weights, rows, jax.random.key(0))
    assert total == close(float(program.numbers["drop/loss"]))
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == close(float(program.numbers[f"drop/{theirs}"])), ours
    norm = programs.total_norm(gradients)
    assert norm == pytest.approx(float(program.numbers["drop/gradnorm_total"]), rel=1e-3)


def test_steps_of_training(program):
    program, cfg, weights, rows = program
    if cfg.data.feature_dim > 512:
        pytest.skip("half a minute of large products; the narrow program has the same steps")
    found = programs.losses_of_steps(cfg, weights, rows)
    np.testing.assert_allclose(found, program.numbers["loss_steps"], rtol=1e-3)


def small(*fields, features=8):
    more = ("model.dim=4", "model.hidden=4,3", "model.length=16", *fields)
    return programs.settings("rtfm", *more, features=features)


def test_the_loss_by_hand():
    """One pair of two crops, four snippets of one number: |x| is its length."""
    scores = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.9, 0.6, 0.7]])
    features = np.array([[[1, 5, 2, 3], [1, 3, 2, 1]], [[9, 1, 8, 7], [9, 3, 8, 7]]])[..., None]
    selector = np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
    own = {"scores": scores, "features": features, "selector": selector}
    own = {name: jnp.asarray(value, jnp.float32) for name, value in own.items()}
    outputs = Outputs(jnp.zeros((2, 4)), for_loss=own)
    rows = programs.batch(np.zeros((2, 2, 4, 1), np.float32))
    total, parts = rtfm.loss(small(features=1), outputs, rows)
    # the largest by the crops' mean: 4, 2, 2 of the normal; 9, 8, 2 of the anomalous video
    chosen = (0.2 + 0.3 + 0.4) / 3, (0.5 + 0.6 + 0.9) / 3
    assert float(parts["bce"]) == close(-(np.log(1 - chosen[0]) + np.log(chosen[1])) / 2)
    far = (100 - 18 / 3 + 10 / 3) ** 2, (100 - 20 / 3 + 6 / 3) ** 2
    assert float(parts["magnitude"]) == close(1e-4 * np.mean(far))
    assert float(parts["sparse"]) == close(8e-3 * np.sqrt(np.square(scores[1]).sum()))
    assert float(parts["smooth"]) == close(8e-4 * (0.16 + 0.09 + 0.01))
    assert float(total) == close(sum(float(part) for part in parts.values()))


def test_smoothness_crosses_videos_unless_that_is_fixed():
    scores = jnp.asarray([[0.0, 0.0]] * 2 + [[0.1, 0.1], [0.9, 0.9]])
    own = {
        "scores": scores,
        "features": jnp.ones((4, 1, 2, 1)),
        "selector": jnp.ones((4, 2)),
    }
    rows = programs.batch(np.zeros((4, 2, 1), np.float32))
    outputs = Outputs(jnp.zeros((4, 2)), for_loss=own)
    smooth = [
        float(rtfm.loss(small(f"model.fixes={fixes}", features=1), outputs, rows)[1]["smooth"])
        for fixes in ("()", "true", "smooth_across")
    ]
    assert smooth == [close(8e-4 * 0.64), 0, 0]


@pytest.mark.parametrize("slots", [20, 50])
def test_padding_changes_no_score_of_a_test(slots):
    """Whole videos are padded to a common length; the program has no padding there."""
    cfg = small()
    weights = programs.filled_weights(cfg)
    x = np.random.default_rng(0).standard_normal((2, 37, 8)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, slots), (0, 0)))
    plain = programs.scores(cfg, weights, programs.batch(x))
    found = programs.scores(cfg, weights, programs.batch(padded, lengths=[37, 37]))[:, :37]
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_wide_features_are_narrowed_and_padding_stays_nothing():
    cfg = small(features=2100)
    params = rtfm.init(cfg, jax.random.key(0))
    assert params["narrow"]["kernel"].shape == (2100, 512)
    weights = programs.filled_weights(cfg)
    x = np.random.default_rng(0).standard_normal((2, 5, 2100)).astype(np.float32)
    plain = programs.scores(cfg, weights, programs.batch(x))
    padded = programs.batch(np.pad(x, ((0, 0), (0, 4), (0, 0))), lengths=[5, 5])
    np.testing.assert_allclose(programs.scores(cfg, weights, padded)[:, :5], plain, atol=1e-5)


def test_the_non_local_block_starts_as_the_identity():
    params = rtfm.init(small(), jax.random.key(0))
    norm = params["magnitudes"]["temporal"]["non_local"]["norm"]
    assert not norm["scale"].any() and not norm["bias"].any()
