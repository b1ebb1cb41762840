"""A small synthetic store: anomalous snippets lie along a direction of their own."""

from pathlib import Path

import numpy as np

from semvad_jax import store

CLASSES = ("Normal", "Fighting", "Arson")


def make_store(
    path: Path,
    *,
    train: int = 24,
    test: int = 8,
    lengths: tuple[int, ...] = (5, 12, 16, 20),
    crops: int = 1,
    classes: tuple[str, ...] = CLASSES,
    widths: tuple[int, int] = (12, 10),
    multi_label: bool = False,
    dataset: str = "synthetic",
    seed: int = 0,
    text: dict[str, np.ndarray] | None = None,
) -> store.Store:
    """Half of the videos normal; an abnormal video's middle third is anomalous. `text` adds to the
    class texts.
    """
    rng = np.random.default_rng(seed)
    feature_dim, caption_dim = widths
    directions = [rng.standard_normal((len(classes), d)) for d in widths]
    with store.Writer(
        path, dataset=dataset, classes=classes, producers={"vision": "synthetic"}
    ) as writer:
        for i in range(train + test):
            n = lengths[(i // 2) % len(lengths)]
            c = 0 if i % 2 == 0 else 1 + (i // 2) % (len(classes) - 1)
            labels = (
                (classes[c],)
                if not (multi_label and c)
                else tuple(classes[k] for k in sorted({c, 1 + c % (len(classes) - 1)}))
            )
            start, end = n // 3, max(n // 3 + 1, 2 * n // 3)
            visual, captions = (
                rng.standard_normal((crops, n, feature_dim)),
                rng.standard_normal((n, caption_dim)),
            )
            if c:
                visual[:, start:end] += 2 * directions[0][c]
                captions[start:end] += 2 * directions[1][c]
            split = "train" if i < train else "test"
            intervals = (
                ((classes[c], 16 * start, min(16 * end, 16 * n - 3)),)
                if c and split == "test"
                else ()
            )
            video = store.Video(
                f"video_{i:03d}",
                split,
                labels,
                16 * n - 3,
                25.0,
                n,
                crops=crops,
                intervals=intervals,
            )
            texts = [f"caption {t} of video {i}" for t in range(n)]
            writer.add(video, visual.astype(np.float16), captions.astype(np.float16), texts)
        class_text = {
            "class_caption": rng.standard_normal((len(classes), caption_dim)).astype(np.float32),
            "class_name": rng.standard_normal((len(classes), 6)).astype(np.float32),
        }
        writer.finish(class_text | (text or {}), {name: [] for name in classes})
        return store.open(path)
