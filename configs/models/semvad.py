"""SemVAD's defaults per data set and preset.

`paper`: the paper; where it is silent, the authors' public program. `release`: that program
throughout, so that figures can be compared with what was made by it. `best`: our own, chosen by
cross-validation over train videos (configs/studies/preset.py). A data set without a row of its own
(demo, a folder of videos) trains as `ucf` does.
"""

PAPER_UCF = {
    "train.dtype": "auto",
    "train.remat": "auto",
    "train.microbatch": 0,
    "model.dim": 512,
    "model.length": 256,
    "model.layers": 2,
    "model.heads": 1,
    "model.window": 8,
    "model.dropout": 0.0,
    "model.input_norm": False,
    "model.captions_raw": False,
    "model.shortcut": False,
    "model.attention": True,
    "model.mixer": True,
    "model.qkv": False,
    "model.attention_over": "snippets",
    "model.residual": "visual",
    "model.near": False,
    "model.shared_norm": False,
    "loss.text": 0.1 / 13,
    "loss.text_cosine": "positive",
    "loss.sem": 1.0,
    "loss.sem_labels": "all",
    "loss.sem_videos": "all",
    "loss.sem_padding": False,
    "loss.sem_stop_class": False,
    "loss.text_pairs": "normal",
    "loss.sigma_greedy": False,
    "loss.sigma_decay": 0.99,
    "loss.pick_every": 16,
    "train.batching": "balanced",
    "train.batch": 128,
    "train.epochs": 9,
    "train.lr": 2e-5,
    "train.weight_decay": 0.01,
    "train.milestones": (4, 8),
    "train.early_stop": "run",
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
    "train.early_stop": "epoch",
    "eval.every": 75,
    "eval.metric": "ap",
    "eval.select_head": "class",
    "eval.crop": 0,
}
RELEASE = {
    "model.attention_over": "channels",
    "model.residual": "caption",
    "model.shared_norm": True,
    "loss.text_cosine": "absolute",
    "loss.sem_labels": "first",
    "loss.sem_padding": True,
    "eval.select_head": "max",
}
BEST = {
    "model.input_norm": True,
    "model.residual": "both",
    "model.dropout": 0.5,
    "model.shortcut": True,
}
DEFAULTS = {
    ("ucf", "paper"): PAPER_UCF,
    ("xd", "paper"): PAPER_XD,
    ("ucf", "release"): PAPER_UCF | RELEASE,
    ("xd", "release"): PAPER_XD | RELEASE,
    ("ucf", "best"): PAPER_UCF | BEST,
    ("xd", "best"): PAPER_XD | BEST,
}
