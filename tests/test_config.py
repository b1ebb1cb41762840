"""The three layers of settings, and the sentences for a user's mistakes."""

import dataclasses
import importlib

import pytest

from semvad_jax import config
from semvad_jax.files import BadInput

MODELS = sorted(path.stem for path in (config.CONFIGS / "models").glob("*.py"))


def test_the_override_beats_the_file_and_the_file_beats_the_table(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from semvad_jax.config import *\n"
        "config = Config(train=TrainConfig(lr=1e-3, epochs=2), data=DataConfig(dataset='xd'))\n"
    )
    cfg = config.load(path, ["train.lr=5e-4", "train.milestones=1,2", "eval.crop=mean"])
    assert (cfg.train.lr, cfg.train.epochs, cfg.train.milestones) == (5e-4, 2, (1, 2))
    assert (cfg.model.layers, cfg.model.heads, cfg.loss.text) == (3, 2, 1e-4 / 6)
    assert cfg.eval.crop == "mean"


def test_the_paper_presets():
    ucf, xd = config.load("ucf"), config.load("xd")
    assert (
        ucf.model.dim,
        ucf.model.length,
        ucf.model.layers,
        ucf.model.heads,
        ucf.model.window,
    ) == (512, 256, 2, 1, 8)
    assert (ucf.train.batch, ucf.train.epochs, ucf.train.lr, ucf.train.milestones) == (
        128,
        9,
        2e-5,
        (4, 8),
    )
    assert (ucf.eval.metric, ucf.eval.crop, ucf.train.batching, ucf.loss.text) == (
        "auc",
        5,
        "balanced",
        0.1 / 13,
    )
    assert (xd.train.epochs, xd.train.batching, xd.eval.metric, xd.eval.crop) == (
        10,
        "mixed",
        "ap",
        0,
    )


def test_an_unknown_data_set_trains_as_ucf():
    assert config.load("ucf", ["data.dataset=folder"]).model == config.load("ucf").model


@pytest.mark.parametrize("name", ["ucf", "xd", "demo", "ucf_captions"])
def test_json_both_ways(name):
    cfg = config.load(name)
    assert config.from_json(config.to_json(cfg)) == cfg


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.lrr=1", "no config field 'train.lrr'; did you mean 'train.lr'?"),
        ("train.lr=x", "config field train.lr cannot be 'x': it takes a number"),
        ("train.epochs=1.5", "config field train.epochs cannot be '1.5': it takes a whole number"),
        ("model.qkv=1", "config field model.qkv cannot be '1': it takes true or false"),
        (
            "model.residual=neither",
            "config field model.residual cannot be 'neither': it takes 'visual' or 'caption' or "
            "'both' or 'gated'",
        ),
        (
            "train.milestones=1,b",
            "config field train.milestones cannot be '1,b': it takes a comma-separated list of int",
        ),
        ("model.length=9", "model.length 9 is not a multiple of model.window 8"),
        ("train.batch=3", "train.batch 3 must be even for balanced batches"),
        ("train.epochs=0", "train.epochs 0 must be positive"),
        ("train.decay=0", "train.decay 0.0 must be in (0, 1]"),
        ("eval.temperature=0", "eval.temperature 0.0 must be positive"),
        ("lr", "--set 'lr' is not of the form section.field=value"),
        (
            "model.name=nothing",
            f"unknown model 'nothing'; --model takes one of: {', '.join(MODELS)}",
        ),
        (
            "model.preset=nothing",
            "model semvad has no preset 'nothing'; model.preset takes one of: best, paper, release",
        ),
        (
            "model.name=pel4vad model.hidden=8",
            "model.hidden 8: pel4vad takes 2 numbers above 0",
        ),
        (
            "model.name=mgfn model.depths=1,0,1",
            "model.depths 1,0,1: mgfn takes 3 numbers above 0",
        ),
        (
            "model.name=rtfm model.fixes=smooth",
            "model.fixes takes true, or some of smooth_across, which rtfm's program does; it does "
            "not do smooth",
        ),
        ("model.name=mil model.heads=1", "model mil has no model.heads; leave it out"),
        ("model.dim=9 model.heads=2", "model.dim 9 is not a multiple of model.heads 2"),
    ],
)
def test_mistakes_get_one_sentence(override, sentence):
    with pytest.raises(BadInput) as error:
        config.load("ucf", override.split(" "))
    assert str(error.value) == sentence


def test_a_config_file_may_hold_fields_of_another_model(tmp_path):
    text = "from semvad_jax.config import *\nconfig = Config(model=ModelConfig(qkv=True, layers=1))"
    (tmp_path / "mine.py").write_text(text)
    file = str(tmp_path / "mine.py")
    assert config.load(file).model.qkv is True
    model = config.load(file, ["model.name=vadclip", "loss.sem=0"]).model
    assert (model.qkv, model.layers) == (None, 1)


def test_a_missing_file_names_the_known_ones():
    with pytest.raises(BadInput, match=r"no config file .*nope.py.*demo.*ucf"):
        config.load("nope")


def test_resolve_fills_sizes_and_refuses_other_classes(tmp_path):
    from tests.support.stores import make_store

    store = make_store(tmp_path / "store")
    cfg = config.resolve(config.load("ucf"), store)
    assert (cfg.data.feature_dim, cfg.data.caption_dim, cfg.data.text_dim, cfg.data.text_tower) == (
        12,
        10,
        6,
        0,
    )
    assert cfg.data.classes == ("Normal", "Fighting", "Arson")
    assert cfg.eval.crop == 0  # the store has one crop only
    other = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, classes=("Normal", "Riot")))
    with pytest.raises(
        BadInput,
        match="has classes Normal, Fighting, Arson, but this run was made for Normal, Riot",
    ):
        config.resolve(other, store)


def test_an_old_name_keeps_working_and_says_the_new_one_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(config, "_told_once", set())
    path = tmp_path / "mine.py"
    text = "from semvad_jax.config import *\nconfig = Config(train=TrainConfig(protocol='{}'))"
    path.write_text(text.format("release"))
    by_set = config.load("ucf", ["train.protocol=release"])
    assert by_set.train.protocol == "reload_best" and by_set.eval.select_head == "max"
    assert config.load(path) == config.load("ucf", ["train.protocol=reload_best"])
    old = config.to_json(by_set).replace('"reload_best"', '"release"')
    assert config.from_json(old) == by_set
    told = capsys.readouterr().err
    assert told == "note: train.protocol=release is called train.protocol=reload_best now\n"
    path.write_text(text.format("reload"))
    with pytest.raises(BadInput, match="cannot be 'reload': it takes 'plain' or 'reload_best'"):
        config.load(path)


@pytest.mark.parametrize("name", MODELS)
def test_only_models_that_have_them_take_bfloat16_and_rematerialised_blocks(name):
    """Others would ignore the setting in silence."""
    program = (config.CONFIGS.parent / "semvad_jax" / "models" / f"{name}.py").read_text()
    for field, value, used in (
        ("train.dtype", "bfloat16", "activations("),
        ("train.remat", "blocks", "remat("),
    ):
        overrides = [f"model.name={name}", f"{field}={value}"]
        if used in program:
            config.load("ucf", overrides)
        else:
            with pytest.raises(BadInput, match=f"{field} {value}: model {name} takes"):
                config.load("ucf", overrides)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_parts_are_for_models_whose_rows_do_not_meet(name):
    """Neither in a loss of the model's own nor in the statistics of a batch."""
    module = importlib.import_module(f"semvad_jax.models.{name}")
    overrides = [f"model.name={name}", "train.microbatch=2"]
    if hasattr(module, "loss") or hasattr(module, "init_state"):
        with pytest.raises(BadInput, match=f"model {name} has no train.microbatch; leave it out"):
            config.load("ucf", overrides)
    else:
        config.load("ucf", overrides)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.microbatch=48"], "train.batch 128 is not a multiple of train.microbatch 48"),
        (["train.microbatch=-2"], "not a multiple of train.microbatch -2"),
        (["train.microbatch=2", "loss.sigma_greedy=true"], "loss.sigma_greedy needs all rows"),
        (
            ["train.microbatch=2", "loss.sem_videos=anomalous"],
            "loss.sem_videos=anomalous needs all rows of a batch at once; set train.microbatch=0",
        ),
    ],
)
def test_parts_of_a_batch_that_cannot_be_added_up_are_refused(overrides, sentence):
    with pytest.raises(BadInput, match=sentence):
        config.load("ucf", overrides)
