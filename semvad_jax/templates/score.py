"""Scores a video: python score.py VISUAL.npy CAPTIONS.npy > scores.csv"""

import json
import sys
from pathlib import Path

import numpy as np
from jax import export
from safetensors.numpy import load_file

here = Path(__file__).parent
score = export.deserialize(bytearray((here / "score.jax").read_bytes())).call
rows = [np.load(path).astype(np.float32) for path in sys.argv[1:3]]  # [n, F] and [n, Q]
slots = json.loads((here / "model.json").read_bytes())["length"] or len(rows[0])
starts = np.arange(0, n := len(rows[0]), slots, dtype=np.int32)
cut = [np.pad(r, ((0, -n % slots), (0, 0))).reshape(len(starts), slots, -1) for r in rows]
of_seeds, _ = score(load_file(here / "weights.safetensors"), *cut, np.minimum(n - starts, slots))
print("snippet,score_mean", *(f"seed_{k}" for k in range(len(of_seeds))), sep=",")
for i, scores in enumerate(np.reshape(of_seeds, (len(of_seeds), -1))[:, :n].T):
    print(i, scores.mean(), *scores, sep=",")
