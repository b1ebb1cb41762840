"""RUN/checkpoint: the stacked state by orbax; beside it, once, what detection needs besides.

../config.json              the resolved settings
STEP/state/                 every array of the state by its path's name, first axis the seeds
STEP/checksums.json         `StepRecord`: of STEP's files and of metrics.jsonl up to there
frozen.safetensors          class embeddings and text tower
meta.json                   `Meta`: seeds, chunk width, classes, and the store that was trained on
thresholds.json             where the run has normal val videos: see detection/thresholds.py
checksums.json              {file: its SHA-256}: of these three, of config.json and of summary.json

What is read is compared with its checksum first, so that a damaged file ends in a sentence and
never in other figures. A run that was made before checksums were recorded opens all the same; that
it carries none is told once.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
import safetensors
import safetensors.flax
from jaxtyping import PyTree

from semvad_jax import config, seeds
from semvad_jax.config import Config
from semvad_jax.files import BadInput, read_json, require, sha256, write
from semvad_jax.types import Frozen, TrainState, Weights

CHECKSUMS = "checksums.json"
THRESHOLDS = "checkpoint/thresholds.json"
SUMMARY = "summary.json"
AGAIN = "put back a copy of it, or train the run again into another --out"
RESUME = "main.py --config … --resume writes it again"
REMEDIES = {  # of a damaged file of RUN
    "config.json": AGAIN,
    "checkpoint/meta.json": AGAIN,
    "checkpoint/frozen.safetensors": RESUME,
    THRESHOLDS: RESUME,
    SUMMARY: f"{RESUME}; --eval and --detect do without it",
}


@dataclass(frozen=True)
class Meta:
    """meta.json: what is known of a run besides its settings and arrays."""

    config: str  # the name of the config file, or of the study's row
    weight_seeds: list[int]
    data_seeds: list[int]
    # seeds that a device computes at once; of earlier runs also "auto", or None: all
    chunk: int | Literal["auto"] | None
    dataset: str  # of the store
    classes: list[str]  # 0 = normal
    producers: dict[str, Any]  # of the store's features
    # {file of the store: its checksum}; None for a run that was begun before this was recorded
    store_sha256: dict[str, str] | None = None
    states_on_host: bool = False  # while the seeds of other chunks are computed

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(weight seed, data seed) of each seed, in the order of the state's first axis."""
        return list(zip(self.weight_seeds, self.data_seeds, strict=True))


@dataclass(frozen=True)
class StepRecord:
    """STEP/checksums.json: what belongs to a saved step."""

    files: dict[str, str]  # {file of STEP: its SHA-256}
    metrics_bytes: int  # how much of metrics.jsonl was written by then
    metrics_sha256: str  # of so much


def flatten(tree: PyTree) -> dict[str, Any]:
    """{"params.temporal.blocks.0.qkv.kernel": leaf, …}"""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def unflatten(like: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """The inverse of `flatten`, with the structure of `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in flatten(like)])


def check_place(run: Path) -> None:
    """Raises BadInput for a RUN that nothing could be restored from: orbax takes [, * and ? in a
    path for a pattern when it saves, finds no file, and leaves out the arrays in silence.
    """
    place = str(run.absolute())
    require(
        not set(place) & set("[*?"),
        f"{place} holds one of [ * ?, and no checkpoint can be saved there; name another --out",
    )


def begin(run: Path, cfg: Config, frozen: Frozen, meta: Meta) -> None:
    """Writes what does not change during a run."""
    folder = run / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKSUMS).unlink(missing_ok=True)  # a kill leaves none rather than wrong ones
    # not save_file: what it writes only its owner may read
    write(folder / "frozen.safetensors", safetensors.flax.save(flatten(frozen)))
    known = dataclasses.asdict(meta)
    if meta.store_sha256 is None:
        del known["store_sha256"]
    write(folder / "meta.json", json.dumps(known, indent=2, ensure_ascii=False))
    write(run / "config.json", config.to_json(cfg))
    record(run, "config.json", "checkpoint/meta.json", "checkpoint/frozen.safetensors")


def record(run: Path, *names: str) -> None:
    """Keeps the checksums of files of RUN that are complete; one that is not there has none."""
    path = run / "checkpoint" / CHECKSUMS
    known = _checksums(run) or {}
    known |= {name: sha256(run / name) for name in names if (run / name).is_file()}
    write(path, json.dumps(known, indent=2))


def check(run: Path, name: str) -> None:
    """Raises BadInput where a file of RUN is not what was recorded of it, or is no longer there.

    Of a file without a record nothing is known. That a run has no records is told once.
    """
    known, path = _checksums(run), run / name
    if known is None:
        config.note(
            f"{run} carries no checksums of its files, so damage to them may pass unnoticed"
        )
    elif name in known:
        require(path.is_file(), f"{path} is missing; {REMEDIES[name]}")
        require(
            sha256(path) == known[name],
            f"{path} is damaged: it differs from its checksum in {CHECKSUMS}; {REMEDIES[name]}",
        )


def _checksums(run: Path) -> dict[str, str] | None:
    """{file of RUN: its checksum}; None where none are recorded."""
    path = run / "checkpoint" / CHECKSUMS
    if not path.is_file():
        return None
    return read_json(path, dict[str, str], f"is damaged; {AGAIN}")


def read(run: Path) -> tuple[Config, Frozen, Meta]:
    """Settings, Frozen and Meta of a run. Raises BadInput where `run` is none, and where one of its
    files is damaged.
    """
    cfg, meta = read_config(run), read_meta(run)
    sizes = cfg.data.feature_dim, cfg.data.caption_dim
    require(
        min(sizes) > 0 and list(cfg.data.classes) == meta.classes,
        f"{run / 'config.json'} does not hold a run's settings: the sizes or classes of its store "
        f"are missing, or others than meta.json has; {AGAIN}",
    )
    path = _file(run, "checkpoint/frozen.safetensors")
    try:
        arrays = safetensors.flax.load_file(path)
    except (safetensors.SafetensorError, KeyError, ValueError):
        raise BadInput(f"{path} is damaged; {RESUME}") from None
    tower = {k.removeprefix("text_tower."): v for k, v in arrays.items() if "text_tower." in k}
    frozen = Frozen(
        class_caption=arrays.get("class_caption"),
        class_name=arrays.get("class_name"),
        class_tokens=arrays.get("class_tokens"),
        text_tower=tower or None,
        dictionary=arrays.get("dictionary"),
    )
    return cfg, frozen, meta


def read_config(run: Path) -> Config:
    """A run's resolved settings. Raises BadInput as `read` does."""
    return config.read(_file(run, "config.json"))


def read_meta(run: Path) -> Meta:
    """A run's meta.json; no device is touched. Raises BadInput as `read` does."""
    path, refusal = _file(run, "checkpoint/meta.json"), f"is damaged; {AGAIN}"
    meta = read_json(path, Meta, refusal)
    seeds = meta.weight_seeds + meta.data_seeds
    require(
        0 < len(meta.weight_seeds) == len(meta.data_seeds)
        and all(0 <= seed < 2**32 for seed in seeds)
        and len(meta.classes) > 1,
        f"{path} {refusal}",
    )
    return meta


def _file(run: Path, name: str) -> Path:
    path = run / name
    if not path.is_file():
        raise BadInput(
            f"{run} is not a run: {path} is missing; give a directory made by main.py --config"
        )
    check(run, name)
    return path


def steps(run: Path) -> list[int]:
    """The steps that RUN has saved, in order."""
    return sorted(int(p.name) for p in (run / "checkpoint").glob("*") if p.name.isdecimal())


def metrics_lines(path: Path, needed: Sequence[str] = ("step",)) -> list[dict[str, float]]:
    """The lines of a RUN/metrics.jsonl up to the newest checkpoint (all, where there is none): a
    line per evaluation and seed.

    Raises BadInput where it is missing, cut in its middle or changed, and where a line lacks one of
    the `needed` keys.
    """
    saved = steps(path.parent)
    content = _metrics(path, saved[-1]) if saved else path.read_bytes()
    refusal = f"is damaged; {_METRICS_REMEDY}"
    lines = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            values = msgspec.json.decode(line, type=dict[str, int | float])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadInput(f"{path}, line {number} {refusal}") from None
        require(set(needed) <= set(values), f"{path}, line {number} {refusal}")
        lines.append(values)
    return lines


_METRICS_REMEDY = (
    "put back a copy of it; --restore RUN --eval and --detect still work, and summary.json, where "
    "it is there, has the figures"
)


def truncate_metrics(run: Path, step: int) -> None:
    """Drops the lines of RUN/metrics.jsonl after the checkpoint of a step: going on writes them
    again. Raises BadInput as `metrics_lines` does.
    """
    path = run / "metrics.jsonl"
    write(path, _metrics(path, step) if step else b"")


def _metrics(path: Path, step: int) -> bytes:
    """A metrics.jsonl as it was when a step was saved."""
    require(path.is_file(), f"{path} is missing; {_METRICS_REMEDY}")
    content = path.read_bytes()
    kept = _step_record(path.parent / "checkpoint" / str(step))
    if kept is None:  # whole lines, since a kill may leave half a one
        lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
        return b"".join(line for line in lines if _step_of(path, line) <= step)
    content = content[: max(kept.metrics_bytes, 0)]
    require(
        hashlib.sha256(content).hexdigest() == kept.metrics_sha256,
        f"{path} is damaged: it differs from its checksum at step {step}; {_METRICS_REMEDY}",
    )
    return content


def _step_of(path: Path, line: bytes) -> float:
    try:
        return msgspec.json.decode(line, type=dict[str, int | float])["step"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        raise BadInput(f"{path} is damaged; {_METRICS_REMEDY}") from None


def _step_record(folder: Path) -> StepRecord | None:
    """The checksums that were recorded with a saved step, None where there are none; that there are
    none is told once.
    """
    path = folder / CHECKSUMS
    if path.is_file():
        return read_json(path, StepRecord, f"is damaged; {_STEP_REMEDY}")
    config.note(f"{folder} carries no checksums, so damage to the weights may pass unnoticed")
    return None


_STEP_REMEDY = (
    "take a copy of this checkpoint, or train the run again into another --out; summary.json and "
    "report.html, where they are there, still tell its figures"
)


def _sha256_of_files(folder: Path) -> dict[str, str]:
    """{file below a folder: its checksum}, all but the record itself."""
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != folder / CHECKSUMS]
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to others
        found = list(pool.map(sha256, paths))
    return {
        p.relative_to(folder).as_posix(): digest for p, digest in zip(paths, found, strict=True)
    }


@contextlib.contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    """Whatever orbax meets in a checkpoint that it cannot read is one sentence: it raises the
    errors of all the libraries below it.
    """
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception:
        raise BadInput(f"{folder} is damaged; {_STEP_REMEDY}") from None


def weights_sha256(run: Path) -> str:
    """One checksum of all files of RUN's last step. Raises BadInput where it has none."""
    saved = steps(run)
    require(bool(saved), f"{run} holds no finished checkpoint; train with main.py --config first")
    folder = run / "checkpoint" / str(saved[-1])
    kept = _step_record(folder)
    files = _sha256_of_files(folder) if kept is None else kept.files
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def last_weights(run: Path, cfg: Config, meta: Meta) -> tuple[Weights, int]:
    """RUN's last weights, stacked over seeds, and how many seeds these are.

    Raises BadInput as `Checkpoints.restore_weights` does.
    """
    count = len(meta.weight_seeds)
    with Checkpoints(run) as saved:
        return saved.restore_weights(seeds.abstract_weights(cfg, count)), count


class Checkpoints:
    """The saved states of a run; the newest is kept.

    States lie on the host. One is saved while training goes on; the next save waits for it, and
    leaving the `with` block too.
    """

    def __init__(self, run: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self.run, self.path = run, run / "checkpoint"
        self.manager = ocp.CheckpointManager(self.path.absolute(), options=options)
        self.thread = ThreadPoolExecutor(1)
        self.saving: Future | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.wait()
        finally:
            self.thread.shutdown()
            self.manager.close()

    def save(self, state: TrainState, clock: Mapping[str, float]) -> None:
        """Begins to save the stacked state, of NumPy arrays, under its step, with the seconds spent
        so far.

        Raises OSError where the disk is full, also that of the save before; what was saved before
        stays.
        """
        self.wait()
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self.path).free < size:  # asked first: orbax tells it in tracebacks
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        metrics = self.run / "metrics.jsonl"
        content = metrics.read_bytes() if metrics.is_file() else b""
        self.saving = self.thread.submit(self._save, state, dict(clock), content)

    def wait(self) -> None:
        """Until what was begun is saved. Raises OSError where the disk is full."""
        saving, self.saving = self.saving, None
        if saving is not None:
            saving.result()

    def _save(self, state: TrainState, clock: dict[str, float], metrics: bytes) -> None:
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(flatten(state)), clock=ocp.args.JsonSave(clock)
        )
        step = int(state.step[0])
        try:
            self.manager.save(step, args=items)
        except ValueError as error:  # how tensorstore tells what the system said
            if os.strerror(errno.ENOSPC) not in str(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from None
        folder = self.path / str(step)
        kept = StepRecord(
            _sha256_of_files(folder), len(metrics), hashlib.sha256(metrics).hexdigest()
        )
        write(folder / CHECKSUMS, json.dumps(dataclasses.asdict(kept), indent=1))

    def latest(self) -> int | None:
        """The step of the newest checkpoint that is complete; None where there is none."""
        self.wait()
        return self.manager.latest_step()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, float]]:
        """The newest state, as NumPy arrays, and its clock; `like` gives shapes and dtypes.

        Raises BadInput where there is none, or where the seeds or the model are others.
        """
        step, wanted = self._whole_step(), flatten(like)
        with _damage_told(self.path / str(step)):
            self._check(self._shapes(step), wanted)
            # arrays of NumPy ask for such; these take no memory
            host = {k: np.broadcast_to(np.zeros((), x.dtype), x.shape) for k, x in wanted.items()}
            items = ocp.args.Composite(
                state=ocp.args.StandardRestore(host), clock=ocp.args.JsonRestore()
            )
            restored = self.manager.restore(step, args=items)
            clock = {name: float(restored["clock"][name]) for name in ("wall", "train")}
        return unflatten(like, restored["state"]), clock

    def restore_weights(self, like: Weights) -> Weights:
        """The last weights alone, of every seed: neither optimiser nor selected ones are read.

        Raises BadInput where there are none, or where the seeds or the model are others.
        """
        step, wanted = self._whole_step(), flatten(like)
        with _damage_told(self.path / str(step)):
            saved = self._shapes(step)
            own = {k: v for k, v in saved.items() if k.startswith(("params.", "state."))}
            self._check(own, wanted)
            args = ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                partial_restore=True,
            )
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                restored = reader.restore(self._folder(step), args=args)
        return unflatten(like, restored)

    def _shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        reader = ocp.PyTreeCheckpointHandler()
        saved = reader.metadata(self._folder(step)).tree  # pyright: ignore[reportArgumentType]
        return {name: tuple(leaf.shape) for name, leaf in saved.items()}

    def _check(self, saved: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Any]) -> None:
        shapes = {name: leaf.shape for name, leaf in wanted.items()}
        stateless = {k: v for k, v in shapes.items() if "state" not in k.split(".")[:3]}
        if saved == stateless != shapes:
            raise BadInput(
                f"{self.path} was saved by an earlier version, which kept nothing beside the "
                "weights of this model; train the run again into another --out"
            )
        require(
            saved == shapes, f"{self.path} holds another model or other seeds than were asked for"
        )

    def _whole_step(self) -> int:
        """The newest step, whose files are those that were saved."""
        step = self.latest()
        if step is None:
            raise BadInput(
                f"{self.path} holds no finished checkpoint; train with main.py --config first"
            )
        folder = self.path / str(step)
        kept = _step_record(folder)
        found = {} if kept is None else _sha256_of_files(folder)
        for name, digest in (kept.files if kept else {}).items():
            said = "is missing" if name not in found else "differs from its checksum"
            require(found.get(name) == digest, f"{folder / name} {said}; {_STEP_REMEDY}")
        return step

    def _folder(self, step: int) -> Path:
        return (self.path / str(step) / "state").absolute()
