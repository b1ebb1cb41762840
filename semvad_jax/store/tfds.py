"""A feature store as a TFDS data set in ArrayRecord files, there and back; without TensorFlow.

    dataset_info.json, features.json    TFDS's own description
    feature_store-SPLIT.array_record-*  one record a video: its fields, visual, caption_embedding
    class_text.safetensors, class_words.json, store.json    as they stand in the store

The splits are train_000, train_001, ..., test_000, ...; `place` is a video's place in the store.
TFDS reads such a folder with `tfds.builder_from_directory(DIR).as_data_source("train_000")`, and
`open` makes of it the store that it came from, to the byte. TFDS itself would import whatever
module features.json names; `open` reads the records by our own declaration and leaves the names of
files, modules and classes in DIR alone.
"""

import contextlib
import dataclasses
import hashlib
import heapq
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from google.protobuf.json_format import MessageToDict

from semvad_jax.files import FULL, BadInput, locked, read_json, replacing, require, sha256
from semvad_jax.store import Store, Video, Writer
from semvad_jax.store import open as open_store
from semvad_jax.store.format import FILES, SCHEMA, read_class_text, read_info, rows_of, starts_of

CLASS_FILES = ("class_text.safetensors", "class_words.json")
SIDE_FILES = (*CLASS_FILES, "store.json")
INTERVAL = ("label", "start", "end")
SPLIT = re.compile(r"(train|test)_\d{3,}")
SPLIT_BYTES = 128 << 20  # little enough for programs that hold a split in memory


def export(store: Store, directory: str | Path) -> None:
    """Write the store as a TFDS data set; the folder appears when it is complete.

    An earlier export there is replaced. Raises BadInput where `directory` holds something else,
    where another process writes it, and where the disk is full.
    """
    directory = Path(directory)
    free = not directory.exists() or directory.is_dir() and not any(directory.iterdir())
    require(
        free or all((directory / name).is_file() for name in ("dataset_info.json", "store.json")),
        f"{directory} holds something else than an export of a store; give another folder.",
    )
    try:
        with locked(directory), replacing(directory.absolute()) as partial:
            partial.mkdir(parents=True)
            _write(store, partial)
    except (OSError, RuntimeError) as error:
        # ArrayRecord has only words to tell of a full disk.
        if not any(os.strerror(code) in str(error) for code in FULL):
            raise
        raise BadInput(f"The disk of {directory} is full; free some space, then repeat.") from error


def open(directory: str | Path, features: str | Path = Path("features")) -> Store:
    """The store that was exported to `directory`, rebuilt in `features`/tfds-<12 hex digits>.

    The digits come from its checksums, so that a second call opens what the first has built.
    Raises BadInput where `directory` is no export, where its files are damaged, where the rebuilt
    store has other checksums than the exported one, and where the disk is full.
    """
    directory = Path(directory)
    for name in ("dataset_info.json", "features.json", *SIDE_FILES):
        require(
            (directory / name).is_file(),
            f"{directory} is not an export of a feature store (no {name}); make one with "
            "featurize/run.py --export-tfds.",
        )
    info = read_info(directory)
    sums, classes = info["sha256"], info["classes"]
    for name in CLASS_FILES:
        require(
            sha256(directory / name) == sums.get(name),
            f"{directory / name} differs from its checksum in store.json; export the store again.",
        )
    digits = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:12]
    path = Path(features) / f"tfds-{digits}"
    with contextlib.suppress(BadInput):  # nothing there yet, or a damaged store to make again
        earlier = open_store(path)
        if earlier.info == info:
            return earlier
    class_text = read_class_text(directory / CLASS_FILES[0], len(classes), info["caption_dim"])
    class_words = read_json(
        directory / CLASS_FILES[1], dict[str, Any], "is not JSON; export the store again"
    )
    with Writer(
        path, dataset=info["dataset"], classes=classes, producers=info["producers"]
    ) as writer:
        for entry in _entries(directory, _declared(directory, info)):
            writer.add(*entry)
        writer.finish(class_text, class_words)
    rebuilt = read_info(path)["sha256"]
    if differing := [name for name in FILES if rebuilt[name] != sums.get(name)]:
        shutil.rmtree(path)
        raise BadInput(
            f"{directory} gives another {differing[0]} than it was made from; "
            "export the store again."
        )
    return open_store(path)


def _write(store: Store, directory: Path) -> None:
    """Fill an empty folder; the arrays of one video at a time are in memory."""
    for name in SIDE_FILES:
        shutil.copyfile(store.path / name, directory / name)
    identity = tfds.core.DatasetIdentity(
        name="feature_store",
        version=tfds.core.Version(f"{SCHEMA}.0.0"),
        data_dir=str(directory),
        module_name=__name__,
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=f"The videos of the feature store of {store.info['dataset']}.",
        features=_features(store.feature_dim, store.caption_dim),
        disable_shuffling=True,
    )
    writer = tfds.core.SequentialWriter(
        info, max_examples_per_shard=len(store.videos), file_format="array_record"
    )
    starts = starts_of(rows_of("visual.npy", store.videos))
    for split, places in _splits(store).items():
        writer.initialize_splits([split])
        examples = [_example(store, i, store.visual[starts[i] : starts[i + 1]]) for i in places]
        writer.add_examples({split: examples})  # they are views of the files until it is their turn
        writer.close_splits([split])


def _splits(store: Store) -> dict[str, list[int]]:
    """The places of each split's videos, ascending; about SPLIT_BYTES, or one longer video."""
    splits: dict[str, list[int]] = {}
    for side in ("train", "test"):
        places, room, count = [], -1, 0
        for place, video in enumerate(store.videos):
            if video.split != side:
                continue
            width = video.crops * store.feature_dim + store.caption_dim
            size = 2 * video.snippets * width + sum(map(len, store.texts(place)))
            if size > room:
                places = splits[f"{side}_{count:03d}"] = []
                room, count = SPLIT_BYTES, count + 1
            places.append(place)
            room -= size
    return splits


def _declared(directory: Path, info: dict[str, Any]) -> tfds.features.FeaturesDict:
    """Our own declaration of the records; BadInput where features.json has another.

    An export from before `seconds` or `edges` were kept has none.
    """
    file = directory / "features.json"
    found = read_json(file, dict[str, Any], "is not JSON; export the store again")
    for names in ((), ("edges",), ("seconds", "edges")):
        declared = _features(info["feature_dim"], info["caption_dim"], leave_out=names)
        if found == MessageToDict(declared.to_proto()):
            return declared
    raise BadInput(
        f"{file} describes other records than those of a feature store; export the store again."
    )


def _features(
    feature_dim: int, caption_dim: int, leave_out: Sequence[str] = ()
) -> tfds.features.FeaturesDict:
    def text(optional: bool = False) -> tfds.features.Text:
        return tfds.features.Text(optional=optional)

    def half(width: int) -> tfds.features.Tensor:  # as numbers TFDS would store 32 bits each
        return tfds.features.Tensor(shape=(None, width), dtype=np.float16, encoding="bytes")

    interval = dict(zip(INTERVAL, (text(), np.int64, np.int64), strict=True))
    features = {
        "place": np.int64,
        "video": text(),
        "split": text(),
        "labels": tfds.features.Sequence(text()),
        "frames": np.int64,
        "fps": text(),  # as JSON has it: a record's own numbers are too short for 29.97
        "snippets": np.int64,
        "snippet_frames": np.int64,  # 0 where there are edges
        "crops": np.int64,
        "binned_from": tfds.features.Scalar(np.int64, optional=True),
        "intervals": tfds.features.Sequence(interval),
        "error": text(optional=True),
        "seconds": text(optional=True),  # as JSON has them
        "edges": text(optional=True),
        "captions": tfds.features.Sequence(text()),  # n, or none where none is on file
        "visual": half(feature_dim),  # [crops * n, F]
        "caption_embedding": half(caption_dim),  # [n, Q]
    }
    kept = {name: feature for name, feature in features.items() if name not in leave_out}
    return tfds.features.FeaturesDict(kept)


def _example(store: Store, place: int, visual: np.ndarray) -> dict[str, Any]:
    """What `_features` describes, of one video."""
    video = store.videos[place]
    intervals = [dict(zip(INTERVAL, i, strict=True)) for i in video.intervals]
    return {field.name: getattr(video, field.name) for field in dataclasses.fields(Video)} | {
        "place": place,
        "labels": list(video.labels),
        "fps": json.dumps(video.fps),
        "seconds": None if video.seconds is None else json.dumps(video.seconds),
        "edges": None if video.edges is None else json.dumps(video.edges),
        "snippet_frames": video.snippet_frames or 0,
        "intervals": intervals,
        "captions": store.texts(place),
        "visual": visual,
        "caption_embedding": store.caption_rows(place),
    }


def _entries(directory: Path, features: tfds.features.FeaturesDict) -> Iterator[Sequence[Any]]:
    """What `Writer.add` takes, of every video in store order; BadInput for damaged files."""

    def records(file: Path) -> Iterator[Any]:
        with ArrayRecordDataSource([str(file)]) as source:
            for number in range(len(source)):
                yield features.deserialize_example_np(source[number])

    splits = _split_names(directory)
    sides = [
        chain.from_iterable(
            [
                records(directory / f"feature_store-{split}.array_record-00000")
                for split in splits
                if split.startswith(side)
            ]
        )
        for side in ("train", "test")
    ]
    try:
        for record in heapq.merge(*sides, key=lambda record: record["place"]):
            yield _entry(record)
    except Exception as error:  # every library below has kinds of its own
        reason = str(error).partition("\n")[0]
        raise BadInput(
            f"The records in {directory} cannot be read ({reason}); export the store again."
        ) from error


@dataclasses.dataclass(frozen=True)
class _Split:
    name: str


@dataclasses.dataclass(frozen=True)
class _Description:
    """What is read of a dataset_info.json."""

    splits: list[_Split]


def _split_names(directory: Path) -> list[str]:
    """The names of the splits, in order; BadInput for one that `_splits` would not give."""
    file = directory / "dataset_info.json"
    refusal = "does not list the splits of a feature store; export the store again"
    names = sorted(split.name for split in read_json(file, _Description, refusal).splits)
    require(all(SPLIT.fullmatch(name) for name in names), f"{file} {refusal}.")
    return names


def _entry(record: dict[str, Any]) -> Sequence[Any]:
    fields = (field.name for field in dataclasses.fields(Video))
    named: dict[str, Any] = {name: record.get(name) for name in fields}
    named = {k: v.decode() if isinstance(v, bytes) else v for k, v in named.items()}
    spans = zip(*(record["intervals"][key] for key in INTERVAL), strict=True)
    named["labels"] = tuple(label.decode() for label in record["labels"])
    named["intervals"] = tuple((c.decode(), int(start), int(end)) for c, start, end in spans)
    named["fps"] = json.loads(named["fps"])
    for name in ("seconds", "edges"):
        named[name] = named[name] and tuple(json.loads(named[name]))
    if named["edges"] is not None:
        named["snippet_frames"] = None
    video = Video(**named)
    if video.error is not None:
        return (video,)
    visual = record["visual"].reshape(video.crops, video.snippets, -1)
    texts = [text.decode() for text in record["captions"]]
    return video, visual, record["caption_embedding"], texts or None
