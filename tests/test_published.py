"""Weights of the public programs on their way in: .pth, safetensors, parameters, a table."""

import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy

import main
from semvad_jax import data, evaluate, models
from semvad_jax.config import load, resolve
from semvad_jax.files import BadInput
from semvad_jax.metrics import MetricName
from semvad_jax.models import convert
from semvad_jax.types import Weights
from tests.support.model_cases import config as small
from tests.support.model_cases import make_frozen, make_params
from tests.support.stores import make_store

CASES = {
    "vadclip": ["model.name=vadclip", "model.dim=12", "model.length=16"],
    "semvad": ["model.preset=release", "model.dim=8", "model.length=16"],
}


def torch_state(cfg, params, tower):
    """The state dict that the public program would save of these parameters."""
    state = {f"clipmodel.{k}": np.asarray(v) for k, v in tower.items()}
    state |= {
        "clipmodel.logit_scale": np.array(4.6, np.float32),
        "disAdj.sigma": np.ones(1, np.float32),
    }
    for path, leaf in jax.tree.leaves_with_path(params):
        name, value = jax.tree_util.keystr(path, simple=True, separator="."), np.asarray(leaf)
        if name == "mixer.conv.kernel":
            value = value.reshape(3, 2, cfg.model.dim, cfg.model.dim).T
        elif name not in convert.ARRAYS:
            value = value.T
        state[convert.torch_name(name)] = np.ascontiguousarray(value)
    return state


@pytest.fixture(scope="module", params=CASES)
def released(request, tmp_path_factory):
    """Overrides, a store with CLIP's class tokens and tower, and a state dict that fits both."""
    folder = tmp_path_factory.mktemp("released")
    frozen = make_frozen(small(classes=3, tower=16))
    tokens, tower = np.asarray(frozen.class_tokens), jax.tree.map(np.asarray, frozen.text_tower)
    text = {f"text_tower.{k}": v for k, v in tower.items()} | {"class_tokens": tokens}
    store = make_store(folder / "store", lengths=(5, 16, 20), text=text)
    overrides = [*CASES[request.param], f"data.store={store.path}"]
    cfg = resolve(load("ucf", overrides), store)
    params = make_params(cfg)
    return overrides, store, cfg, params, torch_state(cfg, params, tower)


def test_parameters_and_tower_come_back(released):
    _, store, cfg, params, state = released
    frozen = data.frozen(store)
    found, tower = convert.from_torch(
        cfg, state, store.class_text["class_tokens"], store.class_text["class_caption"]
    )
    jax.tree.map(np.testing.assert_array_equal, found, params)
    jax.tree.map(np.testing.assert_array_equal, tower.text_tower, frozen.text_tower)
    np.testing.assert_array_equal(tower.class_tokens, frozen.class_tokens)
    np.testing.assert_array_equal(tower.class_caption, frozen.class_caption)


def test_a_checkpoint_with_clips_image_tower_is_read(released):
    _, store, cfg, params, state = released
    whole = state | {"clipmodel.visual.conv1.weight": np.ones((2, 3, 4, 4), np.float16)}
    found, _ = convert.from_torch(cfg, whole, store.class_text["class_tokens"])
    jax.tree.map(np.testing.assert_array_equal, found, params)


def spoiled(state, change):
    state = dict(state)
    if change == "missing":
        del state["gc1.residual.weight"]
    if change == "extra":
        state["gc9.weight"] = state["gc1.weight"]
    if change == "misshaped":
        state["gc1.weight"] = state["gc1.weight"][:, :-1]
    if change == "tower":
        state["clipmodel.ln_final.bias"] = state["clipmodel.ln_final.bias"][:-1]
    if change == "block":
        del state["clipmodel.transformer.resblocks.0.ln_2.bias"]
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "it lacks 1 of its weights .gc1.residual.weight."),
        ("extra", "it holds more than it has: 1 of its weights .gc9.weight."),
        ("misshaped", "the checkpoint's gc1.weight has shape"),
        ("tower", r"the checkpoint's clipmodel.ln_final.bias has shape .15., but .* has .16."),
        ("block", "it lacks 1 of its weights .clipmodel.transformer.resblocks.0.ln_2.bias."),
    ],
)
def test_what_does_not_fit_is_refused_by_name(released, change, words):
    _, store, cfg, _, state = released
    with pytest.raises(BadInput, match=words) as error:
        convert.from_torch(cfg, spoiled(state, change), store.class_text["class_tokens"])
    assert "\n" not in str(error.value)


def test_models_without_released_weights_are_refused(released):
    _, store, _, _, state = released
    tokens = store.class_text["class_tokens"]
    for overrides in (["model.name=mil"], ["model.preset=paper"]):
        cfg = resolve(load("ucf", ["model.dim=8", "model.length=16", *overrides]), store)
        with pytest.raises(BadInput, match="^no released checkpoint has "):
            convert.from_torch(cfg, state, tokens)


def test_the_command_prints_the_metrics_of_the_weights(released, tmp_path, capsys):
    overrides, store, cfg, params, state = released
    file = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(state, file)
    sets = [word for field in overrides for word in ("--set", field)]
    main.main(["--config", "ucf", *sets, "--from-torch", str(file), "--eval"])
    printed = capsys.readouterr().out
    videos = evaluate.Videos(cfg, store, data.split(cfg, store)[2], [])
    score = jax.jit(evaluate.score_windows, static_argnums=0)
    scores = score(cfg, data.frozen(store), videos.windows(), Weights(params))
    found = videos.test_metrics(videos.scores(jax.device_get(scores)), "test")
    assert "weights of weights.safetensors" in printed and "test, optimistic" in printed
    for head in ("binary", "class"):
        assert f"{100 * found[MetricName('test', head, 'auc')]:.2f}" in printed
    assert models.model(cfg).__name__.endswith(cfg.model.name)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("file", "is no safetensors file; make one with featurize/convert_checkpoint.py"),
        ("store", "has no class tokens"),
        ("command", "--from-torch needs --config NAME and --eval"),
    ],
)
def test_mistakes_end_in_one_sentence(case, words, released, tmp_path, capsys):
    store = make_store(tmp_path / "store") if case == "store" else released[1]
    (tmp_path / "weights").write_text("not weights")
    command = ["--config", "ucf", "--data", str(store.path)]
    command += ["--from-torch", str(tmp_path / "weights"), "--eval"]
    with pytest.raises(SystemExit) as stop:
        main.main(command[:-1] if case == "command" else command)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint was run",))


class TestConvertCheckpoint:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch", reason="torch is not installed; .pth needs it")

    def convert(self, *paths):
        from featurize import convert_checkpoint

        convert_checkpoint.main([str(path) for path in paths])

    @pytest.mark.parametrize("training", [False, True])
    def test_a_state_dict_becomes_float32_safetensors(self, torch, training, tmp_path):
        weight = torch.arange(6, dtype=torch.float16).reshape(2, 3)
        content = {"a.weight": weight, "same": weight.t()}
        if training:  # as the public programs save them while they train
            extra = {"epoch": 3, "optimizer_state_dict": {"state": {}}, "ap": np.float64(0.87)}
            content = {"model_state_dict": content} | extra
        torch.save(content, tmp_path / "in.pth")
        self.convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
        found = safetensors.numpy.load_file(tmp_path / "out.safetensors")
        assert set(found) == {"a.weight", "same"} and found["same"].dtype == np.float32
        np.testing.assert_array_equal(found["same"], found["a.weight"].T)
        assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []

    @pytest.mark.parametrize("case", ["code", "pickle", "text", "list", "missing"])
    def test_anything_else_is_refused_in_one_sentence(self, torch, case, tmp_path, capsys):
        file, content = tmp_path / "in.pth", {"weight": torch.ones(2), "hook": Harmful()}
        if case == "code":
            torch.save(content, file)
        if case == "pickle":
            file.write_bytes(pickle.dumps(Harmful()))
        if case == "text":
            file.write_text("<html>not found</html>")
        if case == "list":
            torch.save([torch.ones(2)], file)
        with pytest.raises(SystemExit) as stop:
            self.convert(file, tmp_path / "out.safetensors")
        lines = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith(f"error: {file}")
        assert not (tmp_path / "out.safetensors").exists()
