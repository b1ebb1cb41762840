"""Each loss against numbers worked by hand, the float64 reference, and its extreme inputs."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import losses
from semvad_jax.config import Config, LossConfig
from semvad_jax.types import Batch, Outputs
from tests import oracle

LN2, LN3, LN5 = np.log([2, 3, 5])
CFG = Config(loss=LossConfig(text=0.25, sem=0.5))
GREEDY = Config(loss=LossConfig(text=0.25, sem=0.5, sigma_greedy=True))

total = jax.jit(losses.total, static_argnums=0)
top_k_mean, class_mil = jax.jit(losses.top_k_mean), jax.jit(losses.class_mil)
semantic, sigma_greedy = jax.jit(losses.semantic), jax.jit(losses.sigma_greedy)


@partial(jax.jit, static_argnums=0)
def slopes(cfg, outputs, rows):
    """((loss, parts), gradient with respect to the outputs)."""
    return jax.value_and_grad(lambda o: losses.total(cfg, o, rows), has_aux=True)(outputs)


def f32(x):
    return jnp.asarray(x, jnp.float32)


def batch(labels, length, weight, steps):
    b = len(labels)
    return Batch(
        visual=jnp.zeros((b, steps, 1)),
        captions=jnp.zeros((b, steps, 1)),
        length=jnp.asarray(length, jnp.int32),
        labels=f32(labels),
        weight=f32(weight),
    )


def random_case(seed=0, steps=20):
    """Three classes, lengths 17 (k = 2), 20 and 5, a two-label video, a last row of weight 0."""
    rng = np.random.default_rng(seed)
    outputs = Outputs(
        binary_logits=f32(rng.normal(size=(4, steps))),
        class_logits=f32(3 * rng.normal(size=(4, steps, 3))),
        class_text=f32(rng.normal(size=(3, 5)) + 0.5),
        captions=f32(rng.normal(size=(4, steps, 4))),
        class_captions=f32(rng.normal(size=(3, 4))),
        features=f32(rng.normal(size=(4, steps, 6))),
    )
    labels = [[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]]
    return outputs, batch(labels, [17, 20, 5, 9], [1, 1, 1, 0], steps)


def plain(outputs):
    return {k: np.asarray(v, np.float64) for k, v in vars(outputs).items() if v is not None}


# ---- top-k mean


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, 3.0),  # k = 1 of [3]
        (2, 5.0),  # k = 1 of [3, 5]
        (15, 5.0),
        (16, 4.5),  # k = 2: 5 and 4
        (31, 4.5),
        (32, (7 + 5 + 4) / 3),  # k = 3; the 7 stands at place 31
        (0, 0.0),
    ],
)
def test_top_k_mean(length, expected):
    values = np.zeros(48)
    values[[0, 1, 15, 31, 40]] = 3, 5, 4, 7, 9
    values = f32(values)
    assert top_k_mean(values, values, jnp.int32(length)) == pytest.approx(expected)


def test_top_k_mean_takes_values_where_the_ranking_is_highest():
    values, ranking = f32([1, 2, 4, 8]), f32([0, 9, 3, 10])
    mean = losses.top_k_mean(values, ranking, jnp.int32(3))  # place 3 is padding
    assert mean == 2
    gradient = jax.grad(losses.top_k_mean, argnums=(0, 1))(values, ranking, jnp.int32(3))
    np.testing.assert_array_equal(gradient, [[0, 1, 0, 0], [0, 0, 0, 0]])


# ---- binary


@jax.jit
@jax.value_and_grad
def binary(logits, length, abnormal):
    return losses.binary_mil(logits, logits, length, abnormal)


@pytest.mark.parametrize(
    ("logits", "length", "abnormal", "expected"),
    [
        # σ(ln 3) = 3/4; the padding, 50, does not count
        ([0, LN3], 2, 1, np.log(4 / 3)),
        ([0, LN3], 2, 0, np.log(4)),
        # sixteen snippets, k = 2: (3/4 + 1/2) / 2 = 5/8
        ([0, LN3] + [-5] * 14, 16, 1, np.log(8 / 5)),
        ([0, LN3] + [-5] * 14, 16, 0, np.log(8 / 3)),
        # p = 0 and p = 1: the logarithm stops at −100
        ([-1e4], 1, 1, 100),
        ([-1e4], 1, 0, 0),
        ([1e4], 1, 1, 0),
        ([1e4], 1, 0, 100),
        # ln(1 + e^12): 1 − p is small but must not be lost to rounding
        ([12], 1, 0, 12.000006144),
        ([-12], 1, 1, 12.000006144),
    ],
)
def test_binary_by_hand(logits, length, abnormal, expected):
    logits = f32(logits + [50] * (20 - len(logits)))
    value, gradient = binary(logits, jnp.int32(length), f32(abnormal))
    assert value == pytest.approx(expected, abs=1e-5)
    assert np.isfinite(gradient).all()
    assert not gradient[length:].any()


def test_binary_of_an_empty_video_is_finite():
    for abnormal in (0, 1):
        value, gradient = binary(jnp.full(20, 3.0), jnp.int32(0), f32(abnormal))
        assert np.isfinite(value) and not gradient.any()


# ---- class


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # the classes' highest valid logits are ln 2, 0 and ln 5: probabilities 2/8, 1/8, 5/8
        ([0, 1, 0], np.log(8)),
        ([1, 0, 0], np.log(4)),
        ([1, 0, 1], (np.log(4) + np.log(8 / 5)) / 2),
        ([1, 1, 1], (np.log(4) + np.log(8) + np.log(8 / 5)) / 3),
    ],
)
def test_class_by_hand(labels, expected):
    logits = f32([[LN2, -1, 0], [0, 0, LN5], [9, 9, 9]])
    value = class_mil(logits, logits, jnp.int32(2), f32(labels))
    assert value == pytest.approx(expected, abs=1e-6)


def test_class_of_sixteen_snippets():
    # k = 2: class 0 takes (2 + 0)/2 = 1, class 1 (1 + 1)/2 = 1: equal, so ln 2
    logits = np.full((20, 2), -3.0)
    logits[[3, 7], 0] = 2, 0
    logits[[5, 9], 1] = 1
    logits[16:] = 50
    logits = f32(logits)
    value = class_mil(logits, logits, jnp.int32(16), f32([0, 1]))
    assert value == pytest.approx(LN2, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_class_saturated(sign):
    logits = f32([[sign * 1e4, -sign * 1e4], [0, 0]])

    def loss(logits):
        return losses.class_mil(logits, logits, jnp.int32(1), f32([1, 0]))

    value, gradient = jax.jit(jax.value_and_grad(loss))(logits)
    assert value == (0 if sign > 0 else 2e4)
    assert np.isfinite(gradient).all()


# ---- semantic


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # class 0 is likeliest at snippet 0 (σ(1) = .73; then .27): caption (1, 0), itself: 0.
        # class 1 at snippet 1, though its logit is higher at 0: cos((3, 4), (0, 1)) = .8: .2
        ([1, 0], 0.0),
        ([0, 1], 0.2),
        ([1, 1], 0.1),
    ],
)
def test_semantic_by_hand(labels, expected):
    class_logits = f32([[5, 4], [0, 1], [-50, 50]])
    captions, class_captions = f32([[2, 0], [3, 4], [0, -1]]), f32([[7, 0], [0, 0.1]])
    value = semantic(class_logits, captions, class_captions, jnp.int32(2), f32(labels))
    assert value == pytest.approx(expected, abs=1e-6)


def test_semantic_may_pick_padding_but_counts_by_the_length():
    # length 16 of 20, so k = 2; class 1 is likeliest in slots 17 (a caption opposite to its own)
    # and 3 (its own): (2 + 0)/2. Without padding: slot 3 and the first of the rest (both its own)
    class_logits = np.zeros((20, 2))
    class_logits[[3, 17], 1] = 1, 2
    captions = np.tile([0.0, 1.0], (20, 1))
    captions[17] = 0, -3
    rows = f32(class_logits), f32(captions), f32([[1, 0], [0, 1]]), jnp.int32(16), f32([0, 1])
    assert losses.semantic(*rows, padding=True) == pytest.approx(1, abs=1e-6)
    assert losses.semantic(*rows) == pytest.approx(0, abs=1e-6)


def test_semantic_of_the_first_label_alone():
    outputs, rows = random_case()
    first = dataclasses.replace(rows, labels=rows.labels.at[1, 2].set(0))  # was classes 1 and 2
    cfg = dataclasses.replace(CFG, loss=dataclasses.replace(CFG.loss, sem_labels="first"))
    found, expected = total(cfg, outputs, rows)[1], total(CFG, outputs, first)[1]
    assert found["sem"] == expected["sem"] != total(CFG, outputs, rows)[1]["sem"]
    assert found["class"] != expected["class"]


def test_semantic_trains_the_captions_alone():
    outputs, rows = random_case()

    def loss(class_logits, captions, class_captions):
        return losses.semantic(
            class_logits, captions, class_captions, rows.length[1], rows.labels[1]
        )

    arguments = outputs.class_logits[1], outputs.captions[1], outputs.class_captions
    logits, captions, target = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments)
    assert not logits.any() and captions.any() and target.any()


# ---- text


def test_text_separation_by_hand():
    # cosines with (2, 0): 3/5, −1 (counts as 0), 0 and 4/5
    text = f32([[2, 0], [3, 4], [-1, 0], [0, 2], [4, -3]])
    assert losses.text_separation(text) == pytest.approx(1.4, abs=1e-6)
    assert losses.text_separation(text, absolute=True) == pytest.approx(2.4, abs=1e-6)


# ---- σ-greedy


def greedy_case(weight=(1, 1, 1), labels=((1, 0), (0, 1), (1, 0))):
    features = f32(
        [[[2, 0], [0, 3], [-9, 0]], [[1, 0], [-1, 0], [1, 1]], [[-1, 0], [-1, 0], [-1, 0]]]
    )
    return features, batch(labels, [2, 3, 1], weight, 3)


def test_sigma_greedy_distances_by_hand():
    # nominal snippets: (1, 0) and (0, 1) of video 0 (its third is padding); video 2 has weight 0
    # (1, 0): 1 − (1 + 0)/2; (−1, 0): 1 − (−1 + 0)/2; (1, 1)/√2: 1 − √½
    greedy = sigma_greedy(*greedy_case((1, 1, 0)), jax.random.key(0), jnp.int32(0))
    np.testing.assert_allclose(greedy.distance[1], [0.5, 1.5, 1 - 0.5**0.5], atol=1e-6)
    assert greedy.use.tolist()[:2] == [False, True]
    # with video 2's one valid snippet (−1, 0): 1 − (1 + 0 − 1)/3 and 1 − (−1 + 0 + 1)/3
    greedy = sigma_greedy(*greedy_case(), jax.random.key(0), jnp.int32(0))
    np.testing.assert_allclose(greedy.distance[1], [1, 1, 1 - 0.5**0.5 / 3], atol=1e-6)
    assert greedy.use.tolist() == [False, True, False]


def test_sigma_greedy_without_a_nominal_video():
    for case in (greedy_case((0, 1, 0)), greedy_case(labels=((0, 1),) * 3)):
        greedy = sigma_greedy(*case, jax.random.key(0), jnp.int32(0))
        real = case[1].weight > 0
        assert not (greedy.use & real).any()
        assert np.isfinite(greedy.distance).all()


@pytest.mark.parametrize("step", [0, 69, 300])
def test_sigma_greedy_explores_with_probability_sigma(step):
    case = greedy_case()
    keys = jax.random.split(jax.random.key(1), 2000)
    use = jax.vmap(lambda key: losses.sigma_greedy(*case, key, jnp.int32(step)).use[1])(keys)
    assert use.mean() == pytest.approx(0.99**step, abs=0.04)  # 0.99^69 ≈ 1/2; 3.5 SD


@pytest.mark.parametrize("step", [0, 100_000])
def test_total_under_sigma_greedy_equals_the_reference(step):
    outputs, rows = random_case()
    value, _ = total(GREEDY, outputs, rows, key=jax.random.key(0), step=step)
    expected = oracle.losses(plain(outputs), rows, 0.25, 0.5, greedy=step == 0)
    assert value == pytest.approx(expected["total"], abs=1e-5)


# ---- together


def test_total_by_hand():
    # video 0, normal: p = 3/4, so ln 4; class logits equal: ln 2; caption = class caption: 0
    # video 1, abnormal, weight 3: p = 3/4: ln(4/3); class 1 at ln 3: ln(4/3); captions opposite: 2
    # video 2 has weight 0
    outputs = Outputs(
        binary_logits=f32([[LN3, 9], [LN3, 9], [50, 50]]),
        class_logits=f32([[[1, 1], [9, 0]], [[0, LN3], [9, 0]], [[50, 0], [50, 0]]]),
        class_text=f32([[1, 0], [3, 4]]),
        captions=f32([[[1, 0], [0, 0]], [[0, -2], [0, 0]], [[0, 0], [0, 0]]]),
        class_captions=f32([[1, 0], [0, 1]]),
    )
    rows = batch([[1, 0], [0, 1], [0, 1]], [1, 1, 1], [1, 3, 0], 2)
    value, parts = total(CFG, outputs, rows)
    expected = {
        "binary": (np.log(4) + 3 * np.log(4 / 3)) / 4,
        "class": (LN2 + 3 * np.log(4 / 3)) / 4,
        "text": 0.25 * 0.6,
        "sem": 0.5 * (0 + 3 * 2) / 4,
    }
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected, abs=1e-6)
    assert value == pytest.approx(sum(expected.values()), abs=1e-6)


def test_total_leaves_out_what_a_model_has_not():
    outputs, rows = random_case()
    value, parts = total(CFG, Outputs(binary_logits=outputs.binary_logits), rows)
    assert value == parts["binary"] > 0
    assert parts["class"] == parts["text"] == parts["sem"] == 0


def test_total_and_its_gradient_equal_the_reference():
    outputs, rows = random_case()
    (value, parts), gradient = slopes(CFG, outputs, rows)
    exact = plain(outputs)
    expected = oracle.losses(exact, rows, 0.25, 0.5)
    assert float(value) == pytest.approx(expected["total"], abs=1e-5)
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(
        {k: expected[k] for k in parts}, abs=1e-5
    )
    for name in ("binary_logits", "class_logits", "class_text", "captions", "class_captions"):
        array = exact[name]
        differences = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            sides = []
            for step in (1e-6, -1e-6):
                changed = array.copy()
                changed[place] += step
                moved = oracle.losses(exact | {name: changed}, rows, 0.25, 0.5)
                sides.append(moved["total"])
            differences[place] = (sides[0] - sides[1]) / 2e-6
        scale = np.abs(differences).max()
        assert scale > 0
        np.testing.assert_allclose(
            getattr(gradient, name), differences, rtol=0, atol=1e-4 * scale, err_msg=name
        )


def test_sem_stop_class_keeps_the_class_captions_out():
    outputs, rows = random_case()
    stopped = dataclasses.replace(CFG, loss=dataclasses.replace(CFG.loss, sem_stop_class=True))
    for cfg, trains in ((CFG, True), (stopped, False)):
        gradient = slopes(cfg, outputs, rows)[1]
        assert gradient.class_captions.any() == trains
        assert gradient.captions.any()


def test_an_empty_video_gives_finite_numbers():
    outputs, rows = random_case()
    for length, weight in (([0, 20, 0, 9], [1, 1, 1, 0]), ([0] * 4, [1] * 4), ([0] * 4, [0] * 4)):
        empty = dataclasses.replace(rows, length=jnp.asarray(length, jnp.int32), weight=f32(weight))
        for blank in (outputs, jax.tree.map(jnp.zeros_like, outputs)):
            (value, _), gradient = slopes(CFG, blank, empty)
            assert np.isfinite(value)
            assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_padding_and_rows_of_weight_0_change_nothing():
    outputs, rows = random_case()
    padded = jnp.arange(20)[None, :] >= rows.length[:, None]
    padded |= rows.weight[:, None] == 0
    other = jax.tree.map(
        lambda x: (
            jnp.where(padded.reshape(4, 20, *[1] * (x.ndim - 2)), 77, x)
            if x.shape[:2] == (4, 20)
            else x
        ),
        outputs,
    )
    assert (other.captions == 77).any()
    for name, value in total(CFG, outputs, rows)[1].items():
        assert total(CFG, other, rows)[1][name] == value, name


def test_jit_equals_eager():
    outputs, rows = random_case()
    drive = {"key": jax.random.key(3), "step": jnp.int32(5)}
    value, parts = losses.total(GREEDY, outputs, rows, **drive)
    fast, fast_parts = total(GREEDY, outputs, rows, **drive)
    assert fast == pytest.approx(float(value), rel=1e-6)
    for name, part in parts.items():
        assert fast_parts[name] == pytest.approx(float(part), rel=1e-6, abs=1e-7), name
