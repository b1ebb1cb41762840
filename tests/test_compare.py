"""Two runs compared: the printed numbers against SciPy and written-out resamples, and what is said
of them.
"""

import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

import main
from semvad_jax import compare, evaluate, statistics, store
from semvad_jax.files import BadInput
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings
from semvad_jax.report import summary as report
from tests.support.stores import make_store
from tests.test_main import CONFIG
from tests.test_statistics import written_out

RUNS = {
    "semvad": ["--seeds", "9,234,42"],
    "mil": ["--seeds", "9,234,42", "--model", "mil"],
    "released": ["--seeds", "7", "--model", "mil", "--set", "train.protocol=reload_best"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """RUNS, trained for one epoch each, on one store; `told` is what training printed."""
    place = tmp_path_factory.mktemp("compare")
    make_store(place / "store", train=32, test=12, lengths=(5, 8, 11))
    (place / "tiny.py").write_text(CONFIG)
    told = {}
    for name, more in RUNS.items():
        argv = ["--config", str(place / "tiny.py"), "--data", str(place / "store")]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            main.main([*argv, "--out", str(place / name), "--set", "train.epochs=1", *more])
        told[name] = out.getvalue()
    (place / "told.json").write_text(json.dumps(told))
    return place


@pytest.fixture(scope="module")
def last(place):
    return {run: compare.judged(place / run, "last") for run in ("semvad", "mil")}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Lines must not break where this machine's paths are long."""
    monkeypatch.setenv("COLUMNS", "400")


def printed(capsys, place, a, b):
    capsys.readouterr()
    main.main(["--compare", str(place / a), str(place / b)])
    return capsys.readouterr().out


def cells(text, row):
    """The cells of a row, first in the table of values, then in that of intervals."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return [line[1:] for line in lines if line[0] == row]


def values(place, run, name):
    return json.loads((place / run / "summary.json").read_text())["metrics"][name]["values"]


def interval(ends):
    return f"{100 * ends[0]:+.2f} to {100 * ends[1]:+.2f}"


def test_scores_are_those_of_the_summary_to_the_digit(last, place):
    for selection, judged in (
        ("last", last["semvad"]),
        ("test", compare.judged(place / "semvad", "test")),
    ):
        truth = evaluate.frame_truth(judged.store, judged.videos)
        for seed, scores in enumerate(judged.scores):
            for name, value in evaluate.frame_metrics(scores, truth, selection).items():
                assert value == values(place, "semvad", str(name))[seed]


def test_printed_numbers_are_those_of_scipy_and_of_resamples_written_out(last, place, capsys):
    told = printed(capsys, place, "semvad", "mil")
    assert "last step, 12 test videos" in told and "n = 3" in told
    sides = [last[run].head("binary", range(12)) for run in ("semvad", "mil")]
    counts = statistics.resample_videos(np.arange(12) % 2 == 1, statistics.VIDEO_RESAMPLES)
    written = np.array([[written_out(side, times) for side in sides] for times in counts])
    over_videos = np.quantile(written[:, 0] - written[:, 1], [0.025, 0.975], axis=0)
    for column, metric in enumerate(("auc", "ap")):
        a, b = (np.array(values(place, run, f"last/binary/{metric}")) for run in ("semvad", "mil"))
        means, intervals = cells(told, f"binary {metric.upper()}")
        assert means == [
            *(f"{100 * x.mean():.2f} ± {100 * x.std(ddof=1):.2f}" for x in (a, b)),
            f"{100 * (a.mean() - b.mean()):+.2f}",
        ]
        assert intervals == [
            interval(statistics.bootstrap_difference(a, b)),
            f"{stats.ttest_ind(a, b, equal_var=False).pvalue:.3f}",
            interval(stats.ttest_rel(a, b).confidence_interval()),
            interval(over_videos[:, column]),
        ]
    assert "paired seeds" in told and not cells(told, "class AUC")  # mil has no class head
    said = " ".join(told.split())  # lines break where the runs' names are long
    assert "points above" in said and "in frame AUC, binary head" in said


def test_runs_of_one_model_are_compared_by_both_heads_and_a_run_equals_itself(
    last, place, monkeypatch, capsys
):
    monkeypatch.setattr(compare, "judged", lambda *_: last["semvad"])
    told = printed(capsys, place, "semvad", "semvad")
    for head in ("binary", "class"):
        means, intervals = cells(told, f"{head} AUC")
        assert means[2] == "+0.00" and intervals[1] == "1.000"
        assert intervals[2:] == ["+0.00 to +0.00"] * 2
    assert " ".join(told.split()).count("no evidence of a difference") == 2


def test_other_seeds_do_not_pair_and_other_classes_leave_the_binary_head(last):
    a = last["semvad"]
    found = compare.differences(a, a)
    assert {d.head for d in found} == {"binary", "class"} and found[0].paired == (0, 0)
    again = compare.differences(a, replace(a, pairs=[(1, 1), (2, 2), (3, 3)]))
    assert again == [replace(d, paired=None) for d in found]  # and deterministic
    riot = replace(a.store, classes=(*a.store.classes, "Riot"))
    assert {d.head for d in compare.differences(a, replace(a, store=riot))} == {"binary"}


def test_a_run_of_the_release_protocol_is_compared_by_its_test_selection(place, capsys):
    told = " ".join(printed(capsys, place, "semvad", "released").split())
    assert "test, optimistic, 12 test videos" in told
    assert f"{100 * np.mean(values(place, 'semvad', 'test/binary/auc')):.2f} ±" in told
    assert f"{100 * values(place, 'released', 'test/binary/auc')[0]:.2f} " in told
    assert "one seed says nothing about other seeds" in told and " – – " in told
    assert "selected on these very videos" in told


def test_runs_judged_on_other_videos_are_refused_by_the_first_that_differs(tmp_path):
    made = make_store(tmp_path / "store", train=4, test=6)

    def judged(name, videos):
        chosen = [i for i, v in enumerate(videos) if v.split == "test"]
        stored = store.Store(
            tmp_path / name, made.info, tuple(videos), made.classes, *[np.zeros(0)] * 2, {}
        )
        return compare.Judged(name, stored, chosen, [], [], "auc")

    a, videos = judged("a", made.videos), list(made.videos)
    back = judged("b", videos[::-1])
    assert [back.video(i).video for i in compare.same_videos(a, back)] == [
        f"video_{i:03d}" for i in range(4, 10)
    ]
    with pytest.raises(BadInput, match=r"video_009 is in \S+/a, of a, and not in \S+/b, of b"):
        compare.same_videos(a, judged("b", videos[:-1]))
    with pytest.raises(BadInput, match=r"video_009 is in \S+/a, of a, and not in \S+/b, of b"):
        compare.same_videos(judged("b", videos[:-1]), a)
    longer = [*videos[:-1], replace(videos[-1], frames=videos[-1].frames + 1)]
    with pytest.raises(BadInput, match="test video video_009 has .* frames in"):
        compare.same_videos(a, judged("b", longer))
    (name, start, end), *_ = videos[-1].intervals
    later = [*videos[:-1], replace(videos[-1], intervals=((name, start + 1, end),))]
    with pytest.raises(BadInput, match="test video video_009 has other anomalous frames"):
        compare.same_videos(a, judged("b", later))
    halves = ((name, start, start + 3), ("Arson", start + 2, end))  # the same frames, told apart
    compare.same_videos(a, judged("b", [*videos[:-1], replace(videos[-1], intervals=halves)]))


def test_scores_follow_the_other_runs_order(last):
    judged = last["mil"]
    order = [3, 0, 2]
    side = judged.head("binary", order)
    np.testing.assert_array_equal(
        side.scores[1], np.concatenate([judged.scores[1].binary[i] for i in order])
    )
    counts = [judged.video(i).snippets for i in order]
    np.testing.assert_array_equal(side.video, np.repeat([0, 1, 2], counts))
    assert [side.positive[side.video == v].sum() for v in (0, 1, 2)][1:] == [0, 0]
    assert side.positive[side.video == 0].sum() > 0 and side.frames.sum() == sum(
        judged.video(i).frames for i in order
    )


SAID = [
    ((0.004, 0.02), 0.01, (0.001, 0.03), "A is better, with other seeds on these videos and with"),
    ((0.004, 0.02), 0.01, (-0.009, 0.03), "the seeds differ, but with 290 videos it may not hold"),
    ((-0.004, 0.02), 0.2, (0.001, 0.03), "no evidence across seeds; these weights differ on"),
    ((-0.004, 0.02), 0.2, (-0.009, 0.03), "no evidence of a difference; up to 3.00 points either"),
    ((-0.001, 0.02), 0.04, (0.001, 0.03), "(p = 0.040) disagree, so nothing is concluded"),
    ((0.001, 0.02), 0.06, (0.001, 0.03), "(p = 0.060) disagree, so nothing is concluded"),
    (None, 0.01, (0.001, 0.03), "so few seeds say nothing about other seeds; these weights"),
    (None, None, (-0.1, 0.1), "seeds that do not vary say nothing about other seeds, and on"),
]


@pytest.mark.parametrize("over_seeds, p, over_videos, verdict", SAID)
def test_what_is_said_of_a_difference(over_seeds, p, over_videos, verdict):
    found = compare.Difference(
        "binary", "auc", [0.71, 0.73], [0.70, 0.716], None, over_seeds, p, over_videos
    )
    told = compare.conclusion("A", "B", found, 290)
    assert told.startswith("A lies 1.20 points above B in frame AUC, binary head (95 % intervals: ")
    assert verdict in told and told.endswith(".")
    # the other way round: the same of the better run
    turned = [None if x is None else (-x[1], -x[0]) for x in (over_seeds, over_videos)]
    back = replace(found, a=found.b, b=found.a, over_seeds=turned[0], over_videos=turned[1])
    assert compare.conclusion("B", "A", back, 290) == told


def test_what_is_said_of_one_seed():
    found = compare.Difference("class", "ap", [0.7], [0.6, 0.65], None, None, None, (0.01, 0.14))
    told = compare.conclusion("A", "B", found, 60)
    assert (
        "(95 % intervals: over the 60 test videos +1.00 to +14.00): one seed says nothing" in told
    )


def test_a_run_tells_its_optimism_and_what_a_best_seed_is_worth(place):
    told = json.loads((place / "told.json").read_text())
    for head in ("binary", "class", "max"):
        test, val = (values(place, "semvad", f"{s}/{head}/auc") for s in ("test", "val"))
        ends = stats.ttest_rel(test, val)
        mean = 100 * np.mean(np.subtract(test, val))
        low, high = (
            ends.confidence_interval() if np.ptp(np.subtract(test, val)) else (mean / 100,) * 2
        )
        assert f"{head}: {mean:+.2f} ({interval((low, high))})" in told["semvad"]
    rows = dict(
        re.findall(
            r"^ *(last step|val|test, optimistic) +([\d.]+ +[\d.]+ +[\d.]+) *$", told["mil"], re.M
        )
    )
    for name, selection in (("last step", "last"), ("test, optimistic", "test")):
        x = np.sort(values(place, "mil", f"{selection}/binary/auc"))
        expected = [x.mean(), (x[1] + 2 * x[2]) / 3, x[2]]
        assert rows[name].split() == [f"{100 * v:.2f}" for v in expected]
    assert "Selection optimism" not in told["released"]  # no val
    assert "Expected best" not in told["released"]  # one seed


def test_the_lines_after_a_table():
    metrics = {
        MetricName(s, "binary", "ap"): findings.spread(values)
        for s, values in (("last", [0.5]), ("val", [0.5]), ("test", [0.625]))
    }
    out = io.StringIO()
    report.print_selection(Console(file=out), metrics, "ap", "binary", "max")
    assert "AP of test − val, points (95 % t interval)" in out.getvalue()
    assert "Weights were selected by the max head" in " ".join(out.getvalue().split())
    assert "binary: +12.50 (too few seeds for an interval)" in out.getvalue()


@pytest.mark.parametrize(
    "argv",
    [
        ["--compare", "a"],
        ["--compare", "a", "b", "--restore", "a"],
        ["--compare", "a", "b", "--eval"],
        ["--compare", "a", "b", "--out", "c"],
    ],
)
def test_mistakes_on_the_command_line(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(argv)
    assert ended.value.code == 2 and "--compare" in capsys.readouterr().err


def test_something_else_than_a_run_is_refused(place, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--compare", str(place / "mil"), str(tmp_path)])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and f"error: {tmp_path} is not a run" in told
    assert Path(place / "mil" / "eval.json").exists() is False
