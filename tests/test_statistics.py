"""Closed forms, SciPy, enumeration, resamples written out; and how often the intervals cover."""

import itertools

import numpy as np
import pytest
from scipy import stats

from semvad_jax import metrics, statistics


def coverage(hits):
    return float(np.mean(hits)), 3 * np.sqrt(0.05 * 0.95 / len(hits))  # share, three binomial SE


def test_the_t_interval_is_scipys_and_one_seed_has_none():
    low, high = statistics.mean_interval([1, 2, 3])
    assert (low + high) / 2 == pytest.approx(2)
    assert high - 2 == pytest.approx(4.302653 / np.sqrt(3))  # t at 97.5 %, two degrees of freedom
    x = np.random.default_rng(0).normal(0.7, 0.02, 10)
    for level in (0.95, 0.8):
        expected = stats.ttest_1samp(x, 0).confidence_interval(level)
        assert statistics.mean_interval(x, level) == pytest.approx(tuple(expected))
    assert statistics.mean_interval([0.7]) is None


def test_pairs_are_compared_as_scipy_does():
    test, val = np.random.default_rng(1).normal(0.7, 0.02, (2, 10))
    mean, interval = statistics.paired_difference(test, val)
    assert mean == pytest.approx(test.mean() - val.mean())
    assert interval == pytest.approx(tuple(stats.ttest_rel(test, val).confidence_interval()))
    assert statistics.paired_difference([0.75], [0.5]) == (0.25, None)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_expected_best_of_n_is_the_mean_over_all_choices(count):
    x = np.random.default_rng(count).normal(size=count).round(1)  # some equal
    for n, best in enumerate(statistics.expected_maximum(x), 1):
        assert best == pytest.approx(np.mean([max(c) for c in itertools.combinations(x, n)]))


def test_the_expected_best_of_n_in_closed_form():
    n = np.arange(1, 1001)
    found = statistics.expected_maximum(np.arange(1, 1001))
    np.testing.assert_allclose(found, n * 1001 / (n + 1), rtol=1e-10)
    x = np.random.default_rng(0).standard_normal((20_000, 10))
    means = np.mean([statistics.expected_maximum(row)[:3] for row in x], axis=0)
    # of one, two, three normal numbers, however many were looked at: 0, 1/√π, 3/(2√π)
    np.testing.assert_allclose(means, [0, 0.5642, 0.8463], atol=0.01)


def test_welch_is_scipys_and_says_nothing_of_one_seed_or_of_constants():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.70, 0.01, 10), rng.normal(0.69, 0.03, 4)
    expected = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert statistics.welch(a, b) == pytest.approx(expected)
    assert statistics.welch(a, [0.5]) is None and statistics.welch([1, 1], [0.9, 0.9]) is None
    constant = statistics.welch([0.5] * 4, a)  # then it is Student's test of one sample
    assert constant == pytest.approx(stats.ttest_1samp(a, 0.5).pvalue)


def test_the_bootstrap_over_seeds_is_deterministic_and_moves_with_its_values():
    a, b = np.random.default_rng(3).normal(0.7, 0.02, (2, 10))
    low, high = statistics.bootstrap_difference(a, b)
    assert (low, high) == statistics.bootstrap_difference(a, b)
    assert (low, high) != statistics.bootstrap_difference(a, b, seed=1)
    moved = statistics.bootstrap_difference(2 * a + 1, 2 * b)
    assert moved == pytest.approx((2 * low + 1, 2 * high + 1))
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (low, high) == pytest.approx(tuple(expected), abs=0.2 * (high - low))


def test_the_bootstrap_over_seeds_knows_when_they_are_too_few():
    assert statistics.bootstrap_difference([0.7], [0.6, 0.61]) is None
    assert statistics.bootstrap_difference([0.7, 0.71], [0.6, 0.61]) is None
    assert statistics.bootstrap_difference([1, 1, 1], [0.9, 0.9, 0.9]) is None
    low, high = statistics.bootstrap_difference([0.7, 0.71, 0.73], [0.6, 0.61, 0.64])
    assert low < 0.0967 < high


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_t_interval_covers_at_its_rate(count):
    x = np.random.default_rng(count).standard_normal((4000, count))
    share, error = coverage([a <= 0 <= b for a, b in map(statistics.mean_interval, x)])
    assert share == pytest.approx(0.95, abs=error)


SEEDS = {
    "normal": (lambda rng: rng.normal(size=10), lambda rng: rng.normal(size=10)),
    "other spread": (lambda rng: rng.normal(size=10), lambda rng: rng.normal(0, 3, size=10)),
    "other count": (lambda rng: rng.normal(size=10), lambda rng: rng.normal(size=5)),
    "skewed": (lambda rng: 1 - rng.exponential(size=10), lambda rng: rng.normal(size=10)),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_the_bootstrap_over_seeds_covers_and_percentiles_would_not(kind, monkeypatch):
    monkeypatch.setattr(statistics, "SEED_RESAMPLES", 1500)
    rng, hits, percentiles = np.random.default_rng(4), [], []
    for _ in range(1200):
        a, b = (draw(rng) for draw in SEEDS[kind])
        low, high = statistics.bootstrap_difference(a, b)
        hits.append(low <= 0 <= high)
        means = [v[rng.integers(0, len(v), (1500, len(v)))].mean(axis=1) for v in (a, b)]
        low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
        percentiles.append(low <= 0 <= high)
    share, error = coverage(hits)
    print(f"{kind}: {share:.3f}, percentiles {np.mean(percentiles):.3f}")
    assert share == pytest.approx(0.95, abs=error)
    assert np.mean(percentiles) < 0.93


def videos(rng, count, decimals, seeds=1, binning=1):
    """Scores with ties, snippets of mixed truth, short last snippets; the first third abnormal."""
    n = rng.integers(1, 9, count)
    video = np.repeat(np.arange(count), n)
    frames = rng.integers(1, 17, n.sum())
    share = np.where(video < count // 3, rng.choice([0, 0.3, 1], n.sum()), 0)
    share[np.unique(video, return_index=True)[1][: count // 3]] = 1  # an anomaly in each
    positive = np.rint(share * frames).astype(int)
    scores = (rng.random((seeds, n.sum())) + positive / 32).round(decimals).astype(np.float32)
    return statistics.VideoScores(scores, positive, frames, video)


def written_out(run, times):
    """The metrics of one resample, every drawn video written down as often as it was drawn."""
    rows = np.concatenate(
        [np.tile(np.flatnonzero(run.video == v), k) for v, k in enumerate(times)]
    ).astype(int)
    of = [(s[rows], run.positive[rows], run.frames[rows]) for s in run.scores]
    return [np.mean([f(*x) for x in of]) for f in (metrics.frame_auc, metrics.frame_ap)]


@pytest.mark.parametrize("decimals", [0, 1, 2, 6])
def test_weighted_metrics_equal_those_of_resamples_written_out(decimals, monkeypatch):
    monkeypatch.setattr(statistics, "BLOCK", 64)  # several blocks of resamples
    run = videos(np.random.default_rng(decimals), 12, decimals)
    counts = statistics.resample_videos(np.arange(12) < 4, 40)
    counts[0] = 1
    auc, ap = statistics.resampled_metrics(run.scores[0], *run[1:], counts)
    expected = np.array([written_out(run, times) for times in counts])
    np.testing.assert_allclose(auc, expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(ap, expected[:, 1], rtol=1e-12)


def test_a_resample_without_frames_of_a_kind_is_refused():
    run = videos(np.random.default_rng(0), 6, 2)
    for only in (np.arange(6) >= 2, np.zeros(6)):
        with pytest.raises(ValueError, match="a resample lacks one"):
            statistics.resampled_metrics(run.scores[0], *run[1:], only.astype(int)[None])
    none = np.zeros_like(run.positive)
    with pytest.raises(ValueError, match="a resample lacks one"):
        statistics.resampled_metrics(run.scores[0], none, *run[2:], np.ones((1, 6), int))


def test_videos_are_drawn_with_replacement_within_their_kind():
    abnormal = np.arange(20) % 4 == 0
    counts = statistics.resample_videos(abnormal, 4000, seed=5)
    assert (counts[:, abnormal].sum(axis=1) == 5).all()
    assert (counts[:, ~abnormal].sum(axis=1) == 15).all()
    # Binomial(k, 1/k): mean 1, variance 1 − 1/k
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.06)
    np.testing.assert_allclose(counts[:, abnormal].var(axis=0), 0.8, atol=0.08)
    np.testing.assert_array_equal(counts, statistics.resample_videos(abnormal, 4000, seed=5))
    assert statistics.resample_videos(np.ones(3, bool), 5).sum() == 15


def test_the_video_bootstrap_pairs_runs_and_averages_seeds():
    rng = np.random.default_rng(6)
    a = videos(rng, 15, 1, seeds=3)
    halves = a.positive // 2, a.frames // 2
    b = statistics.VideoScores(  # B's snippets are half as long
        np.tile(rng.random((2, len(a.video))), 2),
        np.concatenate([halves[0], a.positive - halves[0]]),
        np.concatenate([halves[1], a.frames - halves[1]]),
        np.tile(a.video, 2),
    )
    found = statistics.video_bootstrap(a, b, resamples=100, seed=7)
    counts = statistics.resample_videos(np.arange(15) < 5, 100, seed=7)
    drawn = [np.subtract(written_out(a, t), written_out(b, t)) for t in counts]
    expected = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert found["auc"] == pytest.approx(tuple(expected[:, 0]))
    assert found["ap"] == pytest.approx(tuple(expected[:, 1]))
    assert found == statistics.video_bootstrap(a, b, resamples=100, seed=7)
    assert statistics.video_bootstrap(a, a, resamples=50) == {"auc": (0, 0), "ap": (0, 0)}


def population(shift, spread):
    """AUC and AP of scores N(shift, spread²) against N(0, spread²), one in six frames anomalous."""
    at = np.linspace(-10, 10, 200_001) * spread
    true, false = stats.norm.sf(at, shift, spread), stats.norm.sf(at, 0, spread)
    precision = true / (true + 5 * false)
    ap = np.trapezoid(precision * stats.norm.pdf(at, shift, spread), at)
    return stats.norm.cdf(shift / np.sqrt(2) / spread), ap


def test_the_video_bootstrap_covers_on_other_videos():
    """40 abnormal videos of two anomalous and two normal snippets, 40 normal ones of eight; two
    runs that share a video's difficulty.
    """
    video = np.repeat(np.arange(80), [4] * 40 + [8] * 40)
    positive = np.zeros(len(video), int)
    positive[:160] = np.tile([16, 16, 0, 0], 40)
    frames = np.full(len(video), 16)
    true = np.subtract(population(1.5, np.sqrt(2)), population(1.0, np.sqrt(2)))
    rng, hits = np.random.default_rng(8), []
    for trial in range(400):
        shared, runs = rng.normal(0, 1, 80)[video], []
        for shift in (1.5, 1.0):
            own = rng.normal(0, 1, len(video))
            scores = shared + own + shift * (positive > 0)
            runs.append(statistics.VideoScores(scores[None], positive, frames, video))
        found = statistics.video_bootstrap(*runs, resamples=400, seed=trial)
        pairs = zip(true, found.values(), strict=True)
        hits.append([low <= t <= high for t, (low, high) in pairs])
    print("auc, ap:", np.mean(hits, axis=0))
    for share in np.mean(hits, axis=0):
        assert 0.92 <= share <= 0.98
