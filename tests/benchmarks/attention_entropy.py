"""How evenly SemVAD's attention spreads over a window's captions, in a trained run.

    python tests/benchmarks/attention_entropy.py runs/demo runs/ucf_c3d

The entropy of each snippet's weights over the captions of its window, as a share of the entropy of
equal weights: 1 says that a snippet gets the mean caption of its video. Mean over the snippets of
the test videos of windows with two or more, then mean ± SD over seeds.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from semvad_jax import checkpoint, data, run
from semvad_jax.models.layers import scaled


def shares(path: Path) -> np.ndarray:
    """One number a seed."""
    cfg, _, meta = checkpoint.read(path)
    features = run.own_store(path, cfg, meta)
    weights, count = checkpoint.last_weights(path, cfg, meta)
    videos = data.judged(features)
    (windows,) = data.windows(cfg, features, [(i, 0) for i in videos])
    visual, captions = (
        np.asarray(x, np.float32).reshape(-1, *x.shape[2:])
        for x in (windows.visual, windows.captions)
    )
    if cfg.model.input_norm:
        visual, captions = np.asarray(scaled(visual)), np.asarray(scaled(captions))
    lengths = np.asarray(windows.length).reshape(-1)
    of_seeds = []
    for k in range(count):
        one = jax.tree.map(lambda x, k=k: np.asarray(x[k]), weights.params)
        f = visual @ one["visual_proj"]["kernel"] + one["visual_proj"]["bias"]
        t = captions @ one["caption_proj"]["kernel"] + one["caption_proj"]["bias"]
        found = []
        for f_window, t_window, n in zip(f, t, lengths, strict=True):
            if n < 2:
                continue
            logits = f_window[:n] @ t_window[:n].T / np.sqrt(cfg.model.dim)
            share = np.exp(logits - logits.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            entropy = -(share * np.log(np.maximum(share, 1e-30))).sum(axis=1)
            found += (entropy / np.log(n)).tolist()
        of_seeds.append(np.mean(found))
    return np.array(of_seeds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    for path in parser.parse_args().runs:
        values = shares(path)
        sd = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
        print(f"{path}: {values.mean():.4f}{sd} of equal weights' entropy, {len(values)} seeds")
