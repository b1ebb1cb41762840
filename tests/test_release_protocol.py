"""Reloading the best weights in the compiled program, against a plain loop over one seed."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import main
from semvad_jax import config, data, evaluate, seeds, store, train
from semvad_jax.files import BadInput
from semvad_jax.metrics import MetricName
from semvad_jax.types import Weights

# None has two evaluations within rounding of each other: another compilation would take either.
SEEDS = [9, 234, 34]
PATIENCE = 3
SMALL = [
    "model.dim=8", "model.length=16", "model.layers=1", "train.batch=32", "train.epochs=5",
    "train.lr=5e-4", "train.milestones=4", "eval.every=1", "train.protocol=reload_best",
]  # fmt: skip


@pytest.fixture(scope="module")
def demo():
    return store.open("demo")


@pytest.fixture(scope="module", autouse=True)
def impatient():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "EVALUATIONS_WITHOUT_BEST", PATIENCE)
        yield


def settings(demo, *overrides):
    return config.resolve(config.load("demo", [*SMALL, *overrides]), demo)


@pytest.fixture(scope="module")
def one_seed(demo):
    """For a plain loop: a seed's first weights, an update, a metric; the steps of an epoch."""
    cfg = settings(demo)
    train_videos, _, test_videos = data.split(cfg, demo)
    rows = jax.tree.map(jnp.asarray, data.train_data(cfg, demo, train_videos))
    frozen = data.frozen(demo)
    videos = evaluate.Videos(cfg, demo, test_videos, [])
    windows = videos.windows()
    adamw = optax.adamw(1.0, weight_decay=cfg.train.weight_decay)

    def first(key):
        params = train.model(cfg).init(cfg, key)
        return params, adamw.init(params)

    @jax.jit
    def update(params, opt, key, step, rate):
        batch = data.gather(rows, seeds.select(data.batch_rows(cfg, rows, key, step, 1), 0))
        gradients = jax.grad(lambda p: train.loss(cfg, p, None, frozen, batch, key, step)[0])(
            params
        )
        with jax.numpy_dtype_promotion("standard"):  # optax counts steps in whole numbers
            updates, opt = adamw.update(gradients, opt, params)
        return jax.tree.map(lambda p, u: p + rate * u, params, updates), opt

    @jax.jit
    def score(params):
        return evaluate.score_windows(cfg, frozen, windows, Weights(params))

    def metric(params):
        found = videos.judge(videos.scores(jax.device_get(score(params))))
        return max(found[MetricName("test", head, "auc")] for head in ("binary", "class"))

    return jax.jit(first), update, metric, data.steps_per_epoch(cfg, rows)


def plain_loop(cfg, one_seed, seed):
    """As the authors' program trains: (best metric, its step, its weights, evaluations, stops)."""
    first, update, metric_of, steps = one_seed
    key = jax.random.key(seed)
    params, opt = first(key)
    best, since, count, stops = (-1.0, 0, params), 0, 0, []
    for epoch in range(cfg.train.epochs):
        rate = cfg.train.lr * 0.1 ** sum(epoch >= m for m in cfg.train.milestones)
        for place in range(1, steps + 1):
            step = epoch * steps + place
            params, opt = update(params, opt, key, jnp.int32(step - 1), rate)
            if place in range(cfg.eval.every + 1, steps + 1, cfg.eval.every):
                count += 1
                since += 1
                if (metric := metric_of(params)) > best[0]:
                    best, since = (metric, step, params), 0
                if since >= PATIENCE:
                    stops.append(step)
                    break
        if stops and cfg.train.early_stop == "run":
            break
        params = best[2]
    return *best, count, stops


@pytest.fixture(scope="module", params=["run", "epoch"])
def both(request, demo, one_seed):
    cfg = settings(demo, f"train.early_stop={request.param}")
    program = seeds.Program(cfg, demo, len(SEEDS))
    state, evaluated = program.init(SEEDS, SEEDS), np.zeros(len(SEEDS), int)
    for intervals in (5, 100):  # a second generator goes on as a resumed run does
        for interval in itertools.islice(program.train(state), intervals):
            state = interval.chunks
            evaluated += [m is not None for m in interval.metrics]
    return program, state, evaluated, [plain_loop(cfg, one_seed, seed) for seed in SEEDS]


def test_the_program_equals_the_plain_loop(both):
    program, state, evaluated, loops = both
    scores = program.final_scores(state)
    assert set(scores) == {"test"}
    found = program.final_metrics(scores)
    assert {name.selection for name in found} == {"test"}
    kept = program.own([chunk.best["test"] for chunk in state])
    for k, (metric, step, params, count, _) in enumerate(loops):
        best = seeds.select(kept, k)
        assert int(best.step) == step and evaluated[k] == count
        # other compilations round otherwise: a few of thousands of snippets change places
        assert float(best.metric) == pytest.approx(metric, abs=1e-4)
        assert found[MetricName("test", "max", "auc")][k] == pytest.approx(metric, abs=1e-4)
        for ours, theirs in zip(jax.tree.leaves(best.params), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_the_case_is_worth_its_name(both):
    """Some seed stops, weights are reloaded, and the best is not simply the last."""
    program, state, _, loops = both
    assert any(stops for *_, stops in loops)
    assert len({step for _, step, *_ in loops}) > 1
    assert program.finished(state)


def test_only_the_optimistic_selection_is_reported(tmp_path, capsys):
    run = tmp_path / "run"
    command = ["--config", "demo", "--seeds", "9,234", "--out", str(run)]
    command += [word for field in SMALL for word in ("--set", field)]
    main.main(command)
    printed = capsys.readouterr().out
    rows = {line.strip().partition("  ")[0] for line in printed.splitlines()}
    assert "test, optimistic" in rows and not {"last step", "val"} & rows
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    assert {name.split("/")[0] for name in metrics} == {"test"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = [max(x["test/max/auc"] for x in lines if x["weight_seed"] == s) for s in (9, 234)]
    assert metrics["test/max/auc"]["values"] == pytest.approx(best, abs=1e-6)
    assert not any(name.startswith("val/") for line in lines for name in line)


def test_a_cadence_that_never_evaluates_is_refused(demo):
    cfg = settings(demo, "eval.every=10")
    with pytest.raises(BadInput, match="^eval.every 10 leaves an epoch of 6 steps without an eval"):
        seeds.Program(cfg, demo, 1)


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        ("ucf", 125, [11, 21, 121, 125, 136, 1125]),
        ("xd", 309, [76, 151, 226, 301, 309, 385, 3090]),
    ],
)
def test_the_published_cadence(name, steps, expected):
    cfg = config.load(name, ["train.protocol=reload_best", "model.preset=release"])
    assert set(expected) <= set(train.pauses(cfg, steps))
    evaluations = train.evaluations(cfg, steps)
    assert len(evaluations) == cfg.train.epochs * (12 if name == "ucf" else 4)
    assert evaluations[-1] == expected[-1] - (4 if name == "ucf" else 8)
    assert cfg.eval.select_head == "max"
    assert cfg.train.early_stop == ("run" if name == "ucf" else "epoch")


def test_an_early_stop_of_an_epoch_ends_with_it(demo):
    cfg = settings(demo, "train.early_stop=epoch")
    state = train.make_state(cfg, ("test",), jax.random.key(1), jax.random.key(2))
    for metric in (0.5, 0.4, 0.3, 0.2, 0.9):
        state = train.keep_best(cfg, state, {"test": jnp.float32(metric)})
    # the third worse one stops it; what comes after is not looked at
    assert state.stopped and int(state.since_best) == 3
    assert float(state.best["test"].metric) == pytest.approx(0.5)
    assert not train.end_epoch(cfg, state).stopped
    whole = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, early_stop="run"))
    assert train.end_epoch(whole, state).stopped
