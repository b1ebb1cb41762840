"""What a run takes, before it is begun: shapes, work, and compiling for a card that is not here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import main
from semvad_jax import config, data, evaluate, seeds
from semvad_jax.files import BadInput
from semvad_jax.report import plan
from tests.support.stores import make_store

ROOT = Path(__file__).parents[1]
SMALL = ["model.dim=4", "model.length=8", "train.batch=8", "train.epochs=1"]


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


@pytest.mark.parametrize(
    "model", ["semvad", "rtfm", "ur_dmu"]
)  # rows of crops, joint crops, whole videos
def test_planned_shapes_are_those_of_the_data(tmp_path, model):
    features = make_store(tmp_path / "store", lengths=(5, 8, 21))
    cfg = config.load("ucf", [f"model.name={model}", "train.batch=8", "data.val_fraction=0.2"])
    cfg = config.resolve(cfg, features)
    train, val, test = data.split(cfg, features)
    made = data.train_data(cfg, features, train)
    assert shapes(data.train_shapes(cfg, features, train)) == shapes(made)
    videos = evaluate.Videos(cfg, features, test, val)
    assert shapes(videos.window_shapes()) == shapes(videos.windows())


@pytest.mark.parametrize("rows", [0, 2])
def test_products_of_a_step_are_counted_by_hand(tmp_path, rows):
    """MIL on captions: Q → D → 1 a snippet. Forward, both kernels' gradients, and the gradient of
    the hidden values: 2 · (2QD + 3D) operations a snippet.
    """
    features = make_store(tmp_path / "store", lengths=(5, 8))
    sets = ["model.name=mil", "model.inputs=captions", f"train.microbatch={rows}", *SMALL]
    cfg = config.resolve(config.load("ucf", sets), features)
    program = seeds.Program(cfg, features, 2, target=seeds.Target(seeds.mesh(), None))
    q, d = cfg.data.caption_dim, cfg.model.dim
    assert sum(plan.products(program).values()) == 8 * 8 * 2 * (2 * q * d + 3 * d)


def test_parts_of_semvad_are_told_apart():
    cfg = config.load("ucf", SMALL)
    features = plan.public_store(cfg)
    program = seeds.Program(
        config.resolve(cfg, features), features, 1, target=seeds.Target(seeds.mesh(), None)
    )
    assert set(plan.products(program)) == {"fusion", "LGT adapter", "class texts", "heads"}


def test_a_plan_trains_nothing_and_needs_no_features(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sets = [word for field in (*SMALL, "model.name=mil") for word in ("--set", field)]
    main.main(["--config", "ucf", "--vmap-seeds", "10", "--plan", *sets])
    told = capsys.readouterr().out
    assert "features/ucf is not made yet; planned for the sizes of ucf" in told
    assert (
        "10 seeds on this device: 1 seed at a time on each of 2 devices, float32" in told
        and "temporaries of a step" in told
    )
    assert not any(tmp_path.iterdir())


def test_cores_can_be_devices_of_their_own(tmp_path):
    """In a process of its own: the devices are counted when jax starts."""
    make_store(tmp_path / "store", lengths=(5, 8))
    command = [sys.executable, "main.py", "--config", "ucf", "--data", str(tmp_path / "store")]
    command += ["--plan", "--vmap-seeds", "3", "--cpu-devices", "3"]
    sets = [word for field in (*SMALL, "model.name=mil") for word in ("--set", field)]
    done = subprocess.run([*command, *sets], cwd=ROOT, capture_output=True, text=True)
    assert "1 seed at a time on each of 3 devices, float32" in done.stdout, done.stderr


def test_the_command_line_names_the_cards_that_are_described():
    assert set(main.TARGETS) == set(plan.TARGETS)


def test_unknown_sizes_and_a_target_without_its_compiler_are_one_sentence(monkeypatch):
    with pytest.raises(BadInput, match="the sizes of fights are not known.*--data"):
        plan.public_store(config.load("fights"))
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        with pytest.raises(BadInput, match="cannot compile for h100 here.*extra cuda12"):
            plan.target_of("h100")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None,
    reason="compiling for a GPU needs the extra cuda12",
)
@pytest.mark.parametrize(
    ("name", "target", "limit"), [("ucf", "h100", 57.5), ("ucf", "rtx4090", 19)]
)
def test_ten_seeds_fit_the_card(name, target, limit):
    command = [sys.executable, "main.py", "--config", name, "--vmap-seeds", "10", "--plan"]
    done = subprocess.run(
        [*command, "--target", target], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("│ all ")]
    assert float(line.split("│")[2].split()[0]) <= limit
