"""What a checkpoint holds and gives back: all seeds, the weights alone, or a refusal."""

import dataclasses
import json
import re
import shutil
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import checkpoint, config, data, seeds
from semvad_jax import run as runs
from semvad_jax.files import BadInput
from tests.support.stores import make_store

META = checkpoint.Meta(
    config="ucf",
    weight_seeds=[1, 2, 3],
    data_seeds=[4, 5, 6],
    chunk=None,
    dataset="synthetic",
    classes=["Normal", "Fighting", "Arson"],
    producers={"vision": "synthetic"},
    store_sha256={"videos.jsonl": "0" * 64},
)
SMALL = ["model.dim=4", "model.length=8", "model.layers=1", "train.batch=8"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("checkpoint") / "store", lengths=(5, 8))
    return seeds.Program(config.resolve(config.load("ucf", SMALL), store), store, 3, 2)


@pytest.fixture(scope="module")
def saved(program, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    state = program.init([1, 2, 3], [4, 5, 6])
    checkpoint.begin(run, program.cfg, program.frozen, META)
    with checkpoint.Checkpoints(run) as saved:
        saved.save(program.own(state), {"wall": 2.0, "train": 1.0})
    return run, program.own(state)


def test_every_array_comes_back(program, saved):
    run, state = saved
    with checkpoint.Checkpoints(run) as again:
        found, clock = again.restore(program.saved_state())
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype and a.shape[0] == 3
    assert clock == {"wall": 2.0, "train": 1.0}


def test_the_weights_alone_and_one_seed(program, saved):
    run, state = saved
    with checkpoint.Checkpoints(run) as again:
        params = again.restore_weights(seeds.abstract_weights(program.cfg, 3))
    one = seeds.select(params, 1)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b[1])


def test_what_detection_needs_lies_beside_it(program, saved):
    run, _ = saved
    cfg, frozen, meta = checkpoint.read(run)
    assert cfg == program.cfg and meta == META
    np.testing.assert_array_equal(frozen.class_caption, program.frozen.class_caption)
    assert frozen.text_tower is None


def test_a_text_tower_comes_back(tmp_path, program):
    frozen = data.frozen(program.store)
    tower = {
        "positional_embedding": jnp.ones((3, 2)),
        "transformer.resblocks.0.ln_1.weight": jnp.ones(2),
    }
    tokens = jnp.ones((3, 77), jnp.int32)
    whole = type(frozen)(frozen.class_caption, frozen.class_name, tokens, tower)
    checkpoint.begin(tmp_path, program.cfg, whole, META)
    _, found, _ = checkpoint.read(tmp_path)
    assert set(found.text_tower) == set(tower) and found.class_tokens.shape == (3, 77)


def test_a_full_disk_is_told_before_anything_is_written(program, saved, monkeypatch):
    run, state = saved
    usage = namedtuple("usage", "total used free")(10**6, 10**6 - 10, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with checkpoint.Checkpoints(run) as again:
        with pytest.raises(OSError, match="No space left on device"):
            again.save(state, {})
        assert again.latest() == 0


def test_other_seeds_are_refused(program, saved):
    run, _ = saved
    two = seeds.Program(program.cfg, program.store, 2)
    with (
        checkpoint.Checkpoints(run) as again,
        pytest.raises(BadInput, match="another model or other seeds"),
    ):
        again.restore(two.saved_state())


def test_no_checkpoint_and_no_run_are_one_sentence(program, tmp_path):
    with (
        checkpoint.Checkpoints(tmp_path) as none,
        pytest.raises(BadInput, match="holds no finished checkpoint"),
    ):
        none.restore(program.saved_state())
    with pytest.raises(BadInput, match="is not a run: .*config.json is missing"):
        checkpoint.read(tmp_path / "nothing")


def test_another_number_of_devices_goes_on_with_the_same_seeds(program, saved):
    run, state = saved
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: first)
        other = seeds.Program(program.cfg, program.store, 3, 3)
    assert (program.layout.slots, other.layout.slots) == (4, 3)
    with checkpoint.Checkpoints(run) as again:
        found, _ = again.restore(other.saved_state())
    (chunk,) = other.adopt(found)
    for a, b in zip(jax.tree.leaves(chunk), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_of_before_has_no_checksums_and_its_unknown_keys_are_left_out(saved, tmp_path):
    run = shutil.copytree(saved[0], tmp_path / "run")
    path = run / "checkpoint" / "meta.json"
    (path.parent / "checksums.json").unlink()
    known = json.loads(path.read_text())
    del known["store_sha256"]
    path.write_text(json.dumps(known | {"of_another_version": [1]}))
    cfg, _, meta = checkpoint.read(run)
    assert meta == dataclasses.replace(META, store_sha256=None) and runs.identity_of(run) is None
    settings = json.loads((run / "config.json").read_text())
    settings["train"]["of_another_version"] = 1
    (run / "config.json").write_text(json.dumps(settings))
    assert checkpoint.read_config(run) == cfg
    checkpoint.begin(run, cfg, checkpoint.read(run)[1], meta)  # as --resume does
    assert "store_sha256" not in json.loads(path.read_text())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config.json", "config.json does not hold a run's settings"),
        ("checkpoint/meta.json", "meta.json is damaged"),
        ("checkpoint/frozen.safetensors", "frozen.safetensors is damaged"),
    ],
)
@pytest.mark.parametrize("damage", ["{", '["a list"]', ""])
def test_a_damaged_file_is_one_sentence(saved, tmp_path, name, sentence, damage):
    run = shutil.copytree(saved[0], tmp_path / "run")
    (run / "checkpoint" / "checksums.json").unlink()  # as before they were recorded
    (run / name).write_text(damage)
    with pytest.raises(BadInput, match=re.escape(sentence)):
        checkpoint.read(run)


def test_a_run_is_known_by_store_settings_and_seeds(program, saved):
    run, _ = saved
    cfg = program.cfg
    store = {"videos.jsonl": "0" * 64}
    own = runs.identity(store, cfg, [1, 2, 3], [4, 5, 6])
    assert runs.identity_of(run) == own and re.fullmatch("[0-9a-f]{12}", own)
    elsewhere = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, store="/elsewhere"))
    assert runs.identity(store, elsewhere, [1, 2, 3], [4, 5, 6]) == own
    slower = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, lr=1e-6))
    others = [
        runs.identity({"videos.jsonl": "1" * 64}, cfg, [1, 2, 3], [4, 5, 6]),
        runs.identity(store, slower, [1, 2, 3], [4, 5, 6]),
        runs.identity(store, cfg, [1, 3, 2], [4, 5, 6]),
        runs.identity(store, cfg, [4, 5, 6], [1, 2, 3]),
    ]
    assert len({own, *others}) == 5
