"""The two-layer MIL scorer: SemVAD's data handling and schedule, a learning rate that suits two
layers.
"""

from pathlib import Path
from runpy import run_path

SEMVAD = run_path(str(Path(__file__).with_name("semvad.py")))["DEFAULTS"]
TAKEN = ("model.length", "train.", "eval.")
OWN = {
    "model.dim": 128,
    "model.inputs": "both",
    "model.dropout": 0.0,
    "model.input_norm": False,
    "loss.pick_every": 16,
    "train.lr": 1e-3,
    "train.dtype": "float32",
    "train.remat": "none",
    "eval.select_head": "binary",
}
DEFAULTS = {
    (dataset, preset): {k: v for k, v in row.items() if k.startswith(TAKEN)} | OWN
    for (dataset, preset), row in SEMVAD.items()
    if preset == "paper"
}
