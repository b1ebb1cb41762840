"""CLIP-TSA against its public program's own numbers, and its choice of snippets by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax.models import clip_tsa, convert, rtfm
from tests.support import programs

PARTS = {
    "bce": "loss_bce",
    "magnitude": "loss_magnitude",
    "smooth": "loss_smooth",
    "sparse": "loss_sparse",
}
CASES = {"cliptsa": (512, 0.95), "cliptsa_wide": (1024, 0.9)}
close = partial(pytest.approx, rel=1e-5)


@pytest.fixture(scope="module", params=CASES)
def program(request):
    program = programs.Program(request.param)
    features, keep = CASES[request.param]
    cfg = programs.settings("clip_tsa", f"model.keep={keep}", features=features)
    rows = programs.batch(program.inputs["x"])
    return program, cfg, convert.from_program(cfg, program.weights), rows


@pytest.fixture
def recorded(program, monkeypatch):
    """Takes the program's own noise of one of its calls in place of ours."""

    def of(name):
        seed, shape = program[0].case["noise"][name][1:3]
        drawn = jnp.asarray(programs.noise(seed, tuple(shape)))
        monkeypatch.setattr(clip_tsa, "noise", lambda key, rows, steps: drawn)

    return of


def test_scores_of_a_test(program, recorded):
    program, cfg, weights, _ = program
    recorded("eval")
    crops = program.inputs["x_eval"][0]
    found = programs.scores(cfg, weights, programs.batch(crops)).mean(0)
    np.testing.assert_allclose(found, program.numbers["frame_eval"], atol=1e-4)


def test_no_more_than_a_thousand_snippets_of_a_test_are_chosen(program, recorded):
    program, cfg, weights, _ = program
    if "x_eval_long" not in program.inputs:
        pytest.skip("the wide program has no long test")
    recorded("eval_long")
    crops = program.inputs["x_eval_long"][0]
    found = programs.scores(cfg, weights, programs.batch(crops)).mean(0)
    np.testing.assert_allclose(found, program.numbers["frame_eval_long"], atol=1e-4)


def test_losses_gradients_and_batch_statistics(program, recorded):
    program, cfg, weights, rows = program
    recorded("train")
    total, parts, state, gradients = programs.trained(cfg, weights, rows)
    assert total == close(float(program.numbers["loss"]))
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == close(float(program.numbers[theirs])), ours
    programs.same_gradients(program, gradients)
    programs.same_statistics(program, state)


def test_with_dropout(program, recorded, monkeypatch):
    program, cfg, weights, rows = program
    recorded("train")
    monkeypatch.setattr(rtfm, "dropout", program.dropouts())
    total, _, _, gradients = programs.trained(cfg, weights, rows, jax.random.key(0))
    assert total == close(float(program.numbers["drop/loss"]))
    norm = programs.total_norm(gradients)
    assert norm == pytest.approx(float(program.numbers["drop/gradnorm_total"]), rel=1e-3)


def test_the_choice_by_hand():
    """Three snippets, two draws, two chosen: the gradient is the program's transposed estimator."""
    scores = jnp.asarray([0.5, 0.4, 0.45])
    drawn = jnp.asarray([[0.0, 3.0, 0.0], [0.0, 0.0, 2.0]])  # 0.5 0.55 0.45; 0.5 0.4 0.55
    there = jnp.ones(3, bool)
    found, back = jax.vjp(lambda s: clip_tsa.inclusion(s, drawn, there, jnp.int32(2)), scores)
    np.testing.assert_allclose(found, [1, 0.5, 0.5])
    (gradient,) = back(jnp.asarray([1.0, 2.0, 3.0]))
    # Σ_e noise·g is 6 in both draws; snippets chosen in them: {0, 1} and {0, 2}
    np.testing.assert_allclose(gradient, np.array([12, 6, 6]) / 2 / 0.05, rtol=1e-6)


def small(*fields, features=8):
    more = ("model.dim=4", "model.hidden=4,3", "model.length=16", *fields)
    return programs.settings("clip_tsa", *more, features=features)


@pytest.mark.parametrize("slots", [20, 50])
def test_padding_changes_no_score_of_a_test(slots):
    cfg = small()
    weights = programs.filled_weights(cfg)
    x = np.random.default_rng(0).standard_normal((2, 37, 8)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, slots), (0, 0)))
    plain = programs.scores(cfg, weights, programs.batch(x))
    found = programs.scores(cfg, weights, programs.batch(padded, lengths=[37, 37]))[:, :37]
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_a_test_draws_noise_unless_that_is_fixed(monkeypatch):
    x = np.random.default_rng(0).standard_normal((1, 40, 8)).astype(np.float32)
    of_fixes = {}
    for fixes in ("()", "test_noise"):
        cfg = small(f"model.fixes={fixes}")
        weights, found = programs.filled_weights(cfg), []
        for seed in (0, 1):
            drawn = jnp.asarray(programs.noise([seed], (1, 5, 40)))
            monkeypatch.setattr(clip_tsa, "noise", lambda *_, drawn=drawn: drawn)
            found.append(programs.scores(cfg, weights, programs.batch(x)))
        of_fixes[fixes] = np.abs(found[0] - found[1]).max()
    assert of_fixes["()"] > 1e-3 and of_fixes["test_noise"] == 0


def test_seeds_draw_noise_of_their_own():
    keys = jax.random.split(jax.random.key(0), 2)
    one, two = (clip_tsa.noise(key, 3, 7) for key in keys)
    assert one.shape == (3, 100, 7) and not np.allclose(one, two)
    np.testing.assert_array_equal(clip_tsa.noise(None, 3, 7), clip_tsa.noise(None, 3, 9)[..., :7])
