"""Weights from PyTorch, and back: the state dicts that the authors' programs of VadCLIP, SemVAD,
DSANet and other systems save.

Names on the left are ours; on the right, those of the authors' programs. PyTorch keeps every kernel
with its axes in the opposite order of ours.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from semvad_jax.config import Config
from semvad_jax.files import BadInput, require
from semvad_jax.models import init_state, model
from semvad_jax.models.class_text import crop_tower
from semvad_jax.models.layers import NARROWED
from semvad_jax.types import Frozen, Weights

LAYERS = {
    "visual_proj": "ptoj_v",
    "caption_proj": "proj_V",
    "attention.norm1": "layer_norm",
    "attention.up": "fc1",
    "attention.down": "fc2",
    "mixer.conv": "mlp_mixer.conv",
    "mixer.out": "mlp_mixer.lin",
    "temporal.similarity.first.residual": "gc1.residual",
    "temporal.distance.first.residual": "gc3.residual",
    "temporal.out": "linear",
    "binary_head.up": "mlp2.c_fc",
    "binary_head.down": "mlp2.c_proj",
    "binary_head.score": "classifier",
    "text_proj": "proj2",
    "class_head.up": "mlp1.c_fc",
    "class_head.down": "mlp1.c_proj",
    # of DSANet, {} a number
    "class_text.adapters.{}": "clip_adapter.text_adapter.{}.fc.0",
    "refiner.up": "video_anomaly_refiner.bottleneck.c_fc",
    "refiner.down": "video_anomaly_refiner.bottleneck.c_proj",
}
BLOCK = {
    "norm1": "ln_1",
    "out": "attn.out_proj",
    "norm2": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
LAYERS |= {
    f"refiner.{ours}.{{}}.{layer}": f"video_anomaly_refiner.{theirs}.{{}}.{name}"
    for ours, theirs in (("aggregation", "dnp_extractor"), ("decoder", "decoder"))
    for layer, name in {
        "norm1": "norm1",
        "query": "attn.q",
        "key_value": "attn.kv",
        "out": "attn.proj",
        "norm2": "norm2",
        "up": "mlp.fc1",
        "down": "mlp.fc2",
    }.items()
}
ARRAYS = {  # as they are, without reversing axes
    "temporal.position": "frame_position_embeddings.weight",
    "temporal.similarity.first.kernel": "gc1.weight",
    "temporal.similarity.second.kernel": "gc2.weight",
    "temporal.distance.first.kernel": "gc3.weight",
    "temporal.distance.second.kernel": "gc4.weight",
    "class_text.prompt": "text_prompt_embeddings.weight",
    "refiner.prototypes": "video_anomaly_refiner.video_prototypes",
    "refiner.decoder.{}.scale": "video_anomaly_refiner.decoder.{}.attn.learn_scale",
}
TOWER = "clipmodel."  # into Frozen, with a text_projection that DSANet has a Linear in place of
POSITIONS = 77  # of CLIP's text tower
# CLIP's image tower and temperature, and a width of the distance graph that nothing there reads
UNREAD = ("clipmodel.visual.", "clipmodel.logit_scale", "disAdj.sigma")


def from_torch(
    cfg: Config,
    state: Mapping[str, np.ndarray],
    class_tokens: Int[np.ndarray, "C 77"],
    class_caption: Float[np.ndarray, "C Q"] | None = None,
) -> tuple[PyTree, Frozen]:
    """Parameters and Frozen from a state dict of VadCLIP's, SemVAD's or DSANet's authors' program.

    `class_tokens` are CLIP's ids of the class names in the config's order. Raises BadInput, naming
    the key, for one that is missing, unknown or of another shape than the config's model has.
    """
    cfg = _sized(cfg, state, class_tokens)
    shapes = jax.eval_shape(lambda key: model(cfg).init(cfg, key), jax.random.key(0))
    needed = {torch_name(_name(path)) for path, _ in jax.tree.leaves_with_path(shapes)}
    tower_shapes = _tower_shapes(cfg, state)
    needed |= {TOWER + name for name in tower_shapes}
    present = {name for name in state if not name.startswith(UNREAD)}
    _refuse(cfg, "lacks", needed - present)
    _refuse(cfg, "holds more than it has:", present - needed)
    params = jax.tree_util.tree_map_with_path(
        lambda path, like: _take(state, _name(path), like.shape), shapes
    )
    tower = {k: _shaped(state, TOWER + k, shape) for k, shape in tower_shapes.items()}
    tower, tokens = crop_tower(tower, np.asarray(class_tokens))
    frozen = Frozen(
        class_caption=None if class_caption is None else jnp.asarray(class_caption, jnp.float32),
        class_name=None,
        class_tokens=jnp.asarray(tokens, jnp.int32),
        text_tower=jax.tree.map(jnp.asarray, tower),
    )
    return params, frozen


def to_torch(cfg: Config, params: PyTree, frozen: Frozen) -> dict[str, np.ndarray]:
    """The inverse of `from_torch`: one seed's parameters and the text tower as a state dict of
    VadCLIP's, SemVAD's or DSANet's authors' program. Of the tower's tokens the rows in use alone
    are there, and positions that nothing reaches are 0.

    Raises BadInput for a model that none of these programs has, and without a text tower.
    """
    named = {_name(path): np.asarray(v) for path, v in jax.tree.leaves_with_path(params)}
    if hasattr(model(cfg), "TORCH"):
        raise BadInput(
            f"weights of {cfg.model.name} are not written for PyTorch; take VadCLIP, DSANet, or "
            "SemVAD with model.preset=release"
        )
    if any(name.startswith("class_text.residual") for name in named):
        raise BadInput(
            "the run's class texts are not CLIP's, which the authors' programs prompt with; train "
            "on a store that was made with --text clip-vit-l14 or clip-vit-b16"
        )
    state = {torch_name(name): _given(name, value) for name, value in named.items()}
    tower = {name: np.asarray(value) for name, value in (frozen.text_tower or {}).items()}
    positions = tower["positional_embedding"]
    tower["positional_embedding"] = np.pad(positions, ((0, POSITIONS - len(positions)), (0, 0)))
    return state | {TOWER + name: value for name, value in tower.items()}


def from_program(cfg: Config, state: Mapping[str, np.ndarray]) -> Weights:
    """Parameters and batch statistics from a state dict of another system's public program, by the
    names that the model's file gives (`TORCH`).

    Raises BadInput as `from_torch` does.
    """
    widths = {"feature_dim": cfg.data.feature_dim or NARROWED}
    cfg = replace(cfg, data=replace(cfg.data, **widths))
    names = model(cfg).TORCH
    like = jax.eval_shape(
        lambda key: Weights(model(cfg).init(cfg, key), init_state(cfg)), jax.random.key(0)
    )

    def theirs(path: tuple) -> str:
        return _program_name(names, _name(path[1:]))

    needed = {theirs(path) for path, _ in jax.tree.leaves_with_path(like)}
    unread = getattr(model(cfg), "UNREAD", ())
    present = {
        name
        for name in state
        if not name.endswith("num_batches_tracked")
        and (name in needed or not name.startswith(unread))
    }
    _refuse(cfg, "lacks", needed - present)
    _refuse(cfg, "holds more than it has:", present - needed)

    def take(path: tuple, ours: jax.ShapeDtypeStruct) -> Array:
        name, value = theirs(path), np.asarray(state[theirs(path)], np.float32)
        whole = _numbered(_name(path[1:]))[0] in names  # an array as it is
        turned = value if whole else value.T
        if _long(turned.shape) != _long(ours.shape):
            _shaped(state, name, ours.shape if whole else ours.shape[::-1])
        return jnp.asarray(turned.reshape(ours.shape))

    return jax.tree_util.tree_map_with_path(take, like)


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of 1, which a 1×1 convolution has more of than a Linear."""
    return tuple(size for size in shape if size != 1)


TAILS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def program_name(cfg: Config, name: str) -> str:
    """What the public program of a config's model calls one of our arrays."""
    names = getattr(model(cfg), "TORCH", None)
    return torch_name(name) if names is None else _program_name(names, name)


def _numbered(name: str) -> tuple[str, list[str]]:
    """A name with {} for its numbers, and the numbers."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", name), re.findall(r"(?<=\.)\d+(?=\.|$)", name)


def _program_name(names: Mapping[str, str], name: str) -> str:
    """A program's name of one of our arrays. `names` maps our layers to theirs, and arrays whose
    axes are as ours by their whole name; {} stands for a number.
    """
    general, numbers = _numbered(name)
    if general in names:
        return names[general].format(*numbers)
    layer, _, leaf = general.rpartition(".")
    require(layer in names, f"no public checkpoint has {name}, which this config's model needs")
    return f"{names[layer].format(*numbers)}.{TAILS.get(leaf, leaf)}"


def torch_name(name: str) -> str:
    """The authors' programs' name of one of our parameters, `temporal.blocks.0.qkv.kernel` say."""
    layer, _, leaf = name.rpartition(".")
    general, numbers = _numbered(name)
    general_layer = general.rpartition(".")[0]
    tail = "bias" if leaf == "bias" else "weight"
    block = re.fullmatch(r"temporal\.blocks\.(\d+)\.(\w+)", layer)
    if general in ARRAYS:
        return ARRAYS[general].format(*numbers)
    if block and block[2] == "qkv":
        return f"temporal.resblocks.{block[1]}.attn.in_proj_{tail}"
    if block:
        return f"temporal.resblocks.{block[1]}.{BLOCK[block[2]]}.{tail}"
    if general_layer in LAYERS:
        return f"{LAYERS[general_layer].format(*numbers)}.{tail}"
    raise BadInput(
        f"no released checkpoint has {name}, which this config's model needs; take VadCLIP, or "
        "SemVAD with model.preset=release"
    )


def _refuse(cfg: Config, says: str, names: set[str]) -> None:
    """Raises BadInput about weights that a checkpoint lacks, or has too many; none are no error."""
    if names:
        listed = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
        raise BadInput(
            f"the checkpoint does not fit model {cfg.model.name}, preset {cfg.model.preset}: "
            f"it {says} {len(names)} of its weights ({listed}); check --model, "
            "model.preset and model.layers"
        )


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _turned(name: str, shape: tuple[int, ...]) -> tuple[bool, tuple[int, ...]]:
    """Whether the axes of one of our arrays are in the opposite order in the authors' programs, and
    its shape there.
    """
    if _numbered(name)[0] in ARRAYS:
        return False, shape
    if name == "mixer.conv.kernel":  # a convolution over (modality, time): two kernels side by side
        size, inputs, outputs = shape
        return True, (outputs, inputs // 2, 2, size)
    return True, shape[::-1]


def _take(state: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> Array:
    turned, theirs = _turned(name, shape)
    value = _shaped(state, torch_name(name), theirs)
    return jnp.asarray(value.T.reshape(shape) if turned else value)


def _given(name: str, value: np.ndarray) -> np.ndarray:
    """The inverse of `_take`."""
    turned, theirs = _turned(name, value.shape)
    return np.ascontiguousarray(value.reshape(theirs[::-1]).T) if turned else value


def _shaped(
    state: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> Float[np.ndarray, "..."]:
    value = np.asarray(state[name], np.float32)
    if value.shape != shape:
        raise BadInput(
            f"the checkpoint's {name} has shape {list(value.shape)}, but the model of this config "
            f"has {list(shape)}; check --model and the model.* fields"
        )
    return value


def _sized(cfg: Config, state: Mapping[str, np.ndarray], tokens: np.ndarray) -> Config:
    """The config with what no store has told it, from the weights themselves."""

    def size(name: str, axis: int) -> int:
        shape = np.shape(state.get(name, ()))
        return shape[axis] if len(shape) == 2 else 0

    sizes = {
        "feature_dim": size("ptoj_v.weight", 1),
        "caption_dim": size("proj_V.weight", 1),
        "text_dim": size(TOWER + "text_projection", 1),
        "text_tower": size(TOWER + "positional_embedding", 1) or 1,
    }
    data = cfg.data
    unset = {name: value for name, value in sizes.items() if not getattr(data, name)}
    if data.classes and len(data.classes) != len(tokens):
        raise BadInput(
            f"the config has {len(data.classes)} classes and class_tokens {len(tokens)} rows; "
            "give the tokens of each class name"
        )
    return replace(cfg, data=replace(data, **unset))


def _tower_shapes(cfg: Config, state: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """CLIP's text tower: as deep as the checkpoint's, of the config's width."""
    width, out = cfg.data.text_tower, cfg.data.text_dim
    words = np.shape(state.get(TOWER + "token_embedding.weight", ()))[:1]
    shapes = {
        "token_embedding.weight": (*words, width),
        "positional_embedding": (POSITIONS, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
        "text_projection": (width, out),
    }
    blocks = (
        re.match(rf"{re.escape(TOWER)}transformer\.resblocks\.(\d+)\.", name) for name in state
    )
    depth = max((int(m[1]) for m in blocks if m), default=0) + 1
    for i in range(depth):
        block = {
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width),
            "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (width, 4 * width),
            "mlp.c_proj.bias": (width,),
        }
        shapes |= {f"transformer.resblocks.{i}.{k}": v for k, v in block.items()}
    return shapes
