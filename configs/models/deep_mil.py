"""Deep MIL's defaults per data set, from the public PyTorch program (Roc-Ng/DeepMIL).

Its learning rate halves after epochs 9, 19, 29, 39: the program's scheduler steps before each
epoch. It draws 30 batches an epoch, of any videos; here an epoch is all videos once.
"""

ODDITIES = ("score_dropout",)  # scores themselves are dropped out in training
PUBLISHED = {
    "model.dim": 512,
    "model.hidden": (32,),
    "model.length": 32,
    "model.dropout": 0.6,
    "model.class_head": False,
    "model.fit": "bins_repeat",
    "model.fixes": (),
    "train.batching": "balanced",
    "train.batch": 64,
    "train.epochs": 50,
    "train.optimizer": "adam",
    "train.lr": 5e-5,
    "train.weight_decay": 5e-5,
    "train.milestones": (9, 19, 29, 39),
    "train.decay": 0.5,
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
SMALL = {
    "demo": {"model.dim": 128, "model.length": 32, "train.epochs": 48, "train.lr": 3e-3},
    "ucf_c3d": {"model.dim": 128, "model.length": 32, "train.lr": 1e-3},
    "ucf_captions": {"model.dim": 128, "model.length": 16, "train.lr": 1e-3},
}
