"""What a run takes of a GPU, by the compiler's figures, before it is begun: `main.py --plan`.

With `--target` the program is compiled for a card that is not here (this needs the extra `cuda12`,
and no GPU). Where the features are not made yet, the sizes of UCF-Crime and XD-Violence are taken.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import topologies
from rich.table import Table

from semvad_jax import config, seeds, train
from semvad_jax.config import Config
from semvad_jax.files import BadInput
from semvad_jax.report.tables import plain_console
from semvad_jax.store import Store, Video
from semvad_jax.store.locate import open_store

POOL = 0.9  # the share of a card's memory that main.py lets JAX take
REACHED = 0.4  # of a card's stated rate, by whole steps of SemVAD on an H100 (docs/gpu.md)
OPTIMISER = 28  # bytes a parameter and step: AdamW reads 4 float32 arrays and writes 3


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU as its maker describes it."""

    name: str
    capability: tuple[int, int]
    cores: int
    clock: float  # GHz
    memory: int  # bytes
    bandwidth: float  # bytes a second
    cache: int  # bytes, of level 2
    threads: int  # of a core
    shared: tuple[int, int]  # bytes of shared memory: a core's, and what a block may ask for
    rates: dict[str, float]  # {train.dtype: dense products in FLOP/s}; float32 is TF32

    def text(self) -> str:
        """The description that XLA compiles for."""
        major, minor = self.capability
        return f"""gpu_device_info {{
            threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
            shared_memory_per_core: {self.shared[0]} threads_per_core_limit: {self.threads}
            core_count: {self.cores} fpus_per_core: 128 block_dim_limit_x: 2147483647
            block_dim_limit_y: 65535 block_dim_limit_z: 65535
            memory_bandwidth: {self.bandwidth:.0f} l2_cache_size: {self.cache}
            clock_rate_ghz: {self.clock} device_memory_size: {self.memory}
            shared_memory_per_block_optin: {self.shared[1]}
            cuda_compute_capability {{ major: {major} minor: {minor} }}
            registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
            platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
            runtime_version {{ major: 12 minor: 9 patch: 0 }}
            device_description_str: "{self.name}" """


TARGETS = {
    "h100": Card(
        "NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 84_929_347_584, 3.352e12, 52_428_800, 2048,
        (233_472, 232_448), {"bfloat16": 989e12, "float32": 495e12},
    ),
    "a100-40": Card(
        "NVIDIA A100-SXM4-40GB", (8, 0), 108, 1.41, 42_298_834_944, 1.555e12, 41_943_040, 2048,
        (167_936, 166_912), {"bfloat16": 312e12, "float32": 156e12},
    ),
    "rtx4090": Card(
        "NVIDIA GeForce RTX 4090", (8, 9), 128, 2.52, 25_757_220_864, 1.008e12, 75_497_472, 1536,
        (102_400, 101_376), {"bfloat16": 165e12, "float32": 82.6e12},
    ),
    "l4": Card(
        "NVIDIA L4", (8, 9), 58, 2.04, 23_580_639_232, 0.3e12, 50_331_648, 1536,
        (102_400, 101_376), {"bfloat16": 121e12, "float32": 60.5e12},
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    """How many videos and snippets a data set has, and how wide its rows are."""

    train: int
    anomalous: int  # of the train videos
    crops: int
    test: int
    snippets: int  # of all test videos
    classes: int
    visual: int = 512
    captions: int = 768


# crops and widths are those of the paper's features
SIZES = {
    "ucf": Size(train=1610, anomalous=810, crops=10, test=290, snippets=96_000, classes=14),
    "xd": Size(train=3954, anomalous=1905, crops=10, test=800, snippets=145_706, classes=7),
}


def videos_of(size: Size, length: int, rng: np.random.Generator) -> tuple[Video, ...]:
    """Videos of a data set's size: training videos binned to `length` snippets with all crops, test
    videos of different lengths with one crop, every other one anomalous in its second quarter.
    """
    names = class_names(size)

    def labels(i: int, anomalous: int) -> tuple[str, ...]:
        return (names[1 + i % (size.classes - 1)] if i < anomalous else names[0],)

    videos = []
    for i in range(size.train):
        count = length + int(rng.integers(1, 4 * length))
        label = labels(i, size.anomalous)
        video = Video(f"train {i}", "train", label, 16 * count, 30.0, length)
        videos.append(replace(video, crops=size.crops, binned_from=count))
    weight = rng.lognormal(0, 1, size.test)
    for i, share in enumerate(weight / weight.sum()):
        n = max(4, round(share * size.snippets))
        label = labels(i, size.test // 2)
        spans = ((label[0], 16 * (n // 4), 16 * (n // 2)),) if label[0] != names[0] else ()
        videos.append(Video(f"test {i}", "test", label, 16 * n, 30.0, n, intervals=spans))
    return tuple(videos)


def class_names(size: Size) -> tuple[str, ...]:
    return ("Normal", *(f"Class {c}" for c in range(1, size.classes)))


def public_store(cfg: Config) -> Store:
    """A store of the sizes of the config's data set whose features are all 0 and take no memory.

    Raises BadInput for a data set whose sizes are not known.
    """
    size = SIZES.get(cfg.data.dataset)
    if size is None:
        raise BadInput(
            f"the sizes of {cfg.data.dataset} are not known before its features are made; "
            "name a store with --data"
        )
    videos = videos_of(size, cfg.model.length, np.random.default_rng(0))

    def zeros(rows: int, width: int, dtype: type = np.float16) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), (rows, width))

    rows = sum(v.snippets for v in videos)
    visual = zeros(sum(v.snippets * v.crops for v in videos), size.visual)
    text = {
        "class_caption": zeros(size.classes, size.captions, np.float32),
        "class_name": zeros(size.classes, size.visual, np.float32),
    } | text_tower(size.classes)
    info = {"dataset": cfg.data.dataset, "producers": {}}
    where = Path(f"the sizes of {cfg.data.dataset}")
    captions = zeros(rows, size.captions)
    return Store(where, info, videos, class_names(size), visual, captions, text)


def text_tower(classes: int, depth: int = 12) -> dict[str, np.ndarray]:
    """CLIP ViT-B/16's text tower as a store has it, all 0; one to three words a class."""
    width, start, end = 512, 49406, 49407
    tokens = np.zeros((classes, 77), np.int32)
    for c in range(classes):
        words = [start, *(320 + 7 * c + w for w in range(1 + c % 3)), end]
        tokens[c, : len(words)] = words
    block = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    norm = {"weight": (width,), "bias": (width,)}
    shapes = {
        "token_embedding.weight": (len(np.unique(tokens)), width),
        "positional_embedding": (77, width),
        "text_projection": (width, width),
    }
    shapes |= {f"ln_final.{name}": shape for name, shape in norm.items()}
    for i in range(depth):
        parts = block | {f"{ln}.{name}": s for ln in ("ln_1", "ln_2") for name, s in norm.items()}
        shapes |= {f"transformer.resblocks.{i}.{name}": shape for name, shape in parts.items()}
    tower = {f"text_tower.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return {"class_tokens": tokens} | tower


def target_of(name: str) -> seeds.Target:
    """One card that is not here. Raises BadInput where nothing can be compiled for it."""
    card = TARGETS[name]
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=card.text(), topology="1x1x1"
        )
    except Exception as error:
        raise BadInput(
            f"cannot compile for {name} here ({error}); install the extra cuda12, in an "
            "environment without the extra featurize"
        ) from None
    mesh = topologies.make_mesh(topology, (1,), ("seed",))
    return seeds.Target(mesh, round(POOL * card.memory) - seeds.FREE)


def products(program: seeds.Program) -> dict[str, float]:
    """Floating-point operations of the matrix products in one seed's training step, by part of the
    model (`jax.named_scope`).
    """
    frozen, rows = program.frozen, program.rows
    state = jax.eval_shape(lambda s: seeds.select(s, 0), program.saved_state())
    one = jax.ShapeDtypeStruct((1,), bool)
    step = jax.make_jaxpr(partial(train.run_interval, program.cfg))(frozen, rows, one, state)
    counted: defaultdict[str, float] = defaultdict(float)
    _count(step.jaxpr, "", 1, counted)
    return dict(sorted(counted.items(), key=lambda item: -item[1]))


def _count(jaxpr: Any, scope: str, times: int, counted: dict[str, float]) -> None:
    for equation in jaxpr.eqns:
        within = times * (equation.params["length"] if equation.primitive.name == "scan" else 1)
        inside = f"{scope}/{equation.source_info.name_stack}"
        if equation.primitive.name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            inner = prod(equation.invars[0].aval.shape[axis] for axis in left)
            part = next(iter(re.findall(r"\b(fusion|LGT adapter|class texts)\b", inside)), "heads")
            counted[part] += 2.0 * times * inner * prod(equation.outvars[0].aval.shape)
        for value in equation.params.values():
            for part in value if isinstance(value, (list, tuple)) else [value]:
                nested = getattr(part, "jaxpr", part)
                if hasattr(nested, "eqns"):
                    _count(nested, inside, within, counted)


def plan(cfg: Config, count: int, chunk: int | Literal["auto"] | None, target: str | None) -> None:
    """Prints what a run of so many seeds would take, on this device or on a `target`.

    Raises BadInput where nothing can be compiled for the target, and as opening a store does.
    """
    where = cfg.data.store or f"features/{cfg.data.dataset}"
    made = bool(cfg.data.store) or Path(where).is_dir()
    console = plain_console()
    features = open_store(where) if made else public_store(cfg)
    if not made:
        console.print(f"{where} is not made yet; planned for the sizes of {cfg.data.dataset}")
    if target is not None and cfg.train.dtype == "auto":
        cfg = replace(cfg, train=replace(cfg.train, dtype="bfloat16"))
    devices = seeds.Target(seeds.mesh(), seeds.room()) if target is None else target_of(target)
    cfg = config.resolve(cfg, features)
    tell(seeds.Program(cfg, features, count, chunk, target=devices), target)


def tell(program: seeds.Program, target: str | None) -> None:
    """Prints the plan of a program: memory, work, and how long a run takes at least."""
    memory, steps, count = program.memory(), program.steps, program.layout.seeds
    rows: list[Sequence[str]] = [
        ("features, class texts, test windows", _gb(memory.data)),
        (f"states of {count} seeds", _gb(memory.states)),
        ("temporaries of a step", _gb(memory.temporaries)),
        ("outputs that take no input's place", _gb(memory.copies)),
        ("all", _gb(memory.peak)),
    ]
    if program.limit is not None:
        rows.append(("what a run may take", _gb(program.limit)))
    flops = products(program)
    work = count * sum(flops.values())
    rows += [(f"products of a step: {part}", _tflop(count * f)) for part, f in flops.items()]
    rows.append(("products of a step", _tflop(work)))
    if target is not None:
        card, dtype = TARGETS[target], program.cfg.train.dtype
        of_state = jax.tree.leaves(program.saved_state().params)
        traffic = OPTIMISER * sum(x.size for x in of_state)
        floor = work / card.rates[dtype]
        rows += [
            ("a step's products at the stated rate", f"{1000 * floor:.0f} ms"),
            ("the optimiser at the stated bandwidth", f"{1000 * traffic / card.bandwidth:.1f} ms"),
            (f"{steps} steps, at {100 * REACHED:.0f} % of the rate", _minutes(steps, floor)),
        ]
    console = plain_console()
    where = TARGETS[target].name if target else "this device"
    console.print(f"{count} seeds on {where}: {program.says()}", soft_wrap=True)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if program.limit is not None and memory.peak > program.limit:
        console.print(f"does not fit: {program.too_large()}", soft_wrap=True)


def _minutes(steps: int, floor: float) -> str:
    return f"{steps * floor / REACHED / 60:.1f} min"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _tflop(count: float) -> str:
    return f"{count / 1e12:.2f} TFLOP"
