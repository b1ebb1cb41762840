"""Defaults of the AVVD-style model per data set: AVVD's program is not public, so these are of
HL-Net's (Roc-Ng/XDVioDet), which AVVD extends.

HL-Net's causal scorer has half the learning rate; here all have one.
"""

ODDITIES = ()
XD = {
    "model.dim": 32,
    "model.hidden": (512, 128),
    "model.kernel": 5,
    "model.length": 200,
    "model.dropout": 0.6,
    "model.fit": "pick",
    "loss.pick_every": 16,
    "train.batching": "mixed",
    "train.batch": 128,
    "train.epochs": 50,
    "train.optimizer": "adam",
    "train.lr": 1e-4,
    "train.weight_decay": 0.0,
    "train.milestones": (10,),
    "eval.every": 0,
    "eval.metric": "ap",
    "eval.select_head": "binary",
    "eval.crop": "mean",
    "eval.whole": True,
}
UCF = XD | {"eval.metric": "auc"}
DEFAULTS = {("ucf", "paper"): UCF, ("xd", "paper"): XD}
SMALL_GRAPHS = {
    "model.dim": 16,
    "model.hidden": (64, 32),
    "model.dropout": 0.3,
    "train.milestones": (),
}
SMALL = {
    "demo": SMALL_GRAPHS
    | {"model.length": 64, "train.batch": 32, "train.epochs": 16, "train.lr": 2e-3},
    "ucf_c3d": SMALL_GRAPHS
    | {"model.length": 32, "train.batch": 64, "train.epochs": 25, "train.lr": 1e-3},
    "ucf_captions": SMALL_GRAPHS
    | {"model.length": 16, "train.batch": 128, "train.epochs": 9, "train.lr": 2e-3},
}
