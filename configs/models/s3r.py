"""S3R's defaults per data set, from its public PyTorch program: RTFM's, through branches of a
quarter of its width.

How large its dictionaries are is not published with the program; 60 entries here. That program
draws up to 15,000 batches, as RTFM's. The small rows have narrower branches.
"""

from pathlib import Path
from runpy import run_path

RTFM = run_path(str(Path(__file__).with_name("rtfm.py")))
ODDITIES = (*RTFM["ODDITIES"], "whole_normal")  # and the whole video's target is always 0
PUBLISHED = RTFM["PUBLISHED"] | {
    "model.dim": 128,
    "model.hidden": (128, 32),
    "model.key_dim": 128,
    "model.slots": 60,
    "model.fit": "resize",
}
DEFAULTS = {
    ("ucf", "paper"): PUBLISHED,
    ("xd", "paper"): PUBLISHED | {"eval.metric": "ap", "train.epochs": 250},
}
NARROW = RTFM["NARROW"] | {"model.key_dim": 64}
SMALL = {name: row | NARROW | {"train.lr": 3e-3} for name, row in RTFM["SMALL"].items()}
SMALL["ucf_c3d"]["train.lr"] = 3e-4  # at higher rates some seeds stay at chance
