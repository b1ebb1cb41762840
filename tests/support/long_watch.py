"""Watch a camera for a long time, and cut its connection again and again.

    python tests/support/long_watch.py MINUTES CUTS FOLDER

A camera of 25 frames a second at 320 x 240 is served over loopback HTTP by this process; main.py
watches it by the stand-ins in a process of its own. Prints that process's memory and its share of a
core's time, and ends with 1 unless every snippet was scored or is marked as skipped, each cut was
found again, the events are those that the scores give, and memory stayed within 5 %.
"""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from semvad_jax.detection.events import Rule, spans  # noqa: E402
from tests.support.camera import Camera  # noqa: E402
from tests.support.watchable import watchable_run  # noqa: E402

SETTLED = 60  # seconds after which memory counts
TICKS = 100  # of the kernel's clock, a second


def usage(pid: int) -> tuple[float, float]:
    """A process's resident memory in MB and its processor time in seconds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return pages * 4096 / 1e6, (int(fields[11]) + int(fields[12])) / TICKS


def follow(process: subprocess.Popen, camera: Camera, seconds: float, cuts: int) -> list[float]:
    """Lets it watch and cuts the connection; prints what it took, returns its memory in MB."""
    begun, done, memory = time.monotonic(), 0, list[float]()
    _, processor = usage(process.pid)
    while (gone := time.monotonic() - begun) < seconds:
        time.sleep(1)
        assert process.poll() is None, "the watch has ended"
        if gone > SETTLED:
            memory.append(usage(process.pid)[0])
        if gone > (done + 0.5) * seconds / cuts and done < cuts:
            camera.cut.set()
            done += 1
    share = (usage(process.pid)[1] - processor) / (time.monotonic() - begun)
    low, high = min(memory), max(memory)
    print(f"memory {low:.0f} to {high:.0f} MB, {share:.2f} of a core's time", flush=True)
    return memory


def main(minutes: float, cuts: int, folder: Path) -> int:
    run, out = watchable_run(folder), folder / "out"
    with Camera() as camera:
        source = f"http://127.0.0.1:{camera.port}/live.ts"
        options = ["--restore", run, "--watch", source, "--out", out, "--threshold", "0.5"]
        words = [sys.executable, str(ROOT / "main.py"), *map(str, options)]
        process = subprocess.Popen(words)
        while not (out / "events.jsonl").is_file():
            assert process.poll() is None, "the watch did not begin"
            time.sleep(1)
        memory = follow(process, camera, 60 * minutes, cuts)
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=120)
        connections = camera.connections
    days = sorted(out.glob("scores-*.csv")) + [out / "scores.csv"]
    rows = [row for path in days for row in csv.DictReader(path.open(newline=""))]
    scored = [row for row in rows if row["score_mean"]]
    seconds = [float(row["start_second"]) for row in scored] + [float(scored[-1]["end_second"])]
    means = np.array([float(row["score_mean"]) for row in scored])
    expected = spans(means, np.array(seconds), Rule(0.5, 0.5))
    lines = [line for path in sorted(out.glob("events*")) for line in path.open()]
    closed = [record for record in map(json.loads, lines) if record["state"] == "closed"]
    lasting = [int(b - a) for a, b in expected]
    found = [
        sum(r["start_snippet"] <= int(s["snippet"]) < r["end_snippet"] for s in scored)
        for r in closed
    ]
    reused = sum(row["left_out"] == "caption reused" for row in rows)
    print(
        f"{len(scored)} snippets scored, {reused} of them with the caption before, "
        f"{len(rows) - len(scored)} skipped, {connections - 2} cuts, {len(closed)} events"
    )
    checks = {
        "every snippet is there": [int(row["snippet"]) for row in rows] == list(range(len(rows))),
        "those without a score are marked": all(
            row["left_out"] == "skipped" for row in rows if not row["score_mean"]
        ),
        "25 frames a second came": len(rows) > 0.9 * 60 * minutes * 25 / 16 - 4 * cuts,
        "each cut was found again": connections - 2 >= cuts,
        "events are those of the scores": found == lasting,
        "memory stays": max(memory) - min(memory) < 0.05 * max(memory),
        "it ended as it should": status == 130,
    }
    for check, holds in checks.items():
        print(f"{'ok ' if holds else 'NOT'}  {check}")
    return not all(checks.values())


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
