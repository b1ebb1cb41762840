"""The public programs of the paper's other systems: their own numbers, and the weights and inputs
behind these, made from names and seeds.

The files lie outside the repository, in ../shared/data/reference; what they hold stands in
BASELINES.md there.
"""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import config, train
from semvad_jax.models import convert, init_state, model
from semvad_jax.types import Batch, Frozen, Weights
from tests.support import parity

REFERENCE = Path(__file__).parents[3] / "shared/data/reference"
NOTHING = Frozen(None, None, None, None)


class Program:
    """One parity file: `spec`, `weights` (torch names and layouts), `inputs` and `numbers`."""

    def __init__(self, name):
        path = REFERENCE / f"parity_{name}_spec.json"
        if not path.is_file():
            pytest.skip("the public programs' numbers are not in ../shared/data/reference")
        self.spec = json.loads(path.read_text())
        self.case = self.spec["case"]
        own = self.spec.get("vadclip_weights_except", "")
        self.weights = {
            key: np.asarray(self.spec["untouched"][key], np.float32)
            if key in self.spec["untouched"]
            else (filled if key.startswith(own) else parity.weight)(key, tuple(shape))
            for key, shape in {**self.spec["params"], **self.spec["buffers"]}.items()
        }
        self.inputs = {key: made(*rule) for key, rule in self.case["inputs"].items()}
        with np.load(REFERENCE / f"parity_{name}.npz", allow_pickle=False) as arrays:
            self.numbers = dict(arrays)
        for key, value in self.inputs.items():
            if f"{key}_crc32" in self.case:
                assert zlib.crc32(value.tobytes()) == self.case[f"{key}_crc32"], key

    def dropouts(self):
        """A stand-in for `layers.dropout` that leaves out what the program left out, call after
        call.
        """
        calls = iter(enumerate(self.case["dropout_calls"]))

        def dropout(x, rate, key):
            if key is None:
                return x
            number, (shape, p) = next(calls)
            assert p == rate and np.prod(shape) == x.size, (number, shape, p, x.shape, rate)
            draws = np.random.default_rng([self.case["drop_seed"], number]).random(shape)
            return x * jnp.asarray((draws >= p) / np.float32(1 - p), x.dtype).reshape(x.shape)

        return dropout


def filled(name, shape):
    """One array of weights, from its name."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    last = name.rsplit(".", 1)[-1]
    if name.endswith("bias") or (last == "b" and len(shape) == 3):
        return np.asarray(x * 0.02, np.float32)
    if last == "running_mean":
        return np.asarray(x * 0.1, np.float32)
    if len(shape) == 1 or last in ("g", "learn_scale"):
        return np.asarray(1 + 0.1 * x, np.float32)
    return np.asarray(x * int(np.prod(shape[1:])) ** -0.5, np.float32)


def noise(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def made(rule, seed, shape, *rest):
    """One input, by a rule of the spec: feature rows that change slowly, or noise."""
    lengths = next((r for r in rest if isinstance(r, list)), [])
    scale = next((r for r in rest if isinstance(r, float)), 1.0)
    if rule != "baseline_inputs":
        return np.float32(scale) * noise(seed, tuple(shape))
    rng, (steps, width) = np.random.default_rng(seed), shape[-2:]
    x = rng.standard_normal(shape).astype(np.float32)
    base = rng.standard_normal((*shape[:-2], -(-steps // 4), width)).astype(np.float32)
    x = 0.5 * x + 1.5 * np.repeat(base, 4, axis=-2)[..., :steps, :]
    for i, n in enumerate(lengths):
        x[i, ..., n:, :] = 0
    return x


def settings(name, *overrides, features, classes=2, dataset="ucf"):
    """A model's published settings for features of some width."""
    cfg = config.load(dataset, [f"model.name={name}", *overrides])
    data = config.dataclasses.replace(
        cfg.data,
        feature_dim=features,
        caption_dim=4,
        classes=("normal", *(f"class {k}" for k in range(1, classes))),
        text_dim=4,
    )
    return config.dataclasses.replace(cfg, data=data)


def batch(x, labels=None, lengths=None, classes=2):
    """A batch of feature rows [B, (K,) T, F]: half normal and half anomalous where there are no
    labels.
    """
    size, steps = x.shape[0], x.shape[-2]
    if labels is None:
        labels = np.eye(classes)[np.arange(size) // max(size // 2, 1) % 2]
    lengths = np.full(size, steps) if lengths is None else np.asarray(lengths)
    return Batch(
        jnp.asarray(x),
        jnp.zeros((size, steps, 4)),
        jnp.asarray(lengths, jnp.int32),
        jnp.asarray(labels, jnp.float32),
        jnp.ones(size),
    )


def scores(cfg, weights, rows, frozen=NOTHING):
    """The probabilities of a test: [B, T]."""
    score = jax.jit(lambda w, b: model(cfg).apply(cfg, w.params, frozen, b, state=w.state))
    return np.asarray(jax.nn.sigmoid(score(weights, rows).binary_logits))


def trained(cfg, weights, rows, key=None, frozen=NOTHING):
    """(loss, parts, batch statistics, {torch name: gradient}) of one batch in training."""

    def loss(params):
        own = model(cfg)
        outputs = own.apply(cfg, params, frozen, rows, state=weights.state, key=key, train=True)
        total, parts = own.loss(cfg, outputs, rows, key=key)
        return total, (parts, outputs.state)

    (total, (parts, state)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        weights.params
    )
    return float(total), parts, by_torch_name(cfg, state), by_torch_name(cfg, gradients)


def by_torch_name(cfg, tree):
    """{the program's name: our array}."""
    return {
        convert.program_name(cfg, jax.tree_util.keystr(path, simple=True, separator=".")): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def same_gradients(program, gradients, prefix="gradnorm/"):
    """The norm of every gradient, but of those that are rounding noise or are not reached."""
    noise = program.spec.get("float64", {}).get("gradient_is_rounding_noise", ())
    expected = {
        name.removeprefix(prefix): value
        for name, value in program.numbers.items()
        if name.startswith(prefix) and not name.endswith("gradnorm_total")
    }
    assert set(expected) <= set(gradients)
    for name in set(gradients) - set(expected):
        assert name in program.spec["no_gradient"], name
        assert not np.any(gradients[name]), name
    for name in set(expected) - set(noise):
        norm = np.linalg.norm(np.asarray(gradients[name], np.float64))
        assert norm == pytest.approx(float(expected[name]), rel=1e-3), name


def same_statistics(program, state):
    """The running statistics after one batch."""
    expected = {
        name.removeprefix("buffer/"): value
        for name, value in program.numbers.items()
        if name.startswith("buffer/") and not name.endswith("num_batches_tracked")
    }
    assert set(expected) == set(state)
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def filled_weights(cfg):
    """Weights of no published program: random everywhere, what starts at 0 or 1 too."""
    rng = np.random.default_rng(0)
    weights = Weights(model(cfg).init(cfg, jax.random.key(0)), init_state(cfg))

    def fill(path, x):
        noise = rng.standard_normal(x.shape).astype(np.float32)
        if path[-1].key == "var":
            return 1 + np.abs(noise)
        return (0.3 if x.ndim < 2 else x.shape[-2] ** -0.5) * noise

    return jax.tree_util.tree_map_with_path(fill, weights)


def total_norm(gradients):
    return np.sqrt(sum(np.square(np.asarray(g, np.float64)).sum() for g in gradients.values()))


def losses_of_steps(cfg, weights, rows, count=4, frozen=NOTHING):
    """The loss before each of `count` steps of the program's optimiser on one batch."""

    @jax.jit
    def update(weights, opt, step):
        def loss(params):
            own = model(cfg)
            outputs = own.apply(cfg, params, frozen, rows, state=weights.state, train=True)
            return own.loss(cfg, outputs, rows)[0], outputs.state

        (total, state), gradients = jax.value_and_grad(loss, has_aux=True)(weights.params)
        params, opt = train.descend(cfg, 1_000_000, gradients, opt, weights.params, step)
        return config.dataclasses.replace(weights, params=params, state=state), opt, total

    opt, found = train.optimizer(cfg).init(weights.params), []
    for step in range(count):
        weights, opt, total = update(weights, opt, jnp.asarray(step))
        found.append(float(total))
    return found
