"""Videos through the featurizer on the stand-ins: stage by stage, at one decoding a video, and by
worker processes of one thread each.

PYTHONPATH=. python tests/benchmarks/workers.py [--videos N] [--rounds R] [--workers W]

Renders N videos of 320 x 240, makes a store of them in each way, interleaved, and prints seconds,
ratios and whether the checksums are equal. The list does not tell the videos' lengths, so that the
first way decodes a video three times: counting, images, captions.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from featurize import run
from featurize.demo.scripts import scripts
from featurize.demo.videos import render
from featurize.request import EACH, Request
from semvad_jax.store.format import read_info

MAKERS = {"vision": "efficientnet-lite0", "captioner": "tags", "text": "minilm-l6"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        snippets = written(folder, args.videos)
        run.make(Request.of("folder", videos=folder, out=folder / "warm", **MAKERS, shard=(0, 50)))
        ways = {
            "stage by stage": [{"stages": (stage,)} for stage in EACH],
            "one decoding": [{"stages": EACH}],
            f"{args.workers} workers": [{"stages": EACH, "workers": args.workers}],
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        sums = set()
        for number in range(args.rounds):
            for way, calls in ways.items():
                out = folder / f"{way} {number}"
                begun = time.perf_counter()
                for call in calls:
                    run.make(Request.of("folder", videos=folder, out=out, **MAKERS, **call))
                seconds[way].append(time.perf_counter() - begun)
                rest = ("class-captions", "pack")
                run.make(Request.of("folder", videos=folder, out=out, **MAKERS, stages=rest))
                sums.add(str(read_info(out)["sha256"]))
    first = statistics.median(seconds["stage by stage"])
    for way, taken in seconds.items():
        middle = statistics.median(taken)
        every = ", ".join(f"{s:.1f}" for s in taken)
        print(
            f"{way:16} {snippets / middle:7.1f} snippets/s  ratio {first / middle:.2f}  ({every} s)"
        )
    print(f"{args.videos} videos, {snippets} snippets; checksums equal: {len(sums) == 1}")


def written(folder: Path, count: int) -> int:
    """Renders videos with their list into FOLDER; the number of their snippets."""
    import av

    (folder / "videos").mkdir()
    shown = sorted(scripts(), key=lambda script: script.frames)[:10]
    render(folder / "shown", shown)
    lines, snippets = ["video,split,label,frames,anomaly_intervals"], 0
    for i in range(count):
        split, label = "test" if i % 4 < 2 else "train", "Riot" if i % 2 else "Normal"
        lines.append(f"v{i},{split},{label},,{'0-9' if (split, label) == ('test', 'Riot') else ''}")
        with (
            av.open(str(folder / "shown" / f"{shown[i % 10].video}.mp4")) as source,
            av.open(str(folder / "videos" / f"v{i}.mp4"), "w") as target,
        ):
            stream = target.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            frames = 33 + i % 16
            for frame in list(source.decode(video=0))[:frames]:
                target.mux(stream.encode(frame.reformat(320, 240, "yuv420p")))
            target.mux(stream.encode())
        snippets += 3
    (folder / "videos.csv").write_text("\n".join(lines))
    return snippets


if __name__ == "__main__":
    main()
