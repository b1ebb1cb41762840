"""SemVAD's defaults per data set and preset. Sources: the paper; where it is silent, the authors'
public program.

A data set without a row of its own (demo, a folder of videos) trains as `ucf` does.
"""

PAPER_UCF = {
    "model.dim": 512,
    "model.length": 256,
    "model.layers": 2,
    "model.heads": 1,
    "model.window": 8,
    "model.attention": True,
    "model.mixer": True,
    "model.qkv": False,
    "model.residual": "visual",
    "loss.text": 0.1 / 13,
    "loss.sem": 1.0,
    "train.batching": "balanced",
    "train.batch": 128,
    "train.epochs": 9,
    "train.lr": 2e-5,
    "train.weight_decay": 0.01,
    "train.milestones": (4, 8),
    "eval.every": 10,
    "eval.metric": "auc",
    "eval.select_head": "binary",
    "eval.crop": 5,
}
PAPER_XD = PAPER_UCF | {
    "model.layers": 3,
    "model.heads": 2,
    "loss.text": 1e-4 / 6,
    "train.batching": "mixed",
    "train.epochs": 10,
    "eval.every": 75,
    "eval.metric": "ap",
    "eval.select_head": "class",
    "eval.crop": 0,
}
DEFAULTS = {("ucf", "paper"): PAPER_UCF, ("xd", "paper"): PAPER_XD}
