"""Every study runs on the embedded demo store, as a new user would try it first."""

import json
from pathlib import Path

import pytest

import main
from semvad_jax.studies.find import find_study
from semvad_jax.studies.study import Study

ROOT = Path(__file__).parent.parent
ELSEWHERE = {"table8", "table11"}  # they need other captions, and so other stores
ELSEWHERE |= {"preset"}  # a cross-validation; test_folds.py has one in small
STUDIES = sorted({p.stem for p in (ROOT / "configs" / "studies").glob("*.py")} - ELSEWHERE)
SMALL = ["--vmap-seeds", "2", "--set", "train.epochs=1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_in_small(name, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    chosen = find_study(name)
    trains = isinstance(chosen, Study)
    out = tmp_path_factory.getbasetemp() / "studies"
    main.main(["--study", name, "--out", str(out), *(SMALL if trains else [])])
    told = " ".join(capsys.readouterr().out.split())
    assert chosen.title in told
    rows = json.loads((out / name / "study.json").read_text())["rows"]
    if trains:
        ours = [row for row in rows if "run" in row]
        assert len(ours) == sum(row.overrides is not None for row in chosen.rows)
        assert all(row["metrics"] for row in ours)
