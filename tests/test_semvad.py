"""SemVAD (preset `paper`) against the float64 reference: outputs, losses, every gradient."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from semvad_jax import class_text, losses
from semvad_jax.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from semvad_jax.models import semvad
from semvad_jax.types import Batch, Frozen

F, Q, D, D_TEXT = 12, 10, 8, 6
VOCABULARY, CONTEXT = 40, 77
STEP = 1e-6  # of the central differences


def config(classes=14, length=40, tower=0, text_weight=0.1 / 13, **model):
    model = {"layers": 2, "heads": 1, "attention": True, "mixer": True, "qkv": False} | model
    return Config(
        data=DataConfig(
            feature_dim=F,
            caption_dim=Q,
            classes=tuple(f"class{c}" for c in range(classes)),
            text_dim=D_TEXT,
            text_tower=tower,
        ),
        model=ModelConfig(dim=D, length=length, window=8, **({"residual": "visual"} | model)),
        loss=LossConfig(text=text_weight, sem=1.0),
        train=TrainConfig(),
    )


UCF = config()
XD = config(classes=7, layers=3, heads=2, text_weight=1.0, tower=16)


def make_batch(cfg, seed=0):
    """Lengths 1, 16, 37 and T, one normal and one three-label video, and a last row of weight 0."""
    rng = np.random.default_rng(seed)
    steps, classes = cfg.model.length, len(cfg.data.classes)
    length = np.array([37, 1, 16, steps, 20])
    valid = np.arange(steps)[:, None] < length[:, None, None]
    labels = np.zeros((5, classes))
    labels[[0, 1, 3, 4], [2, 1, 0, 3]] = 1
    labels[2, 1:4] = 1
    return Batch(
        visual=jnp.asarray(rng.normal(size=(5, steps, F)) * valid, jnp.float32),
        captions=jnp.asarray(rng.normal(size=(5, steps, Q)) * valid, jnp.float32),
        length=jnp.asarray(length, jnp.int32),
        labels=jnp.asarray(labels, jnp.float32),
        weight=jnp.asarray([1, 1, 1, 1, 0], jnp.float32),
    )


def make_tower(width, layers, rng):
    def draw(*shape, scale=0.3):
        return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

    tower = {
        "token_embedding.weight": draw(VOCABULARY, width),
        "positional_embedding": draw(CONTEXT, width, scale=0.1),
        "ln_final.weight": 1 + draw(width),
        "ln_final.bias": draw(width),
        "text_projection": draw(width, D_TEXT),
    }
    for i in range(layers):
        shapes = {
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width),
            "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (width, 4 * width),
            "mlp.c_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
        }
        for name, shape in shapes.items():
            tower[f"transformer.resblocks.{i}.{name}"] = draw(*shape)
    return tower


def make_frozen(cfg, seed=1):
    rng = np.random.default_rng(seed)
    classes, width = len(cfg.data.classes), cfg.data.text_tower
    tokens = np.zeros((classes, CONTEXT), np.int32)  # start 38, one to three words, end 39
    for row in tokens:
        words = rng.integers(1, 38, rng.integers(1, 4))
        row[: len(words) + 2] = [38, *words, 39]
    return Frozen(
        class_caption=jnp.asarray(rng.normal(size=(classes, Q)), jnp.float32),
        class_name=jnp.asarray(rng.normal(size=(classes, D_TEXT)), jnp.float32),
        class_tokens=jnp.asarray(tokens) if width else None,
        text_tower=make_tower(width, 2, rng) if width else None,
    )


def make_params(cfg, seed=2):
    """Random values in the shapes of `init`; biases, scales and residuals are not 0 or 1."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        x = rng.normal(size=leaf.shape)
        if path[-1].key == "kernel":
            x *= 0.7 / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            x = 0.1 * x + (path[-1].key == "scale")
        return jnp.asarray(x, leaf.dtype)

    shapes = jax.eval_shape(lambda key: semvad.init(cfg, key), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def reference(cfg, params, frozen, batch, greedy=False):
    m = cfg.model
    outputs = oracle.forward(
        params,
        frozen,
        batch,
        heads=m.heads,
        window=m.window,
        attention=m.attention,
        mixer=m.mixer,
        qkv=m.qkv,
        residual=m.residual,
    )
    return outputs, oracle.losses(outputs, batch, cfg.loss.text, cfg.loss.sem, greedy)


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def numpy_fields(record):
    """The record's arrays in NumPy, so that the reference's loops stay off the device."""
    return SimpleNamespace(**jax.tree.map(np.asarray, vars(record)))


def compiled(function, *arguments):
    """Its value under jit, compiled in a hurry: these programs run once."""
    hurry = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=hurry)(*arguments)


def evaluate(cfg, params, frozen, batch, gradient=True):
    """(loss, (parts, outputs)), and the loss's gradient if asked for."""

    def loss(params):
        outputs = semvad.apply(cfg, params, frozen, batch)
        value, parts = losses.total(cfg, outputs, batch)
        return value, (parts, outputs)

    if gradient:
        return compiled(jax.value_and_grad(loss, has_aux=True), params)
    return compiled(loss, params)


def same_outputs(ours, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(ours, name), value, rtol=0, atol=1e-4, err_msg=name)


def same_losses(value, parts, expected):
    for name, part in parts.items():
        assert float(part) == pytest.approx(expected[name], abs=1e-5), name
    assert float(value) == pytest.approx(expected["total"], abs=1e-5)


def moved(params, path, step):
    """`params` with `step` added to the leaf at `path`."""
    return jax.tree_util.tree_map_with_path(lambda p, x: x + step if p == path else x, params)


@pytest.mark.parametrize("cfg", [UCF, XD], ids=["ucf, static class text", "xd, text tower"])
def test_outputs_losses_and_gradients(cfg):
    frozen, batch, params = make_frozen(cfg), make_batch(cfg), make_params(cfg)
    (value, (parts, outputs)), gradient = evaluate(cfg, params, frozen, batch)
    exact, fixed, rows = double(params), numpy_fields(frozen), numpy_fields(batch)
    expected, expected_losses = reference(cfg, exact, fixed, rows)
    same_outputs(outputs, expected)
    same_losses(value, parts, expected_losses)

    rng = np.random.default_rng(3)
    for path, g in jax.tree_util.tree_leaves_with_path(double(gradient)):
        name, size = jax.tree_util.keystr(path), np.linalg.norm(g)
        assert size > 1e-6, f"{name} does not learn"
        for direction in (g, rng.normal(size=g.shape), rng.normal(size=g.shape)):
            u = direction / np.linalg.norm(direction)
            up, down = (
                reference(cfg, moved(exact, path, sign * STEP * u), fixed, rows)[1]["total"]
                for sign in (1, -1)
            )
            assert abs((up - down) / (2 * STEP) - (g * u).sum()) < 1e-3 * size, name


def test_full_length():
    cfg = config(length=256, heads=2)
    frozen, batch, params = make_frozen(cfg), make_batch(cfg), make_params(cfg)
    (value, (parts, outputs)), gradient = evaluate(cfg, params, frozen, batch)
    exact, fixed, rows = double(params), numpy_fields(frozen), numpy_fields(batch)
    expected, expected_losses = reference(cfg, exact, fixed, rows)
    same_outputs(outputs, expected)
    same_losses(value, parts, expected_losses)

    gradient = double(gradient)
    size = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    up, down = (
        reference(cfg, jax.tree.map(lambda x, g, s=s: x + s * g, exact, gradient), fixed, rows)
        for s in (STEP / size, -STEP / size)
    )
    slope = (up[1]["total"] - down[1]["total"]) / (2 * STEP)
    assert slope == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": False, "mixer": False},
        {"mixer": False},
        {"attention": False},
        {"qkv": True, "residual": "caption"},
    ],
    ids=str,
)
def test_ablations(fields):
    cfg = config(**fields)
    frozen, batch, params = make_frozen(cfg), make_batch(cfg), make_params(cfg)
    assert ("attention" in params, "mixer" in params) == (cfg.model.attention, cfg.model.mixer)
    value, (parts, outputs) = evaluate(cfg, params, frozen, batch, gradient=False)
    expected = reference(cfg, double(params), numpy_fields(frozen), numpy_fields(batch))
    same_outputs(outputs, expected[0])
    same_losses(value, parts, expected[1])


def test_tower_with_two_heads_and_cropped():
    cfg = config(classes=3, tower=128)
    frozen, params = make_frozen(cfg), make_params(cfg)
    prompt = params["class_text"]["prompt"]

    def text(frozen):
        embedded, end = class_text.prompt_embeddings(frozen.text_tower, frozen.class_tokens, prompt)
        return class_text.text_tower(frozen.text_tower, embedded, end)

    expected = oracle.class_text(double(params["class_text"]), numpy_fields(frozen))
    np.testing.assert_allclose(compiled(text, frozen), expected, rtol=0, atol=1e-4)

    cropped = class_text.crop_tower(
        jax.tree.map(np.asarray, frozen.text_tower), np.asarray(frozen.class_tokens)
    )
    assert len(cropped["positional_embedding"]) < CONTEXT
    short = Frozen(None, None, frozen.class_tokens, jax.tree.map(jnp.asarray, cropped))
    np.testing.assert_allclose(compiled(text, short), expected, rtol=0, atol=1e-4)


def test_greedy_ranks_as_the_reference():
    cfg = config(classes=7)
    greedy = dataclasses.replace(cfg, loss=dataclasses.replace(cfg.loss, sigma_greedy=True))
    frozen, batch, params = make_frozen(cfg), make_batch(cfg), make_params(cfg)

    def loss(params, steps):
        outputs = semvad.apply(cfg, params, frozen, batch)
        return [
            losses.total(greedy, outputs, batch, key=jax.random.key(0), step=step) for step in steps
        ]

    # σ = 0.99^step: always explores at step 0, never after very many
    found = compiled(loss, params, jnp.asarray([0, 100_000]))
    exact, fixed, rows = double(params), numpy_fields(frozen), numpy_fields(batch)
    expected = [reference(cfg, exact, fixed, rows, explores)[1] for explores in (True, False)]
    assert expected[0]["binary"] != pytest.approx(expected[1]["binary"], abs=1e-3)
    for (value, parts), reference_losses in zip(found, expected, strict=True):
        same_losses(value, parts, reference_losses)


def test_init_is_a_plain_tree_of_float32_that_follows_its_key():
    cfg = config(layers=1)
    keys = jax.random.split(jax.random.key(0), 2)[jnp.asarray([0, 0, 1])]
    params = compiled(jax.vmap(lambda key: semvad.init(cfg, key)), keys)
    assert all(type(k.key) in (str, int) for p, _ in jax.tree.leaves_with_path(params) for k in p)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
    kernel = params["visual_proj"]["kernel"]
    assert jnp.array_equal(kernel[0], kernel[1]) and not jnp.array_equal(kernel[0], kernel[2])
