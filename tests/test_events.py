"""Rules and events by hand, of a whole video and of a stream."""

import json

import numpy as np
import pytest

from semvad_jax.detection import detect, events
from semvad_jax.detection.events import Live, Origin, Rule, Threshold, spans
from semvad_jax.detection.timeline import Timeline, written


def timeline(mean, probabilities=None, captions=None, **more):
    n = len(mean)
    given = {
        "video": "v",
        "edges": np.minimum(16 * np.arange(n + 1), 16 * n - 6),
        "second_edges": np.minimum(16 * np.arange(n + 1), 16 * n - 6) / 25.0,
        "mean": np.array(mean, float),
        "sd": None,
        "classes": () if probabilities is None else ("Normal", "Riot", "Arson"),
        "probabilities": np.array(np.zeros((n, 0)) if probabilities is None else probabilities),
        "captions": tuple(captions or [""] * n),
        "truth": None,
    }
    return Timeline(**given | more)


def test_events_by_hand():
    p = [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.6, 0.1, 0.3]]
    line = timeline([0.9, 0.7, 0.5, 0.4, 0.6], p, ["a", "a", "b", "", "c"])
    first, second = events.events(line, Rule(0.5, 0.5))  # 0.5 itself is not above
    assert (first.start_frame, first.end_frame, first.start_second, first.end_second) == (
        0,
        32,
        0.0,
        1.28,
    )
    assert (first.start_snippet, first.end_snippet) == (0, 2)
    assert (first.label, first.class_probability) == ("Riot", 0.5)  # (0.8 + 0.2) / 2; Arson 0.35
    assert first.confidence == 0.8 and first.captions == ("a",)
    # the last snippet is cut: 74 frames
    assert (second.start_frame, second.end_frame, second.end_second) == (64, 74, 2.96)
    assert second.captions == ("c",)


def test_an_event_that_is_most_probably_normal_has_no_class():
    p = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.9, 0.06, 0.04]]
    first, second = events.events(timeline([0.9, 0.9, 0.1, 0.9], p), Rule(0.5, 0.5))
    # 0.4 normal, 0.5 Riot: although the first snippet alone is most probably normal
    assert (first.name, first.label, first.class_probability) == ("Riot", "Riot", 0.5)
    assert (second.name, second.label) == ("unusual, no class", None)
    assert second.class_probability is None
    (without,) = events.events(timeline([0.9]), Rule(0.5, 0.5))
    assert (without.name, without.label) == ("something unusual", None)


# snippets of 0.64 s; the last one has 10 frames of 25 a second
@pytest.mark.parametrize(
    ("scores", "rule", "expected"),
    [
        ([0.9, 0.7, 0.5, 0.4, 0.6], Rule(0.6, 0.45), [(0, 3)]),  # 0.6 itself opens nothing
        ([0.9, 0.7, 0.5, 0.4, 0.6], Rule(0.55, 0.3), [(0, 5)]),
        ([0.4, 0.7, 0.4, 0.7, 0.2], Rule(0.6, 0.3), [(1, 4)]),  # it begins where it opens
        ([0.4, 0.4, 0.1, 0.7, 0.4], Rule(0.6, 0.3), [(3, 5)]),  # 0.4 alone opens nothing
        ([0.9, 0.1, 0.9, 0.9, 0.1], Rule(0.5, 0.5, 0.65), [(2, 4)]),  # one snippet is too short
        ([0.9, 0.1, 0.9, 0.9, 0.1], Rule(0.5, 0.5, 0.64), [(0, 1), (2, 4)]),
        ([0.1, 0.9, 0.1, 0.1, 0.9], Rule(0.5, 0.5, 0.64), [(1, 2)]),  # 0.64 s, and 0.4 s
        ([0.4, 0.4, 0.9, 0.1, 0.1], Rule(0.5, 0.3, 1.0), []),  # it lasts from where it opens
        ([0.1, 0.2, 0.1, 0.2, 0.1], Rule(0.5, 0.5), []),
        ([0.9], Rule(0.5, 0.5), [(0, 1)]),
    ],
)
def test_spans_by_hand(scores, rule, expected):
    line = timeline(scores)
    found = spans(line.mean, np.array(line.seconds), rule)
    assert found.tolist() == [list(span) for span in expected]
    assert live(line.mean, line.seconds, rule) == expected


def live(scores, seconds, rule):
    """The spans that a stream's listener is told, and that each counted before it was closed."""
    stream, told = Live(rule), []
    for score, begin, end in zip(scores, seconds, seconds[1:], strict=False):
        counted = stream.counts
        closed = stream.add(score, begin, end)
        assert closed is None or (counted and not stream.counts)
        told.append(closed)
    return [span for span in [*told, stream.close()] if span is not None]


def test_a_stream_has_the_events_of_the_whole_video():
    rng = np.random.default_rng(0)
    seconds, found = np.round(np.arange(101) * 0.64, 3), 0
    for _ in range(300):
        scores, opens = rng.random(100).round(1), rng.random()
        rule = Rule(opens, opens * rng.random(), rng.choice([0, 0.64, 1, 3]))
        whole = [tuple(span) for span in spans(scores, seconds, rule).tolist()]
        assert live(scores, seconds, rule) == whole
        found += len(whole)
    assert found > 1000


@pytest.mark.parametrize(
    ("above", "spans"), [(0.95, []), (0.3, [(0, 5)]), (0.45, [(0, 3), (4, 5)])]
)
def test_events_are_maximal(above, spans):
    found = events.events(timeline([0.9, 0.7, 0.5, 0.4, 0.6]), Rule(above, above))
    assert [(e.start_snippet, e.end_snippet) for e in found] == spans
    assert all(e.label is None and e.class_probability is None for e in found)


def test_numbers_are_those_that_are_written():
    line = timeline(written(np.array([0.1234564, 0.5000004])))
    assert line.mean.tolist() == [0.123456, 0.5]
    assert events.events(line, Rule(0.5, 0.5)) == []  # as a reader of scores.csv would say


def test_the_file_says_what_was_found_and_how():
    line = timeline([0.9, 0.2], [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]], ["a “man”", "b"])
    by = Origin("runs/x", "semvad", 3, "binary", Threshold(Rule(0.5, 0.4, 0.5), "given"))
    told = json.loads(detect._events_json(line, events.events(line, Rule(0.5, 0.5)), by))
    assert told["threshold"] == {"value": 0.5, "source": "given"}
    assert (told["closes"], told["least_seconds"]) == (0.4, 0.5)
    assert (told["run"], told["seeds"], told["head"]) == ("runs/x", 3, "binary")
    assert told["events"] == [
        {
            "start_second": 0.0,
            "end_second": 0.64,
            "start_frame": 0,
            "end_frame": 16,
            "start_snippet": 0,
            "end_snippet": 1,
            "name": "Riot",
            "class": "Riot",
            "class_probability": 0.8,
            "confidence": 0.9,
            "captions": ["a “man”"],
        }
    ]
