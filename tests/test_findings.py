"""Each statistic of a run, against numbers worked by hand or by SciPy."""

import json

import pytest
from scipy import stats

from semvad_jax.files import BadInput
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings, summary

AUC = MetricName("last", "binary", "auc")


def test_a_metric_name_has_one_text_form():
    assert str(AUC) == f"{AUC}" == "last/binary/auc" and MetricName.parse("last/binary/auc") == AUC
    assert MetricName.parse("val/class/map@0.1").metric == "map@0.1"
    for text in ("last/binary", "last/binary/auc/more", "last//auc", ""):
        with pytest.raises(ValueError, match="is not of the form selection/head/metric"):
            MetricName.parse(text)


def test_spread_and_its_interval():
    value = findings.spread([0.5, 0.75, 1.0])
    assert (value.mean, value.sd, value.best, value.values) == (0.75, 0.25, 1.0, (0.5, 0.75, 1.0))
    expected = stats.t.interval(0.95, 2, 0.75, 0.25 / 3**0.5)
    assert value.interval == pytest.approx(expected)
    one = findings.spread([0.5])
    assert (one.sd, one.interval) == (None, None)


def test_optimism_is_test_minus_val_seed_by_seed():
    metrics = {
        MetricName("val", "binary", "auc"): findings.spread([0.5, 0.6]),
        MetricName("test", "binary", "auc"): findings.spread([0.6, 0.8]),
        MetricName("val", "class", "auc"): findings.spread([0.5, 0.6]),  # without its test
        MetricName("test", "max", "auc"): findings.spread([0.5, 0.6]),  # without its val
    }
    (head,) = findings.optimism_of_heads(metrics, "auc")
    value = findings.optimism_of_heads(metrics, "auc")[head]
    assert head == "binary" and value.mean == pytest.approx(0.15)
    assert value.interval == pytest.approx(stats.t.interval(0.95, 1, 0.15, 0.05))
    assert findings.optimism_of_heads(metrics, "ap") == {}


def test_the_expected_best_of_three_seeds():
    best = findings.expected_best([0.1, 0.2, 0.6])
    # of two: (0.2 + 0.6 + 0.6) / 3
    assert best == {1: pytest.approx(0.3), 2: pytest.approx(1.4 / 3), 3: pytest.approx(0.6)}
    assert findings.expected_best([0.1]) == {}
    metrics = {AUC: findings.spread([0.1, 0.2, 0.6])}
    assert findings.expected_best_of_selections(metrics, "binary", "auc") == {"last": best}
    assert findings.expected_best_of_selections(metrics, "class", "auc") == {}


def test_the_head_chosen_on_val():
    def seed(binary, of_class):
        pairs = (("binary", binary), ("class", of_class))
        return {MetricName("val", head, "auc"): value for head, value in pairs}

    assert findings.head_on_val([seed(0.5, 0.7), seed(0.5, 0.4)], "auc") == "class"
    assert findings.head_on_val([seed(0.5, 0.5)], "auc") == "binary"
    assert findings.head_on_val([{MetricName("val", "binary", "auc"): 0.5}], "auc") is None
    assert findings.head_on_val([{MetricName("test", "binary", "auc"): 0.5}], "auc") is None
    assert findings.head_on_val([], "auc") is None


def of_metrics(metrics):
    return summary.Summary("demo", "mil", "demo", "cpu", [9], [9], 4, 1.5, 0.5, metrics)


def test_a_summary_is_read_as_it_was_written(tmp_path):
    path, whole = tmp_path / "summary.json", of_metrics({AUC: findings.spread([0.1 + 0.2])})
    summary.write_summary(path, whole)
    on_disk = json.loads(path.read_text())
    value = {"mean": 0.1 + 0.2, "sd": None, "best": 0.1 + 0.2, "values": [0.1 + 0.2]}
    assert on_disk["metrics"] == {"last/binary/auc": value}
    assert list(on_disk)[:3] == ["config", "model", "dataset"] and list(on_disk)[-1] == "metrics"
    assert summary.read_summary(path) == whole
    path.write_text(json.dumps(on_disk | {"of_another_version": 1}))
    assert summary.read_summary(path) == whole


@pytest.mark.parametrize("damage", ["{", "[]", '{"config": "demo"}', None])
def test_a_damaged_summary_is_refused(tmp_path, damage):
    path = tmp_path / "summary.json"
    if damage is None:
        summary.write_summary(path, of_metrics({AUC: findings.spread([0.5])}))
        path.write_text(path.read_text().replace("last/binary/auc", "last/auc"))
    else:
        path.write_text(damage)
    with pytest.raises(BadInput, match=r"summary\.json is no summary of a run; "):
        summary.read_summary(path)
