"""Small models, batches and weights for comparing a model with the float64 reference."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import semvad_jax.config
from semvad_jax import losses
from semvad_jax.models import model
from semvad_jax.types import Batch, Frozen
from tests import oracle

F, Q, D, D_TEXT = 12, 10, 8, 6
VOCABULARY, CONTEXT = 40, 77
STEP = 1e-6  # of the central differences


def config(classes=14, length=40, tower=0, text_weight=0.1 / 13, feature_dim=F, **model):
    """UCF-Crime's settings of a model, small; `model` takes fields of the config's section."""
    model = {"dim": D, "length": length, "window": 8} | model
    overrides = [f"model.{name}={value}" for name, value in model.items()]
    cfg = semvad_jax.config.load("ucf", [*overrides, f"loss.text={text_weight}"])
    data = replace(
        cfg.data,
        feature_dim=feature_dim,
        caption_dim=Q,
        classes=tuple(f"class{c}" for c in range(classes)),
        text_dim=D_TEXT,
        text_tower=tower,
    )
    return replace(cfg, data=data)


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
        visual=jnp.asarray(rng.normal(size=(5, steps, cfg.data.feature_dim)) * valid, jnp.float32),
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

    shapes = jax.eval_shape(lambda key: model(cfg).init(cfg, key), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def reference(cfg, params, frozen, batch, greedy=False):
    """(outputs, losses) by the reference."""
    forward = oracle.forward_vadclip if cfg.model.name == "vadclip" else oracle.forward
    outputs = forward(params, frozen, batch, cfg.model)
    release = cfg.loss.text_cosine == "absolute"
    weights = cfg.loss.text, cfg.loss.sem or 0
    return outputs, oracle.losses(outputs, batch, *weights, greedy, release)


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
        outputs = model(cfg).apply(cfg, params, frozen, batch)
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


def same_gradients(cfg, gradient, params, frozen, batch):
    """Of every tensor: the slope of the reference's loss along it and along two random ways."""
    rng = np.random.default_rng(3)
    for path, g in jax.tree_util.tree_leaves_with_path(double(gradient)):
        name, size = jax.tree_util.keystr(path), np.linalg.norm(g)
        assert size > 1e-6, f"{name} does not learn"
        for direction in (g, rng.normal(size=g.shape), rng.normal(size=g.shape)):
            u = direction / np.linalg.norm(direction)
            up, down = (
                reference(cfg, moved(params, path, sign * STEP * u), frozen, batch)[1]["total"]
                for sign in (1, -1)
            )
            assert abs((up - down) / (2 * STEP) - (g * u).sum()) < 1e-3 * size, name
