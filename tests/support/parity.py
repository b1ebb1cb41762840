"""What stands behind tests/data/parity_*: weights by name, and inputs, both from seeds.

The .npz files hold what the public PyTorch programs of VadCLIP and SemVAD computed from them: class
text, logits, losses, the norm of every gradient, and the loss before each of four AdamW steps.
"""

import json
import zlib
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"
# normal abuse arrest arson assault burglary explosion fighting roadAccidents robbery shooting
# shoplifting stealing vandalism, in CLIP's vocabulary
CLASS_IDS = [
    [5967], [7678], [9320], [29937], [9679], [32573], [13785], [4652], [4370, 22072], [16393],
    [3992], [5738, 10857], [14242], [45664],
]  # fmt: skip
START, END = 49406, 49407


def class_tokens():
    tokens = np.zeros((len(CLASS_IDS), 77), np.int64)
    for row, ids in zip(tokens, CLASS_IDS, strict=True):
        row[: len(ids) + 2] = [START, *ids, END]
    return tokens


def weight(name, shape):
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("bias"):
        return x * 0.02
    if "ln_" in name or "layer_norm" in name:
        return 1 + 0.1 * x
    if "embedding" in name or "positional" in name:
        return x * 0.02
    inputs = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    if name.startswith("gc") and "residual" not in name:
        inputs = shape[0]
    return np.asarray(x * inputs**-0.5 * (0.02 if "classifier" in name else 1), np.float32)


def state_dict(program):
    """{name: array} in PyTorch's layout, of `vadclip` or `semvad_release`."""
    spec = json.loads((DATA / f"parity_{program}_ucf_spec.json").read_text())
    return {k: weight(k, tuple(s)) for k, s in spec.items() if k != "disAdj.sigma"}


def inputs(classes=14):
    """Four videos of 256 slots; visual [4,256,512], captions and class captions 768."""
    rng, lengths = np.random.default_rng(7), np.array([256, 130, 37, 16])
    visual = rng.standard_normal((4, 256, 512)).astype(np.float32)
    slow = rng.standard_normal((4, 32, 512)).astype(np.float32)
    visual = 0.5 * visual + 1.5 * np.repeat(slow, 8, axis=1)
    captions = rng.standard_normal((4, 256, 768)).astype(np.float32)
    class_captions = rng.standard_normal((classes, 768)).astype(np.float32)
    padding = np.arange(256) >= lengths[:, None]
    visual[padding], captions[padding] = 0, 0
    return visual, captions, class_captions, lengths


def expected(program):
    with np.load(DATA / f"parity_{program}_ucf.npz", allow_pickle=False) as arrays:
        return dict(arrays)
