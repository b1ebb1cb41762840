"""CLIP-TSA's defaults per data set, from its public PyTorch program.

That program draws 4,000 batches; here an epoch is all videos once, and 4,000 are 80 epochs of
UCF-Crime's 1,610 videos. The small rows have narrower branches.
"""

ODDITIES = ("smooth_across", "test_noise")  # RTFM's; and scores of a test are perturbed too
PUBLISHED = {
    "model.dim": 128,
    "model.hidden": (128, 32),
    "model.length": 32,
    "model.dropout": 0.7,
    "model.keep": 0.95,
    "model.fit": "bins_repeat",
    "model.fixes": (),
    "train.batching": "balanced",
    "train.batch": 32,
    "train.epochs": 80,
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
    ("xd", "paper"): PUBLISHED | {"model.keep": 0.9, "eval.metric": "ap", "train.epochs": 30},
}
NARROW = {"model.dim": 64, "model.hidden": (64, 32), "train.milestones": ()}
SMALL = {
    "demo": NARROW | {"model.length": 32, "train.lr": 1e-3},
    "ucf_c3d": NARROW | {"model.length": 32, "train.lr": 1e-3},
    "ucf_captions": NARROW | {"model.length": 16, "train.lr": 1e-3},
}
