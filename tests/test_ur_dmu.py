"""UR-DMU against its public program's own numbers, and its loss on one pair by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax.models import convert, ur_dmu
from tests.support import programs

PARTS = {
    "mil": "mil",
    "abnormal_in_abnormal": "abnormal_in_abnormal_memory",
    "abnormal_in_normal": "abnormal_in_normal_memory",
    "normal_in_normal": "normal_in_normal_memory",
    "normal_in_abnormal": "normal_in_abnormal_memory",
    "triplet": "triplet",
    "kl": "kl",
    "distance": "distance",
}
close = partial(pytest.approx, rel=1e-5)


@pytest.fixture(scope="module")
def program():
    program = programs.Program("urdmu")
    cfg = programs.settings("ur_dmu", features=512)
    rows = programs.batch(program.inputs["x"])
    return program, cfg, convert.from_program(cfg, program.weights), rows


def same_parts(program, total, parts, prefix=""):
    assert total == close(float(program.numbers[f"{prefix}loss"]))
    for ours, theirs in PARTS.items():
        unweighted = float(parts[ours]) / ur_dmu.WEIGHTS[ours]
        assert unweighted == close(float(program.numbers[f"{prefix}loss_{theirs}"])), ours


def test_scores_of_a_test(program):
    program, cfg, weights, _ = program
    found = programs.scores(cfg, weights, programs.batch(program.inputs["x_eval"]))
    np.testing.assert_allclose(found, program.numbers["frame_eval"], atol=1e-4)


def test_losses_and_gradients(program):
    program, cfg, weights, rows = program
    total, parts, _, gradients = programs.trained(cfg, weights, rows)
    same_parts(program, total, parts)
    programs.same_gradients(program, gradients)


def test_with_noise(program, monkeypatch):
    program, cfg, weights, rows = program
    drawn = programs.noise(program.case["eps_seed"], tuple(program.case["eps_shape"]))
    monkeypatch.setattr(ur_dmu, "noise", lambda key, shape: jnp.asarray(drawn))
    total, parts, _, gradients = programs.trained(cfg, weights, rows)
    same_parts(program, total, parts, "eps/")
    norm = programs.total_norm(gradients)
    assert norm == pytest.approx(float(program.numbers["eps/gradnorm_total"]), rel=1e-3)


def test_with_dropout(program, monkeypatch):
    program, cfg, weights, rows = program
    monkeypatch.setattr(ur_dmu, "dropout", program.dropouts())
    monkeypatch.setattr(ur_dmu, "noise", lambda key, shape: jnp.zeros(shape))
    total, parts, _, gradients = programs.trained(cfg, weights, rows, jax.random.key(0))
    same_parts(program, total, parts, "drop/")
    norm = programs.total_norm(gradients)
    assert norm == pytest.approx(float(program.numbers["drop/gradnorm_total"]), rel=1e-3)


def test_steps_of_training(program):
    program, cfg, weights, rows = program
    found = programs.losses_of_steps(cfg, weights, rows)
    np.testing.assert_allclose(found, program.numbers["loss_steps"], rtol=1e-4)


def small(*fields, features=8):
    sizes = ("model.dim=6", "model.heads=2", "model.key_dim=3", "model.hidden=4", "model.slots=5")
    return programs.settings("ur_dmu", *sizes, *fields, features=features)


def test_one_pair_by_hand():
    """Three snippets, of which one stands for its video."""
    share = lambda *values: jnp.asarray(values, jnp.float32)  # noqa: E731
    rows = jnp.asarray([[3.0, 4], [0, 1], [1, 0]])
    abnormal = ur_dmu.Video(
        logits=share(0, 2, 0), features=rows, in_abnormal=share(0.2, 0.3, 0.9),
        in_normal=share(0.7, 0.8, 0.1), read=10 * rows,
    )  # fmt: skip
    normal = ur_dmu.Video(
        logits=share(0, 0, -1), features=rows, in_abnormal=share(0.5, 0.4, 0.2),
        in_normal=share(0.9, 0.6, 0.5), read=rows,
    )  # fmt: skip
    found = {k: float(v) for k, v in ur_dmu.pair(abnormal, normal, 2 * rows).items()}
    sigmoid = 1 / (1 + np.exp(-2.0))
    assert found["mil"] == close(-(np.log(sigmoid) + np.log(0.5)) / 2)
    assert found["abnormal_in_abnormal"] == close(-np.log(0.9))
    assert found["abnormal_in_normal"] == close(-np.log(0.9))  # the least known: 1 − 0.1
    assert found["normal_in_normal"] == close(-np.log([0.9, 0.6, 0.5]).mean())
    assert found["normal_in_abnormal"] == close(-np.log([0.5, 0.6, 0.8]).mean())
    anchor, positive, negative = np.array([0.6, 0.8]), np.array([0, 1.0]), np.array([1.0, 0])
    near, far = (np.linalg.norm(anchor - x + 1e-6) for x in (positive, negative))
    assert found["triplet"] == close(near - far + 1)
    assert found["distance"] == close(100 - 10 + 10)


def test_nearness_is_divided_by_columns_unless_that_is_fixed():
    place = np.arange(5)
    near = np.exp(-np.abs(place[:, None] - place) / np.e)
    there = jnp.ones((1, 5), bool)
    np.testing.assert_allclose(ur_dmu.nearness(there, True)[0], near / near.sum(0), rtol=1e-6)
    rows = ur_dmu.nearness(there, False)[0]
    np.testing.assert_allclose(rows, near / near.sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)
    x = np.random.default_rng(0).standard_normal((2, 9, 8)).astype(np.float32)
    found = []
    for fixes in ("()", "column_norm"):
        cfg = small(f"model.fixes={fixes}")
        found.append(programs.scores(cfg, programs.filled_weights(cfg), programs.batch(x)))
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_divergence_is_summed_over_time_unless_that_is_fixed():
    mean = jnp.asarray([[1.0, 2], [3, 4], [5, 6]])
    nothing = jnp.zeros((3, 2))
    assert float(ur_dmu.divergence(mean, nothing, True)) == close(91 / 2 / 2)
    assert float(ur_dmu.divergence(mean, nothing, False)) == close(91 / 2 / 3)
    rows = programs.batch(np.ones((4, 16, 8), np.float32))
    of_fixes = {}
    for fixes in ("()", "kl_over_time"):
        cfg = small(f"model.fixes={fixes}")
        of_fixes[fixes] = programs.trained(cfg, programs.filled_weights(cfg), rows)[1]["kl"]
    assert float(of_fixes["()"]) == close(float(of_fixes["kl_over_time"]) * 16 / 6)


@pytest.mark.parametrize("slots", [20, 50])
def test_padding_changes_no_score_of_a_test(slots):
    cfg = small()
    weights = programs.filled_weights(cfg)
    x = np.random.default_rng(0).standard_normal((2, 37, 8)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, slots), (0, 0)))
    plain = programs.scores(cfg, weights, programs.batch(x))
    found = programs.scores(cfg, weights, programs.batch(padded, lengths=[37, 37]))[:, :37]
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_seeds_draw_noise_of_their_own():
    one, two = (ur_dmu.noise(jax.random.key(seed), (2, 3)) for seed in (0, 1))
    assert not np.allclose(one, two) and not np.any(ur_dmu.noise(None, (2, 3)))
