"""A feature store as a TFDS data set in ArrayRecord files, there and back; without TensorFlow.

    dataset_info.json, features.json    TFDS's own description
    feature_store-SPLIT.array_record-*  one record a video: its fields, visual, caption_embedding
    class_text.safetensors, class_words.json, store.json    as they stand in the store

The splits are train_000, train_001, ..., test_000, ...; `place` is a video's place in the store.
TFDS reads such a folder with `tfds.builder_from_directory(DIR).as_data_source("train_000")`, and
`open` makes of it the store that it came from, to the byte.
"""

import contextlib
import dataclasses
import errno
import hashlib
import heapq
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from semvad_jax.files import BadInput, read_json, replacing, require, sha256
from semvad_jax.store import Store, Video, Writer
from semvad_jax.store import open as open_store
from semvad_jax.store.format import FILES, SCHEMA, read_class_text, read_info, rows_of, starts_of

CLASS_FILES = ("class_text.safetensors", "class_words.json")
SIDE_FILES = (*CLASS_FILES, "store.json")
INTERVAL = ("label", "start", "end")
SPLIT_BYTES = 128 << 20  # little enough for programs that hold a split in memory


def export(store: Store, directory: str | Path) -> None:
    """Write the store as a TFDS data set; the folder appears when it is complete.

    An earlier export there is replaced. Raises BadInput where `directory` holds something else
    and where the disk is full.
    """
    directory = Path(directory)
    free = not directory.exists() or directory.is_dir() and not any(directory.iterdir())
    require(
        free or all((directory / name).is_file() for name in ("dataset_info.json", "store.json")),
        f"{directory} holds something else than an export of a store; give another folder.",
    )
    try:
        with replacing(directory.absolute()) as partial:
            partial.mkdir(parents=True)
            _write(store, partial)
    except (OSError, RuntimeError) as error:
        # ArrayRecord has only words to tell of a full disk.
        if not any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            raise
        raise BadInput(f"The disk of {directory} is full; free some space, then repeat.") from error


def open(directory: str | Path, features: str | Path = Path("features")) -> Store:
    """The store that was exported to `directory`, rebuilt in `features`/tfds-<12 hex digits>.

    The digits come from its checksums, so that a second call opens what the first has built.
    Raises BadInput where `directory` is no export, where its files are damaged, where the rebuilt
    store has other checksums than the exported one, and where the disk is full.
    """
    directory = Path(directory)
    for name in ("dataset_info.json", *SIDE_FILES):
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
        for entry in _entries(directory):
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


def _features(feature_dim: int, caption_dim: int) -> tfds.features.FeaturesDict:
    def text(optional: bool = False) -> tfds.features.Text:
        return tfds.features.Text(optional=optional)

    def half(width: int) -> tfds.features.Tensor:  # as numbers TFDS would store 32 bits each
        return tfds.features.Tensor(shape=(None, width), dtype=np.float16, encoding="bytes")

    interval = dict(zip(INTERVAL, (text(), np.int64, np.int64), strict=True))
    return tfds.features.FeaturesDict(
        {
            "place": np.int64,
            "video": text(),
            "split": text(),
            "labels": tfds.features.Sequence(text()),
            "frames": np.int64,
            "fps": text(),  # as JSON has it: a record's own numbers are too short for 29.97
            "snippets": np.int64,
            "snippet_frames": np.int64,
            "crops": np.int64,
            "binned_from": tfds.features.Scalar(np.int64, optional=True),
            "intervals": tfds.features.Sequence(interval),
            "error": text(optional=True),
            "captions": tfds.features.Sequence(text()),  # n, or none where none is on file
            "visual": half(feature_dim),  # [crops * n, F]
            "caption_embedding": half(caption_dim),  # [n, Q]
        }
    )


def _example(store: Store, place: int, visual: np.ndarray) -> dict[str, Any]:
    """What `_features` describes, of one video."""
    video = store.videos[place]
    intervals = [dict(zip(INTERVAL, i, strict=True)) for i in video.intervals]
    return vars(video) | {
        "place": place,
        "labels": list(video.labels),
        "fps": json.dumps(video.fps),
        "intervals": intervals,
        "captions": store.texts(place),
        "visual": visual,
        "caption_embedding": store.caption_rows(place),
    }


def _entries(directory: Path) -> Iterator[Sequence[Any]]:
    """What `Writer.add` takes, of every video in store order; BadInput for damaged files."""
    try:
        records: Any = tfds.builder_from_directory(directory)
        sides = [
            chain.from_iterable(
                [records.as_data_source(s) for s in records.info.splits if s.startswith(side)]
            )
            for side in ("train", "test")
        ]
        for record in heapq.merge(*sides, key=lambda record: record["place"]):
            yield _entry(record)
    except Exception as error:  # every library below has kinds of its own
        reason = str(error).partition("\n")[0]
        raise BadInput(
            f"The records in {directory} cannot be read ({reason}); export the store again."
        ) from error


def _entry(record: dict[str, Any]) -> Sequence[Any]:
    named: dict[str, Any] = {field.name: record[field.name] for field in dataclasses.fields(Video)}
    named = {k: v.decode() if isinstance(v, bytes) else v for k, v in named.items()}
    spans = zip(*(record["intervals"][key] for key in INTERVAL), strict=True)
    named["labels"] = tuple(label.decode() for label in record["labels"])
    named["intervals"] = tuple((c.decode(), int(start), int(end)) for c, start, end in spans)
    named["fps"] = json.loads(named["fps"])
    video = Video(**named)
    if video.error is not None:
        return (video,)
    visual = record["visual"].reshape(video.crops, video.snippets, -1)
    texts = [text.decode() for text in record["captions"]]
    return video, visual, record["caption_embedding"], texts or None
