"""The PyTorch programs of the benchmark compute what the JAX program computes, from one seed's
parameters on the same batches: so the race is between equals, and each checks the other.
"""

import dataclasses

import jax
import numpy as np
import pytest

from semvad_jax import config, data, losses, train
from semvad_jax.types import Batch
from tests.support.stores import make_store

torch = pytest.importorskip(
    "torch", reason="torch is not installed; pip install torch to compare the two programs"
)
from tests.benchmarks import torch_semvad  # noqa: E402

SIZES = ("model.dim=8", "model.length=16", "model.layers=1", "train.lr=1e-3", "loss.text=0.5")
STEPS, ROWS = 3, 8


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Config, frozen inputs, first parameters, batches, and each step's outputs and loss."""
    store = make_store(tmp_path_factory.mktemp("twin") / "store")
    cfg = config.resolve(config.load("ucf", SIZES), store)
    frozen, videos = data.frozen(store), data.split(cfg, store)[0]
    rows, rng = data.train_data(cfg, store, videos), np.random.default_rng(0)
    batches = [
        Batch(*(x[i : i + ROWS] for x in (rows.visual, rows.captions, rows.length, rows.labels)),
              weight=np.ones(ROWS, np.float32))
        for i in range(0, STEPS * ROWS, ROWS)
    ]  # fmt: skip
    model = train.model(cfg)
    start = jax.tree.map(  # random everywhere: what starts at 0 or 1 is tested too
        lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32),
        jax.eval_shape(lambda key: model.init(cfg, key), jax.random.key(0)),
    )

    @jax.jit
    def step(params, opt, batch):
        def loss(params):
            outputs = model.apply(cfg, params, frozen, batch)
            return losses.total(cfg, outputs, batch)[0], outputs

        (value, outputs), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        params, opt = train.descend(cfg, 100, gradients, opt, params, jax.numpy.int32(0))
        return params, opt, outputs, value

    params, opt, steps = start, train.optimizer(cfg).init(start), []
    for batch in batches:
        params, opt, *measured = step(params, opt, batch)
        steps.append(measured)
    return cfg, frozen, start, batches, steps


@pytest.fixture(params=["BATCHED", "PER_VIDEO"])
def theirs(request, ours):
    cfg, frozen, start, _, _ = ours
    ways = getattr(torch_semvad, request.param)
    model = torch_semvad.SemVAD(cfg, frozen.class_name, frozen.class_caption, ways)
    return ways, torch_semvad.load(model, start)


def inputs(batch):
    return [torch_semvad.tensor(x) for x in (batch.visual, batch.captions, batch.length)]


def test_outputs_and_losses_of_three_steps_equal(ours, theirs):
    """The later steps hold the gradients and AdamW to account too."""
    cfg, _, _, batches, steps = ours
    ways, model = theirs
    t = cfg.train
    optimiser = torch.optim.AdamW(model.parameters(), lr=t.lr, weight_decay=t.weight_decay)
    for batch, (outputs, expected) in zip(batches, steps, strict=True):
        visual, captions, length = inputs(batch)
        out = model(visual, captions, length)
        loss = torch_semvad.loss(cfg, ways, out, length, torch_semvad.tensor(batch.labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        np.testing.assert_allclose(loss.item(), expected, atol=1e-4)
        for name, value in out._asdict().items():
            reference = getattr(outputs, name)
            np.testing.assert_allclose(value.detach(), reference, rtol=1e-4, atol=1e-4)


def test_an_empty_window_gives_finite_scores(ours, theirs):
    batch = ours[3][0]
    with torch.inference_mode():
        out = theirs[1](*inputs(dataclasses.replace(batch, length=np.zeros_like(batch.length))))
    assert all(x.isfinite().all() for x in out)


def test_every_parameter_finds_its_place(ours):
    cfg, frozen, start, _, _ = ours
    names = (frozen.class_name, frozen.class_caption)
    model = torch_semvad.SemVAD(cfg, *names, torch_semvad.BATCHED)
    with pytest.raises(AttributeError, match="stranger"):
        torch_semvad.load(model, start | {"stranger": {"kernel": np.zeros(1)}})
    sizes = [x.size for x in jax.tree.leaves(start)]
    assert sum(p.numel() for p in model.parameters()) == sum(sizes)
