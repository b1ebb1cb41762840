"""python featurize/run.py --dataset xd, as it is called: small models in the real formats."""

import json
from pathlib import Path

import numpy as np
import pytest

for package in ("open_clip", "transformers", "av"):
    pytest.importorskip(package, reason="needs the extra featurize")

from featurize import captions, clip, run  # noqa: E402
from semvad_jax import config, data, seeds, store  # noqa: E402
from tests.support import tiny_videollama3 as tiny_captioner  # noqa: E402
from tests.test_clip import register  # noqa: E402
from tests.test_videos import render  # noqa: E402

NORMAL = "v=2lXh2n0aPyw__#1_label_A"
RIOT = "v=2ncA53czMOg__#00-02-40_00-03-55_label_B4-0-0"
BOTH = "Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6"
CALM = "Fargo__#0-1_label_A"


@pytest.fixture
def official(tmp_path) -> Path:
    """XD-Violence as its archives unpack, four videos long."""
    folder = tmp_path / "xd"
    for place, name, frames in (
        ("1-1004", NORMAL, 40),
        ("1-1004", RIOT, 20),
        ("videos", BOTH, 33),
        ("videos", CALM, 16),
    ):
        (folder / place).mkdir(parents=True, exist_ok=True)
        render(folder / place / f"{name}.mp4", frames=frames)
    for name in ("B1", "B2", "B5", "B6", "G"):  # so that every class has a train video
        render(folder / "1-1004" / f"{name}__#1_label_{name}-0-0.mp4", frames=17)
    truth = f"{BOTH} G 3 9 B2 10 30\n"
    (folder / "annotations_multiclasses.txt").write_text(truth)
    return folder


@pytest.mark.slow
def test_the_papers_features_by_one_call(official, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(captions, "NEW_TOKENS", 8)
    b16, l14 = (
        register(tmp_path / name, name, width) for name, width in (("b16", 24), ("l14", 40))
    )
    monkeypatch.setattr(clip, "MODELS", {"clip-vit-b16": "b16", "clip-vit-l14": "l14"})
    captioner = tiny_captioner.write_remote(tmp_path / "captioner", tiny_captioner.model())
    weights = [f"clip-vit-b16={b16}", f"clip-vit-l14={l14}", f"videollama3-7b={captioner}"]
    out = tmp_path / "features"
    command = ["--dataset", "xd", "--videos", str(official), "--out", str(out)]
    assert run.main([*command, "--weights", *weights]) == 0
    assert capsys.readouterr().err == ""
    made = store.open(out)
    assert made.info["dataset"] == "xd" and len(made.videos) == 9
    named = {video.video: (i, video) for i, video in enumerate(made.videos)}
    i, both = named[BOTH]
    assert (both.split, both.frames, both.snippets, both.crops) == ("test", 33, 3, 10)
    assert both.labels == ("Explosion", "Shooting", "CarAccident")
    assert both.intervals == (("Explosion", 3, 9), ("Shooting", 10, 30))
    assert (made.feature_dim, made.caption_dim) == (24, 40)
    assert len(made.texts(i)) == 3 and all(made.texts(i))
    words = json.loads((out / "class_words.json").read_text())
    assert list(words) == list(made.classes) and all(words.values())
    producers = made.info["producers"]
    assert producers["flags"] == {
        "vision": "clip-vit-b16",
        "captioner": "videollama3-7b",
        "text": "clip-vit-l14",
        "crops": 10,
        "pool": "middle",
    }
    assert set(producers["captions"]["prompts"]) == {"system", "user", "source"}
    assert np.isfinite(np.asarray(made.visual)).all()
    assert run.main([*command, "--weights", *weights]) == 0  # nothing left to do
    assert store.open(out).info["sha256"] == made.info["sha256"]
    trains(made)


def trains(made):
    """The JAX side takes the store: learned prompt through the exported tower, one step."""
    sizes = ["model.dim=24", "model.length=8", "model.window=4", "train.batch=4", "train.epochs=1"]
    cfg = config.resolve(config.load("xd", [*sizes, "eval.every=0"]), made)
    assert cfg.data.text_tower == 64 and data.frozen(made).class_tokens.shape == (7, 77)
    state = seeds.train(cfg, made, [9])
    assert int(state.step[0]) > 0
