"""One seed: the optimiser against torch, the interval against a plain loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import config, data, train
from tests.support.stores import make_store


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("train") / "store")
    base = [
        "model.dim=4",
        "model.length=16",
        "model.layers=1",
        "train.batch=8",
        "train.lr=1e-3",
        "train.epochs=3",
    ]
    cfg = config.resolve(config.load("ucf", [*base, "train.milestones=1,2", "eval.every=0"]), store)
    rows, frozen = jax.tree.map(
        jnp.asarray, (data.train_data(cfg, store, data.split(cfg, store)[0]), data.frozen(store))
    )
    return cfg, rows, frozen


def test_adamw_with_multistep_equals_torch():
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; pip install torch to compare the optimiser"
    )
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal((3, 2)), rng.standard_normal((12, 3, 2))
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    reference = torch.optim.AdamW([parameter], lr=2e-2)
    schedule = torch.optim.lr_scheduler.MultiStepLR(reference, [1, 3], 0.1)
    cfg = config.load("ucf", ["train.lr=2e-2", "train.milestones=1,3"])
    params = jnp.asarray(start, jnp.float32)
    opt = train.optimizer(cfg).init(params)
    for i, g in enumerate(gradients):
        parameter.grad = torch.tensor(g, dtype=torch.float32)
        reference.step()
        if i % 3 == 2:
            schedule.step()
        params, opt = train.descend(cfg, 3, jnp.asarray(g, jnp.float32), opt, params, jnp.int32(i))
        np.testing.assert_allclose(params, parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_adam_with_halving_and_a_cosine_equals_torch():
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; pip install torch to compare the optimiser"
    )
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal((3, 2)), rng.standard_normal((12, 3, 2))
    for fields, schedule in (
        (("train.milestones=1,3", "train.decay=0.5"), ("MultiStepLR", ([1, 3], 0.5))),
        (("train.milestones=", "train.cosine=5"), ("CosineAnnealingLR", (5,))),
    ):
        parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
        reference = torch.optim.Adam([parameter], lr=2e-2, weight_decay=0.1)
        name, arguments = schedule
        rates = getattr(torch.optim.lr_scheduler, name)(reference, *arguments)
        more = ["train.lr=2e-2", "train.optimizer=adam", "train.weight_decay=0.1"]
        cfg = config.load("ucf", [*more, *fields])
        params = jnp.asarray(start, jnp.float32)
        opt = train.optimizer(cfg).init(params)
        for i, g in enumerate(gradients):
            parameter.grad = torch.tensor(g, dtype=torch.float32)
            reference.step()
            if i % 3 == 2:
                rates.step()
            params, opt = train.descend(
                cfg, 3, jnp.asarray(g, jnp.float32), opt, params, jnp.int32(i)
            )
            np.testing.assert_allclose(params, parameter.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "overrides", "steps", "expected"),
    [
        ("ucf", [], 125, [11, 21, 121, 136, 1125]),
        ("xd", [], 309, [76, 151, 226, 301, 385, 3090]),
        ("ucf", ["eval.every=0", "train.epochs=2"], 4, [4, 8]),
    ],
)
def test_the_cadence_of_evaluations(name, overrides, steps, expected):
    ends = train.evaluations(config.load(name, overrides), steps)
    assert set(expected) <= set(ends) and ends == sorted(set(ends))
    if name == "ucf" and not overrides:
        assert (
            len(ends) == 12 * 9 + 1
            and max(b - a for a, b in zip(ends, ends[1:], strict=False)) == 15
        )


def test_an_interval_equals_single_steps_and_inactive_steps_change_nothing(setup):
    cfg, rows, frozen = setup
    state = train.make_state(cfg, ("test",), jax.random.key(1), jax.random.key(2))
    single = jax.jit(lambda s: train.run_interval(cfg, frozen, rows, jnp.ones(1, bool), s))
    plain, measured = state, []
    for _ in range(3):
        plain, m = single(plain)
        measured.append(float(m["loss"][0]))
    active = jnp.array([True, True, True, False, False])
    scanned, m = jax.jit(lambda s: train.run_interval(cfg, frozen, rows, active, s))(state)
    np.testing.assert_allclose(m["loss"][:3], measured, rtol=1e-5)
    np.testing.assert_array_equal(m["loss"][3:], 0)
    assert int(scanned.step) == 3
    for a, b in zip(jax.tree.leaves(plain.params), jax.tree.leaves(scanned.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    idle, _ = jax.jit(lambda s: train.run_interval(cfg, frozen, rows, jnp.zeros(5, bool), s))(state)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(idle), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("part", [2, 5])
def test_gradients_of_parts_add_up_to_those_of_the_batch(setup, part):
    """Of a mixed epoch's last batch: 4 of 10 rows count, and some parts have none of these."""
    cfg, rows, frozen = setup
    absolute = dataclasses.replace(cfg.loss, text_cosine="absolute")  # else it may be 0
    mixed = dataclasses.replace(cfg.train, batching="mixed", batch=10)
    cfg = dataclasses.replace(cfg, loss=absolute, train=mixed)
    state = train.make_state(cfg, (), jax.random.key(1), jax.random.key(2))
    drawn = data.batch_rows(cfg, rows, jax.random.key(2), jnp.int32(2), 1)
    batch = data.gather(rows, jax.tree.map(lambda x: x[0], drawn))
    assert batch.weight.sum() == 4
    found = []
    for microbatch in (0, part):
        one = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, microbatch=microbatch))
        gradients = jax.jit(train.gradients, static_argnums=0)
        found.append(gradients(one, frozen, batch, state, jax.random.key(3)))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    assert min(float(v) for v in found[0][0].values()) > 0  # no part of the loss is left out


def test_weight_seed_and_data_seed_are_separate(setup):
    cfg, *_ = setup
    a, b, c = (
        train.make_state(cfg, ("test",), jax.random.key(w), jax.random.key(d))
        for w, d in ((1, 1), (1, 2), (2, 1))
    )
    kernel = lambda s: s.params["visual_proj"]["kernel"]  # noqa: E731
    assert (kernel(a) == kernel(b)).all() and (a.key != b.key).any()
    assert (kernel(a) != kernel(c)).any() and (a.key == c.key).all()


def test_training_lowers_the_loss(setup):
    cfg, rows, frozen = setup
    state = train.make_state(cfg, ("test",), jax.random.key(1), jax.random.key(2))
    run = jax.jit(lambda s: train.run_interval(cfg, frozen, rows, jnp.ones(9, bool), s))
    _, losses = run(state)
    assert losses["loss"][-3:].mean() < losses["loss"][:3].mean()


def test_the_best_weights_are_kept_and_the_first_of_equals_stays(setup):
    cfg, *_ = setup
    state = train.make_state(cfg, ("test",), jax.random.key(1), jax.random.key(2))
    kernels = []
    for step, metric in enumerate([0.5, 0.7, 0.7, 0.6], start=1):
        params = jax.tree.map(lambda p, step=step: jnp.full_like(p, step), state.params)
        now = dataclasses.replace(state, params=params, step=jnp.int32(step))
        state = train.keep_best(cfg, now, {"test": jnp.float32(metric)})
        kernels.append(float(state.best["test"].params["visual_proj"]["bias"][0]))
    assert kernels == [1, 2, 2, 2] and int(state.best["test"].step) == 2
