"""Train, judge and use SemVAD.

python main.py --config NAME|PATH --vmap-seeds N     train N seeds in one program, write RUN
python main.py --restore RUN --eval [--data STORE [--class-map FILE] [--other-captioner]]
                                                     judge RUN's checkpoint again
python main.py --restore RUN --eval --lookahead K …  judge it as a camera would be scored
python main.py --restore RUN --detect VIDEO|DIR|STORE --out D
                                                     score videos, or those of a store
python main.py --restore RUN --calibrate DIR --alarms-per-hour X --out D
                                                     a threshold for a camera, by its normal videos
python main.py --restore RUN --watch SOURCE --out D  score a camera, a stream or a file as it comes
python main.py --restore RUN --export DIR            a scorer of RUN that needs jax alone, or
python main.py --restore RUN --to-torch DIR          PyTorch's state dicts
python main.py --config ucf --model vadclip --from-torch FILE.safetensors --eval
                                                     judge weights that were trained elsewhere
python main.py --compare RUN_A RUN_B                 what two runs' difference is worth
python main.py --scorer NAME --data STORE            judge a training-free system's scores
python main.py --study NAME [--data LABEL=STORE …]   a table or figure of the paper
python main.py --results DIR > docs/RESULTS.md       what the runs and studies below DIR found

Config files (--config PATH) and study files are Python programs and are run: use only your own.
"""

import argparse
import errno
import hashlib
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from semvad_jax import config
from semvad_jax.files import BadInput, cache_folder, locked, printable
from semvad_jax.hosts import Place
from semvad_jax.store import verified

if TYPE_CHECKING:
    from semvad_jax.detection.pictures import Frames
    from semvad_jax.detection.thresholds import Asked
    from semvad_jax.studies.captions import CaptionMatch
    from semvad_jax.studies.folds import CrossValidation
    from semvad_jax.studies.runtime import Runtime
    from semvad_jax.studies.study import Options, Study

SEEDS = ("vmap_seeds", "seeds", "data_seeds", "seed_chunk")
CPU = Path("/proc/cpuinfo")
TARGETS = ("h100", "a100-40", "rtx4090", "l4")  # report/plan.py describes them
# a GPU that is not here cannot be tried for the fastest kernels
COMPILING_FOR_A_TARGET = {
    "JAX_PLATFORMS": "cpu",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # it cannot be read without the card
    "XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false",
}
UNSCORED = 3  # exit status of --detect where some video could not be scored
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--config",
        metavar="NAME|PATH",
        help="train with configs/NAME.py or a file; a file is run as Python, so use only your own",
    )
    add("--restore", metavar="RUN", type=Path, help="use a trained run")
    add("--vmap-seeds", metavar="N", type=int, help="seeds trained side by side")
    add("--model", metavar="NAME", help="a file of semvad_jax/models (default: the config's)")
    add(
        "--data",
        metavar="STORE|tfds:DIR",
        nargs="+",
        action="extend",
        help="feature store (default: the config's); --study: LABEL=STORE …",
    )
    add(
        "--out",
        metavar="DIR",
        type=Path,
        help="RUN (default: runs/<config>); --detect's output; --study: in place of runs/studies",
    )
    add("--seeds", metavar="9,234,…", type=_seeds, help="weight seeds (default: the authors' ten)")
    add("--data-seeds", metavar="9,234,…", type=_seeds, help="(default: the weight seeds)")
    add(
        "--seed-chunk",
        metavar="K|auto",
        type=_chunk,
        help="seeds that a device computes at once (default, auto: as many as fit; 1 on a CPU)",
    )
    add(
        "--cpu-devices",
        metavar="N",
        type=_devices,
        help="devices that a CPU's cores are split into, to share the seeds (default: one a core)",
    )
    add(
        "--hosts",
        metavar="I/N@ADDRESS:PORT",
        type=_place,
        help="train as host I of N, which share the seeds; host 0 waits for the others there",
    )
    add("--resume", action="store_true", help="go on with an interrupted run")
    add(
        "--plan",
        action="store_true",
        help="--config: the memory and time that the run would take; nothing is trained",
    )
    add(
        "--target",
        choices=TARGETS,
        help="--plan: for a GPU that is not here (needs the extra cuda12)",
    )
    add(
        "--set", metavar="section.field=value", action="append", default=[], help="one config field"
    )
    add("--eval", action="store_true", help="judge the restored run, or --from-torch's weights")
    add(
        "--from-torch",
        metavar="FILE",
        type=Path,
        help="published weights, by featurize/convert_checkpoint.py",
    )
    add(
        "--detect",
        metavar="VIDEO|DIR|STORE",
        help="score a video, a folder of videos or a store's with the restored run",
    )
    add(
        "--watch",
        metavar="SOURCE",
        help="score rtsp://…, http://…, https://…, udp://…, /dev/videoN or a file as it comes",
    )
    add("--on-event", metavar="COMMAND", help="--watch: run with every event as JSON on its input")
    add("--port", metavar="N", type=int, help="--watch: serve a live page at 127.0.0.1:N")
    add("--host", metavar="ADDRESS", help="--watch --port: serve it there, to who has its token")
    add(
        "--threshold",
        metavar="X",
        type=_score,
        help="--detect, --watch: a score above it is an event",
    )
    add(
        "--alarms-per-hour",
        metavar="X",
        type=_positive,
        help="--detect, --calibrate, --watch: the lowest threshold that normal videos show to have "
        "no more false alarms (upper 95 %% bound)",
    )
    add(
        "--close",
        metavar="SHARE",
        type=_score,
        help="--detect, --calibrate, --watch: an event goes on while scores are above this share "
        "of the threshold (default 1; chosen on val with --alarms-per-hour)",
    )
    add(
        "--least",
        metavar="SECONDS",
        type=_seconds,
        help="--detect, --calibrate, --watch: what is shorter is no event (default 0; chosen on "
        "val with --alarms-per-hour)",
    )
    add(
        "--calibrate",
        metavar="VIDEO|DIR|STORE",
        help="choose the threshold for --alarms-per-hour on normal videos of your own camera",
    )
    add(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="--detect, --watch: the threshold that --calibrate wrote to --out",
    )
    add(
        "--weights",
        metavar="NAME=DIR",
        nargs="+",
        default=[],
        help="--detect, --watch, --study: local weights for the featurizer, see featurize/run.py",
    )
    add(
        "--class-map",
        metavar="FILE",
        type=Path,
        help="--eval, --study table9: JSON {class: its counterpart in a store of other classes}",
    )
    add(
        "--other-captioner",
        action="store_true",
        help="--eval --data STORE: its captions are by another model, in place of the run's own",
    )
    add("--export", metavar="DIR", type=Path, help="--restore: a scorer that needs jax alone")
    add(
        "--to-torch",
        metavar="DIR",
        type=Path,
        help="--restore: the weights as VadCLIP's or SemVAD's program has them, a file a seed",
    )
    add(
        "--lookahead",
        metavar="K|all",
        nargs="+",
        type=_lookahead,
        help="--eval: in real time, each snippet scored when K more have come; all: plain --eval",
    )
    add("--verify", action="store_true", help="read every store whole, also those read before")
    add("--scorer", metavar="NAME", help="judge STORE/scores_NAME.npy, of --data STORE")
    add("--compare", metavar=("RUN_A", "RUN_B"), type=Path, nargs=2, help="compare two runs")
    add("--folds", metavar="K", type=int, help="--study preset: of its cross-validation")
    add("--study", metavar="NAME", help="train and print configs/studies/NAME.py (resumes)")
    add("--results", metavar="DIR", type=Path, help="print what DIR's runs found, as Markdown")
    args = parser.parse_args(argv)
    tasks = (args.config and not args.study, args.restore, args.compare, args.study, args.results)
    if sum(bool(task) for task in (*tasks, args.scorer)) != 1:
        parser.error(
            "give either --config, to train, --restore, to use a trained run, --scorer, for a "
            "training-free system, --compare, for two runs, --study or --results"
        )
    if args.study and (args.eval or args.detect or args.from_torch):
        parser.error("--study goes without --eval, --detect and --from-torch")
    if args.data and not args.study:
        if len(args.data) > 1:
            parser.error("--data takes one STORE; several, LABEL=STORE, are for --study")
        args.data = args.data[0]
    if args.compare and (args.eval or args.detect or args.data or args.out):
        parser.error("--compare takes two runs, each judged on its own store, and nothing else")
    if args.scorer and (not args.data or _others(args, parser, "scorer", "data", "out")):
        parser.error("--scorer NAME needs --data STORE, and takes --out DIR and nothing else")
    if args.results and (args.eval or args.detect or args.data or args.out):
        parser.error("--results takes a directory and nothing else")
    handed_on = args.export or args.to_torch
    uses = (args.eval, args.detect, args.calibrate, args.watch, args.export, args.to_torch)
    if args.restore and sum(map(bool, uses)) != 1:
        parser.error(
            "--restore needs one of --eval, --detect VIDEO|DIR|STORE, --calibrate DIR, "
            "--watch SOURCE, --export DIR and --to-torch DIR"
        )
    if handed_on and (not args.restore or _others(args, parser, "restore", "export", "to_torch")):
        parser.error("--export DIR and --to-torch DIR take --restore RUN and nothing else")
    if args.plan and (not args.config or args.study or args.from_torch):
        parser.error("--plan goes with --config NAME, and plans its training")
    if args.hosts and (not args.config or args.study or args.plan or args.from_torch):
        parser.error("--hosts goes with --config NAME, and trains")
    if args.target and not args.plan:
        parser.error("--target is for --plan")
    if args.from_torch and not (args.config and args.eval):
        parser.error("--from-torch needs --config NAME and --eval")
    if args.config and (args.detect or args.calibrate or args.eval and not args.from_torch):
        parser.error("--eval, --detect and --calibrate need --restore RUN")
    if (args.detect or args.calibrate or args.watch) and not args.out:
        parser.error("--detect, --calibrate and --watch need --out DIR")
    if args.watch and not args.restore:
        parser.error("--watch needs --restore RUN")
    if (args.on_event or args.port is not None) and not args.watch:
        parser.error("--on-event and --port are for --watch")
    if args.host and args.port is None:
        parser.error("--host needs --port N")
    _check_events(args, parser)
    if args.class_map and not (args.study or args.restore and args.eval and args.data):
        parser.error("--class-map needs --restore RUN --eval --data STORE, or --study table9")
    if args.folds is not None and (not args.study or args.folds < 2):
        parser.error("--folds K is for a study by cross-validation, such as preset; 2 or more")
    if args.other_captioner and not (args.restore and args.eval and args.data):
        parser.error("--other-captioner needs --restore RUN --eval --data STORE")
    if args.lookahead and (not (args.restore and args.eval) or args.data):
        parser.error("--lookahead needs --restore RUN --eval, and is judged on RUN's own store")
    if args.weights and not (args.detect or args.calibrate or args.watch or args.study):
        parser.error(
            "--weights is for --detect, --calibrate, --watch, --study table4 and --study runtime"
        )
    return args


def _check_events(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses what does not go together in the options that say what an event is."""
    one_of, more = ("threshold", "alarms_per_hour", "calibration"), ("close", "least")
    given = [name for name in (*one_of, *more) if getattr(args, name) is not None]
    if given and not (args.detect or args.calibrate or args.watch):
        parser.error(f"--{given[0].replace('_', '-')} is for --detect and --watch")
    if args.calibrate and [name for name in given if name in one_of] != ["alarms_per_hour"]:
        parser.error("--calibrate DIR needs --alarms-per-hour X, by which it chooses a threshold")
    if len([name for name in given if name in one_of]) > 1:
        parser.error("give one of --threshold, --alarms-per-hour and --calibration")
    if args.calibration and len(given) > 1:
        parser.error("--calibration FILE says itself what --close and --least were")


def _others(
    args: argparse.Namespace, parser: argparse.ArgumentParser, *names: str
) -> dict[str, object]:
    """The options that are given besides the named ones."""
    given = {name: value for name, value in vars(args).items() if name not in names}
    return {name: value for name, value in given.items() if value != parser.get_default(name)}


def _seeds(text: str) -> list[int]:
    seeds = [int(part) for part in text.split(",")]
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise argparse.ArgumentTypeError("seeds are whole numbers from 0 to 2**32 - 1")
    return seeds


def _score(text: str) -> float:
    if not 0 <= (score := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no score; scores are from 0 to 1")
    return score


def _lookahead(text: str) -> int | Literal["all"]:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of snippets; give 0, 1, … or all")
    return "all" if text == "all" else int(text)


def _devices(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{count} is no number of devices; give 1 or more")
    return count


def _place(text: str) -> Place:
    try:
        return Place.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no length in seconds")
    return seconds


def _positive(text: str) -> float:
    if not 0 < (rate := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no rate; give a number above 0")
    return rate


def _chunk(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _seed_count(args: argparse.Namespace) -> int:
    """How many seeds the options ask for; 0 where they say nothing."""
    return args.vmap_seeds or len(args.seeds or args.data_seeds or ())


def _seed_pairs(args: argparse.Namespace) -> tuple[list[int], list[int]]:
    """(weight seeds, data seeds), equally many: `config.default_seeds` where none are named.

    Raises BadInput where the options do not agree on how many.
    """
    count = _seed_count(args) or 1
    weights = args.seeds or config.default_seeds(count)
    orders = args.data_seeds or weights
    if not count == len(weights) == len(orders):
        raise BadInput(
            f"--vmap-seeds {count}, {len(weights)} weight seeds and {len(orders)} data seeds do "
            "not agree; give as many of each"
        )
    pairs = list(zip(weights, orders, strict=True))
    twice = [pair for i, pair in enumerate(pairs) if pair in pairs[:i]]
    if twice:
        raise BadInput(
            f"weight seed {twice[0][0]} with data seed {twice[0][1]} is there twice, which would "
            "count one run as several; give each pair once"
        )
    return weights, orders


def train(args: argparse.Namespace) -> None:
    """--config: trains a run, or with --from-torch judges published weights."""
    weight_seeds, data_seeds = _seed_pairs(args)
    overrides = [f"model.name={args.model}"] if args.model else []
    overrides += [f"data.store={args.data}"] if args.data else []
    cfg = config.load(args.config, overrides + args.set)

    if args.target:
        os.environ |= COMPILING_FOR_A_TARGET  # before jax is imported
    from semvad_jax import run
    from semvad_jax.report import plan, published

    if args.plan:
        plan.plan(cfg, len(weight_seeds), args.seed_chunk, args.target)
        return
    if args.from_torch:
        published.evaluate(cfg, args.from_torch)
        return
    name = Path(args.config).stem
    out = args.out or Path("runs") / name
    seeds, place = (weight_seeds, data_seeds), args.hosts
    run.train(cfg, out, name, *seeds, args.seed_chunk, args.resume, place=place)


def use(args: argparse.Namespace) -> None:
    """--restore: judges a trained run, detects with it, or hands it on."""
    from semvad_jax import run

    if args.export or args.to_torch:
        from semvad_jax import export

        if args.export:
            export.export(args.restore, args.export)
        else:
            export.to_torch(args.restore, args.to_torch)
        return
    if args.lookahead:
        run.evaluate_in_real_time(args.restore, args.lookahead)
        return
    if args.eval:
        run.evaluate(args.restore, args.data, args.class_map, args.other_captioner)
        if args.other_captioner:
            from semvad_jax.compare import captions_exchanged

            captions_exchanged(args.restore, args.data)
        return
    asked = _asked(args)
    with locked(args.out):
        if args.calibrate:
            data, _, unreadable, _ = _featurized(args, args.calibrate)
            run.calibrate(args.restore, data, args.out, unreadable, asked)
            return
        by = run.origin(args.restore, asked)  # what cannot be had is said before hours of decoding
        data, files, unreadable, frames = _featurized(args, args.detect)
        whole = run.detect(args.restore, data, args.out, files, unreadable, by, frames)
    if not whole:
        index = args.out / "index.html"
        _fail(f"some videos could not be scored; {index} tells why", UNSCORED)


def _asked(args: argparse.Namespace) -> "Asked":
    """What the command line says of events."""
    from semvad_jax.detection.thresholds import Asked

    return Asked(args.threshold, args.alarms_per_hour, args.calibration, args.close, args.least)


def _featurized(
    args: argparse.Namespace, given: str
) -> "tuple[str, dict[str, Path], dict[str, str], Frames | None]":
    """The store of the videos that are given, made for the restored run where they are none; their
    files, and of those that could not be read the reasons, by name; and what decodes the files.
    """
    from semvad_jax import run
    from semvad_jax.store.locate import is_store

    if is_store(given):
        return given, {}, {}, None
    from featurize import own_videos, request, thumbnails

    weights = request.local_weights(args.weights)
    producers, folder = run.producers(args.restore), args.out / ".features"
    try:
        own = own_videos.featurize(Path(given), folder, producers, weights)
        return own.store, own.files, own.unreadable, thumbnails.of_files(own.files)
    except own_videos.NothingReadable as error:
        if args.detect:
            run.nothing_scored(args.restore, args.out, error.unreadable)
        raise
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues from here", 130)


def watch(args: argparse.Namespace) -> None:
    """--watch: scores a camera, a stream or a file as it comes."""
    # before jax is imported: the models that look need memory of the same GPU
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from featurize import live, live_features, request
    from semvad_jax import run

    source = live.address(args.watch)
    live.check(source)
    weights = request.local_weights(args.weights)
    place = None if args.port is None else (args.host or "127.0.0.1", args.port)
    try:
        with locked(args.out):
            camera = live_features.Camera(source, run.producers(args.restore), weights)
            status = run.watch(args.restore, camera, args.out, _asked(args), args.on_event, place)
    except KeyboardInterrupt:
        _fail("interrupted; what was written stays", 130)
    if status:
        sys.exit(status)


def compare(args: argparse.Namespace) -> None:
    """--compare: two runs side by side."""
    from semvad_jax import compare

    compare.compare(*args.compare)


def scorer(args: argparse.Namespace) -> None:
    """--scorer: a training-free system's scores beside a store."""
    from semvad_jax import training_free

    training_free.tell(args.scorer, args.data, args.out)


def results(args: argparse.Namespace) -> None:
    """--results: what runs and studies found, as Markdown."""
    from semvad_jax.studies.results import markdown

    print(markdown(args.results), end="")


def study(args: argparse.Namespace) -> None:
    """--study: a table or figure of the paper."""
    from semvad_jax.studies.captions import CaptionMatch
    from semvad_jax.studies.find import find_study
    from semvad_jax.studies.folds import CrossValidation
    from semvad_jax.studies.study import OUT, Study

    asked, name = find_study(args.study), Path(args.study).stem
    home = (args.out or OUT) / name
    if isinstance(asked, Study):
        _train_rows(args, asked, name)
    elif isinstance(asked, CrossValidation):
        _cross_validate(args, asked, name)
    elif isinstance(asked, CaptionMatch):
        _match_captions(args, asked, name, home)
    else:
        _time_stages(args, asked, name, home)


def _train_rows(args: argparse.Namespace, study: "Study", name: str) -> None:
    from semvad_jax.studies import table, trained

    _without(args, "reads finished stores", "weights", "folds")
    if args.model:
        study = _of_model(args, study)
    options = study_options(args, study)
    table.tell(study, name, trained.run(study, options), options)


def _of_model(args: argparse.Namespace, study: "Study") -> "Study":
    """A study of one model, as one of another; BadInput where the study compares several."""
    from semvad_jax.studies.study import Row

    if len(study.rows) > 1:
        raise BadInput(f"--study {args.study} names its models; leave out --model")
    config.check_model(args.model)
    row = Row(args.model, args.model, (f"model.name={args.model}",))
    return replace(study, rows=(row,))


def study_options(args: argparse.Namespace, study: "Study") -> "Options":
    """What the command line asks of a study that trains."""
    from semvad_jax.studies.study import OUT, Options

    if not _seed_count(args):
        args.vmap_seeds = study.seeds
    weight_seeds, data_seeds = _seed_pairs(args)
    if study.data_seed is not None and not args.data_seeds:
        data_seeds = [study.data_seed] * len(weight_seeds)
    return Options(
        data=args.data or [],
        base=args.config,
        overrides=args.set,
        weight_seeds=weight_seeds,
        data_seeds=data_seeds,
        chunk=args.seed_chunk,
        class_map=args.class_map,
        out=args.out or OUT,
    )


def _cross_validate(args: argparse.Namespace, study: "CrossValidation", name: str) -> None:
    from semvad_jax.studies import folds
    from semvad_jax.studies.study import OUT

    useless = ("model", "config", "set", "class_map", "weights", "seeds", "data_seeds")
    _without(args, "is a cross-validation", *useless, "seed_chunk")
    out, count = args.out or OUT, args.vmap_seeds or study.seeds
    asked = study.folds if args.folds is None else args.folds
    folds.tell(folds.run(study, name, args.data or [], asked, count, out), out)


def _match_captions(args: argparse.Namespace, study: "CaptionMatch", name: str, home: Path) -> None:
    from featurize import producers, request
    from semvad_jax.studies import captions

    _without(
        args, "trains nothing", "folds", "model", "config", "set", "class_map", "resume", *SEEDS
    )
    encoders = producers.encoders(request.local_weights(args.weights))
    captions.tell(study, captions.run(study, name, args.data or [], encoders), home)


def _time_stages(args: argparse.Namespace, study: "Runtime", name: str, home: Path) -> None:
    from semvad_jax.studies import runtime, timing

    _without(
        args, "times one seed with fresh weights", "folds", "model", "class_map", "resume", *SEEDS
    )
    plan = runtime.plan(study, args.data or [], args.config, args.set)

    from featurize import request
    from featurize import runtime as featurizer

    counts = study.warm_up, study.snippets
    weights = request.local_weights(args.weights)
    video, stages = featurizer.stages(plan.video, plan.features, weights, *counts, home / "video")
    stages.append(timing.detection(plan.cfg, plan.features, *counts))
    others = [
        timing.detection(cfg, plan.features, *counts, f"detection by {name}")
        for name, cfg in plan.others.items()
    ]
    scorers = featurizer.scorers(video, plan.features, weights, *counts)
    timed = runtime.Timed(plan, video.path, video.fps, stages, others, scorers)
    runtime.tell(study, name, timed, home)


def _without(args: argparse.Namespace, why: str, *names: str) -> None:
    """Refuses options that a study has no use for."""
    useless = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name)]
    if useless:
        raise BadInput(f"--study {args.study} {why}; leave out {' and '.join(useless)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends in one sentence and status 2."""
    args = arguments(argv)
    # before jax is imported: what one command compiled the next one takes from there
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_compiled()))
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")  # of a GPU's memory
    if args.cpu_devices:
        os.environ["JAX_NUM_CPU_DEVICES"] = str(args.cpu_devices)
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(_cpu_devices(args)))
    try:
        if args.verify:
            verified.forget()
        if args.study:
            study(args)
        elif args.config:
            train(args)
        elif args.scorer:
            scorer(args)
        elif args.compare:
            compare(args)
        elif args.results:
            results(args)
        elif args.watch:
            watch(args)
        else:
            use(args)
    except BadInput as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted; what was saved stays, and --resume goes on from there", 130)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        where = error.filename or "the output"
        _fail(f"cannot write {where}: {os.strerror(error.errno)}; what was saved before stays", 2)


def _cpu_devices(args: argparse.Namespace) -> int:
    """One a core where seeds are trained, if there are seeds for so many; else 1."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        cores = len(os.sched_getaffinity(0))
    seeds = _seed_count(args)
    seeds = -(-seeds // args.hosts.count) if args.hosts else seeds
    return min(cores, seeds or (cores if args.study else 1))


def _compiled() -> Path:
    """Where compiled programs are kept: a folder for each kind of processor, since a program for
    one may not run on another that shares this user's files.
    """
    lines = CPU.read_text().splitlines() if CPU.is_file() else [platform.machine()]
    flags = [line for line in lines if line.startswith(("flags", "Features"))] or lines[:1]
    kind = hashlib.sha256(flags[0].encode()).hexdigest()[:8]
    return cache_folder() / f"compiled-{kind}"


def _fail(sentence: str, status: int) -> NoReturn:
    """Ends the program with one line."""
    print(f"error: {printable(sentence)}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
