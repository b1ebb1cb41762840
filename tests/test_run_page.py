"""The page and plots of a run, against summary.json, scikit-learn and slow loops; and opened."""

import copy
import dataclasses
import json
import re
import shutil
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve
from stores import make_store

import main
from semvad_jax import metrics
from semvad_jax import run as runs
from semvad_jax.evaluate import Scores
from semvad_jax.report import curves as run_data
from semvad_jax.report import page as run_page
from semvad_jax.report.summary import read_summary
from semvad_jax.report.worst import Worst
from tests import test_video_page
from tests.test_main import CONFIG, command

browser, opened = test_video_page.browser, test_video_page.opened
CLASSES = ("Normal", *(f"AnAnomalyOfKind{i}" for i in range(1, 10)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("run_page")
    make_store(place / "store", train=32, test=20, lengths=(5, 8, 11))
    (place / "tiny.py").write_text(CONFIG)
    return place


@pytest.fixture(scope="module")
def trained(place):
    main.main(command(place, place / "run", "--vmap-seeds", "3"))
    return place / "run"


@pytest.fixture(scope="module")
def restored(trained):
    return runs.restore(trained)


@pytest.fixture
def judged(restored, tmp_path):
    """Random scores of three seeds for videos of ten classes, some of two, in steps that tie."""
    store = make_store(tmp_path / "s", classes=CLASSES, test=30, multi_label=True)
    test = [i for i, video in enumerate(store.videos) if video.split == "test"]
    videos = dataclasses.replace(restored[0].videos, store=store, test=test, val=[])
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(3):
        counts = [store.videos[i].snippets for i in test]
        binary = [(rng.random(n).round(1)).astype(np.float32) for n in counts]
        classes = [rng.dirichlet(np.ones(10), n).astype(np.float32) for n in counts]
        scores.append(Scores(binary, classes))
    return videos, scores


def summary_of(run):
    return read_summary(run / "summary.json")


def html_of(run):
    return (run / "report.html").read_text(encoding="utf-8")


def numbers(text):
    return [float(x) for x in re.findall(r"\d+\.\d+", text)]


def test_the_table_is_summary_json(trained):
    cells = dict(re.findall(r'data-metric="([^"]+)">(.*?)</td>', html_of(trained), re.S))
    summary = summary_of(trained)
    assert {key for key, text in cells.items() if text != "–"} == {
        str(name) for name in summary.metrics if "@" not in name.metric
    }
    for key, text in cells.items():
        if text != "–":
            x = 100 * np.array(summary.metrics[metrics.MetricName.parse(key)].values)
            t = stats.t.interval(0.95, 2, x.mean(), stats.sem(x)) if np.ptp(x) else [x.mean()] * 2
            expected = [x.mean(), x.std(ddof=1), *np.abs(t), x.max()]
            assert numbers(text) == pytest.approx(expected, abs=0.00501), key


def test_metrics_jsonl_is_read_by_pandas_and_drawn(trained):
    table = pd.read_json(trained / "metrics.jsonl", lines=True)
    assert {"step", "weight_seed", "data_seed", "loss", "test/binary/auc"} < set(table.columns)
    pairs = [(9, 9), (234, 234), (42, 42)]
    panels = {p.name: p for p in run_data.training(trained / "metrics.jsonl", pairs, "auc")}
    assert list(panels) == ["training_test", "training_val", "training_loss"]
    binary, of_class = panels["training_test"].lines
    wide = table.pivot(index="weight_seed", columns="step", values="test/class/auc")
    assert of_class.x.tolist() == wide.columns.tolist()
    assert of_class.values == pytest.approx(100 * wide.loc[[9, 234, 42]].to_numpy())
    assert binary.sd == pytest.approx(binary.values.std(axis=0, ddof=1))


def test_a_mean_ends_where_a_seed_has_stopped(tmp_path):
    rows = [(4, 1, 0.5), (4, 2, 0.7), (8, 1, 0.9)]
    lines = [
        {"step": s, "weight_seed": w, "data_seed": 0, "loss": x, "test/binary/auc": x}
        for s, w, x in rows
    ]
    (tmp_path / "m").write_text("".join(json.dumps(line) + "\n" for line in lines))
    panel, _ = run_data.training(tmp_path / "m", [(1, 0), (2, 0)], "auc")
    assert panel.lines[0].mean[0] == pytest.approx(60) and np.isnan(panel.lines[0].mean[1])
    drawn = run_page._drawing(panel)
    assert "nan" not in str(drawn).lower() and drawn["lines"][0]["seeds"][0].count("L") == 2


def test_curves_are_those_of_scikit_learn(judged):
    videos, scores = judged
    positive, frames = videos.truth.positive, videos.truth.frames
    truth = np.concatenate([[1] * p + [0] * (n - p) for p, n in zip(positive, frames, strict=True)])
    roc, pr = run_data.curves(videos, scores)
    for place, head in enumerate(("binary", "class")):
        for seed, of_seed in enumerate(scores):
            snippets = np.concatenate(of_seed.head(head))
            by_frame = np.repeat(snippets, frames)
            false, found, _ = roc_curve(truth, by_frame, drop_intermediate=False)
            expected = 100 * np.interp(run_data.GRID, false, found)
            assert roc.lines[place].values[seed] == pytest.approx(expected)
            precision, recall, _ = precision_recall_curve(truth, by_frame)
            precision, recall = precision[-2::-1], recall[-2::-1]  # from the highest threshold down
            expected = [precision[np.argmax(recall >= r)] for r in run_data.GRID]
            assert pr.lines[place].values[seed] == pytest.approx(100 * np.array(expected))
            fine = np.linspace(0, 1, 200_001)
            area = auc(fine, run_data.roc(snippets, positive, frames, fine))
            assert area == pytest.approx(metrics.frame_auc(snippets, positive, frames), abs=1e-5)
            area = run_data.precision(snippets, positive, frames, fine[1:]).mean()
            assert area == pytest.approx(average_precision_score(truth, by_frame), abs=1e-4)
    assert roc.chance == (0, 100) and pr.chance == pytest.approx([100 * truth.mean()] * 2)


def test_a_class_is_judged_with_the_normal_videos(judged):
    videos, scores = judged
    results = {r.name: r for r in run_data.class_results(videos, scores, "binary")}
    for name in CLASSES[1:]:
        positive, frames, rows, count = [], [], [], 0
        for place, i in enumerate(videos.test):
            video = videos.store.videos[i]
            if name in video.labels or "Normal" in video.labels:
                count += name in video.labels
                for t in range(video.snippets):
                    span = range(16 * t, min(16 * t + 16, video.frames))
                    marked = [any(a <= f < b for _, a, b in video.intervals) for f in span]
                    positive.append(sum(marked))
                    frames.append(len(span))
                    rows.append((place, t))
        expected = [
            metrics.frame_auc([s.binary[p][t] for p, t in rows], positive, frames) for s in scores
        ]
        assert results[name].auc == pytest.approx(expected) and results[name].videos == count


def test_confusion_by_a_slow_loop(judged):
    videos, scores = judged
    expected = np.zeros((10, 10))
    several = 0
    for seed in scores:
        for i, p in zip(videos.test, seed.classes, strict=True):
            order = sorted(range(len(p)), key=lambda t: p[t, 0])[: len(p) // 16 + 1]
            mean = [sum(float(p[t, c]) for t in order) / len(order) for c in range(10)]
            called = mean.index(max(mean))
            labels = [CLASSES.index(name) for name in videos.store.videos[i].labels]
            several += len(labels) > 1 and called in labels[1:]
            expected[called if called in labels else labels[0]][called] += 1 / 3
    found = run_data.confusion(videos, scores)
    assert several and found == pytest.approx(expected)
    assert found.sum() == pytest.approx(len(videos.test))
    assert run_data.shares(found).sum(axis=1)[found.any(axis=1)] == pytest.approx(1)
    assert run_data.confusion(videos, [dataclasses.replace(scores[0], classes=None)]) is None


def test_the_worst_by_a_slow_loop(judged):
    videos, scores = judged
    worst = Worst(videos, scores, "class")
    means = [
        np.mean([1 - s.classes[place][:, 0].astype(float) for s in scores], axis=0)
        for place in range(len(videos.test))
    ]
    alarms, misses, kinds = [], [], {True: [], False: []}
    for mean, i in zip(means, videos.test, strict=True):
        video = videos.store.videos[i]
        spans = [(16 * t, min(16 * t + 16, video.frames)) for t in range(video.snippets)]
        hit = [any(a < y and x < b for _, a, b in video.intervals) for x, y in spans]
        for t, of_interval in enumerate(hit):
            kinds[of_interval].append(mean[t])
        if "Normal" in video.labels:
            t = int(np.argmax(mean))
            told = (f"caption {t} of video {i}",)
            alarms.append((mean[t], video.video, spans[t][0] / 25, spans[t][1] / 25, told))
        for _, a, b in video.intervals:
            best = max(m for m, (x, y) in zip(mean, spans, strict=True) if a < y and x < b)
            misses.append((best, video.video, a / 25, b / 25, video.intervals[0][0]))
    alarms, misses = sorted(alarms, reverse=True), sorted(misses)
    found = worst.false_alarms()
    assert len(found) == 8 < len(alarms)
    for moment, (score, *rest) in zip(found, alarms, strict=False):
        assert moment.score == pytest.approx(score, abs=1e-6)
        assert [moment.video, moment.start, moment.end, moment.captions] == rest
        lower = np.mean([x < moment.score for x in kinds[True]])
        assert moment.wrong == pytest.approx(lower) and moment.label in CLASSES[1:]
    for moment, (score, *rest) in zip(worst.misses(), misses, strict=False):
        assert moment.score == pytest.approx(score, abs=1e-6)
        assert [moment.video, moment.start, moment.end, moment.label] == rest
        assert moment.wrong == pytest.approx(np.mean([x > moment.score for x in kinds[False]]))


def test_one_seed_has_neither_sd_nor_interval(place, tmp_path):
    main.main(command(place, tmp_path / "mil", "--model", "mil", "--vmap-seeds", "1"))
    html = html_of(tmp_path / "mil")
    body = html[html.index("<main>") :]
    assert "±" not in body and 'class="band"' not in body and 'class="seed"' not in body
    assert "one seed has no SD and no interval" in body and "too few seeds" in body
    assert "Expected best" not in body and 'id="confusion"' not in body
    assert "1 seed<" in html and 'class="sd"' not in body


def test_resuming_a_finished_run_writes_the_page_again(trained, place):
    before = html_of(trained)
    (trained / "report.html").unlink()
    main.main(command(place, trained, "--vmap-seeds", "3", "--resume"))
    assert html_of(trained) == before


@pytest.mark.parametrize(("release", "selection"), [(False, "last"), (True, "test")])
def test_the_weights_shown_are_those_named(
    trained, tmp_path, restored, monkeypatch, release, selection
):
    program = copy.copy(restored[0])
    program.release = release  # which has no other weights to show
    seen = []
    monkeypatch.setattr(run_page, "render", lambda data, *_: seen.append(data) or "")
    written(tmp_path, trained, (program, *restored[1:]))
    (data,) = seen
    assert (data.selection, data.head) == (selection, "binary")
    name = metrics.MetricName(selection, "binary", "auc")
    values = summary_of(trained).metrics[name].values
    areas = np.trapezoid(data.curves[0].lines[0].values / 100, run_data.GRID)
    assert areas == pytest.approx(values, abs=0.005)


def test_plots_are_written_where_matplotlib_is(trained, judged, tmp_path, monkeypatch, restored):
    pytest.importorskip("matplotlib", reason="needs the extra report")
    monkeypatch.setattr(run_page.plots, "available", lambda: False)
    without = written(tmp_path, trained, restored)
    assert not (tmp_path / "plots").exists() and "install the extra" in without
    monkeypatch.undo()
    assert 'href="plots/"' in written(tmp_path, trained, restored)
    names = "training_test training_val training_loss roc pr classes confusion".split()
    files = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {file.name for file in (tmp_path / "plots").iterdir()} == files
    before = (tmp_path / "plots" / "roc.svg").read_bytes()
    assert ET.fromstring(before).tag.endswith("svg") and b"binary head" in before
    assert (tmp_path / "plots" / "roc.png").read_bytes().startswith(b"\x89PNG")
    written(tmp_path, trained, restored)
    assert (tmp_path / "plots" / "roc.svg").read_bytes() == before


def written(folder, run, restored):
    program, state, _, _ = restored
    shutil.copy(run / "metrics.jsonl", folder / "metrics.jsonl")
    scores = program.final_scores(state)
    run_page.write_page(folder, program.videos, scores, summary_of(run), None)
    return html_of(folder)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0.31, 0.58, [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6]),
        (38.2, 51, [35, 40, 45, 50, 55]),
        (0.1, 0.3, [0.1, 0.15, 0.2, 0.25, 0.3]),
    ],
)
def test_ticks(low, high, expected):
    assert run_page.ticks(low, high) == pytest.approx(expected)
    assert len(run_page.ticks(high, high)) > 1  # a curve that does not move


@pytest.fixture
def large(judged, trained, tmp_path):
    """A page with many classes, long names, captions that look like HTML."""
    videos, scores = judged
    pairs = [(9, 9), (234, 234), (42, 42)]
    data = run_data.run_data(trained, pairs, videos, scores, "last", "class")
    moment = dataclasses.replace(
        data.misses[0], video="a_long_name_" * 9, captions=("</p><script>x</script> & <b>",)
    )
    data = dataclasses.replace(data, misses=(moment, *data.misses[1:]))
    html = run_page.render(data, summary_of(trained), drawn=True)
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    return SimpleNamespace(path=tmp_path / "report.html", data=data)


def test_the_page_opens_and_shows_what_is_there(opened, large):
    page = opened(large.path)  # which fails on complaints and on requests of a network
    assert "3 seeds" in page.inner_text("h1") and page.locator("script").count() == 0
    assert page.locator("svg path.mean").count() == 9 and page.locator("svg path.band").count() == 4
    assert page.locator("svg path.seed").count() == 15
    row = page.locator("table[aria-labelledby=misses] tbody tr").first.inner_text()
    assert "</p><script>x</script> & <b>" in row and f"{large.data.misses[0].score:.3f}" in row
    bar = page.locator(".track").first
    mean = np.mean(large.data.bars[0].auc)
    width = bar.locator(".mean").bounding_box()["width"] / bar.bounding_box()["width"]
    assert width == pytest.approx(mean, abs=0.01)
    told = page.locator(".confusion tbody tr").nth(0).locator("td").all_inner_texts()
    counts = [0 if text == "·" else float(text) for text in told]
    assert counts == pytest.approx(large.data.confusion[0], abs=0.0501)


def test_everything_is_reached_by_keyboard(opened, large):
    page = opened(large.path, 390, 844)
    expected = page.locator("a[href], summary, .scroll:visible").count()
    reached = []
    for _ in range(expected):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.outerHTML.slice(0, 300)"))
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
    assert len(set(reached)) == expected and sum("<summary" in tag for tag in reached) == 5
    confusion = page.locator(".scroll[aria-labelledby=confusion]")
    confusion.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details table").first.is_visible()


@pytest.mark.parametrize("width", [390, 320])
def test_nothing_sticks_out_on_a_phone(opened, large, width):
    page = opened(large.path, width, 844)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".chart > svg").first.bounding_box()["width"] > 0.7 * width


def test_all_text_has_the_contrast_of_wcag_aa(opened, large):
    page = opened(large.path)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = page.evaluate(test_video_page.CONTRASTS)
    assert len(found) > 200 and min(ratio for _, ratio in found) >= 4.5
    for part in np.linspace(0, 1, 41):  # every shade that a cell can have
        (cell, _), _ = run_page._cells(np.array([[part, 1 - part], [0, 0]]))
        r, g, b = (int(cell["behind"][i : i + 2], 16) / 255 for i in (1, 3, 5))
        light = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (r, g, b)]
        behind = np.dot([0.2126, 0.7152, 0.0722], light)
        ratio = 1.05 / (behind + 0.05) if cell["ink"] == "#ffffff" else (behind + 0.05) / 0.05
        assert ratio >= 4.5, part


def test_a_print_has_the_figures_and_tables(opened, large):
    page = opened(large.path)
    page.emulate_media(media="print")
    assert not page.is_visible("nav") and not page.is_visible("summary >> nth=0")
    assert page.is_visible(".chart svg >> nth=0") and page.is_visible("table >> nth=0")
