"""The seed axis: chunks, company, devices; and what one training run leaves behind."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import config, seeds, train
from semvad_jax.files import BadInput
from tests.support.stores import make_store

SMALL = ["model.dim=4", "model.length=8", "model.layers=1", "train.batch=8", "train.epochs=1"]


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("seeds") / "store", lengths=(5, 8))
    return config.resolve(
        config.load("ucf", [*SMALL, "train.lr=1e-3", "eval.every=0"]), store
    ), store


def on_one_device(*args):
    """A program that sees the first device only, as on most machines."""
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: first)
        return seeds.Program(*args)


@pytest.fixture(scope="module")
def four(setup):
    """Four seeds in two chunks of two, trained for three steps."""
    return run(on_one_device(*setup, 4, 2), [9, 234, 42, 1])


def run(program, weight_seeds, data_seeds=None):
    state = program.init(weight_seeds, data_seeds or weight_seeds)
    active = jax.device_put(np.ones(program.longest, bool), program.shared)
    state, measured = program.run_interval((program.frozen, program.rows, active), state)
    return jax.device_get((program.own(state), program.own(measured)))


def same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_every_parameter_has_a_leading_seed_axis_and_seeds_differ(four):
    state, measured = four
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state)} == {4}
    kernel = state.params["visual_proj"]["kernel"]
    assert not np.array_equal(kernel[0], kernel[1]) and len(set(measured["loss"][:, 0])) == 4


@pytest.mark.parametrize("company", [[42], [42, 7], [7, 42], [1, 5, 9, 42]])
def test_a_seed_has_the_same_bits_alone_and_in_any_place_and_company(setup, four, company):
    alone = run(on_one_device(*setup, len(company), 2), company)
    k = company.index(42)
    same_bits(seeds.select(alone, k), seeds.select(four, 2))


def test_what_dropout_leaves_out_is_a_seeds_own_and_the_same_in_any_company(setup):
    _, store = setup
    cfg = config.load("ucf", [*SMALL, "train.lr=1e-3", "eval.every=0", "model.preset=best"])
    cfg = config.resolve(cfg, store)
    alone, among = (run(on_one_device(cfg, store, len(s), 2), s) for s in ([42], [9, 42]))
    same_bits(seeds.select(alone, 0), seeds.select(among, 1))
    one_order = run(on_one_device(cfg, store, 2, 2), [9, 9], [9, 9])
    same_bits(seeds.select(one_order, 0), seeds.select(one_order, 1))
    other_order = run(on_one_device(cfg, store, 2, 2), [9, 9], [9, 234])
    assert other_order[1]["loss"][0, 0] != other_order[1]["loss"][1, 0]


def test_data_seed_and_weight_seed_are_separate(setup, four):
    other = run(on_one_device(*setup, 2, 2), [9, 9], [9, 234])
    same_bits(seeds.select(other, 0), seeds.select(four, 0))
    assert other[1]["loss"][0, 0] != other[1]["loss"][1, 0]


def test_other_widths_and_devices_agree_to_rounding(setup, four):
    wide = run(on_one_device(*setup, 4, 4), [9, 234, 42, 1])
    np.testing.assert_allclose(wide[1]["loss"][:, 0], four[1]["loss"][:, 0], rtol=1e-5)


def test_two_devices_never_speak_and_agree_with_one(setup, four):
    assert jax.device_count() == 2
    program = seeds.Program(*setup, 4, 1)
    text = program.run_interval.as_text() + program.score_windows.as_text()
    for collective in (
        "all-reduce",
        "all-gather",
        "all-to-all",
        "collective-permute",
        "reduce-scatter",
    ):
        assert collective not in text
    state = program.init([9, 234, 42, 1], [9, 234, 42, 1])
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {2}
    measured = run(program, [9, 234, 42, 1])[1]
    np.testing.assert_allclose(measured["loss"][:, 0], four[1]["loss"][:, 0], rtol=1e-5)


def test_first_step_gradients_are_those_of_one_seed_alone(setup, four):
    cfg, store = setup
    program = on_one_device(cfg, store, 1)
    state = train.make_state(cfg, ("test",), jax.random.key(42), jax.random.key(42))
    _, measured = jax.jit(lambda s: train.step(cfg, program.frozen, program.rows, s))(state)
    np.testing.assert_allclose(measured["loss"], four[1]["loss"][2, 0], rtol=1e-5)


def test_one_execution_an_interval(setup):
    cfg, store = setup
    cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, epochs=2))
    program = on_one_device(cfg, store, 2)
    calls, compiled = [], program.run_interval
    program.run_interval = lambda *a: calls.append(1) or compiled(*a)  # type: ignore[assignment]
    steps = [interval.step for interval in program.train(program.init([1, 2], [1, 2]))]
    assert steps == [3, 6] and len(calls) == 2


def test_slots_are_filled_with_the_last_seed():
    layout = seeds.Layout(seeds=5, width=2, devices=2)
    assert layout.slots == 8
    np.testing.assert_array_equal(layout.fill(jnp.arange(5)), [0, 1, 2, 3, 4, 4, 4, 4])


def test_a_loss_that_is_not_finite_names_seed_and_step(setup):
    program = on_one_device(*setup, 2)
    state = program.init([1, 2], [1, 2])
    broken = state.params["visual_proj"]["kernel"].at[1].set(jnp.nan)
    state.params["visual_proj"]["kernel"] = broken
    with pytest.raises(BadInput, match="seed number 1 is not finite at step 1; lower train.lr"):
        next(program.train(state))


def test_a_chunk_of_none_is_refused(setup):
    with pytest.raises(BadInput, match="--seed-chunk 0 must be at least 1"):
        seeds.Program(*setup, 2, 0)


@pytest.mark.parametrize(
    ("count", "widths"),
    [(10, [10, 5, 4, 3, 2, 1]), (7, [7, 4, 3, 2, 1]), (4, [4, 2, 1]), (1, [1])],
)
def test_widths_that_are_worth_a_compilation(count, widths):
    assert seeds.even_widths(count) == widths
    for width in range(1, count + 1):  # each other one has as many chunks, and more copies in them
        chunks = -(-count // width)
        same = [w for w in widths if -(-count // w) == chunks]
        assert same and min(same) <= width


def test_auto_compiles_the_widths_that_fill_slots_evenly(setup, monkeypatch):
    """A device that has room for three seeds at most: 10, 5, 4 and 3 are compiled, never 9."""
    one = jax.devices()[0]
    tried, compiled = [], []

    class Device:
        def memory_stats(self):
            return {"bytes_limit": 1000}

    class Interval:
        def __init__(self, width):
            self.argument_size_in_bytes, self.temp_size_in_bytes = 0, 290 * width

        def memory_analysis(self):
            return self

    def run_interval(program):
        compiled.append(program.layout.width)
        return Interval(program.layout.width)

    fits = seeds.Program._fits

    def limited(program):
        tried.append(program.layout.width)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "devices", lambda: [Device()])
            return fits(program)

    faked = functools.cached_property(run_interval)
    faked.__set_name__(seeds.Program, "run_interval")
    monkeypatch.setattr(jax, "devices", lambda: [one])
    monkeypatch.setattr(seeds.Program, "run_interval", faked)
    monkeypatch.setattr(seeds.Program, "_fits", limited)
    program = seeds.Program(*setup, 10, "auto")
    assert tried == compiled == [10, 5, 4, 3] and program.layout.slots == 12
    monkeypatch.setattr(
        Interval, "memory_analysis", lambda self: None
    )  # a device that does not tell
    tried.clear()
    assert seeds.Program(*setup, 10, "auto").layout.width == 10 and tried == [10]


def test_auto_keeps_the_narrowest_where_nothing_fits(setup, monkeypatch):
    one, compiled = jax.devices()[0], []
    faked = functools.cached_property(lambda p: compiled.append(p.layout.width) or p.layout.width)
    faked.__set_name__(seeds.Program, "run_interval")
    monkeypatch.setattr(jax, "devices", lambda: [one])
    monkeypatch.setattr(seeds.Program, "run_interval", faked)
    monkeypatch.setattr(seeds.Program, "_fits", lambda p: bool(p.run_interval) and False)
    program = seeds.Program(*setup, 4, "auto")
    assert program.run_interval == 1 and compiled == [4, 2, 1]
