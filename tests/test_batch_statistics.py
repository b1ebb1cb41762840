"""A model with batch statistics, from training to a restored run: RTFM and CLIP-TSA in small."""

import json
import shutil

import jax
import numpy as np
import pytest

import main
from semvad_jax import checkpoint, config, seeds, train
from tests.support.stores import make_store

SMALL = ("model.dim=4", "model.hidden=4,3", "model.length=8", "train.batch=8", "train.lr=1e-2")
SMALL += ("train.epochs=2", "data.val_fraction=0.25", "model.keep=0.8")
NAME = "clip_tsa"  # RTFM's network, with noise


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "store"
    return make_store(path, train=32, test=8, lengths=(5, 8, 20), crops=2)


@pytest.fixture(scope="module")
def cfg(features):
    return config.resolve(config.load("ucf", [f"model.name={NAME}", *SMALL]), features)


@pytest.fixture(scope="module")
def both(cfg, features):
    return jax.device_get(seeds.train(cfg, features, [9, 42], chunk=1))


def test_a_seed_alone_is_the_seed_among_others(cfg, features, both):
    """Dropout, noise and batch statistics are a seed's own."""
    alone = jax.device_get(seeds.train(cfg, features, [42], chunk=1))
    one, same = seeds.select(alone, 0), seeds.select(both, 1)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)
    means = norm_of(both)["mean"]
    assert not np.allclose(means[0], means[1])


def norm_of(state):
    return state.state["magnitudes"]["temporal"]["one"]["norm"]


def test_statistics_go_a_tenth_of_the_way_at_each_step(cfg, features):
    program = seeds.Program(cfg, features, 1)
    state = seeds.select(program.own(program.init([9], [9])), 0)
    assert not np.any(norm_of(state)["mean"])
    rows, frozen = jax.device_get((program.rows, program.frozen))
    rows, frozen = jax.tree.map(jax.numpy.asarray, (rows, frozen))
    one = jax.numpy.ones(1, bool)
    step = jax.jit(lambda s: train.run_interval(cfg, frozen, rows, one, s)[0])
    after = step(state)
    variance = norm_of(after)["var"]  # 0.9 of 1, and a tenth of the batch's
    assert np.all(variance >= 0.9) and np.any(variance > 0.9)


def test_the_best_weights_keep_their_statistics(cfg, both):
    for best in both.best.values():
        moved = jax.tree.map(lambda x: np.ptp(np.asarray(x), axis=0).max() > 0, best.state)
        assert any(jax.tree.leaves(moved))
    metrics = {"test": jax.numpy.float32(2.0)}
    state = seeds.select(both, 0)
    kept = train.keep_best(cfg, state, metrics)
    for a, b in zip(
        jax.tree.leaves(kept.best["test"].weights), jax.tree.leaves(state.weights), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def trained(features, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "run"
    sets = [word for text in SMALL for word in ("--set", text)]
    asked = ["--config", "ucf", "--model", NAME, *sets, "--data", str(features.path)]
    main.main([*asked, "--vmap-seeds", "2", "--out", str(run)])
    return run, asked


def test_a_restored_run_gives_its_figures_to_the_digit(trained, capsys):
    run, _ = trained
    summary = json.loads((run / "summary.json").read_text())["metrics"]
    main.main(["--restore", str(run), "--eval"])
    printed = capsys.readouterr().out
    for name in ("last/binary/auc", "last/binary/ap"):
        assert f"{100 * summary[name]['mean']:.2f}" in printed
    saved, cfg = checkpoint.steps(run), checkpoint.read_config(run)
    weights, count = checkpoint.last_weights(run, cfg, checkpoint.read_meta(run))
    assert saved and count == 2 and np.any(jax.tree.leaves(weights.state)[0])


def test_going_on_ends_in_the_same_figures(trained, tmp_path, monkeypatch):
    """Stopped after the first epoch."""
    run, asked = trained
    place, stopped = tmp_path / "run", []
    evaluate = seeds.Program._evaluate

    def once(self, state):
        if stopped:
            raise KeyboardInterrupt
        stopped.append(True)
        return evaluate(self, state)

    monkeypatch.setattr(seeds.Program, "_evaluate", once)
    command = [*asked, "--vmap-seeds", "2", "--out", str(place)]
    with pytest.raises(SystemExit):
        main.main(command)
    monkeypatch.undo()
    main.main([*command, "--resume"])
    one, other = (json.loads((p / "summary.json").read_text())["metrics"] for p in (run, place))
    assert one == other
    shutil.rmtree(place)
