"""Every exact saving against its plain form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from semvad_jax.models import class_text, layers

rng = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("heads", [1, 2])
def test_window_attention_equals_full_attention_under_a_block_diagonal_mask(heads):
    block = layers.WindowBlock(8, heads, 4, nnx.Rngs(0))
    x = normal(2, 12, 8)
    mask = jnp.kron(jnp.eye(3), jnp.ones((4, 4))) == 1
    y = x + block.out(layers.attend(block.qkv(block.norm1(x)), heads, mask))
    y = y + block.down(layers.quick_gelu(block.up(block.norm2(y))))
    np.testing.assert_allclose(block(x), y, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_shifted_products_equal_a_convolution(size):
    conv = layers.Conv(size, 6, 4, nnx.Rngs(0))
    x = normal(2, 9, 6)
    plain = jax.lax.conv_general_dilated(
        x, conv.kernel[...], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    np.testing.assert_allclose(conv(x), plain + conv.bias[...], atol=1e-5)


def test_similarity_rows_sum_to_one_over_the_valid_snippets_and_to_zero_elsewhere():
    a = layers.similarity_adjacency(normal(3, 6, 4), jnp.array([6, 2, 0]))
    np.testing.assert_allclose(a.sum(-1), [[1] * 6, [1, 1, 0, 0, 0, 0], [0] * 6], atol=1e-6)
    x = jnp.array([[[1.0, 0], [1, 0], [0, 1]]])  # cosines 1, 1, 0: weights e, e, 1
    np.testing.assert_allclose(
        layers.similarity_adjacency(x, jnp.array([3]))[0, 0],
        np.array([np.e, np.e, 1]) / (2 * np.e + 1),
        rtol=1e-5,
    )


def test_distance_adjacency():
    np.testing.assert_allclose(
        layers.distance_adjacency(3)[0, 0], np.exp(-np.array([0, 1, 2]) / np.e), rtol=1e-6
    )


def test_initial_values_follow_torch():
    linear = layers.Linear(400, 300, nnx.Rngs(0))
    assert abs(linear.kernel[...]).max() <= 1 / 20 and linear.kernel[...].std() == pytest.approx(
        1 / 20 / 3**0.5, rel=0.02
    )
    block = layers.WindowBlock(64, 1, 4, nnx.Rngs(0))
    assert (
        abs(block.qkv.kernel[...]).max() <= (6 / 256) ** 0.5
        and not block.qkv.bias[...].any()
        and not block.out.bias[...].any()
    )


def test_norms_have_gradients_at_zero():
    assert np.isfinite(
        jax.grad(lambda x: layers.unit(x).sum() + layers.l2_norm(x).sum())(jnp.zeros(3))
    ).all()


def random_tower(width=16, depth=2, vocabulary=40):
    f = lambda *s: np.asarray(rng.standard_normal(s) * s[-1] ** -0.5, np.float32)  # noqa: E731
    tower = {
        "token_embedding.weight": f(vocabulary, width), "positional_embedding": f(77, width),
        "ln_final.weight": 1 + f(width), "ln_final.bias": f(width),
        "text_projection": f(width, width),
    }  # fmt: skip
    shapes = {
        "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
        "ln_1.weight": (width,), "ln_1.bias": (width,), "ln_2.weight": (width,),
        "ln_2.bias": (width,),
    }  # fmt: skip
    return tower | {
        f"transformer.resblocks.{i}.{k}": f(*s) for i in range(depth) for k, s in shapes.items()
    }


def random_tokens():
    """Start 38, end 39 (the largest id, as in CLIP), class names of one to three tokens."""
    tokens = np.zeros((3, 77), np.int32)
    for row, words in zip(tokens, ([5], [7, 8], [3, 4, 9]), strict=True):
        row[: len(words) + 2] = [38, *words, 39]
    return tokens


def test_the_prompt_layout():
    tower, tokens = random_tower(), random_tokens()
    prompt = normal(77, 16)
    embedded, end = class_text.prompt_embeddings(
        jax.tree.map(jnp.asarray, tower), jnp.asarray(tokens), prompt
    )
    words = tower["token_embedding.weight"]
    expected = np.array(prompt)
    expected[0], expected[11], expected[12], expected[23] = words[38], words[7], words[8], words[39]
    np.testing.assert_array_equal(embedded[1], expected)
    np.testing.assert_array_equal(end, [22, 23, 24])


def test_a_cropped_tower_gives_the_same_class_vectors_and_prompt_gradients():
    tower, tokens = random_tower(), random_tokens()
    cropped, rows = class_text.crop_tower(tower, tokens)
    assert cropped["positional_embedding"].shape == (25, 16)
    assert len(cropped["token_embedding.weight"]) == len(np.unique(tokens))

    def vectors(prompt, tower, tokens):
        embedded, end = class_text.prompt_embeddings(tower, tokens, prompt)
        return class_text.text_tower(tower, embedded, end)

    prompt = normal(77, 16)
    whole = jax.tree.map(jnp.asarray, (tower, tokens))
    short = jax.tree.map(jnp.asarray, (cropped, rows))
    np.testing.assert_allclose(vectors(prompt, *short), vectors(prompt, *whole), atol=1e-5)
    gradient = jax.grad(lambda p, t: (vectors(p, *t) ** 2).sum())
    np.testing.assert_allclose(gradient(prompt, short), gradient(prompt, whole), atol=1e-4)
    assert abs(gradient(prompt, short)[1:22]).max() > 0
    again, same = class_text.crop_tower(cropped, tokens)  # as a store holds it, under CLIP's ids
    np.testing.assert_array_equal(same, rows)
    np.testing.assert_array_equal(
        again["token_embedding.weight"], cropped["token_embedding.weight"]
    )
