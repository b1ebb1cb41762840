"""RUN/checkpoint: the stacked state by orbax; beside it, once, what detection needs besides.

../config.json              the resolved settings
STEP/state/                 every array of the state by its path's name, first axis the seeds
frozen.safetensors          class embeddings and text tower
meta.json                   `Meta`: seeds, chunk width, classes, and the store that was trained on
thresholds.json             where the run has normal val videos: see detection/events.py
"""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import safetensors
import safetensors.flax
from jaxtyping import PyTree

from semvad_jax import config, seeds
from semvad_jax.config import Config
from semvad_jax.files import BadInput, read_json, write
from semvad_jax.types import Frozen, TrainState


@dataclass(frozen=True)
class Meta:
    """meta.json: what is known of a run besides its settings and arrays."""

    config: str  # the name of the config file, or of the study's row
    weight_seeds: list[int]
    data_seeds: list[int]
    chunk: int | str | None  # seeds in memory at once; "auto"; None: all
    dataset: str  # of the store
    classes: list[str]  # 0 = normal
    producers: dict[str, Any]  # of the store's features
    # {file of the store: its checksum}; None for a run that was begun before this was recorded
    store_sha256: dict[str, str] | None = None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(weight seed, data seed) of each seed, in the order of the state's first axis."""
        return list(zip(self.weight_seeds, self.data_seeds, strict=True))


def flatten(tree: PyTree) -> dict[str, Any]:
    """{"params.temporal.blocks.0.qkv.kernel": leaf, …}"""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def unflatten(like: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """The inverse of `flatten`, with the structure of `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in flatten(like)])


def begin(run: Path, cfg: Config, frozen: Frozen, meta: Meta) -> None:
    """Writes what does not change during a run."""
    folder = run / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    # not save_file: what it writes only its owner may read
    write(folder / "frozen.safetensors", safetensors.flax.save(flatten(frozen)))
    known = dataclasses.asdict(meta)
    if meta.store_sha256 is None:
        del known["store_sha256"]
    write(folder / "meta.json", json.dumps(known, indent=2, ensure_ascii=False))
    write(run / "config.json", config.to_json(cfg))


def read(run: Path) -> tuple[Config, Frozen, Meta]:
    """Settings, Frozen and Meta of a run. Raises BadInput where `run` is none, and where one of its
    files is damaged.
    """
    cfg, meta = read_config(run), read_meta(run)
    path = _file(run, "checkpoint/frozen.safetensors")
    try:
        arrays = safetensors.flax.load_file(path)
    except safetensors.SafetensorError:
        raise BadInput(f"{path} is damaged; train the run again, or take a copy of it") from None
    tower = {k.removeprefix("text_tower."): v for k, v in arrays.items() if "text_tower." in k}
    frozen = Frozen(
        class_caption=arrays.get("class_caption"),
        class_name=arrays.get("class_name"),
        class_tokens=arrays.get("class_tokens"),
        text_tower=tower or None,
    )
    return cfg, frozen, meta


def read_config(run: Path) -> Config:
    """A run's resolved settings. Raises BadInput as `read` does."""
    return config.read(_file(run, "config.json"))


def read_meta(run: Path) -> Meta:
    """A run's meta.json; no device is touched. Raises BadInput as `read` does."""
    path = _file(run, "checkpoint/meta.json")
    return read_json(path, Meta, "is damaged; train the run again, or take a copy of it")


def _file(run: Path, name: str) -> Path:
    path = run / name
    if not path.is_file():
        raise BadInput(
            f"{run} is not a run: {path} is missing; give a directory made by main.py --config"
        )
    return path


def last_weights(run: Path, cfg: Config, meta: Meta) -> tuple[PyTree, int]:
    """RUN's last weights, stacked over seeds, and how many seeds these are.

    Raises BadInput as `Checkpoints.restore_params` does.
    """
    count = len(meta.weight_seeds)
    with Checkpoints(run) as saved:
        return saved.restore_params(seeds.abstract_params(cfg, count)), count


class Checkpoints:
    """The saved states of a run; the newest is kept.

    Saving waits until the files are complete: the next interval reuses the state's memory.
    """

    def __init__(self, run: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self.path = run / "checkpoint"
        self.manager = ocp.CheckpointManager(self.path.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.manager.close()

    def save(self, state: TrainState, clock: Mapping[str, float]) -> None:
        """Saves the stacked state under its step, with the seconds spent so far.

        Raises OSError where the disk is full; the checkpoint before stays.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(flatten(state)), clock=ocp.args.JsonSave(dict(clock))
        )
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self.path).free < size:  # asked first: orbax tells it in tracebacks
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.manager.save(int(state.step[0]), args=items)

    def latest(self) -> int | None:
        return self.manager.latest_step()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, float]]:
        """The newest state and its clock; `like` gives shapes, dtypes and shardings.

        Raises BadInput where there is none, or where the seeds or the model are others.
        """
        step, wanted = self._step(), flatten(like)
        self._check(self._shapes(step), wanted)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(wanted), clock=ocp.args.JsonRestore()
        )
        restored = self.manager.restore(step, args=items)
        return unflatten(like, restored["state"]), restored["clock"]

    def restore_params(self, like: PyTree) -> PyTree:
        """The weights alone, of every seed: neither optimiser nor selected weights are read.

        Raises BadInput where there are none, or where the seeds or the model are others.
        """
        step, wanted = self._step(), flatten({"params": like})
        saved = self._shapes(step)
        self._check({k: v for k, v in saved.items() if k.startswith("params.")}, wanted)
        args = ocp.args.PyTreeRestore(
            item=wanted,
            restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
            partial_restore=True,
        )
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            restored = reader.restore(self._folder(step), args=args)
        return unflatten({"params": like}, restored)["params"]

    def _shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        reader = ocp.PyTreeCheckpointHandler()
        saved = reader.metadata(self._folder(step)).tree  # pyright: ignore[reportArgumentType]
        return {name: tuple(leaf.shape) for name, leaf in saved.items()}

    def _check(self, saved: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Any]) -> None:
        if saved != {name: leaf.shape for name, leaf in wanted.items()}:
            raise BadInput(f"{self.path} holds another model or other seeds than were asked for")

    def _step(self) -> int:
        step = self.latest()
        if step is None:
            raise BadInput(
                f"{self.path} holds no finished checkpoint; train with main.py --config first"
            )
        return step

    def _folder(self, step: int) -> Path:
        return (self.path / str(step) / "state").absolute()
