"""Class vectors from a file: checked before use, and part of the run."""

import json
import zipfile

import numpy as np
import pytest

import main
from semvad_jax import checkpoint, config
from semvad_jax.files import BadInput
from semvad_jax.store.prompts import read_prompts
from tests.support.command_line import refused
from tests.support.stores import CLASSES, make_store

VECTORS = np.arange(1, 19, dtype=np.float32).reshape(3, 6)
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic"),
    model=ModelConfig(name="pel4vad", length=8, hidden=(6, 5), key_dim=4),
    train=TrainConfig(batch=8, epochs=1, lr=1e-3),
)
"""


def write(path, classes=("fighting", "NORMAL", "arson"), vectors=VECTORS, **more):
    arrays = {"synthetic_classes": np.array(classes), "synthetic_prompts_vitb16": vectors}
    np.savez(path, **{k: v for k, v in (arrays | more).items() if v is not None})
    return path


def read(path):
    return read_prompts(str(path), "synthetic", CLASSES)


def test_vectors_are_found_by_name(tmp_path):
    vectors = np.vstack([VECTORS, np.ones(6)])
    found = read(write(tmp_path / "p.npz", ["a r-son", "NORMAL", "Fighting", "other"], vectors))
    np.testing.assert_array_equal(found, vectors[[1, 2, 0]])
    assert found.dtype == np.float32


REFUSED = {
    "must hold synthetic_classes and one array synthetic_prompts…; it holds": {
        "synthetic_classes": None
    },
    "it holds synthetic_classes, synthetic_prompts_vitb16, synthetic_prompts_b": {
        "synthetic_prompts_b": VECTORS
    },
    "has no vector of Arson; synthetic_classes must name every class of the store": {
        "classes": ("Normal", "Fighting", "riot")
    },
    "is [2, 6] and synthetic_classes [3]; there must be as many names": {"vectors": VECTORS[:2]},
    "is [3] and synthetic_classes [3]; there must be as many names": {"vectors": VECTORS[:, 0]},
    "is [3, 0] and synthetic_classes [3]; there must be": {"vectors": VECTORS[:, :0]},
    "is int64, not of floats": {"vectors": VECTORS.astype(np.int64)},
    "has a vector that is 0 or not finite": {"vectors": VECTORS * [[1], [0], [1]]},
    "prompts_vitb16 has a vector that is 0 or": {"vectors": VECTORS + [[0], [0], [np.nan]]},
    "is not an .npz of class vectors: it holds more than 64 MiB": {
        "vectors": np.zeros((3, 1 << 23), np.float32)
    },
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_other_arrays_are_refused(tmp_path, sentence):
    path = write(tmp_path / "p.npz", **REFUSED[sentence])
    with pytest.raises(BadInput) as refusal:
        read(path)
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


class Hostile:
    def __reduce__(self):
        return pytest.fail, ("it was run",)


def test_other_files_are_refused_and_not_run(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(BadInput, match="^there is no file"):
        read(path)
    hostile = np.array([Hostile()] * 3, dtype=object)
    contents = [b"", b"PK\x03\x04 cut", b"version https://git-lfs.github.com/spec/v1\n"]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(BadInput, match="is not an .npz of class|is a Git LFS pointer"):
            read(path)
    np.save(path.with_suffix(".npy"), VECTORS)
    for change in ({"synthetic_classes": hostile}, {"vectors": hostile}):
        write(path, **change)
        with pytest.raises(BadInput, match="is not an .npz of class vectors; make it with"):
            read(path)
    with zipfile.ZipFile(path, "w") as members:
        for name in ("synthetic_classes", "synthetic_prompts"):
            members.writestr(f"{name}.npy", b"no array")
    with pytest.raises(BadInput, match="there must be as many names, as text, as"):
        read(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("prompts")
    make_store(place / "store", train=16, test=8, lengths=(5, 8))
    (place / "tiny.py").write_text(CONFIG)
    write(place / "p.npz")
    command = ["--config", place / "tiny.py", "--data", place / "store", "--vmap-seeds", 1]
    command += ["--out", place / "run", "--set", f"model.prompts={place / 'p.npz'}"]
    main.main([str(word) for word in command])
    return place, command


def test_a_run_has_its_prompts_and_needs_the_file_no_more(place, capsys):
    place, command = place
    cfg, frozen, _ = checkpoint.read(place / "run")
    np.testing.assert_array_equal(frozen.class_name, VECTORS[[1, 0, 2]])
    assert cfg.data.text_dim == 6
    file = (place / "p.npz").rename(place / "away.npz")
    main.main(["--restore", str(place / "run"), "--eval"])
    summary, again = (
        json.loads((place / "run" / name).read_text())["metrics"]
        for name in ("summary.json", "eval.json")
    )
    assert again == summary
    told = refused(capsys, [*command, "--resume"])
    assert told == f"error: there is no file {place / 'p.npz'}; model.prompts takes an .npz of " + (
        "class vectors"
    )
    write(place / "p.npz", vectors=VECTORS + 1)
    assert "was begun with other settings" in refused(capsys, [*command, "--resume"])
    file.rename(place / "p.npz")
    main.main([str(word) for word in [*command, "--resume"]])


def test_a_run_of_somebody_else_opens_no_file(place, tmp_path):
    """The path stands in RUN; without the vectors' checksum it would be read."""
    settings = json.loads((place[0] / "run" / "config.json").read_text())
    settings["data"]["prompts_sha256"] = ""
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BadInput, match="data.prompts_sha256 is missing"):
        config.read(tmp_path / "config.json")


def test_models_without_prompts_refuse_the_file(capsys):
    told = refused(capsys, ["--config", "ucf", "--set", "model.prompts=p.npz"])
    assert told == "error: model semvad has no model.prompts; leave it out"
