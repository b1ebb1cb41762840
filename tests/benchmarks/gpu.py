"""The program on one GPU: the demo run as a user starts it, then the papers' sizes on random data.

python tests/benchmarks/gpu.py RESULTS.jsonl [--seconds N] [--limit N] [--small] [SETTING ...]

Each setting runs in a process of its own and leaves one JSON line in RESULTS.jsonl as soon as it is
over, also where memory or time ran out; after `--seconds` no other is started. Settings, in the
order of the default:

    ceilings                    the rates of plain matrix products and of a copy on this device
    demo:bfloat16               `main.py --config demo --vmap-seeds 10`, as users get it
    demo:float32                the same with train.dtype=float32
    demo:exact                  the same besides with JAX_DEFAULT_MATMUL_PRECISION=float32
    compare                     `main.py --compare` of the first two
    ucf:semvad:float32:10       CONFIG:MODEL:DTYPE:CHUNK[:SEEDS[:REMAT]], ten seeds unless given:
                                compile time, memory, a step, an evaluation, what a whole run would
                                take; CHUNK auto: what fits
    placements                  a step of ten seeds of `ucf` in bfloat16, with features on the
                                device and on the host, in chunks of 10, 5, 2 and 1, and by a
                                quarter of a batch at a time; the first intervals of a run; all
                                programs compiled side by side
    bits                        a seed alone against the same seed among ten, at the same width
    widths                      ten steps of chunk 10 against chunk 1, float32 products
    tests                       the repository's quick tests that run JAX, on this device

`ucf` and `xd` need no features: the store is made of random numbers in memory, with a text tower
of CLIP ViT-B/16's size. `--small` shrinks all sizes for a try on a CPU.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = (
    "ceilings demo:float32 ucf:semvad:float32:10 ucf:semvad:bfloat16:10 bits demo:bfloat16 compare "
    "widths ucf:semvad:float32:1 ucf:semvad:bfloat16:1 ucf:semvad:float32:1:1 "
    "ucf:semvad:bfloat16:5 ucf:semvad:float32:5 ucf:vadclip:float32:10 xd:semvad:float32:10 "
    "demo:exact bits tests"
).split()
SEEDS = (9, 234, 42, 1, 256, 512, 7, 72, 34, 100)
TESTS = "convert vadclip semvad losses seeds".split()
STEPS = 10  # timed in one execution
RESULT = "RESULT "  # what a setting's process says begins a line with this


# --- the parent: one process a setting, one line a setting ---


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("settings", nargs="*", default=DEFAULT, metavar="SETTING")
    parser.add_argument("--seconds", type=float, default=1e4, help="start no setting after these")
    parser.add_argument("--limit", type=float, default=400, help="seconds a setting may take")
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "gpu_runs")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    if args.one:
        one(args.settings[0], args.small, args.runs)
        return
    begun = time.monotonic()
    for setting in args.settings:
        if time.monotonic() - begun > args.seconds:
            print(f"not started: {setting}")
            continue
        facts = in_process(setting, args)
        shown = {k: v for k, v in facts.items() if k not in ("losses", "printed", "metrics")}
        print(json.dumps(shown)[:4000], flush=True)
        with args.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")


def in_process(setting: str, args: argparse.Namespace) -> dict[str, Any]:
    """The last that a setting's process said before it ended or was stopped."""
    command = [sys.executable, __file__, "--one", str(args.results), setting]
    command += ["--runs", str(args.runs)] + ["--small"] * args.small
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    begun, facts = time.monotonic(), {"setting": setting}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watch = threading.Timer(args.limit, os.killpg, (process.pid, 9))
    watch.start()
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(RESULT):
            facts |= json.loads(line.removeprefix(RESULT))
        else:
            print(line, end="", flush=True)
    status = process.wait()
    watch.cancel()
    seconds = time.monotonic() - begun
    if status:
        facts["status"] = "stopped at the limit" if seconds >= args.limit else status
    return facts | {"process_s": round(seconds, 1)}


def say(facts: dict[str, Any]) -> None:
    print(RESULT + json.dumps(facts), flush=True)


# --- a setting ---


def one(setting: str, small: bool, runs: Path) -> None:
    name, *rest = setting.split(":")
    if name in ("demo", "compare"):
        demo(rest[0], runs, small) if rest else compare(runs)
        return
    if name == "tests":
        tests()
        return
    if name == "widths":
        os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "float32"
    if name in ("ucf", "xd", "placements"):
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    import jax

    device = jax.devices()[0]
    say({"device": device.device_kind, "jax": jax.__version__})
    if name == "ceilings":
        ceilings(small)
    elif name == "bits":
        bits()
    elif name == "widths":
        widths()
    elif name == "placements":
        placements(small)
    else:
        whole_size(name, *rest, small=small)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until what `work` returns is computed."""
    import jax

    begun = time.perf_counter()
    result = jax.block_until_ready(work())
    return time.perf_counter() - begun, result


def command(*words: str, **environment: str) -> tuple[int, str, float]:
    """A command's status, the end of what it printed, and its seconds; shown as it is printed."""
    begun, lines = time.perf_counter(), []
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return process.wait(), "".join(lines)[-4000:], round(time.perf_counter() - begun, 1)


def demo(kind: str, runs: Path, small: bool) -> None:
    run = runs / kind
    words = [sys.executable, "main.py", "--config", "demo", "--vmap-seeds", "10"]
    words += ["--out", str(run)]
    words += ["--set", "train.dtype=float32"] if kind != "bfloat16" else []
    words += ["--set", "train.epochs=1"] if small else []
    exact = {"JAX_DEFAULT_MATMUL_PRECISION": "float32"} if kind == "exact" else {}
    status, printed, seconds = command(*words, **exact)
    facts: dict[str, Any] = {"status": status, "command_s": seconds, "printed": printed}
    if not status:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        facts |= {k: summary[k] for k in ("device", "steps", "wall_seconds", "train_seconds")}
        facts["metrics"] = {k: [v["mean"], v["sd"]] for k, v in summary["metrics"].items()}
        facts["last/binary/auc"] = summary["metrics"]["last/binary/auc"]["values"]
    say(facts)


def compare(runs: Path) -> None:
    pair = str(runs / "float32"), str(runs / "bfloat16")
    status, printed, seconds = command(sys.executable, "main.py", "--compare", *pair)
    say({"status": status, "command_s": seconds, "printed": printed})


def tests() -> None:
    """Without the checks of shapes, which need beartype; one test asks for two devices."""
    files = [f"tests/test_{name}.py" for name in TESTS]
    options = ["-v", "-o", "addopts=", "-p", "no:cacheprovider", "-m", "not slow", "--tb=short"]
    quiet = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    status, printed, seconds = command(sys.executable, "-m", "pytest", *options, *files, **quiet)
    say({"status": status, "command_s": seconds, "printed": printed})


def ceilings(small: bool) -> None:
    """TFLOP/s of [n, n] products and GB/s of a copy, bytes read and written counted; random data.

    `ours`: the program's own largest product, ten seeds' [rows, 1024] by [1024, 4096].
    """
    import jax
    import jax.numpy as jnp

    n, rows = (256, 64) if small else (8192, 32768)
    facts: dict[str, Any] = {}

    def rate(work: Callable, amount: float, *arrays: jax.Array) -> float:
        go = jax.jit(work)
        jax.block_until_ready(go(*arrays))
        seconds = [timed(lambda: [go(*arrays) for _ in range(10)])[0] for _ in range(3)]
        return round(10 * amount / statistics.median(seconds), 1)

    def matrix(key: int, shape: tuple[int, ...], dtype: str) -> jax.Array:
        return jax.random.normal(jax.random.key(key), shape, jnp.dtype(dtype))

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return a @ b

    for dtype in ("float32", "bfloat16"):
        square = matrix(0, (n, n), dtype), matrix(1, (n, n), dtype)
        facts[f"{dtype} square"] = rate(product, 2e-12 * n**3, *square)
        ours = matrix(2, (10, rows, 1024), dtype), matrix(3, (10, 1024, 4096), dtype)
        facts[f"{dtype} ours"] = rate(product, 2e-12 * 10 * rows * 1024 * 4096, *ours)
        del ours
    square = matrix(0, (n, n), "float32"), matrix(1, (n, n), "float32")
    exact = partial(jnp.matmul, precision="float32")
    facts["float32 square, exact"] = rate(exact, 2e-12 * n**3, *square)
    long = matrix(4, (n * n * 4,), "float32")
    facts["copy GB/s"] = rate(lambda a: -a, 2e-9 * long.nbytes, long)
    say({"ceilings": facts})


# --- whole sizes on random data ---


SMALL = {"train": 40, "anomalous": 20, "crops": 2, "test": 12, "snippets": 400, "classes": 4}
SMALL_CONFIG = ["model.dim=16", "model.length=32", "train.batch=8"]


def random_store(cfg: Any, small: bool) -> Any:
    """A store of random features of the size of the config's data set.

    Rows repeat after 16,411, a prime, so that no two videos are alike.
    """
    import numpy as np

    from semvad_jax.report import plan

    if small:
        plan.SIZES[cfg.data.dataset] = plan.Size(**SMALL)
    store, rng = plan.public_store(cfg), np.random.default_rng(0)

    def features(shape: tuple[int, ...]) -> np.ndarray:
        block = rng.standard_normal((16_411, shape[1]), np.float32).astype(np.float16)
        return np.resize(block, shape)

    def text(name: str, zeros: np.ndarray) -> np.ndarray:
        if name == "class_tokens":
            return zeros
        if "ln_" in name:
            return np.full(zeros.shape, name.endswith("weight"), np.float32)
        scale = np.float32(0.03 if name.startswith("text_tower") else 1)
        return scale * rng.standard_normal(zeros.shape, np.float32)

    return dataclasses.replace(
        store,
        visual=features(store.visual.shape),
        caption_embedding=features(store.caption_embedding.shape),
        class_text={name: text(name, zeros) for name, zeros in store.class_text.items()},
    )


def whole_size(
    dataset: str,
    model: str,
    dtype: str,
    chunk: str,
    seeds: str = "10",
    remat: str = "auto",
    *,
    small: bool,
) -> None:
    """Tells what it knows after every stage, so that an error or a time limit loses nothing."""
    facts: dict[str, Any] = {"status": "begun"}
    try:
        width = int(chunk) if chunk.isdigit() else None
        for found in stages(dataset, model, dtype, width, int(seeds), remat, small):
            facts |= found
            say(facts)
        say({"status": 0})
    except Exception as error:  # out of memory is a result too
        text = f"{type(error).__name__}: {error}"
        say({"status": "failed", "error": text[:1500], **device_memory()})


def stages(
    dataset: str, model: str, dtype: str, chunk: int | None, seeds: int, remat: str, small: bool
) -> Iterator[dict[str, Any]]:
    import jax
    import numpy as np

    from semvad_jax import config
    from semvad_jax.report import plan
    from semvad_jax.seeds import Program

    begun = time.perf_counter()
    sets = [f"model.name={model}", f"train.dtype={dtype}", *SMALL_CONFIG * small]
    sets += [f"train.remat={remat}"] if remat != "auto" else []
    cfg = config.load(dataset, sets)
    store = random_store(cfg, small)
    cfg = config.resolve(cfg, store)
    made = time.perf_counter()
    program = Program(cfg, store, seeds, chunk)
    jax.block_until_ready((program.frozen, program.rows, program.windows))
    bytes_of = {"train rows": program.rows, "test windows": program.windows}
    yield {
        "seeds": seeds,
        "chunk": program.layout.width,
        "remat": program.cfg.train.remat,
        "store_s": round(made - begun, 1),
        "placing_s": round(time.perf_counter() - made, 1),
        "rows": program.rows.visual.shape[0],
        "window_slots": int(np.prod(program.windows[0].length.shape)),
        "steps": program.steps,
        "evaluations": len(program.evaluations),
        "data_bytes": {k: sum(x.nbytes for x in jax.tree.leaves(v)) for k, v in bytes_of.items()},
        "placed": device_memory(),
    }

    for name, part in (("interval", "training"), ("scoring", "score_windows")):
        seconds, compiled = timed(lambda part=part: getattr(program, part))
        yield {f"compile_{name}_s": round(seconds, 1), f"{name}_bytes": analysis(compiled)}

    def go(chunks: Any, steps: int) -> Any:
        return execute(program, chunks, steps)

    def losses(measured: Any) -> np.ndarray:
        return program.own(measured)["loss"][:, :steps]

    steps, chosen = min(STEPS, program.longest), SEEDS[:seeds]
    seconds, state = timed(lambda: program.init(chosen, chosen))
    of_part = plan.products(program)
    flops = sum(of_part.values())
    yield {
        "init_s": round(seconds, 1),
        "memory": dataclasses.asdict(program.memory()),
        "limit": program.limit,
        "products_tflop": {k: seeds * v / 1e12 for k, v in of_part.items()},
    }

    begin = program.own(state)
    seconds, (state, measured) = timed(lambda: go(state, steps))
    first, marks = losses(measured), checksums([c.params for c in state])
    yield {"warm_up_s": seconds, "losses": first.round(6).tolist(), "trained": device_memory()}
    del state, measured
    # again from the start: the time, and whether the same program gives the same numbers
    state = jax.block_until_ready(program.adopt(begin))
    seconds, (state, measured) = timed(lambda: go(state, steps))
    repeats = [seconds]
    same = {
        "losses": bool(np.array_equal(first, losses(measured))),
        "weights": bool(np.array_equal(marks, checksums([c.params for c in state]))),
    }
    while sum(repeats) < 4 and len(repeats) < 5:
        seconds, (state, measured) = timed(lambda s=state: go(s, steps))
        repeats.append(seconds)
    step = statistics.median(repeats) / steps
    yield {"step_s": step, "intervals_s": repeats, "repeats_to_the_bit": same}

    def score() -> Any:
        windows = (program.frozen, program.windows)
        return [program.score_windows(windows, c.weights) for c in state]

    timed(score)
    scoring = statistics.median(timed(score)[0] for _ in range(2))
    weights = [c.weights for c in state]
    judging = timed(lambda: program.judge(weights))[0]
    judging = timed(lambda: program.judge(weights))[0]
    run = program.steps * step + len(program.evaluations) * judging
    yield {
        "scoring_s": scoring,
        "evaluation_s": judging,
        "host_s": judging - scoring,
        "whole_run_s": round(run),
        "scored": device_memory(),
        "tflops": seeds * flops / step / 1e12,
    }
    if program.layout.width == seeds:
        try:
            traced = min(3, steps)
            yield {"kernels_ms_a_step": kernels(lambda: go(state, traced), traced)}
        except Exception as error:  # not every device can be traced
            yield {"kernels_ms_a_step": f"{type(error).__name__}: {error}"[:300]}


def placements(small: bool) -> None:
    from semvad_jax import config, data
    from semvad_jax.seeds import Program

    sets = ["train.dtype=bfloat16", "train.remat=none", *SMALL_CONFIG * small]
    cfg = config.load("ucf", sets)
    store = random_store(cfg, small)
    cfg = config.resolve(cfg, store)
    rows = data.train_data(cfg, store, data.split(cfg, store)[0])
    data.train_data = lambda *_: rows  # read once
    quarter = cfg.train.batch // 4
    wanted = [("device", 10, 0), ("host", 10, 0), ("device", 10, quarter), ("host", 1, 0)]
    programs = []
    for place, chunk, part in [*wanted, ("device", 1, 0), ("device", 5, 0), ("device", 2, 0)]:
        placed = dataclasses.replace(cfg.data, placement=place)
        parts = dataclasses.replace(cfg.train, microbatch=part)
        one = dataclasses.replace(cfg, data=placed, train=parts)
        programs.append(Program(one, store, len(SEEDS), chunk))
        if place == "device":
            programs[-1].rows = programs[0].rows
    say({"made": device_memory()})
    steps = min(STEPS, programs[0].longest)
    with ThreadPoolExecutor() as pool:  # none is timed while another compiles, and tries kernels
        begun = [pool.submit(timed, lambda p=p: p.training) for p in programs]
        begun.append(pool.submit(timed, lambda: programs[0].score_windows))
        compile_s = [round(compiling.result()[0], 1) for compiling in begun]
    say({"compile_s": compile_s})
    for program in programs:
        first, taken = intervals(program, steps)
        found = {
            "step_s": statistics.median(taken) / steps,
            "intervals_s": taken,
            "memory": dataclasses.asdict(program.memory()),
            "losses": hashlib.sha256(first.tobytes()).hexdigest()[:12],
            **device_memory(),
        }
        named = program.cfg.data.placement, program.layout.width, program.cfg.train.microbatch
        say({" ".join(map(str, named)): found})
    whole_run(programs[0])


def intervals(program: Any, steps: int) -> tuple[Any, list[float]]:
    """The losses of a run's first steps, and the seconds that so many further ones took, twice."""
    chunks = program.init(SEEDS, SEEDS)

    def go() -> Any:
        return program.run_interval(chunks, steps), chunks

    first = program.own(timed(go)[1][0])["loss"][:, :steps]
    return first, [timed(go)[0] for _ in range(2)]


def whole_run(program: Any) -> None:
    """The first intervals of a run with their evaluations, and the run's time by these."""
    begun, ends = time.perf_counter(), [0.0]
    for interval in itertools.islice(program.train(program.init(SEEDS, SEEDS)), 5):
        ends.append(time.perf_counter() - begun)
        last = interval.step
    steps, spent = last - program.intervals[0][1], ends[-1] - ends[1]
    say(
        {
            "intervals": [round(b - a, 3) for a, b in itertools.pairwise(ends)],
            "steps": steps,
            "whole_run_s": round(spent / max(steps, 1) * program.steps),
        }
    )


def device_memory() -> dict[str, int]:
    import jax

    known = jax.devices()[0].memory_stats() or {}
    names = ("bytes_in_use", "peak_bytes_in_use", "bytes_limit", "largest_alloc_size")
    return {name: known[name] for name in names if name in known}


def analysis(compiled: Any) -> dict[str, int]:
    found = compiled.memory_analysis()
    names = ("argument", "temp", "output", "alias", "generated_code")
    return {name: getattr(found, f"{name}_size_in_bytes") for name in names} if found else {}


def checksums(tree: Any) -> Any:
    """A sum of the bits of every array, computed where the arrays lie."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    @jax.jit
    def sums(arrays: list) -> list:
        return [jnp.sum(jax.lax.bitcast_convert_type(a, jnp.uint32)) for a in arrays]

    return np.array(jax.device_get(sums(jax.tree.leaves(tree))))


def kernels(work: Callable[[], Any], steps: int) -> dict[str, Any]:
    """Device milliseconds a step by kind of kernel, and of the kernels that took most."""
    import jax

    kinds = {
        "matrix products": r"gemm|cutlass|nvjet|xmma|cublas|dot",
        "sorting": r"sort|top_?k",
        "copies": r"copy|memcpy|transpose|memset",
        "reductions": r"reduce|softmax",
        "element by element": r"fusion|wrapped",
    }
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(work())
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    busy, calls = Counter(), Counter()
    for plane in profile.planes:
        for line in plane.lines if "GPU" in plane.name else ():
            for event in line.events if "Stream" in line.name else ():
                busy[event.name] += event.duration_ns / 1e6 / steps
                calls[event.name] += 1
    by_kind: Counter[str] = Counter()
    for name, spent in busy.items():
        found = (kind for kind, pattern in kinds.items() if re.search(pattern, name.lower()))
        by_kind[next(found, "other")] += spent
    return {
        "kinds": {k: round(v, 2) for k, v in by_kind.most_common()},
        "all": round(sum(busy.values()), 2),
        "calls_a_step": round(sum(calls.values()) / steps),
        "most": [(n[:90], round(v, 2), calls[n] / steps) for n, v in busy.most_common(40)],
    }


# --- a seed's numbers ---


def demo_program(overrides: list[str], seeds: int, chunk: int) -> Any:
    from semvad_jax import config, store
    from semvad_jax.seeds import Program

    features = store.open(ROOT / "demo")
    cfg = config.load("demo", overrides)
    return Program(config.resolve(cfg, features), features, seeds, chunk)


def steps_of(program: Any, begin: Any, counts: tuple[int, ...]) -> tuple[Any, Any]:
    """The state and the losses [S, steps] after executions of so many steps each, on the host."""
    import numpy as np

    chunks, losses = program.adopt(begin), []
    for count in counts:
        chunks, measured = execute(program, chunks, count)
        losses.append(program.own(measured)["loss"][:, :count])
    return program.own(chunks), np.concatenate(losses, axis=1)


def execute(program: Any, chunks: Any, steps: int) -> tuple[list[Any], list[Any]]:
    """The chunks' states, and their losses, after one execution of so many steps."""

    chunks = list(chunks)
    return chunks, program.run_interval(chunks, steps)


def beginning(program: Any, chosen: tuple[int, ...]) -> Any:
    return program.own(program.init(chosen, chosen))


def bits() -> None:
    """Five steps of the demo: among ten, again, alone in a chunk of ten; equal to the bit?

    `digest` tells whether another process, which compiles anew, comes to the same numbers.
    """
    import jax
    import numpy as np

    from semvad_jax.seeds import select

    k = 2
    ten, one_of_ten = demo_program([], 10, 10), demo_program([], 1, 10)
    begin = beginning(ten, SEEDS)
    copies = jax.tree.map(lambda x: np.repeat(x[k : k + 1], 10, axis=0), begin)
    among, losses = steps_of(ten, begin, (5,))
    again, _ = steps_of(ten, begin, (5,))
    beside, _ = steps_of(ten, copies, (5,))
    alone, alone_losses = steps_of(one_of_ten, beginning(one_of_ten, SEEDS[k : k + 1]), (5,))

    def difference(a: Any, b: Any) -> dict[str, Any]:
        pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
        return {
            "equal": all(np.array_equal(x, y) for x, y in pairs),
            "largest": max(
                float(np.max(np.abs(np.subtract(x, y, dtype=np.float64)), initial=0))
                for x, y in pairs
                if x.dtype.kind == "f"
            ),
        }

    parts = [np.ascontiguousarray(x).tobytes() for x in jax.tree.leaves(among.params)]
    mine = select(among, k)
    say(
        {
            "status": 0,
            "same_program_twice": difference(among.params, again.params),
            "alone_in_a_program_of_its_own": difference(mine.params, select(alone, 0).params),
            "alone_in_the_same_program": difference(mine.params, select(beside, k).params),
            "in_another_slot": difference(mine.params, select(beside, 7).params),
            "losses_equal_alone": bool(np.array_equal(losses[k], alone_losses[0])),
            "digest": hashlib.sha256(b"".join(parts)).hexdigest()[:16],
        }
    )


def widths() -> None:
    import numpy as np

    programs = [demo_program(["train.lr=2e-5"], 10, chunk) for chunk in (10, 1)]
    begin = beginning(programs[0], SEEDS)
    wide, narrow = (steps_of(program, begin, (5, 5))[1] for program in programs)
    apart = np.abs(wide / narrow - 1).max(axis=0)
    say({"status": 0, "largest_relative_difference_a_step": apart.tolist()})


if __name__ == "__main__":
    main()
