"""DSANet against its public program's own numbers, and against numbers worked by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import checkpoint, evaluate, run, seeds, train
from semvad_jax.config import load, resolve
from semvad_jax.files import BadInput
from semvad_jax.models import convert, dsanet
from semvad_jax.types import Frozen, Outputs, Weights
from tests.support import programs
from tests.support.stores import make_store

PARTS = {
    "binary": "cg",
    "text": "cts",
    "event": "event",
    "background": "background",
    "consistency": "consistency",
    "gather": "gather",
}


@pytest.fixture(scope="module")
def program():
    """The program, our settings, its weights in our names, Frozen, and its batch."""
    program = programs.Program("dsanet_ucf")
    cfg = programs.settings("dsanet", "model.length=64", features=512, classes=14)
    cfg = replace(cfg, data=replace(cfg.data, text_dim=512, text_tower=512))
    tokens = program.numbers["text_tokens"]
    params, frozen = convert.from_torch(cfg, program.weights, tokens)
    labels = np.eye(14)[np.ravel(program.case["labels"])]
    rows = programs.batch(program.inputs["x"], labels, program.case["lengths"])
    return program, cfg, Weights(params), frozen, rows


@pytest.fixture(scope="module")
def outputs(program):
    _, cfg, weights, frozen, rows = program
    return jax.jit(lambda p: dsanet.apply(cfg, p, frozen, rows))(weights.params)


def stable_adamw(lr, step, param, grad, first, second, highest):
    """The program's optimiser of the prototypes: AdamW with the highest second moment so far
    (amsgrad), and smaller steps where a gradient is large for its history.
    """
    first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
    highest = np.maximum(highest, second)
    size = np.sqrt(highest / (1 - 0.999**step)) + 1e-10
    clip = max(1, float(np.sqrt(np.mean((grad / size) ** 2))))
    return (
        param * (1 - lr * 1e-4) - np.float32(lr / clip / (1 - 0.9**step)) * first / size,
        first,
        second,
        highest,
    )


@pytest.fixture(scope="module")
def trained(program):
    """(loss, parts, {torch name: gradient}) before the first of four steps by the program's two
    optimisers, ours for all but the prototypes; and the loss before each.
    """
    program, cfg, weights, frozen, rows = program

    @jax.jit
    def value_and_grad(params):
        def loss(params):
            return dsanet.loss(cfg, dsanet.apply(cfg, params, frozen, rows, train=True), rows)

        return jax.value_and_grad(loss, has_aux=True)(params)

    descend = jax.jit(lambda g, opt, p, step: train.descend(cfg, 1_000_000, g, opt, p, step))
    params, opt, totals = weights.params, train.optimizer(cfg).init(weights.params), []
    leaves, tree = jax.tree.flatten(params["refiner"])
    moments = [[np.zeros(leaf.shape, np.float32)] * 3 for leaf in leaves]
    for step, lr in enumerate([*program.case["refiner_lr"], None]):
        (total, parts), grads = value_and_grad(params)
        totals.append(float(total))
        if not step:
            first = total, parts, jax.tree.map(np.asarray, programs.by_torch_name(cfg, grads))
        if lr is None:
            return first, totals
        moved = [
            stable_adamw(lr, step + 1, *map(np.asarray, (leaf, grad)), *moment)
            for leaf, grad, moment in zip(
                leaves, jax.tree.leaves(grads["refiner"]), moments, strict=True
            )
        ]
        leaves, moments = [new for new, *_ in moved], [moment for _, *moment in moved]
        params, opt = descend(grads, opt, params, jnp.asarray(step))
        params = params | {"refiner": jax.tree.unflatten(tree, list(map(jnp.asarray, leaves)))}


def test_outputs(program, outputs):
    numbers = program[0].numbers

    def close(found, expected):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)

    close(outputs.class_text, numbers["text"])
    close(outputs.binary_logits, numbers["logits1"][..., 0])
    close(outputs.class_logits, numbers["logits2"])
    close(outputs.features[0, :8], numbers["features_first"])
    close(outputs.for_loss["event"], numbers["logits3"][:, 0])
    close(outputs.for_loss["background"], numbers["logits4"][:, 0])
    close(1 - 2 * outputs.for_loss["unlike"], numbers["reconstruction_cosine"])


def test_class_probabilities(program, outputs):
    program, cfg, *_ = program
    assert cfg.eval.fuse_heads
    found = evaluate.fused_classes(
        outputs.binary_logits, outputs.class_logits, cfg.eval.temperature
    )
    for video, length in enumerate(program.case["lengths"]):
        expected = program.numbers[f"fused/{video}"]
        np.testing.assert_allclose(found[video, :length], expected, rtol=0, atol=1e-5)


def test_losses_and_gradients(program, trained):
    program, (total, parts, gradients), _ = program[0], *trained
    assert float(total) == pytest.approx(float(program.numbers["loss"]), rel=1e-5)
    for ours, theirs in PARTS.items():
        assert float(parts[ours]) == pytest.approx(float(program.numbers[f"loss_{theirs}"]), 1e-5)
    fine = float(program.numbers["loss_fg_unweighted"])
    assert float(parts["class"]) == pytest.approx(1.1 * fine, rel=1e-5)
    programs.same_gradients(program, gradients)


def test_four_steps_of_training(program, trained):
    np.testing.assert_allclose(trained[1], program[0].numbers["loss_steps"], rtol=1e-5)


def test_later_tests_use_the_text_of_the_first(program):
    """The oddity `stale_text`, as the program's cache has it: filled by a first test, read by every
    later one, and by no step of training.
    """
    program, cfg, weights, frozen, rows = program
    state = dsanet.init_state(cfg)
    apply = jax.jit(dsanet.apply, static_argnums=(0,), static_argnames="train")
    first = apply(cfg, weights.params, frozen, rows, state=state)
    kept = dsanet.tested(cfg, weights.params, first.state)
    moved = jax.tree.map(lambda x: 0.9 * x, weights.params)
    moved["class_text"] = jax.tree.map(lambda x: x[::-1], moved["class_text"])
    later = apply(cfg, moved, frozen, rows, state=dsanet.tested(cfg, moved, kept))
    fresh = apply(cfg, moved, frozen, rows)
    for found in (first, later):
        np.testing.assert_allclose(found.class_text, program.numbers["text"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(later.binary_logits, fresh.binary_logits)
    assert np.abs(later.class_text - fresh.class_text).max() > 0.1
    assert np.abs(later.class_logits - fresh.class_logits).max() > 0.1
    in_training = apply(cfg, moved, frozen, rows, state=kept, train=True)
    np.testing.assert_array_equal(in_training.class_text, fresh.class_text)
    fixed = replace(cfg, model=replace(cfg.model, fixes=True))
    assert dsanet.init_state(fixed) is None and dsanet.tested(fixed, moved, None) is None


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_weights_that_do_not_fit_are_refused(program, change):
    program, cfg, *_ = program
    name = "video_anomaly_refiner.decoder.7.attn.learn_scale"
    weights = dict(program.weights)
    if change == "missing":
        del weights[name]
    else:
        name = name.replace("7", "8")
        weights[name] = np.ones((8, 1, 1), np.float32)
    with pytest.raises(BadInput, match=name):
        convert.from_torch(cfg, weights, program.numbers["text_tokens"])


# ---- by hand


SMALL = ("model.dim=16", "model.length=16", "model.depths=1,2", "model.slots=3")


def small(*overrides, classes=3):
    """Settings, weights, Frozen without a text tower, and four videos, two of them short."""
    cfg = programs.settings("dsanet", *SMALL, *overrides, features=8, classes=classes)
    rng = np.random.default_rng(0)
    names = jnp.asarray(rng.normal(size=(classes, 4)), jnp.float32)
    frozen = Frozen(class_caption=None, class_name=names, class_tokens=None, text_tower=None)
    x, lengths = rng.standard_normal((4, 16, 8)).astype(np.float32), [16, 5, 16, 9]
    x[np.arange(16) >= np.array(lengths)[:, None]] = 0
    rows = programs.batch(x, lengths=lengths, classes=classes)
    return cfg, jax.jit(dsanet.init, static_argnums=0)(cfg, jax.random.key(0)), frozen, rows


apply = jax.jit(dsanet.apply, static_argnums=0)


def test_the_lowest_scores_count_as_normal():
    scores = jnp.asarray([[0.5, 0.1, 0.9, 0.2, 0.8], [0.3, 0.2, 0.1, 0.0, 0.0]])
    slots = jnp.asarray([[True] * 5, [True, True, True, False, False]])
    found = dsanet.lowest(scores, slots)
    expected = [[True, True, False, True, True], [False, True, True, False, False]]
    np.testing.assert_array_equal(found, expected)
    one = dsanet.lowest(scores, jnp.asarray([[True, False, False, False, False]] * 2))
    np.testing.assert_array_equal(one, [[True, False, False, False, False]] * 2)


def test_pooling_weighs_by_the_scores():
    x = jnp.asarray([[[1.0, 0], [0, 1.0], [5.0, 5.0]]])
    scores = jnp.asarray([[np.log(2) / 10, np.log(4) / 10, 0.9]], jnp.float32)
    found = dsanet.pooled(x, scores, jnp.asarray([[True, True, False]]))  # weights 1 and 3
    np.testing.assert_allclose(found, np.array([[1, 3]]) / np.sqrt(10), rtol=1e-5)


def test_the_loss_by_hand():
    """Two videos, two classes; what VadCLIP's losses give stands in tests/test_losses.py."""
    cfg = programs.settings("dsanet", features=2)
    rows = programs.batch(np.zeros((2, 3, 2), np.float32), lengths=[3, 2])
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    normal = np.array([[True, True, False], [True, False, False]])
    apart = np.array([[0.1, 0.3, 9], [0.5, 9, 9]])
    unlike = np.array([[0.5, 0.4, 0.3], [0.2, 0.5, 9]])
    of = {"event": logits, "background": logits, "apart": apart, "unlike": unlike}
    of = {name: jnp.asarray(value, jnp.float32) for name, value in of.items()}
    outputs = Outputs(jnp.zeros((2, 3)), for_loss=of | {"normal": jnp.asarray(normal)})
    total, parts = dsanet.loss(cfg, outputs, rows)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    event = -(0.95 * log[0, 0] + 0.05 * log[0, 1] + 0.05 * log[1, 0] + 0.95 * log[1, 1]) / 2
    anomaly = 0.9 * 0.01 / 1.01 + 0.05
    background = -((1 - anomaly) * log[:, 0] + anomaly * log[:, 1]).mean()
    assert float(parts["event"]) == pytest.approx(event, rel=1e-5)
    assert float(parts["background"]) == pytest.approx(background, rel=1e-5)
    assert float(parts["gather"]) == pytest.approx((0.1 + 0.3 + 0.5) / 3, rel=1e-5)
    assert float(parts["consistency"]) == pytest.approx((0.01 + 0.04 + 0.09) / 5, rel=1e-5)
    assert float(parts["binary"]) == pytest.approx(np.log(2), rel=1e-5)
    assert float(total) == pytest.approx(sum(float(part) for part in parts.values()), rel=1e-6)


def test_pooling_leaves_padding_out_where_that_is_fixed():
    """The oddity `pool_padding`: the slots after a short video's last snippet count too."""
    found = {}
    for fixes in ("()", "pool_padding", "true"):
        cfg, params, frozen, rows = small(f"model.fixes={fixes}")
        found[fixes] = apply(cfg, params, frozen, rows).for_loss
    odd, fixed = found["()"], found["pool_padding"]
    np.testing.assert_array_equal(odd["normal"].sum(1), [12, 12, 12, 12])
    np.testing.assert_array_equal(fixed["normal"].sum(1), [12, 4, 12, 7])
    assert not fixed["normal"][1, 5:].any() and not fixed["normal"][3, 9:].any()
    for name in ("event", "background"):
        differs = np.abs(odd[name] - fixed[name]).max(-1)
        assert differs[1] > 1e-3 < differs[3] and max(differs[0], differs[2]) < 1e-5
    jax.tree.map(np.testing.assert_array_equal, found["true"], fixed)


def test_without_a_text_tower_the_adapter_changes_the_class_vectors():
    cfg, params, frozen, rows = small("model.text_share=0.25")
    layer, last = (np.asarray(params["class_text"]["adapters"][i]["kernel"]) for i in (0, 1))

    def leaky(x):
        return np.where(x > 0, x, 0.01 * x)

    for_names = np.asarray(frozen.class_name)
    adapted = leaky(for_names @ layer)
    lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (for_names, adapted)]
    x = leaky((0.25 * adapted * lengths[0] / lengths[1] + 0.75 * for_names) @ last)
    expected = x / np.linalg.norm(x, axis=-1, keepdims=True)
    found = apply(cfg, params, frozen, rows).class_text
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_prototypes_do_not_pull_the_snippets():
    """Gather trains the prototypes and not the features that they are read from."""
    cfg, params, frozen, rows = small()

    def gather(params):
        return dsanet.loss(cfg, dsanet.apply(cfg, params, frozen, rows), rows)[1]["gather"]

    gradients = jax.jit(jax.grad(gather))(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients["temporal"]))
    assert np.any(gradients["refiner"]["prototypes"])
    assert np.any(gradients["refiner"]["aggregation"][0]["query"]["kernel"])


def test_rows_of_weight_0_do_not_count():
    cfg, params, frozen, rows = small()
    first = programs.batch(np.asarray(rows.visual[:2]), rows.labels[:2], rows.length[:2])
    some = replace(rows, weight=jnp.asarray([1.0, 1, 0, 0]))
    totals = [dsanet.loss(cfg, apply(cfg, params, frozen, b), b)[0] for b in (first, some)]
    assert float(totals[0]) == pytest.approx(float(totals[1]), rel=1e-5)


def test_the_temperature_flattens_both_heads():
    binary, classes = jnp.asarray([[2.0]]), jnp.asarray([[[5.0, 1.0, 3.0]]])
    found = evaluate.fused_classes(binary, classes, 2.0)[0, 0]
    anomaly, kind = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(1.0))
    np.testing.assert_allclose(found, [1 - anomaly, anomaly * kind, anomaly * (1 - kind)], 1e-5)


def test_the_published_settings():
    ucf, xd = (load(name, ["model.name=dsanet"]) for name in ("ucf", "xd"))
    assert (ucf.train.lr, ucf.loss.fine, ucf.loss.text) == (7e-5, 1.1, 1 / 13)
    assert (ucf.model.text_layers, ucf.model.text_share, ucf.eval.temperature) == (3, 0.1, 5)
    assert (xd.loss.fine, xd.loss.text, xd.model.layers) == (5, 1 / 6, 1)
    assert (xd.model.text_layers, xd.model.text_share, xd.eval.temperature) == (1, 0.6, 1)
    assert ucf.eval.fuse_heads and xd.eval.fuse_heads
    assert not load("ucf", ["model.name=vadclip"]).eval.fuse_heads


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("model.slot_heads=7", "model.dim 512 is not a multiple of model.slot_heads 7"),
        ("eval.temperature=0", "eval.temperature 0.0 must be positive"),
    ],
)
def test_settings_that_cannot_run_are_refused(override, sentence):
    with pytest.raises(BadInput, match=sentence):
        load("ucf", ["model.name=dsanet", override])


# ---- the text of the first test, in training


TINY = (*SMALL, "train.batch=8", "train.epochs=3", "train.lr=1e-2", "eval.every=0")
TINY += ("eval.fuse_heads=false",)  # fused, the class head's AUC is the binary head's


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    path = tmp_path_factory.mktemp("stale") / "store"
    return make_store(path, train=16, test=6, lengths=(5, 12))


def of(features, *overrides):
    return resolve(load("ucf", ["model.name=dsanet", *TINY, *overrides]), features)


@pytest.fixture(scope="module")
def intervals(features):
    """{fixes: after each of three evaluations (the states of two seeds, their metrics)}"""
    found = {}
    for fixes in ("()", "stale_text"):
        program = seeds.Program(of(features, f"model.fixes={fixes}"), features, 2, 1)
        chunks = program.init([9, 42], [9, 42])
        found[fixes] = [(program.own(i.chunks), i.metrics) for i in program.train(chunks)]
    return found


def test_every_evaluation_of_a_run_has_the_text_of_its_first(intervals):
    (first, _), *_, (last, _) = intervals["()"]
    assert np.all(first.state["tested"])
    for at in (first, last, last.best["test"]):
        jax.tree.map(
            np.testing.assert_array_equal, at.state["class_text"], first.params["class_text"]
        )
    one, other = jax.tree.leaves(last.state["class_text"])[0]
    assert not np.array_equal(one, other)  # a seed's own
    assert intervals["stale_text"][0][0].state is None
    pairs = list(zip(*intervals.values(), strict=True))
    for (odd, _), (fixed, _) in pairs:
        jax.tree.map(np.testing.assert_array_equal, odd.params, fixed.params)
    assert [odd == fixed for (_, odd), (_, fixed) in pairs] == [True, False, False]
    for (_, odd), (_, fixed) in pairs:
        for of_odd, of_fixed in zip(odd, fixed, strict=True):
            binary = [name for name in of_odd if name.head == "binary"]
            assert [of_odd[name] for name in binary] == [of_fixed[name] for name in binary]


def test_a_run_from_before_ends_in_a_sentence(features, intervals, tmp_path):
    """Its identity is another, so that no study takes its figures for these."""
    odd, fixed = of(features), of(features, "model.fixes=stale_text")
    all_fixed = of(features, "model.fixes=true")
    assert len({run.identity({}, cfg, [9], [9]) for cfg in (odd, fixed, all_fixed)}) == 3
    state, _ = intervals["stale_text"][-1]
    with checkpoint.Checkpoints(tmp_path) as saved:
        saved.save(state, {"wall": 0.0, "train": 0.0})
        for read, like in (
            (saved.restore, seeds.Program(odd, features, 2, 1).saved_state()),
            (saved.restore_weights, seeds.abstract_weights(odd, 2)),
        ):
            with pytest.raises(BadInput, match="was saved by an earlier version.*another --out$"):
                read(like)
        found = saved.restore_weights(seeds.abstract_weights(fixed, 2))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found.params), state.params)
