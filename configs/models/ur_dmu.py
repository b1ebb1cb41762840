"""UR-DMU's defaults per data set, from its public PyTorch program.

Its 3,000 steps of 64 + 64 rows are 24 epochs of UCF-Crime's ten crops.
"""

# the attention by nearness is normalised by columns; KL sums over time in place of channels
ODDITIES = ("column_norm", "kl_over_time")
PUBLISHED = {
    "model.dim": 512,
    "model.layers": 2,
    "model.heads": 4,
    "model.key_dim": 128,
    "model.slots": 60,
    "model.hidden": (128,),
    "model.length": 200,
    "model.dropout": 0.5,
    "model.fit": "bins_repeat",
    "model.fixes": (),
    "train.batching": "balanced",
    "train.batch": 128,
    "train.epochs": 24,
    "train.optimizer": "adam",
    "train.lr": 1e-4,
    "train.weight_decay": 5e-5,
    "train.milestones": (),
    "eval.every": 10,
    "eval.metric": "auc",
    "eval.select_head": "binary",
    "eval.crop": "mean",
    "eval.whole": True,
}
DEFAULTS = {
    ("ucf", "paper"): PUBLISHED,
    ("xd", "paper"): PUBLISHED | {"eval.metric": "ap", "train.epochs": 20},
}
NARROW = {"model.dim": 64, "model.heads": 4, "model.key_dim": 16, "train.milestones": ()}
SMALL = {
    "demo": NARROW | {"model.length": 64, "train.lr": 3e-4},
    "ucf_c3d": NARROW | {"model.length": 32, "train.lr": 5e-4},
    "ucf_captions": NARROW | {"model.length": 16, "train.lr": 3e-4},
}
