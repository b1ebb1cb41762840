"""CLIP-TSA's defaults per data set, from its public PyTorch program.

That program draws 4,000 batches; here an epoch is all videos once, and 4,000 are 80 epochs of
UCF-Crime's 1,610 videos. The small rows have narrower branches.
"""

from pathlib import Path
from runpy import run_path

RTFM = run_path(str(Path(__file__).with_name("rtfm.py")))
ODDITIES = (*RTFM["ODDITIES"], "test_noise")  # and scores of a test are perturbed too
PUBLISHED = RTFM["PUBLISHED"] | {
    "model.dim": 128,
    "model.hidden": (128, 32),
    "model.keep": 0.95,
    "train.batch": 32,
    "train.epochs": 80,
}
DEFAULTS = {
    ("ucf", "paper"): PUBLISHED,
    ("xd", "paper"): PUBLISHED | {"model.keep": 0.9, "eval.metric": "ap", "train.epochs": 30},
}
NARROW = RTFM["NARROW"]
SMALL = {
    "demo": NARROW | {"model.length": 32, "train.lr": 1e-3},
    "ucf_c3d": NARROW | {"model.length": 32, "train.lr": 1e-3},
    "ucf_captions": NARROW | {"model.length": 16, "train.lr": 1e-3},
}
