"""The public programs' own numbers, from their weights: logits, losses, gradients, training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from semvad_jax import config, losses, train
from semvad_jax.models import convert
from semvad_jax.models.layers import unit
from semvad_jax.types import Batch
from tests.support import parity

MODELS = {
    "vadclip": ["model.name=vadclip"],
    "semvad_release": ["model.name=semvad", "model.preset=release"],
}
PARTS = {"binary": "loss_cg", "class": "loss_fg", "text": "loss_cts", "sem": "loss_sem"}


@pytest.fixture(scope="module", params=MODELS)
def program(request):
    """Config, parameters, Frozen, batch and the program's own numbers."""
    cfg = config.load("ucf", MODELS[request.param])
    visual, captions, class_captions, lengths = parity.inputs()
    expected = parity.expected(request.param)
    params, frozen = convert.from_torch(
        cfg, parity.state_dict(request.param), parity.class_tokens(), class_captions
    )
    arrays = visual, captions, lengths, expected["labels"], np.ones(4, np.float32)
    return cfg, params, frozen, Batch(*map(jnp.asarray, arrays)), expected


@pytest.fixture(scope="module")
def trained(program):
    """Loss, outputs and parts of the loss, and gradients before the first of four steps; and the
    loss before each. What the later steps have besides would take gigabytes.
    """
    cfg, params, frozen, batch, _ = program

    def loss(params, frozen, batch):
        outputs = train.model(cfg).apply(cfg, params, frozen, batch, train=True)
        total, parts = losses.total(cfg, outputs, batch)
        return total, (outputs, parts)

    value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True))

    @jax.jit
    def update(params, opt, gradients):
        with jax.numpy_dtype_promotion("standard"):  # optax counts steps in whole numbers
            updates, opt = optax.adamw(2e-5, weight_decay=0.01).update(gradients, opt, params)
        return optax.apply_updates(params, updates), opt

    opt, losses_before = optax.adamw(2e-5).init(params), []
    for _ in range(4):
        (total, aux), gradients = value_and_grad(params, frozen, batch)
        if not losses_before:
            first = jax.device_get((total, aux, gradients))
        losses_before.append(float(total))
        params, opt = update(params, opt, gradients)
    return *first, losses_before


def test_outputs(program, trained):
    expected, (outputs, _) = program[-1], trained[1]
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-4)
    close(outputs.class_text, expected["text"])
    close(outputs.binary_logits, expected["logits1"][..., 0])
    close(outputs.class_logits, expected["logits2"])
    if "caption_proj" in expected:
        # the file holds directions
        close(unit(jnp.asarray(outputs.captions))[..., :32], expected["caption_proj"])
        close(unit(jnp.asarray(outputs.class_captions)), expected["proto_proj"])


def test_losses(program, trained):
    expected, (total, (_, parts), *_) = program[-1], trained
    assert total == pytest.approx(expected["loss"], rel=1e-5)
    for name, theirs in PARTS.items():
        assert parts[name] == pytest.approx(expected.get(theirs, 0), rel=1e-5)


def test_the_norm_of_every_gradient(program, trained):
    expected, gradients = program[-1], trained[2]
    found = {
        f"gradnorm/{convert.torch_name(jax.tree_util.keystr(path, simple=True, separator='.'))}": g
        for path, g in jax.tree.leaves_with_path(gradients)
    }
    assert set(found) == {name for name in expected if name.startswith("gradnorm/")}
    for name, gradient in found.items():
        norm = np.linalg.norm(gradient.astype(np.float64))
        assert norm == pytest.approx(expected[name], rel=1e-3), name


def test_four_steps_of_training(program, trained):
    np.testing.assert_allclose(trained[3], program[-1]["loss_after_steps"], rtol=0, atol=1e-4)


def test_the_old_name_still_leads_here():
    from semvad_jax import convert as by_old_name

    assert by_old_name.from_torch is convert.from_torch
