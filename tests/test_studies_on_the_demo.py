"""Every study runs on the embedded demo store, as a new user would try it first."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import pytest

import main
from semvad_jax import config, models, store
from semvad_jax.studies.find import find_study
from semvad_jax.studies.runtime import Runtime
from semvad_jax.studies.study import Study, settings

ROOT = Path(__file__).parent.parent
ELSEWHERE = {"table8", "table11"}  # they need other captions, and so other stores
ELSEWHERE |= {"preset"}  # a cross-validation; test_folds.py has one in small
STUDIES = sorted({p.stem for p in (ROOT / "configs" / "studies").glob("*.py")} - ELSEWHERE)
KEY = jax.random.key(0)
SMALL = ["--vmap-seeds", "2", "--set", "train.epochs=1"]


def test_every_row_is_a_model_that_can_be_made():
    features = store.open(ROOT / "demo")
    for name in STUDIES:
        chosen = find_study(name)
        rows = chosen.rows if isinstance(chosen, Study) else ()
        for row in (row for row in rows if row.overrides is not None):
            cfg = config.resolve(settings(row.overrides, "demo", features, None, ()), features)
            assert jax.eval_shape(lambda key, cfg=cfg: models.model(cfg).init(cfg, key), KEY)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_in_small(name, tmp_path_factory, monkeypatch, capsys):
    """Of a table the first and the last row that is trained."""
    monkeypatch.chdir(ROOT)
    chosen = find_study(name)
    trains = isinstance(chosen, Study)
    if trains:
        trained = [row for row in chosen.rows if row.overrides is not None]
        few = {trained[k].name for k in (0, -1)}
        rows = [row for row in chosen.rows if row.overrides is None or row.name in few]
        chosen = replace(chosen, rows=tuple(rows))
    elif isinstance(chosen, Runtime):
        chosen = replace(chosen, systems=chosen.systems[:1], snippets=3)
    if trains or isinstance(chosen, Runtime):
        monkeypatch.setattr("semvad_jax.studies.find.find_study", lambda _: chosen)
    out = tmp_path_factory.getbasetemp() / "studies"
    main.main(["--study", name, "--out", str(out), *(SMALL if trains else [])])
    told = " ".join(capsys.readouterr().out.split())
    assert chosen.title in told
    rows = json.loads((out / name / "study.json").read_text())["rows"]
    if trains:
        ours = [row for row in rows if "run" in row]
        assert len(ours) == sum(row.overrides is not None for row in chosen.rows)
        assert all(row["metrics"] for row in ours)
