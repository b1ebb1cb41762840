"""SemVAD, both presets, against the float64 reference: outputs, losses, every gradient."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import losses
from semvad_jax.models import class_text, semvad
from semvad_jax.types import Frozen
from tests import oracle
from tests.support.model_cases import (
    CONTEXT,
    compiled,
    config,
    double,
    evaluate,
    make_batch,
    make_frozen,
    make_params,
    numpy_fields,
    reference,
    same_gradients,
    same_losses,
    same_outputs,
)

UCF = config()
XD = config(classes=7, layers=3, heads=2, text_weight=1.0, tower=16)
RELEASE = config(classes=7, layers=3, heads=2, text_weight=1.0, tower=16, preset="release")


@pytest.mark.parametrize(
    "cfg",
    [UCF, XD, RELEASE],
    ids=["ucf, static class text", "xd, text tower", "xd, text tower, release"],
)
def test_outputs_losses_and_gradients(cfg):
    frozen, batch, params = make_frozen(cfg), make_batch(cfg), make_params(cfg)
    (value, (parts, outputs)), gradient = evaluate(cfg, params, frozen, batch)
    exact, fixed, rows = double(params), numpy_fields(frozen), numpy_fields(batch)
    expected, expected_losses = reference(cfg, exact, fixed, rows)
    same_outputs(outputs, expected)
    same_losses(value, parts, expected_losses)

    same_gradients(cfg, gradient, exact, fixed, rows)


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
        for s in (1e-6 / size, -1e-6 / size)
    )
    slope = (up[1]["total"] - down[1]["total"]) / 2e-6
    assert slope == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": False, "mixer": False},
        {"mixer": False},
        {"attention": False},
        {"qkv": True, "residual": "caption"},
        {"preset": "release", "qkv": True},
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

    cropped, rows = class_text.crop_tower(
        jax.tree.map(np.asarray, frozen.text_tower), np.asarray(frozen.class_tokens)
    )
    assert len(cropped["positional_embedding"]) < CONTEXT
    short = Frozen(None, None, jnp.asarray(rows), jax.tree.map(jnp.asarray, cropped))
    np.testing.assert_allclose(compiled(text, short), expected, rtol=0, atol=1e-4)


def test_greedy_ranks_as_the_reference():
    cfg = config(classes=7)
    greedy = replace(cfg, loss=replace(cfg.loss, sigma_greedy=True))
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
