"""DSANet's defaults per data set, from its public program.

Epochs, batches and XD-Violence's learning rate are VadCLIP's, on whose program DSANet's is built.
"""

ODDITIES = (
    "pool_padding",  # pooling and the choice of normal snippets count padding too
    "stale_text",  # the class vectors of a run's first evaluation serve all later ones
)
UCF = {
    "train.dtype": "auto",
    "train.remat": "auto",
    "model.dim": 512,
    "model.length": 256,
    "model.layers": 2,
    "model.heads": 1,
    "model.window": 8,
    "model.slots": 16,
    "model.slot_heads": 8,
    "model.depths": (1, 8),  # blocks that gather prototypes, and that rebuild snippets
    "model.text_layers": 3,
    "model.text_share": 0.1,
    "model.fixes": (),
    "loss.fine": 1.1,
    "loss.text": 1 / 13,
    "loss.text_cosine": "absolute",
    "loss.text_pairs": "normal",
    "loss.pick_every": 16,
    "train.batching": "balanced",
    "train.batch": 128,
    "train.epochs": 10,
    "train.lr": 7e-5,
    "train.weight_decay": 0.01,
    "train.milestones": (),
    "train.cosine": 10,
    "eval.every": 10,
    "eval.metric": "auc",
    "eval.select_head": "binary",
    "eval.crop": 5,
    "eval.fuse_heads": True,
    "eval.temperature": 5.0,
}
XD = UCF | {
    "model.layers": 1,
    "model.window": 64,
    "model.text_layers": 1,
    "model.text_share": 0.6,
    "loss.fine": 5.0,
    "loss.text": 1 / 6,
    "train.batching": "mixed",
    "train.batch": 96,
    "train.lr": 1e-5,
    "eval.every": 0,
    "eval.metric": "ap",
    "eval.crop": 0,
    "eval.temperature": 1.0,
}
DEFAULTS = {("ucf", "paper"): UCF, ("xd", "paper"): XD}
OURS = {"model.dim": 64, "model.depths": (1, 2), "train.milestones": ()}
SMALL = {
    # with XD-Violence's share no seed stays at its start, as some do with UCF-Crime's
    "demo": OURS | {"model.text_share": 0.6, "train.epochs": 24, "train.cosine": 24},
    "ucf_c3d": OURS | {"train.cosine": 50},
    "ucf_captions": OURS | {"train.cosine": 9},
}
