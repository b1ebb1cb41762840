"""PEL4VAD's defaults per data set, from its public program (yujiangpu20/PEL4VAD).

Its prompts are means of CLIP's vectors of ConceptNet's concepts; ours, without `model.prompts`, are
the store's vectors of the class names. It smooths scores in its last test alone, and chooses its
weights by scores that are not smoothed; here every test smooths.
"""

ODDITIES = (
    "norm_over_time",  # UCF: attended features are normalised over time, not over channels
    "attend_padding",  # in training padding, up to the batch's longest video, is attended to
    "pool_padding",  # and has a weight in the pooled features
    "smooth_ends",  # means over snippets beyond the end, which count as 0
)
UCF = {
    "model.length": 200,
    "model.hidden": (512, 300),
    "model.key_dim": 128,
    "model.kernel": 9,
    "model.dropout": 0.1,
    "model.power_norm": True,
    "model.smoothing": "sliding",
    "model.prompts": "",
    "model.fit": "pick",
    "model.fixes": (),
    "loss.pick_every": 16,
    "train.batching": "mixed",
    "train.batch": 128,
    "train.epochs": 50,
    "train.optimizer": "adam",
    "train.lr": 5e-4,
    "train.weight_decay": 0.0,
    "train.milestones": (),
    "train.cosine": 60,
    "eval.every": 0,
    "eval.metric": "auc",
    "eval.select_head": "binary",
    "eval.crop": "mean",
    "eval.whole": True,
}
XD = UCF | {
    "model.kernel": 3,
    "model.power_norm": False,
    "model.smoothing": "blocks",
    "eval.metric": "ap",
}
DEFAULTS = {("ucf", "paper"): UCF, ("xd", "paper"): XD}
SMALL_SCORER = {"model.hidden": (64, 32), "model.key_dim": 32, "train.milestones": ()}
SMALL = {
    "demo": SMALL_SCORER
    | {"model.length": 64, "train.batch": 32, "train.epochs": 16, "train.lr": 2e-3},
    "ucf_c3d": SMALL_SCORER
    | {"model.length": 32, "train.batch": 64, "train.epochs": 25, "train.lr": 5e-4},
    "ucf_captions": SMALL_SCORER
    | {"model.length": 16, "train.batch": 128, "train.epochs": 9, "train.lr": 2e-3},
}
