"""Make a feature store: python featurize/run.py --dataset {ucf,xd,folder,demo} ... (--help tells
the rest).

Five stages. Each leaves its finished pieces in STORE.work, so that the same command continues
after an interrupt and ends in the same store:

    visual          every snippet's frames, embedded
    captions        a text for every snippet
    text            the texts, embedded
    class-captions  the words of every class caption; it and the class label, embedded
    pack            all of it, in STORE

The first three work video by video and can be shared out: --shard 0/4, 1/4, … on as many machines
with one STORE.work, then the rest by one call without --shard; or --engine ray, one actor a GPU.
--dry-run tells what a call would cost. --export-tfds DIR writes the finished store as a TFDS data
set too; with --stages export it is all that is done.
"""

import argparse
import errno
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder would come before the libraries that have the names of our files.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from featurize import engines, producers
from featurize.job import EACH, SOURCES, Job
from featurize.pack import class_texts, pack
from semvad_jax.files import BadInput
from semvad_jax.store import require_free

STAGES = (*EACH, "class-captions", "pack")
TOLD = {
    "torchvision::": "torchvision was built for another torch; install the two of one release.",
    "out of memory": "The GPU has too little memory for this model; take a smaller one, or a GPU "
    "that holds it.",
}


def each(job: Job, stage: str) -> None:
    """A stage that works video by video, under a bar with snippets a second and the time left."""
    job.check_videos(stage)
    engine = engines.ray if job.arguments.engine == "ray" else engines.local
    columns = (TextColumn("{task.description:15}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("videos, {task.fields[rate]:.1f} snippets/s")
    begun, done = 0.0, 0
    with Progress(*columns, rate, TimeRemainingColumn()) as progress:
        task = progress.add_task(stage, total=len(job.entries), rate=0.0)
        for snippets in engine(job, stage):
            # the first one's time has the loading of the model in it
            done, begun = (done + snippets, begun) if begun else (0, time.perf_counter())
            progress.update(task, advance=1, rate=done / (time.perf_counter() - begun + 1e-3))


def export(out: Path, directory: Path) -> None:
    """Write the finished store as a TFDS data set."""
    from semvad_jax import store
    from semvad_jax.store import tfds

    tfds.export(store.open(out), directory)
    print(f"export -> {directory}")


def make(arguments: argparse.Namespace) -> None:
    """Run the chosen stages and report what was made."""
    started = time.perf_counter()
    job = Job(arguments)
    if arguments.dry_run:
        from featurize import dry_run

        dry_run.report(job, arguments.stages)
        return
    if "pack" in arguments.stages:
        require_free(job.out)
    for stage in job.made:
        if stage in arguments.stages:
            each(job, stage)
    report = [f"{len(job.entries)} videos", f"{time.perf_counter() - started:.0f} s"]
    if "class-captions" in arguments.stages:
        class_texts(job)
    if "pack" in arguments.stages:
        report += pack(job)
        if arguments.dataset == "demo":
            from featurize.demo import sentences as demo_sentences

            demo_sentences.write(job.out)
    print("; ".join([*report, f"{','.join(arguments.stages)} -> {job.out}"]))


def run(arguments: argparse.Namespace) -> None:
    """Make what the command line asks for."""
    if "export" in arguments.stages and arguments.export_tfds is None:
        raise BadInput("--stages export needs --export-tfds DIR, the folder to write.")
    if arguments.export_tfds is not None and not {"pack", "export"} & set(arguments.stages):
        raise BadInput("--export-tfds writes a finished store; add the stage pack or export.")
    if arguments.dry_run and arguments.dataset == "demo":
        raise BadInput("--dry-run is for videos that are there; the demo renders its own.")
    if arguments.shard and not set(arguments.stages) <= set(EACH):
        raise BadInput(
            f"--shard works on the stages {','.join(EACH)}; run the others once, without --shard."
        )
    if set(arguments.stages) != {"export"}:
        make(arguments)
    if arguments.export_tfds is not None and not arguments.dry_run:
        export(arguments.out, arguments.export_tfds)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 2 and one sentence on a user's mistake, 130 on Ctrl-C."""
    try:
        run(_parse(argv))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        name = error.name or "a package of the featurizer"  # transformers leaves the name out
        extra = "ray" if name == "ray" else "featurize"
        print(f'{name} is missing; run pip install -e ".[{extra}]".', file=sys.stderr)
        return 2
    except RuntimeError as error:
        told = [sentence for sign, sentence in TOLD.items() if sign in str(error)]
        if not told:
            raise
        print(told[0], file=sys.stderr)
        return 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not (full or error.filename):
            raise
        where = "The disk is full" if full else f"{error.filename}: {error.strerror}"
        print(f"{where}; mend that and repeat the command.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command continues from here.", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="featurize/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", required=True, choices=(*SOURCES, "demo"))
    add("--videos", type=Path, metavar="DIR", help="default: data/DATASET")
    add("--out", type=Path, metavar="STORE", help="default: features/DATASET")
    add("--vision", help=f"{producers.VISION} (default), efficientnet-lite0, release:DIR, none")
    add("--captioner", help="videollama3-7b (default), videollama3-2b, tags, file:, release:PATH")
    add("--text", choices=(*producers.TEXT, "minilm-l6"), help="default: clip-vit-l14")
    add("--crops", type=int, choices=(10, 1), help="of a frame, by CLIP (default: 10)")
    add("--pool", choices=("middle", "mean"), help="a snippet's frames to one row, by CLIP")
    weights = f"local weights of {', '.join(producers.WEIGHTS)}; no hub is asked then"
    add(
        "--weights",
        action="extend",
        nargs="+",
        type=producers.local_weights,
        default=[],
        metavar="NAME=DIR",
        help=weights,
    )
    stages = f"{','.join(STAGES)} (the default) or export"
    add("--stages", type=_stages, metavar="A,B", help=stages)
    add("--shard", type=_shard, metavar="I/N", help="this share of the videos")
    add("--engine", default="local", choices=("local", "ray"), help="ray: one actor for each GPU")
    add("--temperature", type=float, metavar="T", help="sample captions (default: greedy)")
    add("--top-p", type=float, metavar="P", help="sample captions from the likeliest tokens")
    add("--top-percent", type=_percent, default=10.0, metavar="X", help="of a class's words")
    add("--caption-spans", type=int, help="captions a video; default: 16 in lists")
    add("--no-resume", dest="resume", action="store_false", help="make pieces anew")
    add("--dry-run", action="store_true", help="counts, bytes and estimated time")
    add("--export-tfds", type=Path, metavar="DIR", help="a TFDS copy of the store")
    arguments = parser.parse_args(argv)
    demo = arguments.dataset == "demo"
    arguments.vision = arguments.vision or ("efficientnet-lite0" if demo else producers.VISION)
    arguments.captioner = arguments.captioner or ("scripted" if demo else "videollama3-7b")
    arguments.text = arguments.text or ("minilm-l6" if demo else producers.TEXT[0])
    arguments.weights = dict(arguments.weights)
    arguments.out = arguments.out or Path("features") / arguments.dataset
    arguments.stages = arguments.stages or (EACH if arguments.shard else STAGES)
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


def _shard(value: str) -> tuple[int, int]:
    index, count = map(int, value.split("/"))
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"{value} is no share: give 0/N to N-1/N")
    return index, count


if __name__ == "__main__":
    sys.exit(main())
