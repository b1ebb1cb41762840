"""Make a feature store: python featurize/run.py --dataset {ucf,demo} ... (--help tells the rest).

Five stages. Each leaves its finished pieces in STORE.work, so that the same command continues
after an interrupt and ends in the same store:

    visual          the middle frame of every snippet, embedded
    captions        a text for every snippet
    text            the texts, embedded
    class-captions  the words of every class caption; it and the class label, embedded
    pack            all of it, in STORE

--export-tfds DIR then writes the finished store as a TFDS data set too; with --stages export it
is all that is done.
"""

import argparse
import errno
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder would come before the libraries that have the names of our files.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from rich.progress import track

from featurize import class_captions, sources
from featurize.captions import FileCaptions
from featurize.pieces import Pieces
from featurize.sources import Entry, Source
from semvad_jax.config import BadInput
from semvad_jax.store import Video, Writer

STAGES = ("visual", "captions", "text", "class-captions", "pack")


class Job:
    """A data set, the models that look at it, and the pieces of each stage."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        name = arguments.dataset
        videos = arguments.videos or Path("data") / name
        self.out: Path = arguments.out
        self.work = self.out.absolute().with_name(self.out.absolute().name + ".work")
        self.source, self.captioner = self._source(name, videos)

    def _source(self, name: str, videos: Path) -> tuple[Source, Any]:
        """The data set and what gives its captions: producer, snippet_frames(entry), (entry)."""
        if name == "demo" and self.arguments.captioner is None:
            from featurize import demo, demo_captions

            return demo.source(videos), demo_captions.ScriptedCaptions()
        if name == "demo":
            raise BadInput("--dataset demo writes its own captions; leave --captioner out.")
        kind, _, path = (self.arguments.captioner or "").partition(":")
        if kind != "file" or not path:
            raise BadInput(f"--dataset {name} needs --captioner file:PATH, captions on file.")
        source = sources.ucf(videos)
        return source, FileCaptions(Path(path), self.arguments.caption_spans, source.entries)

    @cached_property
    def vision(self) -> Any:
        """The image model: producer, (path, frame edges) -> [crops, n, F]; None for none."""
        if self.arguments.vision == "none":
            return None
        from featurize.vision import EfficientNetLite0

        return EfficientNetLite0(projected=self.source.dataset == "demo")

    @cached_property
    def text(self) -> Any:
        """The text model: producer, (texts) -> [n, Q], count_tokens(text)."""
        from featurize.text import MiniLM

        return MiniLM()

    @property
    def class_producer(self) -> dict[str, Any]:
        return class_captions.PRODUCER | {"top_percent": self.arguments.top_percent}

    def pieces(self, stage: str) -> Pieces:
        """The kept pieces of a stage, under everything that they depend on."""
        captions = self.captioner.producer
        if stage == "visual":
            return Pieces(self.work, stage, [self.vision.producer, captions["snippets"]])
        if stage == "captions":
            return Pieces(self.work, stage, captions)
        key = [captions, self.text.producer]
        if stage == "class-captions":
            videos = [(e.video, e.split, e.labels) for e in self.source.entries]
            key += [self.class_producer, self.source.classes, videos]
        return Pieces(self.work, stage, key)

    def video(self, entry: Entry, error: str | None = None) -> Video:
        """The store's description of a video."""
        length = self.captioner.snippet_frames(entry)
        return Video(
            video=entry.video,
            split=entry.split,
            labels=entry.labels,
            frames=entry.frames,
            fps=entry.fps,
            snippets=0 if error else -(-entry.frames // length),
            snippet_frames=length,
            intervals=entry.intervals if entry.split == "test" else (),
            error=error,
        )


def visual(job: Job) -> None:
    """Embed the videos' images; what cannot be read is kept as an error."""
    if job.vision is None:
        return
    from featurize.videos import UnreadableVideo

    pieces = job.pieces("visual")
    for entry in _watched("visual", job.source.entries):
        if not entry.path.is_file():
            raise BadInput(f"{entry.path} is missing; put the video there or use --vision none.")
        if not pieces.has(entry.video, newer_than=entry.path):
            try:
                rows = job.vision(entry.path, job.video(entry).frame_edges).astype(np.float16)
            except UnreadableVideo as error:
                rows = {"error": str(error)}
            pieces.save(entry.video, rows)


def captions(job: Job) -> None:
    """Caption the videos."""
    pieces = job.pieces("captions")
    for entry in _watched("captions", job.source.entries):
        if not pieces.has(entry.video):
            pieces.save(entry.video, job.captioner(entry))


def text(job: Job) -> None:
    """Embed the captions."""
    pieces, texts = job.pieces("text"), job.pieces("captions")
    for entry in _watched("text", job.source.entries):
        if not pieces.has(entry.video):
            pieces.save(entry.video, job.text(texts.load(entry.video)).astype(np.float16))


def class_texts(job: Job) -> None:
    """Find the class captions from the train videos and embed them and the labels."""
    pieces, texts = job.pieces("class-captions"), job.pieces("captions")
    if pieces.has("words"):
        return
    classes = job.source.classes
    train = [e for e in _watched("class-captions", job.source.entries) if e.split == "train"]
    counts = class_captions.count_words(((e.labels, texts.load(e.video)) for e in train), classes)
    labels = [sources.label_text(name) for name in classes]
    found = class_captions.class_words(
        counts, labels, job.text, job.text.count_tokens, job.arguments.top_percent
    )
    for name, rows in zip(classes, found, strict=True):
        if not rows:
            raise BadInput(f"No train video of class {name} has captions, so it has no words.")
    pieces.save("class_caption", job.text([class_captions.caption(rows) for rows in found]))
    pieces.save("class_name", job.text(labels))
    pieces.save("words", dict(zip(classes, found, strict=True)))


def pack(job: Job) -> None:
    """Put the pieces together in the store."""
    classes, texts, vectors = (job.pieces(s) for s in ("class-captions", "captions", "text"))
    images = job.pieces("visual") if job.vision else None
    producers = {
        "visual": job.vision.producer if job.vision else {"model": "none: caption embeddings"},
        "captions": job.captioner.producer,
        "text": job.text.producer,
        "class_captions": job.class_producer,
        "notes": list(job.source.notes),
    }
    settings = {"dataset": job.source.dataset, "classes": job.source.classes}
    with Writer(job.out, **settings, producers=producers) as writer:
        for entry in _watched("pack", job.source.entries):
            rows = vectors.load(entry.video)
            image_rows = images.load(entry.video) if images else rows[None]
            if isinstance(image_rows, dict):
                writer.add(job.video(entry, image_rows["error"]))
                print(f"{entry.video}: {image_rows['error']}", file=sys.stderr)
            else:
                writer.add(job.video(entry), image_rows, rows, texts.load(entry.video))
        tensors = {name: classes.load(name) for name in ("class_caption", "class_name")}
        writer.finish(tensors, classes.load("words"))


def export(out: Path, directory: Path) -> None:
    """Write the finished store as a TFDS data set."""
    from semvad_jax import store, tfds

    tfds.export(store.open(out), directory)
    print(f"export -> {directory}")


def make(arguments: argparse.Namespace) -> None:
    """Run the chosen stages and report what was made."""
    started = time.perf_counter()
    job = Job(arguments)
    if not arguments.resume:
        shutil.rmtree(job.work, ignore_errors=True)
    stages = (visual, captions, text, class_texts, pack)
    for name, stage in zip(STAGES, stages, strict=True):
        if name in arguments.stages:
            stage(job)
    report = [f"{len(job.source.entries)} videos", f"{time.perf_counter() - started:.0f} s"]
    if repeated := job.captioner.producer.get("repeated_last_captions"):
        report.append(f"{repeated} missing last captions repeated")
    print("; ".join([*report, *job.source.notes, f"{','.join(arguments.stages)} -> {job.out}"]))


def run(arguments: argparse.Namespace) -> None:
    """Make what the command line asks for."""
    if "export" in arguments.stages and arguments.export_tfds is None:
        raise BadInput("--stages export needs --export-tfds DIR, the folder to write.")
    if set(arguments.stages) != {"export"}:
        make(arguments)
    if arguments.export_tfds is not None:
        export(arguments.out, arguments.export_tfds)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 2 and one sentence on a user's mistake, 130 on Ctrl-C."""
    try:
        run(_parse(argv))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f'{error.name} is missing; run pip install -e ".[featurize]".', file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print("The disk is full; free some space and repeat the command.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command continues from here.", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="featurize/run.py", description="Make a feature store.")
    parser.add_argument("--dataset", required=True, choices=("ucf", "demo"))
    parser.add_argument("--videos", type=Path, help="default: data/DATASET")
    parser.add_argument("--out", type=Path, help="the store; default: features/DATASET")
    parser.add_argument(
        "--vision", default="efficientnet-lite0", choices=("efficientnet-lite0", "none")
    )
    parser.add_argument("--captioner", help="file:PATH; demo has captions of its own")
    parser.add_argument("--text", default="minilm-l6", choices=("minilm-l6",))
    parser.add_argument("--top-percent", type=_percent, default=10.0, help="of a class's words")
    parser.add_argument("--caption-spans", type=int, help="captions a video; default: 16 in lists")
    stages = f"{','.join(STAGES)} (the default) or export"
    parser.add_argument("--stages", type=_stages, default=STAGES, help=stages)
    parser.add_argument("--export-tfds", type=Path, metavar="DIR", help="a TFDS copy of the store")
    parser.add_argument("--no-resume", dest="resume", action="store_false")
    arguments = parser.parse_args(argv)
    arguments.out = arguments.out or Path("features") / arguments.dataset
    return arguments


def _percent(value: str) -> float:
    if not 0 < (percent := float(value)) <= 100:
        raise argparse.ArgumentTypeError(f"{value} is not above 0 and at most 100")
    return percent


def _stages(value: str) -> tuple[str, ...]:
    chosen = tuple(value.split(","))
    if unknown := set(chosen) - {*STAGES, "export"}:
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {','.join(STAGES)},export")
    return chosen


def _watched(stage: str, entries: Sequence[Entry]) -> Iterable[Entry]:
    return track(entries, description=f"{stage:15}")


if __name__ == "__main__":
    sys.exit(main())
