"""RTFM's defaults per data set, from its public PyTorch program.

That program draws 15,000 batches; here an epoch is all videos once, and 15,000 are 600 epochs of
UCF-Crime. The small rows have narrower branches.
"""

ODDITIES = ("smooth_across",)  # smoothness and sparsity of a batch in one row, across videos
PUBLISHED = {
    "model.dim": 512,
    "model.hidden": (512, 128),
    "model.length": 32,
    "model.dropout": 0.7,
    "model.fit": "bins_repeat",
    "model.fixes": (),
    "train.batching": "balanced",
    "train.batch": 64,
    "train.epochs": 600,
    "train.crops": "joint",
    "train.optimizer": "adam",
    "train.lr": 1e-3,
    "train.weight_decay": 5e-3,
    "train.milestones": (),
    "eval.every": 0,
    "eval.metric": "auc",
    "eval.select_head": "binary",
    "eval.crop": "mean",
    "eval.whole": True,
}
DEFAULTS = {
    ("ucf", "paper"): PUBLISHED,
    ("xd", "paper"): PUBLISHED | {"eval.metric": "ap", "train.epochs": 250},
}
NARROW = {"model.dim": 64, "model.hidden": (64, 32), "train.milestones": ()}
SMALL = {
    "demo": NARROW | {"model.length": 32, "train.epochs": 48, "train.lr": 1e-3},
    "ucf_c3d": NARROW | {"model.length": 32, "train.lr": 1e-3},
    "ucf_captions": NARROW | {"model.length": 16, "train.lr": 1e-3},
}
