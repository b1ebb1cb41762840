"""Windows against a loop over videos; truth and metrics of a store."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from semvad_jax import config, data, evaluate, train
from semvad_jax.metrics import MetricName
from semvad_jax.types import Batch, Weights
from tests.support.stores import make_store


def small(store, *overrides):
    base = ["model.dim=4", "model.layers=1", "train.batch=4", *overrides]
    return config.resolve(config.load("ucf", base), store)


def name(text, selection="test"):
    return MetricName.parse(f"{selection}/{text}")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Videos of awkward lengths, scored in windows of 256 by an untrained model."""
    lengths = (1, 255, 256, 257, 512, 6750)
    path = tmp_path_factory.mktemp("evaluate") / "store"
    store = make_store(path, train=2, test=12, lengths=(lengths[-1], *lengths[:-1]))
    cfg = small(store)
    frozen, params = data.frozen(store), train.model(cfg).init(cfg, jax.random.key(0))
    videos = [i for i, v in enumerate(store.videos) if v.split == "test"]
    windows = data.windows(cfg, store, [(i, 0) for i in videos])
    found = jax.jit(evaluate.score_windows, static_argnums=0)(cfg, frozen, windows, Weights(params))
    scores = evaluate.unpack(cfg, store, videos, jax.device_get(found))
    return cfg, store, frozen, params, videos, scores


def test_scores_equal_a_loop_over_videos(scored):
    cfg, store, frozen, params, videos, scores = scored
    apply = jax.jit(lambda batch: train.model(cfg).apply(cfg, params, frozen, batch))
    assert {store.videos[i].snippets for i in videos} == {1, 255, 256, 257, 512, 6750}
    for place, i in enumerate(videos):
        n = store.videos[i].snippets
        binary, classes = [], []
        for start in range(0, n, 256):
            count = min(256, n - start)
            rows = [np.zeros((1, 256, w), np.float16) for w in (12, 10)]
            rows[0][0, :count] = store.visual_rows(i, 0)[start : start + count]
            rows[1][0, :count] = store.caption_rows(i)[start : start + count]
            labels, one = np.zeros((1, 3), np.float32), np.ones(1, np.float32)
            batch = Batch(*rows, np.array([count], np.int32), labels, one)  # type: ignore[arg-type]
            out = apply(jax.tree.map(jax.numpy.asarray, batch))
            binary.append(jax.nn.sigmoid(out.binary_logits)[0, :count])
            classes.append(jax.nn.softmax(out.class_logits)[0, :count])
        np.testing.assert_allclose(scores.binary[place], np.concatenate(binary), atol=1e-5)
        np.testing.assert_allclose(scores.classes[place], np.concatenate(classes), atol=1e-5)


def test_frame_metrics_equal_sklearn_on_repeated_frames(scored):
    _, store, _, _, videos, scores = scored
    found = evaluate.frame_metrics(scores, evaluate.frame_truth(store, videos))
    truth, binary, classes = [], [], []
    for place, i in enumerate(videos):
        v = store.videos[i]
        frames = np.zeros(v.frames)
        for _, start, end in v.intervals:
            frames[start:end] = 1
        truth.append(frames)
        binary.append(np.repeat(scores.binary[place], 16)[: v.frames])
        classes.append(np.repeat(1 - scores.classes[place][:, 0], 16)[: v.frames])
    y, b, c = map(np.concatenate, (truth, binary, classes))
    assert found[name("binary/auc")] == pytest.approx(roc_auc_score(y, b), abs=1e-12)
    assert found[name("class/ap")] == pytest.approx(average_precision_score(y, c), abs=1e-12)
    best = max(found[name("binary/auc")], found[name("class/auc")])
    assert found[name("max/auc")] == best


def test_auc_within_anomalous_videos_is_sklearns_on_their_frames(scored):
    _, store, _, _, videos, scores = scored
    truth = evaluate.frame_truth(store, videos)
    found = evaluate.further_frame_metrics(scores, truth, "test")
    labels, points = [], []
    for place, i in enumerate(videos):
        video = store.videos[i]
        if video.intervals:
            marked = np.zeros(video.frames, bool)
            for _, start, end in video.intervals:
                marked[start:end] = True
            labels.append(marked)
            points.append(np.repeat(scores.binary[place], np.diff(video.frame_edges)))
    assert 0 < len(labels) < len(videos)
    expected = roc_auc_score(np.concatenate(labels), np.concatenate(points))
    assert found[name("binary/auc_abnormal")] == pytest.approx(expected, abs=1e-12)
    heads = [found[name(f"{head}/auc_abnormal")] for head in ("binary", "class")]
    assert found[name("max/auc_abnormal")] == max(heads)
    assert {n.metric for n in found} == {"auc_abnormal", "ap_trapezoid"}
    whole = dataclasses.replace(truth, positive=np.where(truth.of_abnormal, truth.frames, 0))
    assert {n.metric for n in evaluate.further_frame_metrics(scores, whole, "test")} == {
        "ap_trapezoid"
    }


def test_a_crop_mean_is_the_mean_of_the_crops_scores(tmp_path):
    store = make_store(tmp_path / "store", crops=2, lengths=(5, 20), train=4, test=4)
    found = {}
    for crop in ("0", "1", "mean"):
        cfg = small(store, f"eval.crop={crop}", "model.length=16")
        params = train.model(cfg).init(cfg, jax.random.key(0))
        videos = [5, 6]
        pairs = [(i, c) for i in videos for c in evaluate.crops_of(cfg, store, i)]
        raw = evaluate.score_windows(
            cfg, data.frozen(store), data.windows(cfg, store, pairs), Weights(params)
        )
        found[crop] = evaluate.unpack(cfg, store, videos, jax.device_get(raw))
    for place in range(2):
        mean = (found["0"].binary[place] + found["1"].binary[place]) / 2
        np.testing.assert_allclose(found["mean"].binary[place], mean, atol=1e-6)
    assert evaluate.crops_of(small(store), store, 0) == [0]  # crop 5 is not there


def test_a_held_out_video_scores_its_top_k_mean():
    rows = [np.linspace(0, 1, 20, dtype=np.float32), np.full(3, 0.9, np.float32)]  # k = 2 and 1
    scores = evaluate.Scores(rows, None)
    found = evaluate.video_metrics(scores, np.array([True, False]))
    assert found[name("binary/auc", "val")] == 1.0  # (1 + 18/19)/2 = 0.974 > 0.9
    longer = dataclasses.replace(scores, binary=[np.append(rows[0], np.zeros(12)), rows[1]])
    found = evaluate.video_metrics(longer, np.array([True, False]))
    assert found[name("binary/auc", "val")] == 1.0  # k = 3: 0.947
    assert found[name("max/auc", "val")] == 1.0 and name("class/auc", "val") not in found


def test_the_normal_class_is_truth_on_xd_only(tmp_path):
    for dataset, expected in (("ucf", -1), ("xd", 0)):
        store = make_store(tmp_path / dataset, dataset=dataset, lengths=(4,), train=2, test=2)
        truth = evaluate.frame_truth(store, [2, 3])
        assert truth.segments[0] == [(expected, 0, 61)] and truth.segments[1][0][0] > 0
        np.testing.assert_array_equal(truth.frames, [16, 16, 16, 13] * 2)
        np.testing.assert_array_equal(truth.positive, [0, 0, 0, 0, 0, 16, 0, 0])


def test_class_metrics_name_every_iou(scored):
    _, store, _, _, videos, scores = scored
    found = evaluate.class_metrics(scores, evaluate.frame_truth(store, videos))
    assert set(map(str, found)) == {
        f"test/class/{m}{at}"
        for m in ("map", "map_clean")
        for at in ("", *(f"@{i}" for i in evaluate.IOUS))
    }
    assert found[name("class/map")] == pytest.approx(
        np.mean([found[name(f"class/map@{i}")] for i in evaluate.IOUS])
    )


def test_there_is_no_snippet_score_by_the_better_of_two_heads():
    rows = [np.zeros(2, np.float32)]
    both = evaluate.Scores(rows, [np.array([[0.25, 0.75]] * 2, np.float32)])
    assert both.head("class")[0].tolist() == [0.75, 0.75]
    with pytest.raises(ValueError, match="by a head 'max'; these are by binary and class$"):
        both.head("max")
    with pytest.raises(ValueError, match="no scores by a head 'class'; these are by binary$"):
        evaluate.Scores(rows, None).head("class")


def test_the_videos_and_frames_behind_a_run_are_counted(tmp_path):
    store = make_store(tmp_path / "store", train=8, test=4, lengths=(5, 12))
    cfg = small(store, "data.val_fraction=0.25")
    train_videos, val, test = data.split(cfg, store)
    counts = evaluate.Videos(cfg, store, test, val).counts()
    frames = sum(store.videos[i].frames for i in test)
    anomalous = sum(b - a for i in test for _, a, b in store.videos[i].intervals)
    assert counts == evaluate.Counts(len(train_videos), len(val), 4, anomalous, frames)
    assert counts.train + counts.val == 8 and counts.val > 0
    assert counts.sentence() == (
        f"{counts.train} train, {counts.val} val and 4 test videos; "
        f"{anomalous} of {frames} frames anomalous"
    )
