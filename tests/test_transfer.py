"""Judging on a data set of other classes: with a class map, and without one."""

import dataclasses
import json

import numpy as np
import pytest

import main
from semvad_jax import checkpoint, config, data, evaluate, seeds, store
from semvad_jax.evaluate import Scores
from semvad_jax.files import BadInput
from semvad_jax.metrics import MetricName
from semvad_jax.report import transfer
from semvad_jax.studies import trained
from semvad_jax.studies.find import find_study
from semvad_jax.studies.study import Options, Study
from tests.support.command_line import refused
from tests.support.stores import make_store

CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic", val_fraction=0.25),
    model=ModelConfig(dim=4, length=8, layers=1),
    train=TrainConfig(batch=8, epochs=3, lr=3e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""
OURS = ("Normal", "Fighting", "Arson")
RENAMED = ("Normal", "Brawl", "Blaze")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("transfer")
    make_store(place / "store", train=32, test=8, lengths=(5, 8, 11))
    make_store(place / "renamed", train=32, test=8, lengths=(5, 8, 11), classes=RENAMED)
    (place / "tiny.py").write_text(CONFIG)
    (place / "map.json").write_text('{"Fighting": "Brawl", "Arson": ["Blaze"]}')
    (place / "back.json").write_text('{"Brawl": "Fighting", "Blaze": "Arson"}')
    (place / "swapped.json").write_text('{"Fighting": "Blaze", "Arson": "Brawl"}')
    (place / "study.py").write_text(
        "from semvad_jax.studies.study import HEADLINE, Row, Study\n"
        "study = Study('moved', (Row('v', 'VadCLIP', ('model.name=vadclip',)),),"
        " (HEADLINE, 'map'), transfer=True)\n"
    )
    start = ["--config", str(place / "tiny.py"), "--data", str(place / "store")]
    main.main([*start, "--vmap-seeds", "2", "--out", str(place / "run"), "--model", "vadclip"])
    return place


def judged(place, *more):
    argv = ["--restore", str(place / "run"), "--eval", "--data", str(place / "renamed")]
    main.main([*argv, *map(str, more)])
    found = json.loads((place / "run" / "eval.json").read_text())
    assert found["weight_seeds"] == [9, 234]
    return {name: value["values"] for name, value in found["metrics"].items()}


def test_another_class_list_is_judged_by_the_binary_head_alone(place, capsys):
    own = json.loads((place / "run" / "summary.json").read_text())["metrics"]
    found = judged(place)
    metrics = ("auc", "ap", "ap_trapezoid", "auc_abnormal")
    assert list(found) == [f"last/binary/{metric}" for metric in metrics]
    for name, values in found.items():  # the features of the two stores are the same
        assert values == pytest.approx(own[name]["values"], abs=1e-6)
    assert "no class map is given" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["map.json", "back.json"])
def test_a_class_map_gives_the_class_head_back(place, name, capsys):
    own = json.loads((place / "run" / "summary.json").read_text())["metrics"]
    found = judged(place, "--class-map", place / name)
    assert set(found) == {k for k in own if k.startswith("last/") and "/max/" not in k}
    for key, values in found.items():
        assert values == pytest.approx(own[key]["values"], abs=1e-6)
    told = " ".join(capsys.readouterr().out.split())
    assert "Fighting = Brawl, Arson = Blaze. mAP is over 2 of the store's 2 anomaly" in told


def test_a_wrong_class_map_names_wrong_classes(place):
    right, wrong = (judged(place, "--class-map", place / n) for n in ("map.json", "swapped.json"))
    assert wrong["last/class/auc"] == right["last/class/auc"]
    assert wrong["last/class/map_clean"] != right["last/class/map_clean"]


@pytest.fixture(scope="module")
def wider(place):
    theirs = ("Normal", "Riot", "Blaze", "Brawl")
    return make_store(place / "wider", train=4, test=16, lengths=(5, 8), classes=theirs)


@pytest.mark.parametrize(
    ("pairs", "columns", "kept"),
    [
        # two of the store's classes share one of the run's
        (
            (("Fighting", "Riot"), ("Arson", "Blaze"), ("Fighting", "Brawl")),
            lambda p: [p[0], p[1], p[2], p[1]],
            {0: 0, 1: 1, 2: 2, 3: 3},
        ),
        # two of the run's make one of the store's, and the others have no counterpart
        (
            (("Fighting", "Blaze"), ("Arson", "Blaze")),
            lambda p: [p[0], p[1] + p[2]],
            {0: 0, 2: 1},
        ),
    ],
)
def test_judging_follows_the_map(place, wider, monkeypatch, pairs, columns, kept):
    cfg = config.load(str(place / "tiny.py"))
    cfg = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, classes=OURS))
    videos = data.split(cfg, wider)[2]
    rng, of_seeds = np.random.default_rng(0), []
    for _ in range(2):
        lengths = [wider.videos[i].snippets for i in videos]
        classes = [rng.dirichlet(np.ones(3), n).astype(np.float32) for n in lengths]
        of_seeds.append(Scores([rng.random(n) for n in lengths], classes))
    monkeypatch.setattr(seeds, "score_videos", lambda *_: of_seeds)
    found = transfer.judge(cfg, None, None, wider, pairs)  # pyright: ignore[reportArgumentType]

    truth = evaluate.frame_truth(wider, videos)
    segments = [[(kept.get(c, -1), a, b) for c, a, b in video] for video in truth.segments]
    restricted = dataclasses.replace(truth, segments=segments)
    assert any(c == -1 for video in segments for c, _, _ in video)
    for seed, scores in zip(found, of_seeds, strict=True):
        slow = [np.array([columns(p) for p in video]) for video in scores.classes]
        wanted = evaluate.frame_metrics(scores, truth, "last")
        wanted |= evaluate.further_frame_metrics(scores, truth, "last")
        wanted = {name: f for name, f in wanted.items() if name.head != "max"}
        wanted |= evaluate.class_metrics(Scores(scores.binary, slow), restricted, "last")
        assert wanted[MetricName("last", "class", "map_clean")] > 0
        assert seed == pytest.approx(wanted)


def test_pairs_are_read_in_either_direction():
    given = (("Brawl", "Fighting"), ("Blaze", "Arson"))
    assert transfer.class_pairs(OURS, RENAMED, given) == (("Fighting", "Brawl"), ("Arson", "Blaze"))
    assert transfer.class_pairs(RENAMED, OURS, given) == given
    assert transfer.class_pairs(OURS, RENAMED, None) is None
    assert transfer.class_pairs(OURS, OURS, None) == tuple((c, c) for c in OURS[1:])


def test_a_map_that_can_be_read_in_both_directions_is_refused():
    both = ("Normal", "Shooting", "Explosion", "Riot")
    with pytest.raises(BadInput, match="so that its direction is clear"):
        transfer.class_pairs(both, both[:3], (("Shooting", "Explosion"),))
    same = (("Shooting", "Shooting"), ("Explosion", "Explosion"))
    assert transfer.class_pairs(both, both[:3], same) == same
    clear = (("Shooting", "Explosion"), ("Riot", "Shooting"))
    found = transfer.class_pairs(both, both[:3], clear)
    assert set(found or ()) == set(clear)
    assert found == transfer.class_pairs(both, both[:3], tuple((b, a) for a, b in clear))


@pytest.mark.parametrize(
    "pairs", [(("Fighting", "Riot"),), (("Normal", "Normal"),), (("Fighting", "Arson"),)]
)
def test_a_map_of_unknown_classes_is_refused(pairs):
    with pytest.raises(BadInput, match="pair these names only"):
        transfer.class_pairs(OURS, RENAMED, pairs)


def test_the_map_that_comes_with_us_fits_the_two_data_sets():
    from featurize.sources import UCF_CLASSES, XD_CODES

    given = transfer.read_class_map(config.CONFIGS / "studies" / "ucf_xd.json")
    theirs = tuple(XD_CODES.values())
    assert len(transfer.class_pairs(UCF_CLASSES, theirs, given) or ()) == 5
    assert len(transfer.class_pairs(theirs, UCF_CLASSES, given) or ()) == 5


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "3", "\xff", "[" * 100_000, '{"Fighting": 3}', '{"Fighting": [3]}'),
        *('{"Fighting": {"Brawl": 3}}', '[["Fighting", "Brawl"]]'),
    ],
)
def test_what_is_no_class_map(place, tmp_path, text, capsys):
    (tmp_path / "bad.json").write_text(text, encoding="latin-1")
    argv = ["--restore", place / "run", "--eval", "--data", place / "renamed"]
    told = refused(capsys, [*argv, "--class-map", tmp_path / "bad.json"])
    assert "is no class map" in told
    told = refused(capsys, [*argv, "--class-map", tmp_path / "absent.json"])
    assert "is no class map" in told


def test_a_store_by_other_producers_is_refused(place, tmp_path, capsys):
    other = make_store(tmp_path / "store", train=4, test=4, classes=RENAMED)
    info = json.loads((other.path / "store.json").read_text())
    info["producers"]["text"] = {"model": "another"}
    (other.path / "store.json").write_text(json.dumps(info))
    told = refused(capsys, ["--restore", place / "run", "--eval", "--data", other.path])
    assert 'has text.model "another"' in told and "was trained on null" in told
    out = tmp_path / "out"
    told = refused(capsys, study_command(place, out, a=place / "store", b=other.path))
    assert "has text.model" in told and not out.exists()


def test_test_videos_need_frames_of_both_kinds_and_no_train_videos(place, tmp_path, capsys):
    argv = ["--restore", place / "run", "--eval", "--data"]
    alone = make_store(tmp_path / "alone", train=0, test=8, classes=RENAMED)
    main.main(list(map(str, [*argv, alone.path])))
    assert str(alone.path) in capsys.readouterr().out.replace("\n", "")
    calm = make_store(tmp_path / "calm", train=4, test=1, classes=RENAMED)  # a normal one
    assert "have 0 anomalous frames" in refused(capsys, [*argv, calm.path])
    out = tmp_path / "out"
    told = refused(capsys, study_command(place, out, a=place / "store", b=calm.path))
    assert "have 0 anomalous frames" in told and not out.exists()


def train(place, run, *more):
    start = ["--config", place / "tiny.py", "--data", place / "store", "--vmap-seeds", "2"]
    main.main(list(map(str, [*start, "--out", run, *more])))
    return ["--restore", run, "--eval", "--data", place / "renamed"]


def test_a_model_without_a_class_head_says_so(place, tmp_path, capsys):
    argv = train(place, tmp_path / "run", "--model", "mil")
    capsys.readouterr()
    main.main(list(map(str, [*argv, "--class-map", place / "map.json"])))
    told = " ".join(capsys.readouterr().out.split())
    assert "mil has no class head: the binary head alone is judged" in told and "mAP" not in told
    (tmp_path / "run" / "summary.json").unlink()
    assert "is not finished; go on with --resume" in refused(capsys, argv)


def test_weights_that_were_chosen_on_test_videos_are_marked(place, tmp_path, capsys):
    protocol = [
        "--model",
        "vadclip",
        "--set",
        "train.protocol=reload_best",
        "--set",
        "eval.every=2",
    ]
    argv = train(place, tmp_path / "run", *protocol)
    main.main(list(map(str, argv)))
    found = json.loads((tmp_path / "run" / "eval.json").read_text())["metrics"]
    metrics = ("auc", "ap", "ap_trapezoid", "auc_abnormal")
    assert list(found) == [f"test/binary/{metric}" for metric in metrics]


@pytest.fixture
def crops(monkeypatch):
    """The crops that videos are scored by, in turn."""
    used, score = [], seeds.score_videos

    def seen(cfg, *more):
        used.append(cfg.eval.crop)
        return score(cfg, *more)

    monkeypatch.setattr(seeds, "score_videos", seen)
    return used


def test_the_data_set_judged_on_names_crop_and_metric(place, tmp_path, crops, capsys):
    argv = train(place, tmp_path / "run", "--set", "eval.crop=mean")
    main.main(list(map(str, argv)))
    xd = make_store(tmp_path / "xd", train=0, classes=RENAMED, dataset="xd", crops=2)
    capsys.readouterr()
    main.main(list(map(str, [*argv[:-1], xd.path])))
    assert crops == ["mean", 0]
    assert "binary head, AP" in capsys.readouterr().out


def test_a_study_of_transfer_judges_by_the_targets_crop(place, tmp_path, crops):
    stores = {"a": place / "store", "b": place / "renamed"}
    moved = find_study(str(place / "study.py"))
    assert isinstance(moved, Study)
    options = Options(
        data=[f"{label}={path}" for label, path in stores.items()],
        base=str(place / "tiny.py"),
        weight_seeds=[9],
        data_seeds=[9],
        out=tmp_path / "out",
    )
    results = trained.run(dataclasses.replace(moved, transfer=False), options)
    cfg = results[1].cfg
    mean = dataclasses.replace(cfg, eval=dataclasses.replace(cfg.eval, crop="mean"))
    results = [results[0], dataclasses.replace(results[1], cfg=mean)]
    trained._transferred(results, {k: store.open(v) for k, v in stores.items()}, None)
    assert crops == ["mean", 0]  # a → b, b → a


def study_command(place, out, **stores):
    data = ["--data", *(f"{label}={path}" for label, path in stores.items())]
    start = ["--study", place / "study.py", "--config", place / "tiny.py", *data]
    return [*start, "--seeds", "9", "--out", out]


def test_a_study_of_transfer_takes_a_class_map(place, tmp_path, capsys):
    argv = study_command(place, tmp_path / "out", a=place / "store", b=place / "renamed")
    told = refused(capsys, [*argv, "--class-map", config.CONFIGS / "studies" / "ucf_xd.json"])
    assert "the class map pairs Abuse" in told and not (tmp_path / "out").exists()

    def rows(*more):
        main.main(list(map(str, [*argv, *more])))
        return json.loads((tmp_path / "out" / "study" / "study.json").read_text())["rows"]

    without = rows()
    assert [list(row["metrics"]) for row in without] == [["last/binary/auc"]] * 2
    told = capsys.readouterr().out
    assert "binary head alone" in " ".join(told.split()) and "average mAP" not in told
    mapped = rows("--class-map", place / "map.json")
    assert [list(row["metrics"]) for row in mapped] == [["last/binary/auc", "last/class/map"]] * 2
    told = capsys.readouterr().out
    assert "average mAP" in told and "Fighting = Brawl" in " ".join(told.split())
    assert "Brawl = Fighting" in mapped[1]["classes"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--config", "demo", "--class-map", "x.json"],
        ["--restore", "runs/demo", "--eval", "--class-map", "x.json"],
    ],
)
def test_a_class_map_needs_another_store(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main.arguments(argv)
    assert ended.value.code == 2 and "--class-map needs" in capsys.readouterr().err


def test_a_class_map_is_for_transfer_alone(place, capsys):
    told = refused(capsys, ["--study", "table2", "--class-map", place / "map.json"])
    assert "is for a study of transfer" in told


def test_captions_are_exchanged_where_that_is_asked_for(place, tmp_path, capsys):
    """The same test videos, no train videos, captions of another kind by another captioner."""
    own, run = store.open(place / "store"), tmp_path / "run"
    argv = train(place, run, "--set", "model.residual=caption")[:-1]
    info = dict(own.info["producers"]) | {"captions": {"model": "another"}}
    with store.Writer(
        tmp_path / "other", dataset="synthetic", classes=own.classes, producers=info
    ) as writer:
        for i in data.judged(own):
            n = own.videos[i].snippets
            noise = np.random.default_rng(i).normal(size=(n, own.caption_dim))
            writer.add(own.videos[i], own.visual_rows(i)[None], noise)
        writer.finish(own.class_text, {name: [] for name in own.classes})
    argv = [*argv, tmp_path / "other"]
    assert 'has captions.model "another"' in refused(capsys, argv)
    main.main([str(word) for word in [*argv, "--other-captioner"]])
    told = " ".join(capsys.readouterr().out.split())
    cfg, frozen, meta = checkpoint.read(run)
    params, _ = checkpoint.last_weights(run, cfg, meta)
    means = []
    for features in (own, store.open(tmp_path / "other")):
        videos = data.judged(features)
        truth = evaluate.frame_truth(features, videos)
        values = [
            evaluate.frame_metrics(scores, truth)[MetricName("test", "binary", "auc")]
            for scores in seeds.score_videos(cfg, frozen, params, features, videos)
        ]
        means.append(np.mean(values))
    assert "with its own captions, B = " in told
    assert f"binary AUC {100 * means[0]:.2f}" in told
    assert f"{100 * (means[0] - means[1]):+.2f}" in told and abs(means[0] - means[1]) > 0.01
    found = json.loads((run / "eval.json").read_text())["metrics"]["last/binary/auc"]
    assert found["mean"] == pytest.approx(means[1], abs=1e-6)
    with pytest.raises(SystemExit):
        main.arguments(["--restore", str(run), "--eval", "--other-captioner"])
    assert "--other-captioner needs --restore RUN --eval --data STORE" in capsys.readouterr().err
