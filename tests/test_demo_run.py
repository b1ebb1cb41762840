"""The main job on the embedded default, as a user runs it, beside its controls."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_demo import DEMO, frame_auc, linear_scores

from semvad_jax import store

ROOT = Path(__file__).parent.parent


def ten_seeds(out: Path, *more: str) -> dict:
    command = [
        sys.executable,
        "main.py",
        "--config",
        "demo",
        "--vmap-seeds",
        "10",
        "--out",
        str(out),
    ]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(out.parent),
    }  # not the tests' compiler flags
    subprocess.run([*command, *more], cwd=ROOT, env=environment, check=True)
    return json.loads((out / "summary.json").read_text())


@pytest.mark.slow
def test_semvad_beats_a_linear_model_of_single_snippets(tmp_path):
    summary = ten_seeds(tmp_path / "run")
    auc = summary["metrics"]["last/binary/auc"]["mean"]
    demo = store.open(DEMO)
    linear = [
        linear_scores(demo, s, z) for s in ("visual+captions", "captions") for z in (False, True)
    ]
    best = max(frame_auc(demo, scores) for scores in linear)
    assert best < 0.85
    assert auc >= 0.90 and auc >= best + 0.05
    assert summary["steps"] <= 100


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(tmp_path):
    summary = ten_seeds(tmp_path / "run", "--set", "data.shuffle_labels=true")
    for head in ("binary", "class"):
        assert summary["metrics"][f"last/{head}/auc"]["mean"] == pytest.approx(0.5, abs=0.05)
