"""A run without this package: the exported scorer against --detect, state dicts and back."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import main
from semvad_jax import config, data, export, seeds
from semvad_jax import store as stores
from semvad_jax.files import BadInput
from semvad_jax.models import convert
from semvad_jax.report.summary import mean_and_sd, read_summary
from tests.support.command_line import refused
from tests.support.model_cases import config as small
from tests.support.model_cases import make_frozen, make_params
from tests.support.stores import make_store

# what the script may import besides Python's own: jax, numpy, safetensors and flatbuffers
ALONE = """
import runpy, sys

class Forbidden:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {"semvad_jax", "featurize", "flax", "orbax", "optax", "torch"}:
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Forbidden())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic", val_fraction=0.25),
    model=ModelConfig(name="vadclip", dim=4, length=8, layers=1),
    train=TrainConfig(batch=8, epochs=1, lr=1e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run of two seeds on a store whose class texts are by CLIP's tower."""
    folder = tmp_path_factory.mktemp("export")
    frozen = make_frozen(small(classes=3, tower=16))
    text = {f"text_tower.{k}": np.asarray(v) for k, v in (frozen.text_tower or {}).items()}
    text["class_tokens"] = np.asarray(frozen.class_tokens)
    make_store(folder / "store", train=32, test=8, lengths=(5, 8, 11), text=text)
    make_store(folder / "few", train=2, test=4, lengths=(8, 19, 3), text=text, seed=1)
    (folder / "tiny.py").write_text(CONFIG)
    train = ["--config", str(folder / "tiny.py"), "--data", str(folder / "store")]
    main.main([*train, "--vmap-seeds", "2", "--out", str(folder / "run")])
    return folder / "run"


def test_the_exported_script_scores_as_detect_does(run, tmp_path):
    out, found = tmp_path / "exported", tmp_path / "detected"
    main.main(["--restore", str(run), "--export", str(out)])
    main.main(["--restore", str(run), "--detect", str(run.parent / "few"), "--out", str(found)])
    few, facts = stores.open(run.parent / "few"), json.loads((out / "model.json").read_text())
    assert len((out / "score.py").read_text().splitlines()) <= 20
    for i in (0, 2, 4):  # as long as a window, longer, shorter
        video = few.videos[i].video
        for name, rows in (("visual", few.visual_rows(i)), ("captions", few.caption_rows(i))):
            np.save(tmp_path / f"{name}.npy", rows)
        call = [sys.executable, "-c", ALONE, out / "score.py", "visual.npy", "captions.npy"]
        said = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        ours = list(csv.DictReader((found / video / "scores.csv").read_text().splitlines()))
        theirs = list(csv.DictReader(said.splitlines()))
        assert len(ours) == len(theirs) == few.videos[i].snippets
        for a, b in zip(ours, theirs, strict=True):
            seeds = [float(b["seed_0"]), float(b["seed_1"])]
            assert float(b["score_mean"]) == pytest.approx(float(a["score_mean"]), abs=1e-5)
            assert np.std(seeds, ddof=1) == pytest.approx(float(a["score_sd"]), abs=1e-5)
    assert facts["classes"] == ["Normal", "Fighting", "Arson"] and facts["length"] == 8
    rule = json.loads((run / "checkpoint" / "thresholds.json").read_text())
    assert facts["threshold"]["rule"]["opens"] == rule[facts["head"]]


def test_the_card_has_the_runs_table_and_its_limits(run, tmp_path):
    export.export(run, tmp_path)
    card, summary = (tmp_path / "README.md").read_text(), read_summary(run / "summary.json")
    assert card.startswith("# vadclip on synthetic, 2 seeds\n")
    for name, value in summary.metrics.items():
        assert "@" in name.metric or mean_and_sd(value) in card
    assert "A score is no probability" in card and "| captions, " not in card
    assert "rows of 12 numbers, `CAPTIONS.npy` n rows of 10" in card


def test_the_weights_are_the_functions_argument(run, tmp_path):
    """Other weights in the file are other scores."""
    export.export(run, tmp_path)
    arrays = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    score = jax.export.deserialize(bytearray((tmp_path / "score.jax").read_bytes()))
    assert set(score.platforms) == {"cpu", "cuda"}
    inputs = (
        np.ones((3, 8, 12), np.float32),
        np.ones((3, 8, 10), np.float32),
        np.full(3, 8, np.int32),
    )
    anomaly, classes = score.call(arrays, *inputs)
    assert anomaly.shape == (2, 3, 8) and classes.shape == (2, 3, 8, 3)
    zeros = {k: np.zeros_like(v) if "binary_head.score" in k else v for k, v in arrays.items()}
    assert np.all(np.asarray(score.call(zeros, *inputs)[0]) == 0.5) and not np.all(anomaly == 0.5)


@pytest.mark.parametrize("name", ["dsanet", "deep_mil"])
def test_other_models_are_exported_too(name, tmp_path):
    """Those that are tested on whole videos for any number of snippets."""
    store = make_store(tmp_path / "s", lengths=(5,))
    cfg = config.resolve(config.load("ucf", [f"model.name={name}"]), store)
    found = export.scoring(cfg, "binary", data.frozen(store), seeds.abstract_weights(cfg, 2))
    *_, visual, _, _ = jax.tree.unflatten(found.in_tree, found.in_avals)[0]
    slots = "t" if cfg.eval.whole else str(cfg.model.length)
    assert [str(size) for size in visual.shape] == ["b", slots, "12"]


def test_a_model_that_needs_fixed_sizes_is_refused(tmp_path):
    store = make_store(tmp_path / "s", lengths=(5,))
    cfg = config.resolve(config.load("ucf", ["model.name=clip_tsa"]), store)
    with pytest.raises(BadInput, match="model clip_tsa cannot be exported"):
        export.scoring(cfg, "binary", data.frozen(store), seeds.abstract_weights(cfg, 1))


CASES = {
    "vadclip": ["model.name=vadclip", "model.dim=12", "model.length=16"],
    "semvad": ["model.preset=release", "model.dim=8", "model.length=16"],
    "dsanet": ["model.name=dsanet", "model.length=16"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_state_dict_comes_back_to_the_bit(case, tmp_path):
    frozen = make_frozen(small(classes=3, tower=16))
    text = {f"text_tower.{k}": np.asarray(v) for k, v in (frozen.text_tower or {}).items()}
    tokens = np.asarray(frozen.class_tokens)
    store = make_store(tmp_path / "s", lengths=(5,), text=text | {"class_tokens": tokens})
    cfg = config.resolve(config.load("ucf", CASES[case]), store)
    params = make_params(cfg)
    cropped = data.frozen(store)
    state = convert.to_torch(cfg, params, cropped)
    again, tower = convert.from_torch(cfg, state, tokens)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    jax.tree.map(np.testing.assert_array_equal, tower.text_tower, cropped.text_tower)


def test_a_runs_state_dicts_are_judged_alike(run, tmp_path, capsys):
    """--to-torch and then --from-torch: seed by seed the figures of the run."""
    main.main(["--restore", str(run), "--to-torch", str(tmp_path / "torch")])
    files = sorted((tmp_path / "torch").iterdir())
    assert [file.name for file in files] == ["seed-234-234.safetensors", "seed-9-9.safetensors"]
    capsys.readouterr()
    start = ["--config", str(run.parent / "tiny.py"), "--data", str(run.parent / "store"), "--eval"]
    values = read_summary(run / "summary.json").metrics
    name = next(n for n in values if str(n) == "last/binary/auc")
    for file, place in zip(files, (1, 0), strict=True):
        main.main([*start, "--from-torch", str(file)])
        assert f"{100 * values[name].values[place]:.2f}" in capsys.readouterr().out


def test_what_cannot_be_handed_on_is_refused(run, tmp_path, capsys):
    cfg = config.load("demo", ["model.name=mil"])
    params = {"first": {"kernel": np.zeros((2, 2))}}
    with pytest.raises(BadInput, match="first.kernel.*take VadCLIP, or SemVAD with model.preset"):
        convert.to_torch(cfg, params, make_frozen(small(classes=3, tower=16)))
    with pytest.raises(BadInput, match="^weights of rtfm are not written for PyTorch; "):
        convert.to_torch(config.load("ucf", ["model.name=rtfm"]), params, make_frozen(small()))
    with pytest.raises(BadInput, match="class texts are not CLIP's"):
        convert.to_torch(cfg, {"class_text": {"residual": np.zeros(2)}}, make_frozen(small()))
    assert "is not a run" in refused(capsys, ["--restore", tmp_path, "--to-torch", tmp_path / "t"])
    with pytest.raises(SystemExit):
        main.main(["--restore", str(run), "--export", str(tmp_path), "--eval"])
    assert "--restore needs" in capsys.readouterr().err
    settings = json.loads((run / "config.json").read_text())
    settings["eval"]["smooth"] = 3
    with pytest.raises(BadInput, match="train with eval.smooth=1"):
        export.refuse_smoothing(Path("run"), config.from_json(json.dumps(settings)))
