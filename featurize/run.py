"""Make a feature store: python featurize/run.py --dataset {ucf,xd,folder,demo} ... (--help tells
the rest).

Five stages make a store. Each leaves its finished pieces in STORE.work, so that the same command
continues after an interrupt and ends in the same store:

    visual          every snippet's frames, embedded
    captions        a text for every snippet
    text            the texts, embedded
    class-captions  the words of every class caption; it and the class label, embedded
    pack            all of it, in STORE

The first three work video by video and can be shared out: --shard 0/4, 1/4, … on as many machines
with one STORE.work, then the rest by one call without --shard; or --engine ray, one actor a GPU.
--workers N works on N videos at once in processes beside this one, to the same store; on a GPU they
decode and prepare what this one computes.
--dry-run tells what a call would cost. --export-tfds DIR writes the finished store as a TFDS data
set too; with --stages export it is all that is done. --stages scores --scorer NAME has a
training-free system score the snippets of a finished store:

    similarity      captions against class captions, by their embeddings
    lavad           a language model's score of a summary (--weights llm=DIR)
    anomaly_ruler   a language model's verdict by rules of its own (--weights llm=DIR)
    vlm             VideoLLaMA 3 asked for a score; it needs the videos
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder would come before the libraries that have the names of our files.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from featurize import class_captions, engines, mistakes, plan, request, scores
from featurize.feature_files import LAYOUTS
from featurize.job import Job
from featurize.pack import class_texts, pack
from featurize.progress import Progress
from featurize.request import EXPORT, SCORES, STAGES, Request
from semvad_jax import store
from semvad_jax.files import BadInput, printable


def make(asked: Request) -> None:
    """Makes what a request asks for, and prints what was made.

    Raises BadInput for whatever the user can mend; what is finished by then stays in STORE.work.
    """
    with mistakes.as_bad_input():
        if set(asked.stages) - {EXPORT, SCORES}:
            _work(asked)
        if SCORES in asked.stages:
            scores.make(asked)
        if asked.export_tfds is not None and not asked.dry_run:
            _export(asked.out, asked.export_tfds)


def _work(asked: Request) -> None:
    """Runs the stages of a request one after the other."""
    started = time.perf_counter()
    job = Job(asked)
    if not asked.entries and asked.dataset != "demo":
        plan.show(job.source, any(map(job.looks_at_videos, job.made)))
    if asked.dry_run:
        from featurize import dry_run

        dry_run.report(job)
        return
    if "pack" in asked.stages:
        store.require_free(asked.out)
    for stages in job.passes:
        _each(job, stages)
    report = [f"{len(job.entries)} videos", f"{time.perf_counter() - started:.0f} s"]
    if "class-captions" in asked.stages:
        class_texts(job)
    if "pack" in asked.stages:
        report += pack(job)
        if asked.dataset == "demo":
            from featurize.demo import sentences, shown

            sentences.write(asked.out)
            shown.write_shown(asked.out)
    print("; ".join([*report, f"{','.join(asked.stages)} -> {asked.out}"]))


def _each(job: Job, stages: Sequence[str]) -> None:
    """Stages that work video by video, at once."""
    for stage in stages:
        job.check_videos(stage)
    engine = engines.local
    if job.request.engine == "ray":
        engine = engines.ray
    elif job.request.workers:
        engine = engines.workers
    done = job.finished(stages) if job.request.resume else [False] * len(job.entries)
    with Progress(", ".join(stages), list(job.expected.values()), done) as progress:
        engine(job, stages, [i for i, settled in enumerate(done) if not settled], progress)


def _export(out: Path, directory: Path) -> None:
    """Writes the finished store as a TFDS data set."""
    from semvad_jax.store import tfds

    tfds.export(store.open(out), directory)
    print(f"export -> {directory}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 2 and one sentence on a user's mistake, 130 on Ctrl-C."""
    try:
        make(parse(argv))
    except BadInput as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command continues from here.", file=sys.stderr)
        return 130
    return 0


def parse(argv: Sequence[str] | None = None) -> Request:
    """The request of a command line.

    Raises BadInput for what does not go together; argparse itself exits with 2 where a flag is
    unknown or has no value of its form.
    """
    parser = argparse.ArgumentParser(
        prog="featurize/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    texts, weights = (*request.TEXT, "minilm-l6"), ", ".join(request.WEIGHTS)
    add("--dataset", required=True, choices=request.DATASETS)
    add("--videos", type=Path, metavar="DIR", help="default: data/DATASET")
    add("--out", type=Path, metavar="STORE", help="default: features/DATASET")
    add("--vision", help="clip-vit-b16 (default), efficientnet-lite0, npy:DIR, published:DIR, none")
    add(
        "--captioner",
        help="videollama3-7b (default), videollama3-2b, tags, file:PATH, published:DIR",
    )
    add("--text", choices=texts, help="default: clip-vit-l14")
    add("--crops", type=int, choices=request.CROPS, help="of a frame, by CLIP (default: 10)")
    add("--pool", choices=request.POOLS, help="a snippet's frames to one row, by CLIP")
    add("--layout", choices=LAYOUTS, help="of npy:DIR's arrays [., ., F], where they do not tell")
    add("--rows", choices=request.ROWS, help="of npy:DIR: 16 frames a row, or equal parts")
    add(
        "--weights",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=DIR",
        help=f"local weights of {weights}; no hub is asked then",
    )
    stages = f"{','.join(STAGES)} (the default), {EXPORT} or {SCORES}"
    add("--stages", type=_stages, metavar="A,B", help=stages)
    add("--scorer", choices=request.SCORERS, help="of --stages scores")
    add("--shard", type=_shard, metavar="I/N", help="this share of the videos")
    add("--engine", choices=request.ENGINES, help="ray: one actor for each GPU")
    add("--workers", type=int, metavar="N", help="processes of one thread each, beside this one")
    add("--temperature", type=float, metavar="T", help="sample captions (default: greedy)")
    add("--top-p", type=float, metavar="P", help="sample captions from the likeliest tokens")
    add("--top-percent", type=float, metavar="X", help="of a class's words (default: 10)")
    add("--epsilon", type=float, metavar="E", help="of the words' scores (default: 1e-6)")
    add("--min-count", type=int, metavar="N", help="how often a class says a word (default: 1)")
    add("--stop-words", metavar="FILE|english", help="words of no class caption (default: none)")
    add(
        "--val-fraction",
        type=float,
        metavar="V",
        help="set train videos aside: no words are taken from them, and runs take them as val",
    )
    add("--caption-spans", type=int, help="captions a video; default: 16 in lists")
    add("--no-resume", dest="resume", action="store_false", help="make pieces anew")
    add("--dry-run", action="store_true", help="counts, bytes and estimated time")
    add("--export-tfds", type=Path, metavar="DIR", help="a TFDS copy of the store")
    flags = vars(parser.parse_args(argv))
    if any((flags[name] or "").startswith("release:") for name in ("vision", "captioner")):
        print("release:DIR is called published:DIR now; the old name is taken too", file=sys.stderr)
    flags["weights"] = request.local_weights(flags["weights"])
    rules = {n: flags.pop(n) for n in ("epsilon", "min_count")}
    rules = {name: value for name, value in rules.items() if value is not None}
    if (stop := flags.pop("stop_words")) is not None:
        rules["stop_words"], rules["stop_list"] = class_captions.stop_words(stop)
    flags["words"] = class_captions.Rules(**rules)
    return Request.of(**flags)


def _stages(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _shard(text: str) -> tuple[int, int]:
    index, count = map(int, text.split("/"))
    return index, count


if __name__ == "__main__":
    sys.exit(main())
