"""Rows lie in memory once before the first step: they are filled in from the mapped file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semvad_jax import store
from semvad_jax.store import Video

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys
import jax
from semvad_jax import config, seeds, stopwatch, store
jax.devices()
before = stopwatch.host_peak()
cfg = config.load("ucf", ["model.name=mil", f"data.store={sys.argv[1]}", "train.batch=8"])
features = store.open(sys.argv[1])
program = seeds.Program(config.resolve(cfg, features), features, 2)
held = sum(x.nbytes for x in jax.tree.leaves((program.rows, program.windows)))
print(held, stopwatch.host_peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak memory from /proc")
def test_features_are_in_memory_once(tmp_path):
    rows = np.random.default_rng(0).standard_normal((1, 256, 2048)).astype(np.float16)
    classes, text = ("Normal", "Fighting"), np.ones((2, 8), np.float32)
    with store.Writer(tmp_path / "s", dataset="t", classes=classes, producers={}) as writer:
        for i in range(300):
            known = (("Fighting", 8, 40),) if i % 2 and i >= 280 else ()
            split, label = "train" if i < 280 else "test", classes[i % 2]
            video = Video(f"v{i}", split, (label,), 4096, 25.0, 256, intervals=known)
            writer.add(video, rows, rows[0, :, :8], None)
        writer.finish({"class_caption": text, "class_name": text}, {"Fighting": [["a", 1.0]]})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "s")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    held, more = map(int, done.stdout.split())
    assert held > 3e8 and more < held + 2e8  # before: 5 times as much
