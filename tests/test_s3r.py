"""S3R against its public program's own numbers, with the dictionary that they were made with."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import main
from semvad_jax import checkpoint, config, data
from semvad_jax.models import convert, rtfm, s3r
from semvad_jax.types import Outputs
from tests.support import programs
from tests.support.stores import make_store

TINY = ("model.dim=8", "model.hidden=4,3", "model.key_dim=4", "model.length=8", "train.batch=8")
TINY += ("train.epochs=1",)
PARTS = {
    "bce": "loss_bce",
    "magnitude": "loss_magnitude",
    "smooth": "loss_smooth",
    "sparse": "loss_sparse",
    "whole": "loss_macro",
}
close = partial(pytest.approx, rel=1e-5)


@pytest.fixture(scope="module")
def program():
    """The program, our settings, its weights in our names, a batch, and the dictionary."""
    program = programs.Program("s3r")
    cfg = programs.settings("s3r", features=512)
    frozen = replace(programs.NOTHING, dictionary=jnp.asarray(program.inputs["dictionary"]))
    rows = programs.batch(program.inputs["x"])
    return program, cfg, convert.from_program(cfg, program.weights), rows, frozen


def test_scores_of_a_test(program):
    program, cfg, weights, _, frozen = program
    crops = program.inputs["x_eval"][0]
    found = programs.scores(cfg, weights, programs.batch(crops), frozen).mean(0)
    np.testing.assert_allclose(found, program.numbers["frame_eval"], atol=1e-4)


def test_losses_gradients_and_batch_statistics(program):
    program, cfg, weights, rows, frozen = program
    total, parts, state, gradients = programs.trained(cfg, weights, rows, frozen=frozen)
    assert total == close(float(program.numbers["loss"]))
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == close(float(program.numbers[theirs])), ours
    programs.same_gradients(program, gradients)
    programs.same_statistics(program, state)


def test_with_dropout(program, monkeypatch):
    program, cfg, weights, rows, frozen = program
    left_out = program.dropouts()
    for module in (s3r, rtfm):
        monkeypatch.setattr(module, "dropout", left_out)
    total, parts, _, gradients = programs.trained(cfg, weights, rows, jax.random.key(0), frozen)
    assert total == close(float(program.numbers["drop/loss"]))
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == close(float(program.numbers[f"drop/{theirs}"])), ours
    norm = programs.total_norm(gradients)
    assert norm == pytest.approx(float(program.numbers["drop/gradnorm_total"]), rel=1e-3)


def test_steps_of_training(program):
    program, cfg, weights, rows, frozen = program
    found = programs.losses_of_steps(cfg, weights, rows, frozen=frozen)
    np.testing.assert_allclose(found, program.numbers["loss_steps"], rtol=1e-3)


def small(*fields, features=8):
    more = ("model.dim=8", "model.hidden=4,3", "model.key_dim=4", "model.length=16", *fields)
    return programs.settings("s3r", *more, features=features)


def test_the_whole_videos_target_is_normal_unless_that_is_fixed():
    """Videos whose score by their normal part is ½ in both cases, one normal and one anomalous."""
    own = {
        "scores": jnp.full((2, 4), 0.5),
        "features": jnp.ones((2, 1, 4, 1)),
        "selector": jnp.ones((2, 4)),
        "whole": jnp.asarray([[0.0], [np.log(3)]]),  # ½ and ¾
    }
    rows = programs.batch(np.zeros((2, 1, 4, 1), np.float32))
    outputs = Outputs(jnp.zeros((2, 4)), for_loss=own)
    found = [
        float(s3r.loss(small(f"model.fixes={fixes}", features=1), outputs, rows)[1]["whole"])
        for fixes in ("()", "whole_normal")
    ]
    assert found == [close(np.log(8) / 2), close(np.log(8 / 3) / 2)]


@pytest.mark.parametrize("slots", [3, 50])
def test_padding_changes_no_score_of_a_test(slots):
    """Group normalisation and the means over time leave it out."""
    cfg = small()
    rng = np.random.default_rng(0)
    entries = jnp.asarray(rng.standard_normal((5, 8)), jnp.float32)
    frozen = replace(programs.NOTHING, dictionary=entries)
    weights = programs.filled_weights(cfg)
    x = rng.standard_normal((2, 37, 8)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, slots), (0, 0)))
    plain = programs.scores(cfg, weights, programs.batch(x), frozen)
    rows = programs.batch(padded, lengths=[37, 37])
    found = programs.scores(cfg, weights, rows, frozen)[:, :37]
    np.testing.assert_allclose(found, plain, atol=1e-5)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    path = tmp_path_factory.mktemp("s3r") / "store"
    return make_store(path, train=24, test=8, lengths=(5, 8, 20), crops=2)


def test_the_dictionary_is_of_normal_train_snippets_alone(features):
    """Features of anomalous and test videos may be anything: the dictionary stays, and a second
    one is the same.
    """
    cfg = config.resolve(config.load("ucf", ["model.name=s3r", "model.slots=4", *TINY]), features)
    rows = data.train_data(cfg, features, data.split(cfg, features)[0])
    first = s3r.prepare(cfg, rows, programs.NOTHING).dictionary
    rows.visual[rows.abnormal] = 7
    again = s3r.prepare(cfg, rows, programs.NOTHING).dictionary
    assert first.shape == (4, features.feature_dim)
    np.testing.assert_array_equal(first, again)
    rows.visual[rows.normal] *= 2
    assert not np.allclose(s3r.prepare(cfg, rows, programs.NOTHING).dictionary, first)


def test_a_run_keeps_its_dictionary(features, tmp_path, monkeypatch):
    run = tmp_path / "run"
    sets = [word for field in ("model.slots=4", *TINY) for word in ("--set", field)]
    command = ["--config", "ucf", "--model", "s3r", "--vmap-seeds", "2", "--out", str(run)]
    main.main([*command, "--data", str(features.path), *sets])
    cfg, frozen, _ = checkpoint.read(run)
    assert frozen.dictionary is not None and frozen.dictionary.shape == (4, features.feature_dim)
    monkeypatch.setattr(s3r, "MiniBatchDictionaryLearning", None)  # it is not made again
    main.main([*command, "--data", str(features.path), *sets, "--resume"])
    main.main(["--restore", str(run), "--eval"])
    before, after = (
        json.loads((run / name).read_text())["metrics"] for name in ("summary.json", "eval.json")
    )
    assert before == after
