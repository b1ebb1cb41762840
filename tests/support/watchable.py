"""A run that can look at videos by the stand-ins, without a video having been looked at."""

import json
import shutil
from pathlib import Path

import main
from featurize import live, live_features
from semvad_jax import checkpoint
from tests.support.stores import make_store

STAND_INS = {"vision": "efficientnet-lite0", "captioner": "tags", "text": "minilm-l6"}
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="tiny"),
    model=ModelConfig(dim=4, length=4, window=4, layers=1),
    train=TrainConfig(batch=4, epochs=2, lr=1e-2),
    eval=EvalConfig(every=0, crop=0),
)
"""
CLASSES = ("Normal", "=cmd", "Riot")
WIDTHS = (1280, 384)  # of the stand-ins' rows


def watchable_run(place: Path) -> Path:
    """PLACE/run, of two seeds: T is 4; it was trained on noise, which the stand-ins are said to
    have made.
    """
    make_store(place / "store", train=8, test=2, classes=CLASSES, widths=WIDTHS)
    (place / "tiny.py").write_text(CONFIG)
    start = ["--config", str(place / "tiny.py"), "--data", str(place / "store")]
    main.main([*start, "--out", str(place / "run"), "--vmap-seeds", "2"])
    path = place / "run" / "checkpoint" / "meta.json"
    meta, producers = json.loads(path.read_text()), {"flags": STAND_INS}
    meta["producers"] |= producers | live_features.Camera(live.address("x"), producers, {}).used
    path.write_text(json.dumps(meta))
    checkpoint.record(place / "run", "checkpoint/meta.json")
    shutil.rmtree(place / "store")  # the run is all it takes
    return place / "run"
