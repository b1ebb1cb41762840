"""SIGKILL featurize/run.py at random moments, and resume it.

    python tests/support/kill_and_resume.py KILLS FOLDER

FOLDER holds videos.csv and videos/. The program is loaded once and forked, so that the moments fall
into its work and not into its start. Ends with 1 unless every resumed store has the checksums of an
uninterrupted one.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import efficientnet_lite_pytorch  # noqa: E402, F401
import transformers  # noqa: E402, F401

from featurize import efficientnet, minilm, run, tags, videos  # noqa: E402, F401
from featurize.request import Request  # noqa: E402
from semvad_jax.store.format import read_info  # noqa: E402


def start(videos_folder: Path, out: Path) -> int:
    """A process of its own that makes the store."""
    if child := os.fork():
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    makers = {"vision": "efficientnet-lite0", "captioner": "tags", "text": "minilm-l6"}
    run.make(Request.of("folder", videos=videos_folder, out=out, **makers))
    os._exit(0)


def finish(child: int) -> None:
    assert os.waitpid(child, 0)[1] == 0


def main(kills: int, folder: Path) -> int:
    chance, same = random.Random(0), 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        begun = time.monotonic()
        finish(start(folder, place / "whole"))
        seconds = time.monotonic() - begun
        expected = read_info(place / "whole")["sha256"]
        for _ in range(kills):
            moment = chance.uniform(0, seconds)
            child = start(folder, place / "store")
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pieces = sum(1 for p in place.glob("store.work/*/*") if p.suffix in (".npy", ".json"))
            finish(start(folder, place / "store"))
            identical = read_info(place / "store")["sha256"] == expected
            same += identical
            word = "identical" if identical else "DIFFERENT"
            print(f"killed after {moment:.2f} of {seconds:.2f} s and {pieces} pieces: {word}")
            for made in ("store", "store.work", "store.partial"):
                shutil.rmtree(place / made, ignore_errors=True)
    print(f"{same} of {kills} identical")
    return same != kills


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
