"""Cross-validation over the train videos: every video is scored by weights that never saw it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import main
from semvad_jax import config, data, evaluate, seeds, train
from semvad_jax.files import BadInput
from semvad_jax.studies.results import markdown
from tests.support.command_line import refused, words
from tests.support.stores import make_store

FIELDS = ["model.dim=4", "model.layers=1", "model.length=16", "train.batch=4", "train.epochs=2"]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("folds") / "store", train=30, test=4, crops=2)


def settings(features, *more):
    return config.resolve(config.load("ucf", [*FIELDS, "train.lr=1e-3", *more]), features)


def test_folds_part_the_videos_by_label(features):
    cfg, videos = settings(features), data.readable(features, "train")
    folds = data.folds(cfg, features, videos, 4)
    assert sorted(np.concatenate(folds).tolist()) == list(range(30))
    for fold in folds:
        labels = [features.videos[videos[j]].labels[0] for j in fold]
        assert labels.count("Normal") in (3, 4) and 6 <= len(fold) <= 9
    again = data.folds(cfg, features, videos, 4)
    assert all((a == b).all() for a, b in zip(folds, again, strict=True))
    with pytest.raises(BadInput, match="15 normal and 15 anomalous train videos, too few for 16"):
        data.folds(cfg, features, videos, 16)


def test_rows_of_a_fold_are_left_out(features):
    cfg, videos = settings(features), data.readable(features, "train")
    rows = data.train_data(cfg, features, videos)
    folds = data.folds(cfg, features, videos, 4)
    kept = data.without_each(rows, folds)
    assert len({(len(k.normal), len(k.abnormal)) for k in kept}) == 1
    for fold, part in zip(folds, kept, strict=True):
        left = {int(rows.video[r]) for r in (*part.normal, *part.abnormal)}
        assert left == set(range(30)) - set(fold.tolist())


def test_scores_are_those_of_each_fold_trained_alone(features):
    cfg, videos = settings(features), data.readable(features, "train")
    pooled, abnormal = seeds.out_of_fold(cfg, features, [9, 234], 3)
    assert abnormal.tolist() == [float(i % 2) for i in range(30)]
    rows = jax.tree.map(jnp.asarray, data.train_data(cfg, features, videos))
    frozen = data.frozen(features)
    folds = data.folds(cfg, features, videos, 3)
    seen = evaluate.Videos(cfg, features, [], videos)
    for k, seed in enumerate([9, 234]):
        for fold, part in zip(folds, data.without_each(rows, folds), strict=True):
            part = jax.tree.map(jnp.asarray, part)
            key = jax.random.key(seed)
            state = train.make_state(cfg, (), key, key)
            steps = cfg.train.epochs * data.steps_per_epoch(cfg, part)
            every = jnp.ones(steps, bool)
            run = jax.jit(train.run_interval, static_argnums=0)
            state, _ = run(cfg, frozen, part, every, state)
            found = jax.jit(evaluate.score_windows, static_argnums=0)(
                cfg, frozen, seen.windows(), state.weights
            )
            alone = seen.scores(jax.device_get(found))
            for v in fold:
                np.testing.assert_allclose(pooled[k].binary[v], alone.binary[v], atol=2e-3)


def test_mixed_batches_are_refused(features):
    with pytest.raises(BadInput, match="set train.batching=balanced"):
        seeds.out_of_fold(settings(features, "train.batching=mixed"), features, [9], 3)


STUDY = """
from semvad_jax.studies.folds import CrossValidation
from semvad_jax.studies.study import Row

fields = {fields!r}
study = CrossValidation(
    title="Ours",
    rows=(
        Row("paper", "paper", tuple(fields)),
        Row("mil", "MIL", ("model.name=mil", *(f for f in fields if "layers" not in f))),
    ),
    seeds=2,
    folds=3,
)
"""


def test_the_study_finds_its_results_again(features, tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text(STUDY.format(fields=FIELDS))
    call = ["--study", str(tmp_path / "mine.py"), "--out", str(tmp_path / "out")]
    call += ["--data", f"small={features.path}"]
    main.main(call)
    told = words(capsys)
    assert "pooled scores out of 3 folds, mean ± SD over 2 seeds" in told
    found = json.loads((tmp_path / "out/mine/study.json").read_text())["candidates"]
    assert [one["row"] for one in found] == ["paper", "mil"]
    cfg = config.resolve(
        config.load("demo", ["data.dataset=synthetic", *FIELDS, f"data.store={features.path}"]),
        features,
    )
    pooled, abnormal = seeds.out_of_fold(cfg, features, [9, 234], 3)
    by_hand = []
    for scores in pooled:
        video = [np.sort(s)[-(len(s) // 16 + 1) :].mean() for s in scores.binary]
        pairs = [
            (a > b) + (a == b) / 2
            for a in np.array(video)[abnormal == 1]
            for b in np.array(video)[abnormal == 0]
        ]
        by_hand.append(np.mean(pairs))
    assert found[0]["auc"]["binary"]["values"] == pytest.approx(by_hand, abs=1e-9)

    def untrained(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(seeds, "out_of_fold", untrained)
    main.main(call)
    assert words(capsys).count("MIL") == 1
    assert "| candidate | small | mean |" in markdown(tmp_path / "out")


def test_folds_are_for_cross_validation(capsys, tmp_path):
    assert "reads finished stores; leave out --folds" in refused(
        capsys, ["--study", "table2", "--folds", "3"]
    )
    with pytest.raises(SystemExit):
        main.arguments(["--study", "preset", "--folds", "1"])
    assert "--folds K is for a study" in capsys.readouterr().err
