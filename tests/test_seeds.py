"""The seed axis: chunks, company, devices; and what one training run leaves behind."""

import dataclasses
import functools
import types

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
    chunks = program.init(weight_seeds, data_seeds or weight_seeds)
    measured = program.run_interval(chunks, program.longest)
    return program.own(chunks), program.own(measured)


def placed(cfg, placement):
    return dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, placement=placement))


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


@pytest.mark.parametrize("width", [1, 4])
def test_other_widths_agree_to_rounding(setup, four, width):
    other = run(on_one_device(*setup, 4, width), [9, 234, 42, 1])
    np.testing.assert_allclose(other[1]["loss"][:, 0], four[1]["loss"][:, 0], rtol=1e-5)


def test_two_devices_never_speak_and_agree_with_one(setup, four):
    assert jax.device_count() == 2
    program = seeds.Program(*setup, 4, 1)
    text = program.training.as_text() + program.score_windows.as_text()
    for collective in (
        "all-reduce",
        "all-gather",
        "all-to-all",
        "collective-permute",
        "reduce-scatter",
    ):
        assert collective not in text
    chunks = program.init([9, 234, 42, 1], [9, 234, 42, 1])
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(chunks)} == {2}
    measured = run(program, [9, 234, 42, 1])[1]
    np.testing.assert_allclose(measured["loss"][:, 0], four[1]["loss"][:, 0], rtol=1e-5)


def test_first_step_gradients_are_those_of_one_seed_alone(setup, four):
    cfg, store = setup
    program = on_one_device(cfg, store, 1)
    state = train.make_state(cfg, ("test",), jax.random.key(42), jax.random.key(42))
    one = jnp.ones(1, bool)
    step = jax.jit(lambda s: train.run_interval(cfg, program.frozen, program.rows, one, s))
    _, measured = step(state)
    np.testing.assert_allclose(measured["loss"][0], four[1]["loss"][2, 0], rtol=1e-5)


def test_one_execution_an_interval(setup):
    cfg, store = setup
    cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, epochs=2))
    program = on_one_device(cfg, store, 2, 2)
    calls, compiled = [], program.training
    program.training = lambda *a: calls.append(1) or compiled(*a)  # type: ignore[assignment]
    steps = [interval.step for interval in program.train(program.init([1, 2], [1, 2]))]
    assert steps == [3, 6] and len(calls) == 2


def test_slots_are_filled_with_the_last_seed():
    layout = seeds.Layout(seeds=5, width=2, devices=2)
    assert [chunk.tolist() for chunk in layout.chunks] == [[0, 1, 2, 3], [4, 4, 4, 4]]


def test_a_loss_that_is_not_finite_names_seed_and_step(setup):
    program = on_one_device(*setup, 2, 2)
    chunks = program.init([1, 2], [1, 2])
    broken = chunks[0].params["visual_proj"]["kernel"].at[1].set(jnp.nan)
    chunks[0].params["visual_proj"]["kernel"] = broken
    with pytest.raises(BadInput, match="seed number 1 is not finite at step 1; lower train.lr"):
        next(program.train(chunks))


def test_a_chunk_of_none_is_refused(setup):
    with pytest.raises(BadInput, match="--seed-chunk 0 must be at least 1"):
        seeds.Program(*setup, 2, 0)


@pytest.mark.parametrize(
    ("count", "widths"), [(10, [10, 5, 2, 1]), (7, [7, 1]), (4, [4, 2, 1]), (1, [1])]
)
def test_widths_that_seeds_fill(count, widths):
    assert seeds.even_widths(count) == widths


@pytest.fixture
def device(monkeypatch):
    """A device with a limit, `device.limit`, and a compiler whose figures grow with the chunk and
    fall to half with rematerialised blocks; `device.compiled` lists what it compiled.
    """
    one = jax.devices()[0]
    found = types.SimpleNamespace(limit=None, compiled=[], state=0)

    def data_bytes(program, on_host):
        return 100 if on_host else 400

    def training(program):
        width, remat = program.layout.width, program.cfg.train.remat
        found.compiled.append((width, remat))
        temporaries = 1000 * width // (2 if remat == "blocks" else 1)
        sizes = types.SimpleNamespace(temp_size_in_bytes=temporaries)
        sizes.output_size_in_bytes = sizes.alias_size_in_bytes = 0
        return types.SimpleNamespace(memory_analysis=lambda: sizes)

    faked = functools.cached_property(training)
    faked.__set_name__(seeds.Program, "training")
    monkeypatch.setattr(jax, "devices", lambda: [one])
    monkeypatch.setattr(seeds.Program, "training", faked)
    monkeypatch.setattr(seeds, "room", lambda: found.limit)

    def memory(program):
        temporaries = program.training.memory_analysis().temp_size_in_bytes
        chunks = 1 if program.rests is program.on_host else len(program.layout.chunks)
        rows = data_bytes(program, program.rows_on_host)
        return seeds.Memory(rows, chunks * found.state, temporaries, 0)

    monkeypatch.setattr(seeds.Program, "_data", data_bytes)
    monkeypatch.setattr(seeds.Program, "memory", memory)
    return found


@pytest.mark.parametrize(
    ("asked", "limit", "width", "placement", "remat", "compilations"),
    [
        ("auto", 10_400, 10, "device", "none", 1),
        ("auto", 10_399, 5, "device", "none", 2),  # 7,000 expected: 1.4 times a width of 5's share
        ("auto", 6_400, 2, "device", "none", 2),
        ("auto", 1_800, 1, "device", "none", 2),
        ("auto", 1_400, 1, "device", "none", 2),  # less than was expected
        ("auto", 1_399, 1, "host", "none", 3),
        ("auto", 1_099, 1, "host", "blocks", 3),
        ("device", 1_399, 1, "device", "blocks", 3),
        ("host", 10_100, 10, "host", "none", 1),
        ("auto", None, 1, "device", "none", 0),  # a CPU, which does not tell
    ],
)
def test_what_fits_is_chosen_in_three_compilations(
    setup, device, asked, limit, width, placement, remat, compilations
):
    device.limit, (cfg, store) = limit, setup
    program = seeds.Program(placed(cfg, asked), store, 10)
    assert (program.layout.width, program.cfg.train.remat) == (width, remat)
    assert program.cfg.data.placement == placement
    _ = program.training
    assert len(device.compiled) == max(compilations, 1)


@pytest.mark.parametrize(
    ("limit", "on_host", "placement"),
    [(1_600, False, "device"), (1_420, True, "device"), (1_300, False, "host")],
)
def test_states_wait_on_the_device_where_features_make_room(
    setup, device, limit, on_host, placement
):
    device.limit, device.state = limit, 20
    program = seeds.Program(*setup, 10)
    assert program.layout.width == 1 and program.cfg.data.placement == placement
    assert (program.rests is program.on_host) == on_host


def test_what_is_given_is_taken(setup, device):
    cfg, store = setup
    device.limit = 4_900
    program = seeds.Program(placed(cfg, "device"), store, 10, 5)
    assert (program.layout.width, program.cfg.train.remat) == (5, "blocks")
    kept = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, remat="blocks"))
    program = seeds.Program(kept, store, 10, "auto")
    assert (program.layout.width, program.cfg.train.remat) == (5, "blocks")
    kept = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, remat="none"))
    program = seeds.Program(kept, store, 10, 5)
    assert (program.layout.width, program.cfg.train.remat) == (5, "none")
    program.score_windows = None  # type: ignore[assignment]
    with pytest.raises(BadInput, match="5 seeds at a time takes 0.0 GB.*lower --seed-chunk"):
        program.compile()


def test_memory_is_the_compilers(setup):
    program = on_one_device(*setup, 4, 2)
    memory, sizes = program.memory(), program.training.memory_analysis()
    arguments = sizes.argument_size_in_bytes
    of_chunk = memory.states // 2
    windows = sum(x.nbytes for x in jax.tree.leaves(program.windows))
    assert arguments == pytest.approx(memory.data - windows + of_chunk, rel=1e-3)
    assert memory.temporaries == sizes.temp_size_in_bytes and memory.copies < arguments / 10


def test_states_are_updated_where_they_lie(setup):
    """A step's and an evaluation's new state takes the old one's memory, by the compiler."""
    program = on_one_device(*setup, 2, 2)
    (chunk,) = program.init([1, 2], [1, 2])
    size = sum(x.nbytes for x in jax.tree.leaves(chunk))
    metrics = {"test": np.zeros(2, np.float32)}
    host = on_one_device(placed(setup[0], "host"), setup[1], 2, 2)
    keep_best = program.keep_best.lower(chunk, metrics).compile()
    for compiled in (program.training, host.training, keep_best):
        assert compiled.memory_analysis().alias_size_in_bytes == size


@pytest.mark.parametrize("saving", ["train.remat=blocks", "train.microbatch=2"])
def test_less_memory_gives_the_same_numbers(setup, saving):
    cfg, store = setup
    wide = ["model.dim=32", "model.layers=2", saving]
    cfg = config.load("ucf", [*SMALL, "train.lr=1e-3", "eval.every=0", *wide])
    cfg = config.resolve(cfg, store)
    usual = dataclasses.replace(cfg.train, remat="none", microbatch=0)
    plain = dataclasses.replace(cfg, train=usual)
    losses, needs = [], []
    for one in (cfg, plain):
        program = on_one_device(one, store, 2)
        needs.append(program.memory().temporaries)
        losses.append(run(program, [9, 42])[1]["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert needs[0] < needs[1]


@pytest.mark.parametrize(
    ("make", "chunk"), [(on_one_device, 1), (on_one_device, 3), (seeds.Program, 1)]
)
def test_features_on_the_host_give_the_same_bits(setup, make, chunk):
    """On one device and on two, also where the states of waiting seeds are on the host besides."""
    cfg, store = setup
    ends = []
    for placement in ("device", "host"):
        program = make(placed(cfg, placement), store, 3, chunk)
        on_host = all(isinstance(x, np.ndarray) for x in jax.tree.leaves(program.rows))
        assert on_host == (placement == "host")
        program.rests = program.on_host if on_host else program.stacked
        ends.append(run(program, [9, 42, 1]))
    same_bits(*ends)


def test_what_features_on_the_host_take_of_a_device(setup):
    """Two batches, each as large as a step's arguments besides the state."""
    cfg, store = setup
    there, here = (on_one_device(placed(cfg, p), store, 2, 2) for p in ("host", "device"))
    rest = there.memory().data - 2 * 2 * 8 * (8 * 2 * (12 + 10) + 4 + 4 * 3)
    rows = sum(x.nbytes for x in jax.tree.leaves(here.rows))
    assert rest + rows == here.memory().data


def test_states_that_rest_on_the_host_give_the_same_bits(setup):
    cfg, store = setup
    cfg = config.resolve(config.load("ucf", [*SMALL, "train.lr=1e-3"]), store)
    ends, needs = [], []
    for on_host in (False, True):
        program = on_one_device(cfg, store, 3, 1)
        program.rests = program.on_host if on_host else program.stacked
        needs.append(program.memory().states)
        chunks = program.init([9, 42, 1], [9, 42, 1])
        kinds = {leaf.sharding.memory_kind for leaf in jax.tree.leaves(chunks)}
        assert ("pinned_host" in kinds) == on_host and len(kinds) == 1
        for interval in program.train(chunks):
            chunks = interval.chunks
        ends.append(program.own(chunks))
    same_bits(*ends)
    assert needs[0] == 3 * needs[1]
