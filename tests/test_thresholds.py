"""Where a rule comes from: a run's threshold, a rate of false alarms, a camera's calibration."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from semvad_jax import config
from semvad_jax.detection import detect, thresholds
from semvad_jax.detection.events import Rule, Threshold, spans
from semvad_jax.detection.thresholds import (
    PLAIN,
    USUAL,
    Asked,
    Calibration,
    Extent,
    FalseAlarms,
    Normal,
    Trusted,
    Val,
    read_calibration,
    write_calibration,
)
from semvad_jax.files import BadInput
from semvad_jax.statistics import poisson_upper


@pytest.mark.parametrize(
    ("scores", "rate", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 0.1, 0.9),  # one above: 1.0
        ([0.1, 0.2, 0.3, 0.4], 0.1, 0.4),  # one of four would be too many
        ([0.4, 0.1, 0.3, 0.2], 0.5, 0.2),
        ([0.5, 0.5, 0.5, 0.1], 0.25, 0.5),  # ties: none above rather than three
        ([0.3], 1.0, 0.3),
        (np.arange(1, 101) / 100, 0.05, 0.95),
        (np.arange(1, 21) / 20, 0.05, 0.95),
        (np.arange(1, 141) / 140, 0.05, 133 / 140),
    ],
)
def test_the_threshold_is_the_lowest_with_few_enough_above(scores, rate, expected):
    assert thresholds.lowest_threshold(np.array(scores), rate) == expected


def test_the_threshold_against_a_search():
    rng = np.random.default_rng(0)
    for _ in range(300):
        scores = rng.integers(0, 20, rng.integers(1, 50)) / 20
        rate = rng.uniform()
        able = [t for t in np.unique(scores) if (scores > t).sum() <= rate * len(scores)]
        assert thresholds.lowest_threshold(scores, rate) == min(able)


def test_what_a_run_keeps_and_what_detection_makes_of_it():
    normal = [np.arange(12) / 20, np.arange(12, 20) / 20]
    videos = [normal[0], np.array([1.0, 0.3]), normal[1]]
    scores = {"binary": videos, "class": [1 - x for x in videos]}
    seconds = [900.0 * np.arange(n) for n in (13, 3, 9)]
    kept = thresholds.chosen_thresholds(scores, seconds, np.array([False, True, False]))
    kept = json.loads(json.dumps(kept))
    assert kept.pop("anomalous") == [
        {"seconds": [0, 900, 1800], "binary": [1.0, 0.3], "class": [0.0, 0.7]}
    ]
    assert {name: value for name, value in kept.items() if name != "videos"} == {
        "false_alarm_rate": 0.05,
        "normal_videos": 2,
        "normal_snippets": 20,
        "binary": 0.9,
        "class": 0.95,
    }
    assert [len(v["seconds"]) for v in kept["videos"]] == [13, 9]
    assert kept["videos"][1]["binary"][-1] == 0.95
    chosen = thresholds.threshold("binary", kept, Asked())
    assert chosen.rule == Rule(0.9, 0.9)
    told = "on val it makes 1 false alarm in 5.00 h of 2 normal videos, so 0.2 an hour and at most"
    assert "at most 5 % of the 20 snippets of its 2 normal videos" in chosen.source
    assert chosen.source.endswith(f"; {told} 0.95 (upper 95 % bound)")  # 4.744 / 5 hours
    given = thresholds.threshold("binary", kept, Asked(0.3))
    assert given.source.startswith("given with --threshold; on val it makes 2 false alarms in 5.00")


def test_what_a_run_that_keeps_less_allows():
    old = thresholds.threshold("binary", KEPT, Asked())
    assert old.rule == Rule(0.9, 0.9) and "does not keep how many hours" in old.source
    assert thresholds.threshold("binary", None, Asked(0.3)) == Threshold(
        Rule(0.3, 0.3), "given with --threshold"
    )
    unchosen = thresholds.threshold("binary", None, Asked())
    assert unchosen.value == 0.5 and "no normal val videos" in unchosen.source
    with pytest.raises(BadInput, match="does not keep how many hours .* give --calibration FILE"):
        thresholds.threshold("binary", KEPT, Asked(alarms_per_hour=1.0))
    with pytest.raises(BadInput, match="has no normal val videos, .* give --calibration FILE"):
        thresholds.threshold("binary", None, Asked(alarms_per_hour=1.0))


KEPT = {"false_alarm_rate": 0.05, "normal_videos": 2, "normal_snippets": 20, "binary": 0.9}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "\xff",
        json.dumps(KEPT | {"binary": "high"}),
        json.dumps(KEPT | {"normal_videos": 1.5}),
        json.dumps({"binary": 0.9}),
        json.dumps({k: v for k, v in KEPT.items() if k != "binary"}),
        json.dumps(KEPT | {"videos": [{"seconds": [0, 1], "class": [0.5]}]}),
        json.dumps(KEPT | {"videos": [{"seconds": [0, 1], "binary": [0.5, 0.5]}]}),
        json.dumps(KEPT | {"videos": [{"seconds": [0, 0], "binary": [0.5]}]}),
        json.dumps(KEPT | {"videos": [{"seconds": [], "binary": []}]}),
        json.dumps(KEPT | {"anomalous": [{"seconds": [0, 1], "binary": [0.5, 0.5]}]}),
    ],
)
def test_damaged_thresholds_are_told_in_a_sentence(tmp_path, text):
    path = tmp_path / "checkpoint" / "thresholds.json"
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=r"thresholds\.json is damaged: .* writes it again") as told:
        detect.origin(tmp_path, config.Config(), 3, Asked())
    assert "\n" not in str(told.value)


def test_a_run_has_the_threshold_of_the_head_that_scores(tmp_path):
    path = tmp_path / "checkpoint" / "thresholds.json"
    path.parent.mkdir()
    cfg = config.Config()
    by_class = replace(cfg, eval=replace(cfg.eval, select_head="class"))
    path.write_text(json.dumps(KEPT))
    assert detect.origin(tmp_path, cfg, 3, Asked()).threshold.value == 0.9
    assert detect.origin(tmp_path, cfg, 3, Asked(0.2)).threshold.value == 0.2
    with pytest.raises(BadInput, match="damaged"):
        detect.origin(tmp_path, by_class, 3, Asked())
    path.write_text(json.dumps(KEPT | {"class": 0.7}))
    assert detect.origin(tmp_path, by_class, 3, Asked()).threshold.value == 0.7


def test_closing_and_length_are_as_asked_for_and_others_where_a_rate_is():
    for opens in (0.8, 0.12345678):
        assert Asked(opens).extent.rule(opens) == Rule(opens, opens, 0.0)
    assert Asked(0.8, close=0.25, least=3.0).extent.rule(0.8) == Rule(0.8, 0.2, 3.0)
    assert Asked(alarms_per_hour=1.0).extent.rule(0.8) == Rule(0.8, 0.4, 1.0)
    assert Asked(alarms_per_hour=1.0, close=1.0, least=0.0).extent == PLAIN


def of_hours(scores, snippet_hours=1.0):
    """A normal video of these scores."""
    return np.array(scores, float), 3600 * snippet_hours * np.arange(len(scores) + 1)


def test_false_alarms_are_events_and_none_goes_over_a_videos_end():
    normal = Normal([of_hours([0.9, 0.2, 0.9]), of_hours([0.9, 0.9, 0.1])])
    seen = normal.false_alarms(Rule(0.5, 0.5))
    assert seen == FalseAlarms(alarms=3, videos=2, snippets=6, hours=6.0)
    assert normal.false_alarms(Rule(0.5, 0.1)).alarms == 2
    assert normal.false_alarms(Rule(0.5, 0.5, 4000.0)).alarms == 1
    assert normal.false_alarms(Rule(0.95, 0.5)).alarms == 0


@pytest.mark.parametrize(
    ("rate", "opens", "alarms"),
    [
        (0.2996, 0.9, 0),  # 2.9957 in 10 hours: none may be seen
        (0.4743, 0.9, 0),
        (0.4744, 0.8, 1),  # 4.7439
        (0.6296, 0.7, 2),  # 6.2958
        (
            0.7754,
            0.7,
            2,
        ),  # 7.7537: at 0.6 there are four, and at 0.2 three, since two are one there
        (0.9154, 0.2, 3),  # 9.1535
    ],
)
def test_the_lowest_threshold_by_hand(rate, opens, alarms):
    normal = Normal([of_hours([0.9, 0.2, 0.8, 0.2, 0.7, 0.6, 0.7, 0.2, 0.2, 0.2])])
    rule, seen = normal.trusted_rule(PLAIN, rate)
    assert (rule, seen.alarms) == (Rule(opens, opens), alarms)
    assert seen.upper <= rate


def test_the_lowest_threshold_is_that_of_trying_all():
    rng, found = np.random.default_rng(0), set()
    for _ in range(200):
        videos = [of_hours(rng.random(n).round(2), 0.2) for n in rng.integers(1, 60, 3)]
        normal, rate = Normal(videos), rng.uniform(0.1, 2.0)
        extent = Extent(rng.random(), rng.choice([0.0, 800.0, 2000.0]))
        expected = None
        for opens in np.unique(np.concatenate([s for s, _ in videos]))[::-1].tolist():
            seen = normal.false_alarms(extent.rule(opens))
            if seen.upper > rate:
                break
            expected = extent.rule(opens), seen
        if expected is None:
            with pytest.raises(BadInput, match="no threshold can be trusted"):
                normal.trusted_rule(extent, rate)
        else:
            assert normal.trusted_rule(extent, rate) == expected
            found.add(expected[1].alarms)
    assert len(found) > 5


def test_a_day_of_video_is_soon_looked_through():
    rng, counted = np.random.default_rng(0), []
    scores = np.repeat(rng.random(27_000), 5).round(6)  # a day of 135,000 snippets
    normal = Normal([(scores, np.arange(len(scores) + 1) * 0.64)])
    count = Normal.false_alarms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Normal, "false_alarms", lambda *given: counted.append(0) or count(*given))
        _, seen = normal.trusted_rule(USUAL, 60.0)
    assert seen.alarms > 1000 and len(counted) < 500


def test_too_few_hours_are_said():
    normal = Normal([of_hours([0.9, 0.2, 0.8, 0.2, 0.7, 0.2, 0.2], 0.64 / 3600)])
    with pytest.raises(BadInput) as told:
        normal.trusted_rule(USUAL, 1.0)
    assert str(told.value) == (
        "7 snippets of 1 normal video (4 s): no threshold can be trusted for 1 false alarm an "
        "hour; 3.00 h of normal video are needed"
    )
    kept = KEPT | {"videos": [{"seconds": [0, 1800, 3600], "binary": [0.1, 0.9]}]}
    with pytest.raises(
        BadInput, match=r"the run's val has 2 snippets .*; 1\.04 h of .* give --cal"
    ):
        thresholds.threshold("binary", kept, Asked(alarms_per_hour=2.9))
    chosen = thresholds.threshold("binary", kept, Asked(alarms_per_hour=3.0))
    assert chosen.rule == Rule(0.9, 0.45, 1.0)
    assert chosen.source == (
        "chosen on val for at most 3 false alarms an hour: 0 false alarms in 1.00 h of 1 normal "
        "video, so 0 an hour and at most 3 (upper 95 % bound); --close 0.5 and --least 1 are "
        "defaults: the run keeps no anomalous val videos"
    )


def test_the_bound_is_poissons():
    for hours in (0.5, 3.0, 100.0):
        upper = FalseAlarms(alarms=0, videos=1, snippets=9, hours=hours).upper
        assert upper == pytest.approx(-math.log(0.05) / hours, rel=1e-12)
    for count in (1, 4, 30):  # P(N ≤ count) is 5 % at the bound, summed up
        mean = poisson_upper(count)
        terms = [
            math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(count + 1)
        ]
        assert sum(terms) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("rate", [0.02, 0.3, 4.0])
def test_the_bound_covers_the_rate_of_poisson_streams(rate):
    """1,000 streams of 30 hours, in 3,000 snippets; none is an alarm beside another."""
    hours, seconds = 30.0, np.linspace(0, 3600 * 30, 3001)
    alarms = np.zeros((1000, 3000))
    alarms[:, ::2] = np.random.default_rng(7).random((1000, 1500)) < rate * hours / 1500
    covered = 0
    for stream in alarms:
        seen = Normal([(stream, seconds)]).false_alarms(Rule(0.5, 0.5))
        covered += seen.upper >= rate
    assert covered >= 940


def test_a_threshold_that_is_trusted_keeps_its_promise():
    """Streams of peaks whose heights are uniform: above t, (1 − t) · 20 an hour are events. Though
    every height is tried, the one that is taken has a higher rate than was asked for in 5 % of
    streams at most; and in half of them it uses more than half of that rate.
    """
    rng, hours, rates = np.random.default_rng(3), 20.0, []
    for _ in range(400):
        peaks = rng.random(rng.poisson(20 * hours))
        scores = np.zeros(2 * len(peaks) + 1)
        scores[1::2] = peaks
        normal = Normal([(scores, np.linspace(0, 3600 * hours, len(scores) + 1))])
        rule, _ = normal.trusted_rule(PLAIN, 1.0)
        rates.append(20 * (1 - rule.opens))
    assert np.mean(np.array(rates) > 1) <= 0.07 and np.median(rates) > 0.5


def test_a_rule_that_was_chosen_among_several_keeps_its_promise():
    """Pulses of four lengths, so many of each an hour, with uniform heights: of those that last at
    least so long, a share of 1 − t is above t. Whichever length is asked for, the most unlucky one
    too, has a higher rate than was asked for in 5 % of streams at most; with the bound for one rule
    it would be in more.
    """
    rng, hours = np.random.default_rng(5), 10.0
    lengths, kinds = np.array([0.5, 1.5, 3.0, 5.0]), np.array([16.0, 8.0, 4.0, 2.0])
    extents = [Extent(1.0, least) for least in (0.0, 1.0, 2.0, 4.0)]
    broken = {1: [], 12: []}
    for _ in range(200):
        count = rng.poisson(kinds.sum() * hours)
        scores, lasting = np.zeros(2 * count + 1), np.full(2 * count + 1, 3600 * hours / count)
        scores[1::2] = rng.random(count)
        lasting[1::2] = rng.choice(lengths, count, p=kinds / kinds.sum())
        normal = Normal([(scores, np.concatenate([[0.0], lasting.cumsum()]))])
        for tried, found in broken.items():
            rules = [normal.trusted_rule(extent, 1.0, tried)[0] for extent in extents]
            rates = [kinds[lengths >= rule.least].sum() * (1 - rule.opens) for rule in rules]
            found.append(max(rates) > 1)
    assert np.mean(broken[12]) <= 0.05 < 0.1 <= np.mean(broken[1])


def of_seconds(scores):
    """A video of these scores, one a second."""
    return np.array(scores, float), np.arange(len(scores) + 1.0)


FLICKER = [0.9, 0.6, 0.9, 0.6, 0.9, 0, 0, 0, 0, 0]
SPIKES = [0.9, 0, 0.9, 0, 0.9, 0, 0.5, 0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("normal", "chosen", "found"),
    [
        # at most one alarm in these 10 s: of at least 2 s only one is, down to 0; of at least 4 s
        # fewer anomalies would be found, and lower shares find no more
        (SPIKES, Extent(1.0, 2.0), 2),
        # goes on above three quarters of 0.6, so that the flicker is one alarm and not three
        (FLICKER, Extent(0.75, 0.0), 3),
    ],
)
def test_val_chooses_how_far_events_go(normal, chosen, found):
    anomalous = [of_seconds(v) for v in ([0, 0.8, 0.8, 0.8], [0.7] * 4, [0, 0.85, 0], [0, 0])]
    val = Val(Normal([of_seconds(normal)]), anomalous)
    extent, why, tried = val.extent(Asked(alarms_per_hour=360.0))
    assert (extent, tried) == (chosen, 12)
    assert f"{chosen} were chosen on val" in why and f"videos, {found} of 4, at" in why


@pytest.mark.parametrize(
    ("rate", "opens", "told"),
    [
        # an hour without an alarm shows 5.48 an hour where 12 rules are allowed for, and one with
        # an alarm 4.74 for one rule
        (5.49, 0.9, "bound that allows for 12 rules tried); --close 1 and --least 0 were chosen"),
        (5.47, 0.1, "--close 0.5 and --least 1 are defaults: val's normal videos are too short"),
    ],
)
def test_vals_own_bound_allows_for_what_was_tried(rate, opens, told):
    videos = {
        name: [{"seconds": [0, 1800, 3600], "binary": scores}]
        for name, scores in (("videos", [0.1, 0.9]), ("anomalous", [0.95, 0.2]))
    }
    chosen = thresholds.threshold("binary", KEPT | videos, Asked(alarms_per_hour=rate))
    assert told in chosen.source and chosen.rule.opens == opens
    given = Asked(alarms_per_hour=rate, least=2.0)
    chosen = thresholds.threshold("binary", KEPT | videos, given)
    assert chosen.rule == Rule(0.1, 0.05, 2.0) and "tried" not in chosen.source
    assert chosen.source.endswith("--close 0.5 and --least 2 were given")


def test_choosing_asks_nothing_of_a_shorter_event_or_of_one_that_goes_on():
    """As `spans` would have it, video by video."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        videos = [of_hours(rng.random(n).round(2), 0.1) for n in rng.integers(1, 30, 4)]
        rule = Extent(rng.random(), rng.choice([0.0, 500.0, 800.0])).rule(0.7)
        seen = Normal(videos).false_alarms(rule)
        assert seen.alarms == sum(len(spans(*video, rule)) for video in videos)


CALIBRATION = Calibration(
    run="runs/x",
    weights_sha256="ab",
    head="binary",
    alarms_per_hour=1.0,
    rule=Rule(0.8, 0.4, 1.0),
    seen=FalseAlarms(alarms=2, videos=3, snippets=7000, hours=7.0),
    why="--close 0.5 and --least 1 were given",
    watch=Trusted(Rule(0.9, 0.45, 1.0), FalseAlarms(alarms=0, videos=3, snippets=7000, hours=7.0)),
)


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "calibration.json"
    write_calibration(path, CALIBRATION)
    assert read_calibration(path, "ab", "binary") == CALIBRATION
    told = CALIBRATION.threshold()
    assert told.rule == Rule(0.8, 0.4, 1.0)
    assert told.source == (
        "calibrated for at most 1 false alarm an hour on normal video of a camera's own: 2 false "
        "alarms in 7.00 h of 3 normal videos, so 0.29 an hour and at most 0.9 (upper 95 % bound); "
        "--close 0.5 and --least 1 were given"
    )
    assert told.sentence().startswith(
        "an event begins above 0.8, and goes on above 0.4, for at least 1 s; this is calibrated"
    )


def test_a_watch_has_a_rule_of_its_own_or_says_that_it_has_none(tmp_path):
    of_watch = CALIBRATION.threshold(live=True)
    assert of_watch.rule == Rule(0.9, 0.45, 1.0)
    assert "own, scored as a watch scores it: 0 false alarms" in of_watch.source
    path = tmp_path / "calibration.json"
    old = {name: v for name, v in asdict(CALIBRATION).items() if name not in ("why", "watch")}
    del old["seen"]["tried"]  # as it was before these were kept
    path.write_text(json.dumps(old))
    of_old = read_calibration(path, "ab", "binary")
    assert of_old.threshold().source.endswith("(upper 95 % bound)")
    assert of_old.threshold(live=True).rule == Rule(0.8, 0.4, 1.0)
    told = of_old.threshold(live=True).source
    assert "its scores are of whole videos" in told and "for a watch this holds nearly" in told


def test_a_watch_says_that_vals_scores_are_of_whole_videos():
    kept = KEPT | {"videos": [{"seconds": [0, 1800, 3600], "binary": [0.1, 0.9]}]}
    for asked in (Asked(), Asked(0.3), Asked(alarms_per_hour=3.0)):
        told = thresholds.threshold("binary", kept, asked, live=True).source
        assert "val's scores are of whole videos" in told
        assert "whole" not in thresholds.threshold("binary", kept, asked).source
    assert "whole" not in thresholds.threshold("binary", None, Asked(0.3), live=True).source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\xff",
        "{}",
        '"opens": 0.8',
        *(
            json.dumps(asdict(CALIBRATION) | changed)
            for changed in (
                {"rule": {"opens": 0.8, "closes": 0.9, "least": 0}},
                {"rule": {"opens": 1.8, "closes": 0.9, "least": 0}},
                {"rule": {"opens": 0.8, "closes": 0.4, "least": -1}},
                {"rule": {"opens": 0.8}},
                {"rule": None},
                {"alarms_per_hour": 0},
                {"seen": {"alarms": -1, "videos": 3, "snippets": 7, "hours": 7.0}},
                {"seen": {"alarms": 0, "videos": 3, "snippets": 7, "hours": 0.0}},
                {"watch": asdict(CALIBRATION.watch) | {"rule": {"opens": 0.8, "closes": 0.9}}},
                {"weights_sha256": None},
            )
        ),
    ],
)
def test_a_damaged_calibration_is_told_in_a_sentence(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=r"calibration\.json is no calibration; give") as told:
        read_calibration(path, "ab", "binary")
    assert "\n" not in str(told.value)


def test_a_calibration_of_other_weights_or_of_another_head_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    write_calibration(path, CALIBRATION)
    for weights, head in (("cd", "binary"), ("ab", "class")):
        with pytest.raises(BadInput, match="of runs/x by its binary head; calibrate this run"):
            read_calibration(path, weights, head)
    with pytest.raises(BadInput, match="is no calibration"):
        read_calibration(tmp_path / "none.json", "ab", "binary")
