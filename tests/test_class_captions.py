"""Eq. 1 against a slow oracle written from the formulas, ties included."""

import random
import string
from collections import Counter

import numpy as np
import pytest

from featurize.class_captions import (
    Rules,
    candidates,
    caption,
    class_words,
    count_words,
    stop_words,
    words,
)
from semvad_jax.files import BadInput
from tests.support.class_caption_oracle import Oracle

CLASSES = ["Normal", "Fighting", "RoadAccidents"]
LABELS = ["normal", "fighting", "road accidents"]


def embed(texts):
    """Four directions for all strings, so that many cosines are equal."""
    axes = np.eye(4)
    return np.stack([axes[sum(map(ord, text)) % 4] * 0.6 + 0.4 * axes[0] for text in texts])


def corpus(seed):
    """Captions of few distinct words, so that counts tie all the time; some with two labels."""
    rng = random.Random(seed)
    pool = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 4))) for _ in range(120)]
    sets = [["Normal"], ["Fighting"], ["RoadAccidents"], ["Fighting", "RoadAccidents"]]
    return [
        (
            rng.choice(sets),
            [", ".join(rng.choices(pool, k=6)) + "." for _ in range(rng.randint(1, 4))],
        )
        for _ in range(40)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_percent", [5, 10, 33.3, 100])
def test_equals_the_oracle(seed, top_percent):
    labelled = corpus(seed)

    def count_tokens(text):
        return sum(1 + len(word) // 2 for word in text.split())

    counts = count_words(labelled, CLASSES)
    found = class_words(counts, LABELS, embed, count_tokens, top_percent)
    oracle = Oracle(labelled, CLASSES)
    assert [[row["word"] for row in rows] for rows in found] == [
        oracle.class_words(m, label, embed, count_tokens, top_percent)
        for m, label in enumerate(LABELS)
    ]
    for rows in found:
        assert count_tokens(caption(rows)) <= 75


def test_the_order_of_the_videos_does_not_matter():
    labelled = corpus(0)
    one, other = (
        class_words(count_words(videos, CLASSES), LABELS, embed, len, 50)
        for videos in (labelled, labelled[::-1])
    )
    assert one == other


def test_a_table_by_hand():
    labelled = [
        (["Normal"], ["a man walks", "a man sits"]),
        (["Fighting"], ["a man hits", "hits hits", "kicks"]),
        (["RoadAccidents"], ["a car hits"]),
    ]
    counts = count_words(labelled, CLASSES)
    found = class_words(counts, LABELS, embed, lambda text: len(text.split()), 100)
    scores = {row["word"]: row["score"] for row in found[1]}
    assert scores["hits"] == pytest.approx(3e6) and scores["kicks"] == pytest.approx(1e6)
    assert scores["man"] == pytest.approx(0.5, abs=1e-6)
    assert [row["word"] for row in found[0]] == ["sits", "walks", "man"]
    assert found[0][2]["score"] == pytest.approx(2, abs=1e-5) and "cosine" not in found[0][0]


def test_words():
    assert words("A man's RED car, no. 42 - it_is!") == [
        "man",
        "red",
        "car",
        "no",
        "42",
        "it",
        "is",
    ]


def test_rare_words_come_first_unless_they_are_kept_back():
    """One word 500 times and nineteen once, against three of the normal class."""
    rare = [f"rare{i:02d}" for i in range(19)]
    counts = [Counter(fight=3), Counter({"fight": 500} | dict.fromkeys(rare, 1))]

    def first(**rules):
        return [word for word, _ in candidates(counts, 1, 10, Rules(**rules))]

    assert first() == ["rare00", "rare01"]
    assert first(epsilon=1) == ["fight", "rare00"]
    assert first(min_count=2) == ["fight"]
    assert first(stop_words=frozenset(rare)) == ["fight"]


def test_stop_words_come_from_a_file_or_from_scikit_learn(tmp_path):
    (tmp_path / "list.txt").write_text("The, and\nFIGHT\n", encoding="utf-8")
    words, name = stop_words(str(tmp_path / "list.txt"))
    assert words == {"the", "and", "fight"} and name.startswith("the 3 stop words of list.txt")
    english, name = stop_words("english")
    assert {"the", "and"} < english and "scikit-learn" in name
    with pytest.raises(BadInput, match="--stop-words nothing is no file; give one, or english"):
        stop_words("nothing")
    recorded = Rules(epsilon=1.0, min_count=3, stop_words=words, stop_list="a list").producer
    assert (recorded["epsilon"], recorded["min_count"]) == (1.0, 3) and "a list" in recorded[
        "words"
    ]
    # a store made by the defaults records what it did before there were rules
    assert Rules().producer == {
        "scores": "paper §3.2, eq. 1",
        "epsilon": 1e-6,
        "words": "lower-case runs of letters and digits, two or more; no stop words, no stemming",
        "max_tokens": 77,
        "captions": "train videos",
    }
