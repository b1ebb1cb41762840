"""MGFN's defaults per data set, from its public PyTorch program.

That program draws for 1,000 epochs without shuffling; here every epoch is shuffled. The small rows
have narrower stages, of fewer blocks.
"""

# which rows are to be alike, and whose scores are to be few
ODDITIES = ("crop_pairs", "sparse_normal")
PUBLISHED = {
    "model.hidden": (64, 128, 1024),
    "model.depths": (3, 3, 2),
    "model.length": 32,
    "model.dropout": 0.7,
    "model.fit": "bins_repeat",
    "model.fixes": (),
    "train.batching": "balanced",
    "train.batch": 32,
    "train.epochs": 1000,
    "train.crops": "joint",
    "train.optimizer": "adam",
    "train.lr": 1e-3,
    "train.weight_decay": 5e-4,
    "train.milestones": (),
    "eval.every": 0,
    "eval.metric": "auc",
    "eval.select_head": "binary",
    "eval.crop": "mean",
    "eval.whole": True,
}
DEFAULTS = {
    ("ucf", "paper"): PUBLISHED,
    ("xd", "paper"): PUBLISHED | {"eval.metric": "ap"},
}
NARROW = {"model.hidden": (64, 64, 64), "model.depths": (1, 1, 1), "train.milestones": ()}
SMALL = {
    "demo": NARROW | {"model.length": 32, "train.lr": 1e-3},
    "ucf_c3d": NARROW | {"model.length": 32, "train.lr": 3e-4},
    "ucf_captions": NARROW | {"model.length": 16, "train.lr": 1e-3},
}
