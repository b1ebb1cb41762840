"""The committed demo store: small, whole, and no task that a single snippet could solve."""

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

import main
from semvad_jax import store
from semvad_jax.detection import pictures

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
linear_model = pytest.importorskip("sklearn.linear_model", reason="needs the extra test (sklearn)")


@pytest.fixture(scope="module")
def demo() -> store.Store:
    return store.open(DEMO)


def rows(demo: store.Store, i: int, streams: str) -> np.ndarray:
    both = {"visual": demo.visual_rows(i), "captions": demo.caption_rows(i)}
    return np.hstack([both[name] for name in streams.split("+")]).astype(np.float64)


def frame_auc(demo: store.Store, scores: dict[int, np.ndarray]) -> float:
    from sklearn.metrics import roc_auc_score

    truth, predicted = [], []
    for i, score in scores.items():
        video = demo.videos[i]
        anomalous = np.zeros(video.frames)
        for _, start, end in video.intervals:
            anomalous[start:end] = 1
        truth.append(anomalous)
        predicted.append(np.repeat(score, np.diff(video.frame_edges)))
    return float(roc_auc_score(np.concatenate(truth), np.concatenate(predicted)))


def smooth(score: np.ndarray) -> np.ndarray:
    """Mean over the eight neighbours that are there, and itself."""
    return np.array([score[max(0, t - 4) : t + 5].mean() for t in range(len(score))])


def linear_scores(demo: store.Store, streams: str, standardised: bool) -> dict[int, np.ndarray]:
    """Logistic regression on each train video's mean row, applied to every test snippet."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = [i for i, v in enumerate(demo.videos) if v.split == "train"]
    model = linear_model.LogisticRegression(max_iter=5000)
    model = make_pipeline(StandardScaler(), model) if standardised else model
    labels = [demo.videos[i].labels[0] != demo.classes[0] for i in train]
    model.fit(np.stack([rows(demo, i, streams).mean(0) for i in train]), labels)
    test = [i for i, v in enumerate(demo.videos) if v.split == "test"]
    return {i: model.decision_function(rows(demo, i, streams)) for i in test}


def test_what_it_holds(demo: store.Store):
    assert sum(file.stat().st_size for file in DEMO.rglob("*")) <= 10e6
    assert demo.classes == ("Normal", "Fighting", "Explosion", "RoadAccident")
    snippets = [v.snippets for v in demo.videos]
    assert min(snippets) >= 12 and max(snippets) <= 60 and np.mean(snippets) <= 30
    for split, fewest in (("train", 160), ("test", 60)):
        videos = [v for v in demo.videos if v.split == split]
        normal = [v for v in videos if v.labels == ("Normal",)]
        assert len(videos) >= fewest and len(normal) * 2 == len(videos)
        abnormal = [v for v in videos if v not in normal]
        assert all(bool(v.intervals) == (split == "test") for v in abnormal)
    assert all(len(demo.texts(i)) == v.snippets for i, v in enumerate(demo.videos))


def test_two_videos_can_be_seen_without_a_decoder(demo: store.Store):
    names = {video.video: video.video for video in demo.videos}
    files, frames = pictures.beside(demo, names)
    assert sorted(files) == ["Explosion033_test", "Normal000_test"]
    assert sum(file.stat().st_size for file in (DEMO / "videos").rglob("*")) <= 1.5e6
    for i, video in enumerate(demo.videos):
        if video.video in files:
            assert bool(video.intervals) == video.video.startswith("Explosion") and demo.texts(i)
            found = frames(video.video, [(int(frame), 0.0) for frame in video.frame_edges[:-1]])
            assert len(set(found)) == video.snippets and None not in found


def test_make_demo_ends_with_the_pages_of_its_run_and_of_a_video():
    command = ["make", "-n", "--no-print-directory", "demo"]  # make may have started this test
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    *_, train, detect, pages = told.replace("\\\n", " ").strip().splitlines()
    argv = shlex.split(train)[2:], shlex.split(detect)[2:]
    trained, detected = (main.arguments(words) for words in argv)
    assert trained.config == "demo" and detected.restore == Path("runs/demo")
    assert detected.detect == "demo"
    assert shlex.split(pages)[2:] == [
        "the run, and a video beside its truth:",
        f"  {detected.restore}/report.html",
        f"  {detected.out}/Explosion033_test/report.html",
    ]


@pytest.mark.parametrize("streams", ["visual+captions", "captions", "visual"])
@pytest.mark.parametrize("standardised", [False, True])
def test_no_snippet_gives_the_anomaly_away(demo: store.Store, streams: str, standardised: bool):
    assert frame_auc(demo, linear_scores(demo, streams, standardised)) < 0.85


def test_the_neighbours_help(demo: store.Store):
    alone = linear_scores(demo, "captions", standardised=False)
    together = {i: smooth(score) for i, score in alone.items()}
    assert frame_auc(demo, together) > frame_auc(demo, alone) + 0.08
