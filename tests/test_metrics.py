"""Metrics against scikit-learn, a plain frame-by-frame evaluator, and numbers worked by hand."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from semvad_jax import metrics

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
IOUS = [0.1, 0.2, 0.3, 0.4, 0.5]
UCF = (
    "Normal Abuse Arrest Arson Assault Burglary Explosion Fighting RoadAccidents Robbery Shooting "
    "Shoplifting Stealing Vandalism"
).split()
XD = "A B1 B2 B4 B5 B6 G".split()


def plain_map(scores, truth, ious, protocol, edges):
    """The public evaluator's steps, frame by frame and set by set."""
    classes = scores[0].shape[1]
    frames = [np.repeat(s, np.diff(e), axis=0) for s, e in zip(scores, edges, strict=True)]
    video_score = [np.mean(np.sort(f, axis=0)[::-1][: len(f) // 16], axis=0) for f in frames]
    maps = []
    for threshold in ious:
        aps, counted, empty = [], [], False
        for c in range(classes):
            predicted = []
            for v, f in enumerate(frames):
                column = f[:, c]
                high, low = column.max(), column.min()
                on = [bool(x > high - (high - low) * 0.6) for x in column]
                begin = None
                for i, state in enumerate([*on, False]):
                    if state and begin is None:
                        begin = i
                    if not state and begin is not None:
                        if i - begin >= 2:
                            score = column[begin:i].max() + 0.7 * video_score[v][c]
                            predicted.append((v, begin, i, score))
                        begin = None
            predicted.sort(key=lambda p: -p[3])  # stable
            empty |= not predicted
            left = [(v, a, b) for v, t in enumerate(truth) for k, a, b in t if k == c]
            total, hits, precisions = len(left), 0, 0.0
            for rank, (v, a, b, _) in enumerate(predicted):
                best, choice = 0.0, None
                for j, (w, x, y) in enumerate(left):
                    if v == w:
                        one, two = set(range(a, b)), set(range(round(x), round(y)))
                        iou = len(one & two) / len(one | two)
                        if iou >= threshold and iou > best:
                            best, choice = iou, j
                if choice is not None:
                    del left[choice]
                    hits += 1
                    precisions += hits / (rank + 1)
            aps.append(precisions / total if total else 0.0)
            counted.append(total > 0 and c > 0)
        if protocol == "vadclip":
            maps.append(0.0 if empty else float(np.mean(aps)))
        else:
            maps.append(float(np.mean([a for a, k in zip(aps, counted, strict=True) if k])))
    return maps


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def random_truth(rng, frames, classes):
    segments = []
    for _ in range(rng.integers(0, 5)):
        start = rng.uniform(0, 0.9 * frames)
        end = start + rng.uniform(1, 0.6 * frames)  # some overlap, some run past the end
        if rng.random() < 0.7:
            start, end = int(start), int(end) + 1
        segments.append((int(rng.integers(-1, classes)), start, end))
    return segments


def random_case(seed):
    """Scores, truth and edges of a small random data set; the kinds of scores take turns."""
    rng = np.random.default_rng(seed)
    videos, classes = int(rng.integers(2, 9)), int(rng.integers(2, 5))
    scores, truth, edges = [], [], []
    for _ in range(videos):
        n = int(rng.integers(1, 40))
        if seed % 4 == 0:
            s = softmax(3 * rng.normal(size=(n, classes)))
        elif seed % 4 == 1:
            s = rng.integers(0, 5, size=(n, classes)) / 4.0  # ties in and between videos
        elif seed % 4 == 2:
            s = softmax(rng.normal(size=(n, classes)).cumsum(axis=0)).astype(np.float32)
        else:
            s = rng.random((n, classes)) * rng.integers(0, 2, size=classes)  # flat classes
        edge = 16 * np.arange(n + 1)
        if n > 1 and seed % 3:
            edge[-1] = edge[-2] + rng.integers(1, 17)
        scores.append(s.astype(np.float64) if seed % 4 != 2 else s)
        edges.append(edge)
        truth.append(random_truth(rng, int(edge[-1]), classes))
    truth[0].append((1, 0, 16))
    return scores, truth, edges


def listed(dataset, names):
    """(snippets, truth) of the public evaluator's list, or a skip where the data are not there."""
    path = DATA / dataset / "fine_grained_test.json"
    if not path.is_file():
        pytest.skip(f"needs {path}: the segment lists of the public evaluator")
    truth = [
        [
            (names.index(name) if name in names else -1, *segment)
            for segment, name in zip(entry["segments"], entry["labels"], strict=True)
        ]
        for entry in json.loads(path.read_text())
    ]
    snippets = [max(int(np.ceil(max(e for _, _, e in t) * 1.2 / 16)), 2) for t in truth]
    return snippets, truth


# ---- AUC and AP


@pytest.mark.parametrize("seed", range(12))
def test_auc_and_ap_equal_sklearn_on_repeated_frames(seed):
    rng = np.random.default_rng(seed)
    n = 400
    scores = rng.random(n) if seed % 2 else rng.integers(0, 7, n) / 7
    if seed % 3 == 0:
        scores = scores.astype(np.float32)
    frames = rng.integers(0, 17, n)
    positive = np.minimum(frames, rng.integers(0, 17, n) * (rng.random(n) < 0.3))
    y = np.concatenate([[1] * p + [0] * (f - p) for p, f in zip(positive, frames, strict=True)])
    x = np.repeat(scores, frames)
    assert metrics.frame_auc(scores, positive, frames) == pytest.approx(
        roc_auc_score(y, x), abs=1e-12
    )
    assert metrics.frame_ap(scores, positive, frames) == pytest.approx(
        average_precision_score(y, x), abs=1e-12
    )


def test_auc_and_ap_by_hand():
    # frames, best first: 0.9 has 1 of 2 positive, 0.5 2 of 2, 0.1 0 of 4; 3 positive, 5 negative
    # AUC: the first positive beats 4 and ties 1 → 4.5; the other two beat 4 each → (4.5 + 8) / 15
    # AP: recall 1/3 at precision 1/2, then 2/3 more at 3/4 → 1/6 + 1/2
    case = ([0.5, 0.9, 0.1], [2, 1, 0], [2, 2, 4])
    assert metrics.frame_auc(*case) == pytest.approx(12.5 / 15, abs=1e-15)
    assert metrics.frame_ap(*case) == pytest.approx(2 / 3, abs=1e-15)


def test_constant_scores_give_one_half_and_the_prior():
    case = (np.ones(5), [0, 16, 0, 0, 4], [16] * 5)
    assert metrics.frame_auc(*case) == 0.5
    assert metrics.frame_ap(*case) == 0.25


@pytest.mark.parametrize("measure", [metrics.frame_auc, metrics.frame_ap])
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (([0.1, 0.2], [0, 0], [16, 16]), "positive"),
        (([0.1, np.nan], [1, 0], [16, 16]), "1 non-finite"),
        (([0.1, np.inf], [1, 0], [16, 16]), "1 non-finite"),
        (([0.1, 0.2, 0.3], [1, 0], [16, 16]), "one length"),
        (([0.1, 0.2], [17, 0], [16, 16]), "between 0 and frames"),
    ],
)
def test_auc_and_ap_refuse(measure, arrays, words):
    with pytest.raises(ValueError, match=words):
        measure(*arrays)


def test_auc_needs_negative_frames_and_ap_does_not():
    case = ([0.1, 0.2], [16, 16], [16, 16])
    with pytest.raises(ValueError, match="no negative frame"):
        metrics.frame_auc(*case)
    assert metrics.frame_ap(*case) == 1.0


# ---- detection


@pytest.mark.parametrize("protocol", ["vadclip", "clean"])
@pytest.mark.parametrize("seed", range(40))
def test_detection_equals_a_plain_loop(seed, protocol):
    scores, truth, edges = random_case(seed)
    ours = metrics.detection_map(scores, truth, IOUS, protocol, edges)
    plain = [s.astype(np.float64) for s in scores]
    assert ours == pytest.approx(plain_map(plain, truth, IOUS, protocol, edges), abs=1e-12)


def test_the_random_cases_are_not_trivial():
    values = []
    for seed in range(40):
        scores, truth, edges = random_case(seed)
        values.append(metrics.detection_map(scores, truth, IOUS, "vadclip", edges))
    assert np.mean([v[0] > 0 for v in values]) > 0.5
    assert any(v == [0.0] * 5 for v in values)
    assert len({v[4] for v in values}) > 10


def test_detection_by_hand():
    # class 1, 4 snippets, column [.1, .9, .2, .8]: threshold .9 − .6·.8 = .42, so the segments are
    # [16, 32) and [48, 64); the highest 4 frames average .9: scores .9 + .63 and .8 + .63.
    # class 0, column [.9, .1, .8, .2]: segments [0, 16) and [32, 48), without truth: AP 0.
    first = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.2, 0.8]])
    # truth [48, 64) has IoU 1 with the second segment: AP = (1/2) / 1; over two classes 1/4
    assert metrics.detection_map([first], [[(1, 48, 64)]], [0.5]) == [0.25]
    assert metrics.detection_map([first], [[(1, 48, 64)]], [0.5], "clean") == [0.5]
    # truth [16, 48): IoU with [16, 32) is 16/32, reached at 0.5 and not above; AP 1, halved
    assert metrics.detection_map([first], [[(1, 16, 48)]], [0.5, 0.51]) == [0.5, 0.0]
    # two truths: [0, 64) overlaps both segments by 1/4, [20, 30) only the first, by 10/16, which
    # takes it; the second segment takes [0, 64) where 1/4 is enough: precisions 1 and 1 over 2
    two = [[(1, 0, 64), (1, 20, 30)]]
    assert metrics.detection_map([first], two, [0.25, 0.3], "clean") == [1.0, 0.5]


def test_video_score_orders_segments_of_different_videos():
    # 60 and 64 frames: the highest 3 and 4 count. First video: segment [0, 2) at .6, video
    # score (.6 + .6 + 0)/3 = .4, together .88. Second: [0, 16) at .5, video score .5, together .85.
    # Third: [0, 16) at .55, video score .55, together .935: above both
    a = np.array([[0.4, 0.6], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = np.array([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    c = np.array([[0.45, 0.55], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    edges = [[0, 2, 20, 40, 60], [0, 16, 32, 48, 64], [0, 16, 32, 48, 64]]
    truths = [[(1, 0, 2)], [(1, 0, 16)], [(1, 0, 16)]]
    for video, rank in ((0, 2), (1, 3), (2, 1)):
        only = [t if v == video else [] for v, t in enumerate(truths)]
        found = metrics.detection_map([a, b, c], only, [0.5], "clean", edges)
        assert found == [pytest.approx(1 / rank, abs=1e-15)]


def test_ties_go_to_the_first_video_the_first_segment_and_the_first_truth():
    s = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])  # class 1: [0, 16), [32, 48)
    # equal scores; the first segment is right, then the second: AP 1 and 1/2
    assert metrics.detection_map([s], [[(1, 0, 16)]], [0.5], "clean") == [1.0]
    assert metrics.detection_map([s], [[(1, 32, 48)]], [0.5], "clean") == [0.5]
    second = metrics.detection_map([s, s], [[], [(1, 0, 16)]], [0.5], "clean")
    assert second == [pytest.approx(1 / 3)]
    # [0, 16) overlaps both truths by 1/3 and takes the one listed first; [32, 48) overlaps `one`
    one, two = (1, 0, 48), (1, -32, 16)
    assert metrics.detection_map([s], [[one, two]], [0.3], "clean") == [0.5]
    assert metrics.detection_map([s], [[two, one]], [0.3], "clean") == [1.0]


def test_a_last_snippet_of_one_frame():
    # class 1 is high in the last snippet alone: one frame is no segment, class 1 has none, all is 0
    s = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])
    short, full = [[0, 16, 32, 33]], [[0, 16, 32, 48]]
    truth = [[(1, 32, 48), (0, 16, 32)]]
    assert metrics.detection_map([s], truth, [0.5], "vadclip", short) == [0.0]
    assert metrics.detection_map([s], truth, [0.5], "vadclip", full) == [1.0]
    # after a high snippet that frame belongs to the run [16, 33)
    s = np.array([[0.9, 0.1], [0.9, 0.9], [0.1, 0.9]])
    assert metrics.detection_map([s], [[(1, 16, 33)]], [1.0], "clean", short) == [1.0]


def test_a_class_without_segments():
    flat = np.array([[0.2, 0.9], [0.2, 0.1]])
    truth = [[(1, 0, 16)]]
    assert metrics.detection_map([flat], truth, IOUS) == [0.0] * 5
    assert metrics.detection_map([flat], truth, IOUS, "clean") == [1.0] * 5


def test_labels_outside_the_list_are_ignored():
    s = np.array([[0.9, 0.1], [0.1, 0.9]])
    assert metrics.detection_map([s], [[(1, 16, 32), (-1, 0, 32)]], [0.5]) == [0.5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([np.ones((3, 2))], [[], []], [0.5]), "same videos"),
        (([np.ones((3, 2)), np.ones((3, 3))], [[], []], [0.5]), "snippets, classes"),
        (([np.full((3, 2), np.nan)], [[]], [0.5]), "6 non-finite"),
        (([np.ones((3, 2))], [[(2, 0, 9)]], [0.5]), "class 2"),
        (([np.ones((3, 2))], [[(0, 0, 9)]], [0.5], "clean"), "anomaly class"),
        (([np.ones((3, 2))], [[(1, 0, 9)]], [0.5], "other"), "protocol 'other'"),
        (([np.ones((3, 2))], [[(1, 0, 9)]], [0.5], "clean", [[0, 16, 32]]), "edges"),
        (([np.ones((2, 2))], [[(1, 0, 9)]], [0.5], "clean", [[0, 16, 16]]), "edges"),
    ],
)
def test_detection_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        metrics.detection_map(*arguments)


@pytest.mark.parametrize(("dataset", "names"), [("ucf_crime", UCF), ("xd_violence", XD)])
def test_detection_on_the_real_segment_lists(dataset, names):
    snippets, truth = listed(dataset, names)
    rng = np.random.default_rng(5)
    step = 4  # every fourth video keeps the plain loop short
    snippets, truth = snippets[::step], truth[::step]
    scores = [softmax(2 * rng.normal(size=(n, len(names)))) for n in snippets]
    for s, t in zip(scores, truth, strict=True):  # good enough for matches at every IoU
        for c, a, b in t:
            if c > 0:
                s[int(a) // 16 : int(b) // 16 + 1, c] += 0.7
    edges = [16 * np.arange(n + 1) for n in snippets]
    ours = metrics.detection_map(scores, truth, [0.1, 0.5])
    assert ours == pytest.approx(plain_map(scores, truth, [0.1, 0.5], "vadclip", edges), abs=1e-12)
    assert min(ours) > 0


def test_detection_at_the_size_of_xd_takes_less_than_two_seconds():
    rng = np.random.default_rng(0)
    videos, classes, total = 800, 7, 145_706
    shares = rng.lognormal(size=videos)
    sizes = np.maximum((shares / shares.sum() * total).astype(int), 2)
    sizes[-1] += total - sizes.sum()
    scores = [softmax(rng.normal(size=(n, classes))) for n in sizes]
    truth = [[] for _ in sizes]
    for v in rng.integers(0, 500, 1272):
        start = rng.uniform(0, 14 * sizes[v])
        truth[v].append((int(rng.integers(1, classes)), int(start), int(start) + 132))
    for v in range(500, 800):
        truth[v].append((0, 0, int(16 * sizes[v])))
    began = time.process_time()
    metrics.detection_map(scores, truth, IOUS)
    assert time.process_time() - began < 2


def test_the_trapezoid_is_sklearns_area_under_its_curve():
    """What RTFM's, UR-DMU's, PEL4VAD's and CLIP-TSA's programs publish: auc(recall, precision)."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, 6 if seed % 2 else 10**6, 60) / 7
        frames = rng.integers(0, 20, 60)
        positive = rng.integers(0, frames + 1)
        labels = np.concatenate([np.arange(n) < p for n, p in zip(frames, positive, strict=True)])
        precision, recall, _ = precision_recall_curve(labels, np.repeat(scores, frames))
        found = metrics.frame_ap_trapezoid(scores, positive, frames)
        assert found == pytest.approx(auc(recall, precision), abs=1e-12)


def test_the_two_aps_by_hand():
    # descending: precision 1 at recall 1/2, then 1/2 and 2/3 at recall 1
    scores, positive, frames = [3, 2, 1], [1, 0, 1], [1, 1, 1]
    assert metrics.frame_ap(scores, positive, frames) == pytest.approx((1 + 2 / 3) / 2)
    by_hand = 0.5 * 1 + 0.5 * (1 / 2 + 2 / 3) / 2
    assert metrics.frame_ap_trapezoid(scores, positive, frames) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="needs positive frames"):
        metrics.frame_ap_trapezoid([1, 2], [0, 0], [1, 1])
