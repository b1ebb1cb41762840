"""A run's settings: five frozen dataclasses, Python config files, typed `--set
section.field=value`.

Layers, later ones win: the model's table (`configs/models/NAME.py`, by data set and preset), the
config file (`configs/NAME.py`, or any path), what the model's file says for a config of ours by its
name (`SMALL`), the overrides. A field left `UNSET` in a config file is taken from the table.
"""

import dataclasses
import difflib
import json
import runpy
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from semvad_jax.files import BadInput, read_json, require, sha256
from semvad_jax.store import val
from semvad_jax.store.prompts import read_prompts

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
UNSET: Any = None
# {field: {value that it had before: the same value's name now}}; `_today` accepts the old ones
RENAMED = {"train.protocol": {"release": "reload_best"}}
# what every run has in its config.json; other fields came later, or belong to some models
NEEDED = ("model.dim", "model.length", "model.layers", "model.heads", "model.window")
NEEDED += ("train.batching", "train.batch", "train.epochs", "train.lr", "train.weight_decay")
NEEDED += ("train.milestones", "eval.every", "eval.metric", "eval.select_head", "eval.crop")
COMMON = {  # of every model, where its table says nothing else
    "train.remat": "none",
    "model.fit": "bins",
    "train.optimizer": "adamw",
    "train.decay": 0.1,
    "train.cosine": 0,
    "train.crops": "rows",
    "eval.whole": False,
    "eval.fuse_heads": False,
    "eval.temperature": 1.0,
}
# What a field is in a run from before there was such a field.
ADDED = COMMON | {
    "model.inputs": "both",
    "model.dropout": 0.0,
    "model.input_norm": False,
    "model.captions_raw": False,
    "model.shortcut": False,
    "model.near": False,
    "loss.pick_every": 16,
    "loss.sem_videos": "all",
    "loss.sigma_decay": 0.99,
    "loss.text_pairs": "normal",
    "eval.smooth": 1,
    "data.prompts_sha256": "",
    "train.microbatch": 0,
}
# {model: its oddities that runs from before do not have}
ADDED_ODDITIES = {"dsanet": ("stale_text",)}
LARGEST = 1 << 24  # of a size or a count
AUTHORS_SEEDS = (9, 234, 42, 1, 256, 512, 7, 72, 34, 100)  # the ten of their program


@dataclass(frozen=True)
class DataConfig:
    dataset: str = "ucf"  # the row of the model's table; any name without a row trains as ucf does
    store: str = ""  # features/<dataset> where empty
    val_fraction: float = (
        0.0  # share of the train videos set aside, by video, stratified by first label
    )
    val_seed: int = 0
    shuffle_labels: bool = False  # a control: train on permuted video labels, expect 0.5
    # of the training features: on the device, or on the host, which copies each batch while the
    # step before it runs. auto: on the host where a run does not fit the device otherwise
    placement: Literal["auto", "device", "host"] = "auto"
    # the rest is filled from the store by `resolve`; 0 and () until then
    feature_dim: int = 0  # F
    caption_dim: int = 0  # Q
    classes: tuple[str, ...] = ()  # 0 = normal
    text_dim: int = 0  # D_text, of the class vectors before the model
    text_tower: int = 0  # width of CLIP's text tower; 0 where the store carries none
    prompts_sha256: str = ""  # of the file model.prompts


@dataclass(frozen=True)
class ModelConfig:
    name: str = "semvad"
    preset: str = "paper"
    dim: int = UNSET  # D
    length: int = UNSET  # T, snippets a training row is binned or padded to
    layers: int = UNSET  # window-attention blocks of the LGT adapter
    heads: int = UNSET
    window: int = UNSET  # snippets in one attention window
    inputs: Literal["both", "visual", "captions"] = UNSET  # the streams that the scorer reads
    dropout: float = UNSET  # share of the values before the heads that are 0 in training
    input_norm: bool = UNSET  # both streams scaled to mean 0 and variance 1, row by row
    # a two-layer scorer of both streams adds to the binary logits; for half of the videos these are
    # left out in training
    shortcut: bool = UNSET
    captions_raw: bool = UNSET  # Table 10 row 1 as §4.8 says: one Linear of F ‖ T, in place of two
    # of SemVAD's fusion; Table 10 counts its rows by the first two
    attention: bool = UNSET  # row 2: fuse captions by cross-attention
    mixer: bool = UNSET  # row 3: the conv mixer
    qkv: bool = UNSET  # Table 13: a Linear of its own for the values
    attention_over: Literal["snippets", "channels"] = UNSET  # what the attention weights sum over
    # what the attended captions are added to
    residual: Literal["visual", "caption", "both", "gated"] = UNSET
    near: bool = UNSET  # the attention favours captions that are near in time, by a learned rate
    shared_norm: bool = UNSET  # one LayerNorm after attention and after the feed-forward network
    # how a training video becomes T rows, as `data.fit_length` says
    fit: Literal["bins", "bins_repeat", "pick", "resize"] = UNSET
    # of the paper's other systems, each of which has some of them
    class_head: bool = UNSET  # a class head beside the score, for Table 3
    hidden: tuple[int, ...] = UNSET  # widths of the layers before the score
    depths: tuple[int, ...] = UNSET  # blocks of each stage
    slots: int = UNSET  # entries of a memory, a dictionary, or a set of prototypes
    key_dim: int = UNSET  # width of queries and keys
    kernel: int = UNSET  # snippets that the scoring convolution sees
    keep: float = UNSET  # share of a video's snippets that are chosen
    power_norm: bool = UNSET  # attended features: signed square roots, scaled to length 1
    smoothing: Literal["none", "sliding", "blocks"] = UNSET  # of a test video's scores
    prompts: str = UNSET  # an .npz of class vectors, as `store.prompts` reads it; "": the store's
    slot_heads: int = UNSET  # heads of the attention to the slots
    text_layers: int = UNSET  # first layers of CLIP's text tower that an adapter follows
    text_share: float = UNSET  # what the adapter makes up of such a layer's output
    # oddities of the public program that are turned off, by their names (`ODDITIES` in
    # configs/models/NAME.py), or true for all
    fixes: bool | tuple[str, ...] = UNSET


@dataclass(frozen=True)
class LossConfig:
    fine: float = UNSET  # weight of ℓ_fg, where it is not 1
    text: float = UNSET  # λ/C of Eq. 4
    text_cosine: Literal["positive", "absolute"] = UNSET  # Eq. 4's max(0, cos), or |cos|
    text_pairs: Literal["normal", "all"] = UNSET  # Eq. 4: with the normal class; §3.4: all pairs
    sem: float = UNSET  # weight of ℓ_sem (Table 10 row 4)
    sem_labels: Literal["all", "first"] = UNSET  # the classes of a video that ℓ_sem averages over
    sem_videos: Literal["all", "anomalous"] = UNSET  # the videos that ℓ_sem averages over
    sem_padding: bool = UNSET  # ℓ_sem also picks from the slots after a video's last snippet
    sem_stop_class: bool = UNSET  # no gradient through the class captions in ℓ_sem
    sigma_greedy: bool = UNSET  # Table 12
    sigma_decay: float = UNSET  # σ_t = decay^t
    pick_every: int = UNSET  # k = ⌊length/this⌋ + 1 snippets stand for a video


@dataclass(frozen=True)
class TrainConfig:
    batching: Literal["balanced", "mixed"] = UNSET  # half normal, half abnormal; or shuffled rows
    batch: int = UNSET  # rows a step
    epochs: int = UNSET
    lr: float = UNSET
    weight_decay: float = UNSET
    optimizer: Literal["adamw", "adam"] = UNSET  # adam: its weight decay is part of the gradient
    milestones: tuple[int, ...] = UNSET  # epochs after which the learning rate falls …
    decay: float = UNSET  # … to this share
    cosine: int = UNSET  # half the period, in epochs, of a cosine that it follows besides; 0: none
    crops: Literal["rows", "joint"] = UNSET  # a row a crop, or all crops of a video in one row
    # reload_best: after every epoch go on from the weights that were best on the test videos, as
    # the authors' program does
    protocol: Literal["plain", "reload_best"] = "plain"
    early_stop: Literal["run", "epoch"] = UNSET  # what reload_best ends when nothing gets better
    # of activations; parameters, norms and losses stay float32. auto: float32 on a CPU
    dtype: Literal["auto", "float32", "bfloat16"] = UNSET
    # rows whose gradients are computed at once, and added up over the batch; 0: all
    microbatch: int = UNSET
    # blocks: activations within a model's blocks are computed again for the gradients, in place of
    # being kept. auto: where the run does not fit the device otherwise
    remat: Literal["auto", "none", "blocks"] = UNSET


@dataclass(frozen=True)
class EvalConfig:
    every: int = UNSET  # evaluate after steps every+1, 2·every+1, … of an epoch; 0: at its end
    metric: Literal["auc", "ap"] = UNSET  # selects checkpoints
    select_head: Literal["binary", "class", "max"] = UNSET
    crop: int | Literal["mean"] = UNSET  # which test crop is scored
    whole: bool = UNSET  # videos are scored whole, not in windows of T
    smooth: int = 1  # snippets in a sliding mean of the scores, an odd number
    fuse_heads: bool = UNSET  # class probabilities by both heads, as DSANet infers them
    temperature: float = UNSET  # that the logits of these are divided by


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


def default_seeds(count: int) -> list[int]:
    """The authors' ten seeds, or the first of them, then 1000, 1001, …"""
    return [*AUTHORS_SEEDS, *range(1000, 1000 + count)][:count]


def load(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads `configs/NAME.py` or a path, applies `section.field=value` overrides, fills unset
    fields from the model's table.

    Raises BadInput for a missing file, an unknown field, a field the model does not have, a value
    of the wrong type or a combination that cannot run.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".py") else CONFIGS / f"{text}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.py")))
        raise BadInput(
            f"no config file {path}; --config takes a path that ends in .py or one of: {known}"
        )
    config = runpy.run_path(str(path)).get("config")
    if not isinstance(config, Config):
        raise BadInput(f"{path} must define `config = Config(...)`")
    for name in RENAMED:
        config = _assign(config, [(name, _fields(config)[name])])
    assignments = [_parse(text) for text in overrides]
    config = _assign(config, assignments)
    if path.parent == CONFIGS:
        small = _of_model(config.model.name).get("SMALL", {}).get(path.stem, {})
        asked = dict(assignments)
        config = _assign(config, [(k, v) for k, v in small.items() if k not in asked])
    row = _table(config)
    for name, default in _fields(Config()).items():
        if default is UNSET and name not in row:
            if name in dict(assignments) and _fields(config)[name]:
                raise BadInput(f"model {config.model.name} has no {name}; leave it out")
            config = _assign(config, [(name, UNSET)])  # a config file may serve several models
    config = _assign(config, [(k, v) for k, v in row.items() if _fields(config)[k] is UNSET])
    _check(config)
    return config


def resolve(cfg: Config, store: Any) -> Config:
    """The config with the store's sizes: `data.feature_dim`, `caption_dim`, `classes`, `text_dim`
    and `text_tower`.

    `store` is a `store.Store`. Raises BadInput where the config names other classes or sizes than
    the store has.
    """
    tower = store.class_text.get("text_tower.positional_embedding")
    names = "class_name" if tower is None else "text_tower.text_projection"
    of_store: dict[str, Any] = {
        "feature_dim": int(store.feature_dim),
        "caption_dim": int(store.caption_dim),
        "classes": tuple(store.classes),
        "text_dim": store.class_text[names].shape[1],
        "text_tower": 0 if tower is None else tower.shape[1],
    }
    if cfg.model.prompts and cfg.data.prompts_sha256:
        del of_store["text_dim"]  # a run has the vectors of its file
    elif cfg.model.prompts:
        vectors = read_prompts(cfg.model.prompts, store.info["dataset"], store.classes)
        of_store["text_dim"] = vectors.shape[1]
        of_store["prompts_sha256"] = sha256(Path(cfg.model.prompts))
    for name, value in of_store.items():
        asked = getattr(cfg.data, name)
        if asked and asked != value:
            raise BadInput(
                f"the store at {store.path} has {name} {_show(value)}, but this run was made "
                f"for {_show(asked)}; "
                "give the store that the run was trained on, or train a new run"
            )
    left_out = val.recorded(store.info["producers"])
    if left_out is not None and left_out[0] != cfg.data.val_fraction:
        note(
            f"the class captions of {store.path} leave out {left_out[0]:g} of the train videos; "
            f"these are val, in place of data.val_fraction={cfg.data.val_fraction:g}"
        )
        of_store["val_fraction"] = left_out[0]
    if isinstance(cfg.eval.crop, int) and not any(v.crops > cfg.eval.crop for v in store.videos):
        cfg = dataclasses.replace(cfg, eval=dataclasses.replace(cfg.eval, crop=0))
    return dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, **of_store))


def to_json(cfg: Config) -> str:
    return json.dumps(dataclasses.asdict(cfg), indent=2, ensure_ascii=False)


def from_json(text: str) -> Config:
    """The inverse of `to_json`. Fields that there are no more are left out, and fields that were
    not there yet have their defaults. Raises BadInput for values of a wrong type.
    """
    return _from_sections(json.loads(text))


def read(path: Path) -> Config:
    """The settings in a RUN's config.json.

    Raises BadInput where it is damaged: a value of a wrong type, a model that there is not, a
    setting that the model needs and the file has not, or a combination that cannot run.
    """
    refusal = "does not hold a run's settings; take a copy of the run's file, or train it again"
    sections = read_json(path, dict[str, dict[str, Any]], refusal)
    try:
        cfg = _from_sections(sections)
        row, fields = _table(cfg), _fields(cfg)
        later = [(n, v) for n, v in ADDED.items() if n in row and fields[n] is UNSET]
        cfg = _assign(cfg, later)
        unset = [name for name in row if name in NEEDED and fields[name] is UNSET]
        require(not unset, f"{' and '.join(unset)} is missing")
        # or the file of that name would be opened, which somebody else may have named
        known = bool(cfg.data.prompts_sha256) or not cfg.model.prompts
        require(known, "data.prompts_sha256 is missing")
        _check(cfg)
    except BadInput as error:
        raise BadInput(f"{path} {refusal} ({error})") from None
    return cfg


def _from_sections(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    config = Config()
    known = _fields(config)
    for section, fields in sections.items():
        values = {f"{section}.{name}": value for name, value in fields.items()}
        config = _assign(config, [(name, v) for name, v in values.items() if name in known])
    return config


def _show(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def check_model(name: str) -> None:
    """Raises BadInput where there is no model of that name; a path is none."""
    known = sorted(p.stem for p in (CONFIGS / "models").glob("*.py"))
    require(name in known, f"unknown model {name!r}; --model takes one of: {', '.join(known)}")


@lru_cache
def _of_model(name: str) -> Mapping[str, Any]:
    """What configs/models/NAME.py defines; the file is run once a process."""
    check_model(name)
    return runpy.run_path(str(CONFIGS / "models" / f"{name}.py"))


def _table(config: Config) -> Mapping[str, Any]:
    name, preset = config.model.name, config.model.preset
    rows = _of_model(name)["DEFAULTS"]
    row = rows.get((config.data.dataset, preset), rows.get(("ucf", preset)))
    if row is None:
        known = ", ".join(sorted({p for _, p in rows}))
        raise BadInput(f"model {name} has no preset {preset!r}; model.preset takes one of: {known}")
    row = {"train.dtype": "float32"} | COMMON | row
    if config.train.protocol == "reload_best":
        row = row | {"eval.select_head": "max"}  # the better of the two heads is part of it
    return row


def not_own(config: Config) -> dict[str, Any]:
    """The settings that are not the model's own: neither in its table nor among those that its file
    has for configs of ours.
    """
    row, small = _table(config), _of_model(config.model.name).get("SMALL", {}).values()
    own = {name: [value, *(s[name] for s in small if name in s)] for name, value in row.items()}
    return {k: v for k, v in _fields(config).items() if k in own and v not in own[k]}


def _parse(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set {text!r} is not of the form section.field=value")
    return name.strip(), value.strip()


def _fields(config: Config) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, part in dataclasses.asdict(config).items()
        for name, value in part.items()
    }


def _assign(config: Config, assignments: Iterable[tuple[str, Any]]) -> Config:
    names, defaults = _fields(config), _fields(Config())
    for name, value in assignments:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise BadInput(
                f"no config field {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
        value = _today(name, value)
        section, _, leaf = name.partition(".")
        part = getattr(config, section)
        annotation = typing.get_type_hints(type(part))[leaf]
        try:
            unset = value is UNSET and defaults[name] is UNSET
            part = dataclasses.replace(
                part, **{leaf: UNSET if unset else _convert(value, annotation)}
            )
        except (ValueError, TypeError, OverflowError):
            raise BadInput(
                f"config field {name} cannot be {value!r}: it takes {_describe(annotation)}"
            ) from None
        config = dataclasses.replace(config, **{section: part})
    return config


_told_once: set[str] = set()  # sentences that this process has printed


def note(sentence: str) -> None:
    """Tells something on stderr, once."""
    if sentence not in _told_once:
        _told_once.add(sentence)
        print(f"note: {sentence}", file=sys.stderr)


def _today(name: str, value: Any) -> Any:
    """The value under today's name; an old name is told once on stderr."""
    renamed = RENAMED.get(name, {})
    if not isinstance(value, str) or value not in renamed:
        return value
    note(f"{name}={value} is called {name}={renamed[value]} now")
    return renamed[value]


def _convert(value: Any, annotation: Any) -> Any:
    """`value` (text, or what JSON gives) as the field's type; ValueError where it is not one."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        if isinstance(value, str) and value in args:
            return value
    elif origin is types.UnionType or origin is typing.Union:
        for option in args:
            try:
                return _convert(value, option)
            except ValueError:
                pass
    elif origin is tuple:
        parts = (
            [p for p in value.strip("()[]").split(",") if p.strip()]
            if isinstance(value, str)
            else value
        )
        return tuple(_convert(p.strip() if isinstance(p, str) else p, args[0]) for p in parts)
    elif annotation is bool:
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
    elif annotation in (int, float) and not isinstance(value, bool):
        if annotation(value) == float(value) and abs(float(value)) < float("inf"):
            return annotation(value)
    elif annotation is str and isinstance(value, str):
        return value
    raise ValueError(value)


def _describe(annotation: Any) -> str:
    """What a field of this type takes, for a sentence."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is types.UnionType or origin is typing.Union:
        return " or ".join(map(_describe, args))
    if origin is tuple:
        return f"a comma-separated list of {args[0].__name__}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return words[annotation]


def _check(cfg: Config) -> None:
    m, t, d, fields = cfg.model, cfg.train, cfg.data, _fields(cfg)
    rules = [
        (
            m.window is UNSET or m.window > 0 and m.length % m.window == 0,
            f"model.length {m.length} is not a multiple of model.window {m.window}",
        ),
        (
            m.heads is UNSET or m.heads > 0 and m.dim % m.heads == 0,
            f"model.dim {m.dim} is not a multiple of model.heads {m.heads}",
        ),
        (
            m.slot_heads is UNSET or m.slot_heads > 0 and m.dim % m.slot_heads == 0,
            f"model.dim {m.dim} is not a multiple of model.slot_heads {m.slot_heads}",
        ),
        (
            t.batching != "balanced" or t.batch % 2 == 0,
            f"train.batch {t.batch} must be even for balanced batches",
        ),
        (0 <= d.val_fraction < 1, f"data.val_fraction {d.val_fraction} must be in [0, 1)"),
        (t.lr > 0, f"train.lr {t.lr} must be positive"),
        (t.decay is UNSET or 0 < t.decay <= 1, f"train.decay {t.decay} must be in (0, 1]"),
        (0 <= (m.dropout or 0) < 1, f"model.dropout {m.dropout} must be in [0, 1)"),
        (
            cfg.eval.smooth % 2 == 1 and cfg.eval.smooth > 0,
            f"eval.smooth {cfg.eval.smooth} must be an odd number of snippets",
        ),
        (
            not m.captions_raw or not (m.attention or m.mixer or cfg.loss.sem),
            "model.captions_raw puts captions beside features as they are: give "
            "model.attention=false, model.mixer=false and loss.sem=0 with it",
        ),
        (
            cfg.loss.sigma_decay is UNSET or 0 <= cfg.loss.sigma_decay <= 1,
            f"loss.sigma_decay {cfg.loss.sigma_decay} must be in [0, 1]",
        ),
    ]
    rules.append((m.layers is UNSET or m.layers >= 0, f"model.layers {m.layers} is below 0"))
    positive = ("model.dim", "model.length", "train.batch", "train.epochs")
    positive += ("model.key_dim", "model.kernel", "loss.pick_every", "eval.temperature")
    for name in positive:
        value = fields[name]
        rules.append((value is UNSET or value > 0, f"{name} {value} must be positive"))
    part = t.microbatch or 0
    fits = part >= 0 and (part == 0 or t.batch % part == 0)
    rules.append((fits, f"train.batch {t.batch} is not a multiple of train.microbatch {part}"))
    whole = "loss.sigma_greedy" if cfg.loss.sigma_greedy else "loss.sem_videos=anomalous"
    apart = not cfg.loss.sigma_greedy and cfg.loss.sem_videos != "anomalous"
    needs = f"{whole} needs all rows of a batch at once; set train.microbatch=0"
    rules.append((not part or apart, needs))
    row = _table(cfg)
    for name in ("train.dtype", "train.remat"):
        only = row[name]
        takes = only == "auto" or fields[name] == only
        rules.append((takes, f"{name} {fields[name]}: model {m.name} takes {only} alone"))
    for name in ("model.hidden", "model.depths"):
        value, usual = fields[name], row.get(name)
        if value is not UNSET and usual is not None:
            fits = len(value) == len(usual) and min(value) > 0
            shown = ",".join(map(str, value))
            rules.append((fits, f"{name} {shown}: {m.name} takes {len(usual)} numbers above 0"))
    if isinstance(m.fixes, tuple):
        oddities = _of_model(m.name).get("ODDITIES", ())
        rules.append(
            (
                set(m.fixes) <= set(oddities),
                f"model.fixes takes true, or some of {', '.join(oddities)}, which "
                f"{m.name}'s program does; it does not do {', '.join(m.fixes)}",
            )
        )
    for name, value in fields.items():
        small = not isinstance(value, int) or name == "data.val_seed" or abs(value) < LARGEST
        rules.append((small, f"{name} {value} is too large; it must be below {LARGEST}"))
    for holds, sentence in rules:
        if not holds:
            raise BadInput(sentence)
