"""Deep MIL against its public program's own numbers, and against a loop over pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax.models import convert, deep_mil
from semvad_jax.types import Outputs
from tests.support import programs

PARTS = {"hinge": "loss_hinge", "smooth": "loss_smooth", "sparse": "loss_sparse"}


@pytest.fixture(scope="module")
def program():
    """The program, our settings and its weights in our names."""
    program = programs.Program("deepmil")
    cfg = programs.settings("deep_mil", features=512)
    return program, cfg, convert.from_program(cfg, program.weights)


def test_scores_of_a_test(program):
    program, cfg, weights = program
    found = programs.scores(cfg, weights, programs.batch(program.inputs["x_eval"]))
    np.testing.assert_allclose(found, program.numbers["frame_eval_crops"], atol=1e-4)


def test_losses_and_gradients(program):
    program, cfg, weights = program
    rows = programs.batch(program.inputs["x"])
    total, parts, _, gradients = programs.trained(cfg, weights, rows)
    assert total == pytest.approx(float(program.numbers["loss"]), rel=1e-5)
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == pytest.approx(float(program.numbers[theirs]), rel=1e-5)
    programs.same_gradients(program, gradients)


def test_with_dropout(program, monkeypatch):
    program, cfg, weights = program
    monkeypatch.setattr(deep_mil, "dropout", program.dropouts())
    rows = programs.batch(program.inputs["x"])
    total, parts, _, gradients = programs.trained(cfg, weights, rows, jax.random.key(0))
    assert total == pytest.approx(float(program.numbers["drop/loss"]), rel=1e-5)
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == pytest.approx(float(program.numbers[f"drop/{theirs}"]), 1e-5)
    norm = programs.total_norm(gradients)
    assert norm == pytest.approx(float(program.numbers["drop/gradnorm_total"]), rel=1e-3)


def test_four_steps_of_training(program):
    program, cfg, weights = program
    found = programs.losses_of_steps(cfg, weights, programs.batch(program.inputs["x"]))
    np.testing.assert_allclose(found, program.numbers["loss_steps"], rtol=1e-4)


def test_the_loss_by_hand():
    """Two pairs of three snippets."""
    scores = np.array([[0.1, 0.4, 0.2], [0.9, 0.3, 0.3], [0.5, 0.8, 0.1], [0.2, 0.6, 0.6]])
    rows = programs.batch(np.zeros((4, 3, 2), np.float32))
    outputs = Outputs(jnp.zeros((4, 3)), for_loss={"scores": jnp.asarray(scores, jnp.float32)})
    total, parts = deep_mil.loss(programs.settings("deep_mil", features=2), outputs, rows)
    assert float(parts["hinge"]) == pytest.approx(((1 - 0.8 + 0.4) + (1 - 0.6 + 0.9)) / 2)
    assert float(parts["smooth"]) == pytest.approx(8e-5 * ((0.09 + 0.49) + (0.16 + 0)) / 2)
    assert float(parts["sparse"]) == pytest.approx(8e-5 * (1.4 + 1.4) / 2)
    assert float(total) == pytest.approx(sum(float(part) for part in parts.values()))


def test_scores_are_dropped_unless_that_is_fixed():
    """An oddity of the program: a score of a training step can be 0, or above 1."""
    rows = programs.batch(np.random.default_rng(0).standard_normal((4, 32, 8)).astype(np.float32))
    highest = []
    for fixes in ("()", "score_dropout", "true"):
        cfg = programs.settings("deep_mil", f"model.fixes={fixes}", features=8)
        params = deep_mil.init(cfg, jax.random.key(0))
        outputs = deep_mil.apply(
            cfg, params, programs.NOTHING, rows, key=jax.random.key(1), train=True
        )
        highest.append(float(outputs.for_loss["scores"].max()))
    assert highest[0] > 1 and highest[1] == highest[2] < 1


def test_the_class_head_learns_from_the_highest_snippet():
    cfg = programs.settings("deep_mil", "model.class_head=true", features=8, classes=3)
    logits = jnp.asarray([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0]])
    found = deep_mil.of_class(logits, jnp.asarray([0.1, 0.9, 0.2]), jnp.asarray([0, 1.0, 0]))
    assert float(found) == pytest.approx(np.log(1 + 2 * np.exp(-3)), rel=1e-6)
    rows = programs.batch(np.ones((4, 32, 8), np.float32), classes=3)
    params = deep_mil.init(cfg, jax.random.key(0))
    outputs = deep_mil.apply(cfg, params, programs.NOTHING, rows)
    assert outputs.class_logits.shape == (4, 32, 3)
    assert float(deep_mil.loss(cfg, outputs, rows)[1]["class"]) > 0
