"""VadCLIP against the float64 reference: outputs, losses, every gradient, σ-greedy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from semvad_jax import losses
from semvad_jax.config import load
from semvad_jax.files import BadInput
from semvad_jax.models import vadclip
from tests.support.model_cases import (
    D,
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

UCF = config(name="vadclip")
XD = config(
    name="vadclip", classes=7, layers=1, window=20, text_weight=1.0, tower=16, feature_dim=D
)


@pytest.mark.parametrize("cfg", [UCF, XD], ids=["ucf, static class text", "xd, text tower"])
def test_outputs_losses_and_gradients(cfg):
    frozen, batch, params = make_frozen(cfg), make_batch(cfg), make_params(cfg)
    assert ("visual_proj" in params) == (cfg.data.feature_dim != D)
    (value, (parts, outputs)), gradient = evaluate(cfg, params, frozen, batch)
    exact, fixed, rows = double(params), numpy_fields(frozen), numpy_fields(batch)
    expected, expected_losses = reference(cfg, exact, fixed, rows)
    same_outputs(outputs, expected)
    same_losses(value, parts, expected_losses)
    same_gradients(cfg, gradient, exact, fixed, rows)


def test_greedy_ranks_as_the_reference():
    cfg = config(name="vadclip", classes=7)
    greedy = replace(cfg, loss=replace(cfg.loss, sigma_greedy=True))
    frozen, batch, params = make_frozen(cfg), make_batch(cfg), make_params(cfg)

    def loss(params, steps):
        outputs = vadclip.apply(cfg, params, frozen, batch)
        return [losses.total(greedy, outputs, batch, key=jax.random.key(0), step=s) for s in steps]

    found = compiled(loss, params, jnp.asarray([0, 100_000]))
    exact, fixed, rows = double(params), numpy_fields(frozen), numpy_fields(batch)
    for (value, parts), explores in zip(found, (True, False), strict=True):
        same_losses(value, parts, reference(cfg, exact, fixed, rows, explores)[1])


def test_the_published_settings():
    ucf, xd = (load(name, ["model.name=vadclip"]) for name in ("ucf", "xd"))
    assert (ucf.model.layers, ucf.model.window, ucf.train.lr, ucf.train.batch) == (2, 8, 2e-5, 128)
    assert (xd.model.layers, xd.model.window, xd.train.lr, xd.train.batch) == (1, 64, 1e-5, 96)
    assert xd.train.milestones == (3, 6, 10) and xd.train.batching == "mixed"


def test_fields_of_the_caption_side_are_refused():
    with pytest.raises(BadInput, match="^model vadclip has no model.attention; leave it out$"):
        load("ucf", ["model.name=vadclip", "model.attention=true"])
