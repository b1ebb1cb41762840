"""VadCLIP's defaults per data set, from its public program.

Both presets are that program: its paper leaves these values to it. `release` adds what SemVAD's
authors judge by, the better of the two heads.
"""

UCF = {
    "train.dtype": "auto",
    "train.remat": "auto",
    "train.microbatch": 0,
    "model.dim": 512,
    "model.length": 256,
    "model.layers": 2,
    "model.heads": 1,
    "model.window": 8,
    "loss.text": 0.1 / 13,
    "loss.text_cosine": "absolute",
    "loss.text_pairs": "normal",
    "loss.sigma_greedy": False,
    "loss.sigma_decay": 0.99,
    "loss.pick_every": 16,
    "train.batching": "balanced",
    "train.batch": 128,
    "train.epochs": 10,
    "train.lr": 2e-5,
    "train.weight_decay": 0.01,
    "train.milestones": (4, 8),
    "train.early_stop": "run",
    "eval.every": 10,
    "eval.metric": "auc",
    "eval.select_head": "binary",
    "eval.crop": 5,
}
XD = UCF | {
    "model.layers": 1,
    "model.window": 64,
    "loss.text": 1e-4 / 6,
    "train.batching": "mixed",
    "train.batch": 96,
    "train.lr": 1e-5,
    "train.milestones": (3, 6, 10),
    "train.early_stop": "epoch",
    "eval.every": 0,
    "eval.metric": "ap",
    "eval.select_head": "class",
    "eval.crop": 0,
}
JUDGED = {"eval.select_head": "max"}
DEFAULTS = {
    ("ucf", "paper"): UCF,
    ("xd", "paper"): XD,
    ("ucf", "release"): UCF | JUDGED,
    ("xd", "release"): XD | JUDGED,
}
