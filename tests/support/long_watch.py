"""Watch a camera for a long time, and cut its connection again and again.

    python tests/support/long_watch.py http|udp MINUTES CUTS FOLDER

A camera of 25 frames a second at 320 x 240 is served over loopback by this process; main.py watches
it by the stand-ins in a process of its own, which keeps the features that it was given. Prints that
process's memory and its share of a core's time, and ends with 1 unless what was sent is scored or
marked as skipped, each cut was found again, the scores are those of --eval --lookahead 0 on these
features, the events are those of these scores, and memory stayed within 5 %.
"""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from semvad_jax import checkpoint, seeds  # noqa: E402
from semvad_jax.detection.detect import head  # noqa: E402
from semvad_jax.detection.events import Rule, spans  # noqa: E402
from semvad_jax.detection.timeline import written  # noqa: E402
from semvad_jax.store import Store, Video  # noqa: E402
from tests.support.camera import FPS, SILENT, Broadcast, Camera  # noqa: E402
from tests.support.watchable import WIDTHS, watchable_run  # noqa: E402

SETTLED = 60  # seconds after which memory counts
TICKS = 100  # of the kernel's clock, a second
RULE = Rule(0.56, 0.56)  # about the middle of the scores


def usage(pid: int) -> tuple[float, float]:
    """A process's resident memory in MB and its processor time in seconds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return pages * 4096 / 1e6, (int(fields[11]) + int(fields[12])) / TICKS


def follow(
    process: subprocess.Popen, camera: Camera | Broadcast, seconds: float, cuts: int
) -> list[float]:
    """Lets it watch and cuts the connection; prints what it took, returns its memory in MB once it
    has settled, and nothing of a watch that is shorter.
    """
    begun, done, memory = time.monotonic(), 0, list[float]()
    _, processor = usage(process.pid)
    while (gone := time.monotonic() - begun) < seconds:
        time.sleep(1)
        assert process.poll() is None, "the watch has ended"
        if gone > SETTLED:
            memory.append(usage(process.pid)[0])
        if done < cuts and gone > (done + 0.5) * seconds / cuts:
            camera.cut.set()
            done += 1
    share = (usage(process.pid)[1] - processor) / (time.monotonic() - begun)
    spread = f"memory {min(memory):.0f} to {max(memory):.0f} MB, " if memory else ""
    print(f"{spread}{share:.2f} of a core's time", flush=True)
    return memory


def in_real_time(run: Path, folder: Path) -> np.ndarray:
    """Each seed's scores, [S, n], as --eval --lookahead 0 has them, of the features that are kept
    in a folder (recorded_watch.py), as those of one video.
    """
    names = ("visual.f16", "captions.f16")
    visual, captions = (
        np.memmap(folder / name, np.float16, "r").reshape(-1, width)[1:]
        for name, width in zip(names, WIDTHS, strict=True)
    )
    cfg, frozen, meta = checkpoint.read(run)
    weights, _ = checkpoint.last_weights(run, cfg, meta)
    n, classes = len(visual), cfg.data.classes
    video = Video("watched", "test", (classes[0],), 16 * n, FPS, n)
    received = Store(folder, {}, (video,), classes, visual, captions, {})
    of_seeds = seeds.score_in_real_time(cfg, frozen, weights, received, [0], [0])[0]
    return np.stack([of_seed.head(head(cfg))[0] for of_seed in of_seeds])


def rows_and_events(out: Path) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """The rows of a watch's scores, and its closed events."""
    days = [*sorted(out.glob("scores-*.csv")), out / "scores.csv"]
    rows = [row for path in days for row in csv.DictReader(path.open(newline=""))]
    lines = [line for path in sorted(out.glob("events*")) for line in path.open()]
    return rows, [record for record in map(json.loads, lines) if record["state"] == "closed"]


def main(protocol: str, minutes: float, cuts: int, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    run, out, log = watchable_run(folder), folder / "out", folder / "watch.log"
    # over HTTP a cut lasts until the next connection
    silent = cuts * {"http": 3.0, "udp": SILENT}[protocol]
    with {"http": Camera, "udp": Broadcast}[protocol]() as camera, log.open("wb") as said:
        script = [sys.executable, ROOT / "tests/support/recorded_watch.py", folder]
        options = ["--restore", run, "--watch", camera.address, "--out", out]
        words = [*script, *options, "--threshold", RULE.opens]
        process = subprocess.Popen([str(word) for word in words], stdout=said)
        while not (out / "events.jsonl").is_file():
            assert process.poll() is None, "the watch did not begin"
            time.sleep(1)
        before = sum(camera.sent)
        memory = follow(process, camera, 60 * minutes, cuts)
        sent = sum(camera.sent) - before
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=120)
    rows, closed = rows_and_events(out)
    scored = [row for row in rows if row["score_mean"]]
    seconds = [float(row["start_second"]) for row in scored] + [float(scored[-1]["end_second"])]
    of_seeds = in_real_time(run, folder)
    means = written(of_seeds.mean(axis=0, dtype=np.float64))
    far = np.abs(means - [float(row["score_mean"]) for row in scored]).max()
    places = [int(row["snippet"]) for row in scored]
    expected = [[places[a], places[b - 1] + 1] for a, b in spans(means, np.array(seconds), RULE)]
    reused = sum(row["left_out"] == "caption reused" for row in rows)
    found = log.read_text().count("found again")
    print(
        f"{sent} frames sent, {len(scored)} snippets scored, {reused} of them with the caption "
        f"before, {len(rows) - len(scored)} skipped; {found} cuts found again; {len(closed)} "
        f"events; scores differ from --eval --lookahead 0 by up to {far:.1g}"
    )
    checks = {
        "the camera kept its pace": sent > 0.95 * FPS * (60 * minutes - silent),
        # a cut may cost the snippet under way and, over UDP, a second up to the next key frame
        "what was sent is there": len(rows) > sent / 16 - 4 * (cuts + 1),
        "every snippet is there": [int(row["snippet"]) for row in rows] == list(range(len(rows))),
        "those without a score are marked": all(
            row["left_out"] == "skipped" for row in rows if not row["score_mean"]
        ),
        "each cut was found again": found == cuts,
        "scores are those of --eval --lookahead 0": far <= 1e-5,
        "events are those of these scores": expected
        == [[record["start_snippet"], record["end_snippet"]] for record in closed],
        "there were events": len(closed) >= int(minutes),
        "memory stays": not memory or max(memory) - min(memory) < 0.05 * max(memory),
        "it ended as it should": status == 130,
    }
    for check, holds in checks.items():
        print(f"{'ok ' if holds else 'NOT'}  {check}")
    return not all(checks.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
