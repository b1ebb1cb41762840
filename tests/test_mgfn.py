"""MGFN against its public program's own numbers, and its contrast by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax.models import convert, mgfn, rtfm
from semvad_jax.types import Outputs
from tests.support import programs

PARTS = {  # and the weight that the program's stored part does not have
    "bce": ("loss_bce", 1),
    "between": ("loss_con", 1e-6),
    "normal": ("loss_con_normal", 1e-3),
    "abnormal": ("loss_con_abnormal", 1e-3),
    "sparse": ("loss_sparse", 1),
    "smooth": ("loss_smooth", 1),
}
CASES = {"mgfn": 512, "mgfn_i3d": 2048}
close = partial(pytest.approx, rel=1e-5)


@pytest.fixture(scope="module", params=CASES)
def program(request):
    program = programs.Program(request.param)
    cfg = programs.settings("mgfn", features=CASES[request.param])
    rows = programs.batch(program.inputs["x"])  # the model takes the rows' lengths itself
    return program, cfg, convert.from_program(cfg, program.weights), rows


def same_parts(program, total, parts, prefix=""):
    """A contrast is the square of a small difference of sums near 800, which float32 has to 1e-6:
    it is known to 1e-4, and the program's own loss differs from its float64 one by 9e-6.
    """
    for ours, (theirs, weight) in PARTS.items():
        expected = weight * float(program.numbers[f"{prefix}{theirs}"])
        known_to = 1e-4 if ours in ("normal", "abnormal") else 1e-5
        assert float(parts[ours]) == pytest.approx(expected, rel=known_to), ours
    assert total == pytest.approx(float(program.numbers[f"{prefix}loss"]), rel=3e-5)


def test_scores_of_a_test(program):
    program, cfg, weights, _ = program
    crops = program.inputs["x_eval"][0]
    found = programs.scores(cfg, weights, programs.batch(crops)).mean(0)
    np.testing.assert_allclose(found, program.numbers["frame_eval"], atol=1e-4)


def test_losses_gradients_and_batch_statistics(program):
    program, cfg, weights, rows = program
    total, parts, state, gradients = programs.trained(cfg, weights, rows)
    same_parts(program, total, parts)
    programs.same_gradients(program, gradients)
    programs.same_statistics(program, state)


def test_the_sums_that_are_contrasted(program):
    program, cfg, weights, rows = program

    def sums(weights, rows):
        outputs = mgfn.apply(
            cfg, weights.params, programs.NOTHING, rows, state=weights.state, train=True
        )
        own = outputs.for_loss
        return jax.vmap(mgfn.picked)(own["scores"], own["features"], own["selector"])[1]

    normal, abnormal = np.split(np.asarray(jax.jit(sums)(weights, rows)), 2)
    for name, found in (("normal", normal), ("abnormal", abnormal)):
        expected = program.numbers[f"selected_{name}_l1"]
        np.testing.assert_allclose(
            found.swapaxes(0, 1).reshape(expected.shape), expected, rtol=1e-5
        )


def test_with_dropout(program, monkeypatch):
    program, cfg, weights, rows = program
    if cfg.data.feature_dim > 512:
        pytest.skip("large products again; the narrow program drops out alike")
    monkeypatch.setattr(rtfm, "dropout", program.dropouts())
    total, parts, _, gradients = programs.trained(cfg, weights, rows, jax.random.key(0))
    same_parts(program, total, parts, "drop/")
    norm = programs.total_norm(gradients)
    assert norm == pytest.approx(float(program.numbers["drop/gradnorm_total"]), rel=1e-3)


def small(*fields, features=8):
    more = ("model.hidden=4,6,6", "model.depths=1,1,1", "model.length=16", *fields)
    return programs.settings("mgfn", *more, features=features)


def known(sums, scores):
    """Outputs of videos whose features have one number: sums of absolute values are themselves."""
    own = {
        "scores": jnp.asarray(scores, jnp.float32),
        "features": jnp.asarray(sums, jnp.float32)[..., None],
        "selector": jnp.ones(np.shape(scores)),
    }
    return Outputs(jnp.zeros(np.shape(scores)), for_loss=own)


def test_the_loss_by_hand():
    """Two pairs of videos of three snippets, one crop."""
    sums = [[[1, 2, 3]], [[4, 4, 4]], [[9, 9, 9]], [[7, 8, 9]]]
    scores = np.array([[0.1, 0.2, 0.3], [0.2, 0.2, 0.2], [0.8, 0.7, 0.9], [0.6, 0.6, 0.5]])
    rows = programs.batch(np.zeros((4, 3, 1), np.float32))
    found = {}
    for fixes in ("()", "true"):
        cfg = small(f"model.fixes={fixes}", features=1)
        found[fixes] = mgfn.loss(cfg, known(sums, scores), rows)[1]
    parts, fixed = found["()"], found["true"]
    means = scores.mean(1)
    bce = -(np.log(1 - means[:2]).sum() + np.log(means[2:]).sum()) / 4
    assert float(parts["bce"]) == close(bce)
    ordered = np.array([[3, 2, 1], [4, 4, 4], [9, 9, 9], [9, 8, 7]], float)
    distance = lambda a, b: np.linalg.norm(ordered[a] - ordered[b] + 1e-6)  # noqa: E731
    between = [(200 - distance(a, n)) ** 2 for a, n in ((2, 0), (3, 1))]
    assert float(parts["between"]) == close(1e-6 * np.mean(between))
    assert float(parts["normal"]) == close(1e-3 * distance(1, 0) ** 2)
    assert float(parts["abnormal"]) == close(1e-3 * distance(3, 2) ** 2)
    assert float(parts["sparse"]) == close(8e-3 * np.linalg.norm(scores[:2]))
    assert float(fixed["sparse"]) == close(8e-3 * np.linalg.norm(scores[2:]))
    assert float(parts["smooth"]) == close(8e-4 * np.square(np.diff(scores)).sum())


def test_rows_to_be_alike_are_halves_of_the_crops_unless_that_is_fixed():
    """Two crops of two normal videos: crops 0 against crops 1; fixed, the videos."""
    sums = [[[1, 1, 1], [2, 2, 2]], [[5, 5, 5], [6, 6, 6]]] * 2
    rows = programs.batch(np.zeros((4, 2, 3, 1), np.float32))
    found = []
    for fixes in ("()", "crop_pairs"):
        cfg = small(f"model.fixes={fixes}", features=1)
        found.append(float(mgfn.loss(cfg, known(sums, np.full((4, 3), 0.5)), rows)[1]["normal"]))
    assert found == [pytest.approx(1e-3 * 3, rel=1e-4), pytest.approx(1e-3 * 48, rel=1e-4)]


@pytest.mark.parametrize("slots", [20, 50])
def test_padding_changes_no_score_of_a_test(slots):
    cfg = small()
    weights = programs.filled_weights(cfg)
    x = np.random.default_rng(0).standard_normal((2, 37, 8)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, slots), (0, 0)))
    plain = programs.scores(cfg, weights, programs.batch(x))
    found = programs.scores(cfg, weights, programs.batch(padded, lengths=[37, 37]))[:, :37]
    np.testing.assert_allclose(found, plain, atol=1e-5)
