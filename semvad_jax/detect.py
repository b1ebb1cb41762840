"""A store's videos scored by every seed of a run: scores.csv per video."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float, PyTree

from semvad_jax import seeds
from semvad_jax.config import BadInput, Config
from semvad_jax.store import Store
from semvad_jax.types import Frozen


def check_store(cfg: Config, store: Store) -> None:
    """Raises BadInput where the store's features do not fit the run's model; its class list does
    not matter.
    """
    for name, dim in (("feature_dim", store.feature_dim), ("caption_dim", store.caption_dim)):
        if dim != getattr(cfg.data, name):
            raise BadInput(
                f"the store at {store.path} has {name} {dim}, the run was trained on "
                f"{getattr(cfg.data, name)}; "
                "make the store with the producers that the run's checkpoint/meta.json names"
            )


def detect(cfg: Config, frozen: Frozen, params: PyTree, store: Store, out: Path) -> list[Path]:
    """Writes OUT/<video>/scores.csv for every readable video of the store, from weights stacked
    over seeds.

    Mean and sample SD are over seeds (no SD for one); the class is the largest mean probability.
    Scores are those of `eval.select_head`, the binary head's where that is `max`. Raises BadInput
    where the features do not fit.
    """
    check_store(cfg, store)
    videos = [i for i, v in enumerate(store.videos) if v.error is None and v.snippets > 0]
    if not videos:
        raise BadInput(
            f"the store at {store.path} has no readable video; see the errors in its videos.jsonl"
        )
    scores = seeds.score_videos(cfg, frozen, params, store, videos)
    head = "class" if cfg.eval.select_head == "class" else "binary"
    written = []
    for place, i in enumerate(videos):
        anomaly = np.stack([s.head(head)[place] for s in scores]).astype(np.float64)
        classes = [s.classes[place] for s in scores if s.classes is not None]
        probabilities = np.stack(classes).mean(axis=0, dtype=np.float64) if classes else None
        written.append(_write(cfg, store, i, anomaly, probabilities, out))
    return written


def _write(
    cfg: Config,
    store: Store,
    i: int,
    anomaly: Float[np.ndarray, "S n"],
    probabilities: Float[np.ndarray, "n C"] | None,
    out: Path,
) -> Path:
    video, edges, texts = store.videos[i], store.videos[i].frame_edges, store.texts(i)
    names = cfg.data.classes if probabilities is not None else ()
    mean = anomaly.mean(axis=0)
    sd = anomaly.std(axis=0, ddof=1) if len(anomaly) > 1 else None
    folder = out / video.video.replace("/", "__")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "scores.csv.tmp"
    with temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        head = (
            "snippet,start_frame,end_frame,start_second,end_second,score_mean,score_sd,class".split(
                ","
            )
        )
        rows.writerow([*head, *names, "caption"])
        for t in range(video.snippets):
            start, end = int(edges[t]), int(edges[t + 1])
            p = [] if probabilities is None else probabilities[t]
            rows.writerow(
                [
                    t,
                    start,
                    end,
                    f"{start / video.fps:.3f}",
                    f"{end / video.fps:.3f}",
                    f"{mean[t]:.6f}",
                ]
                + ["" if sd is None else f"{sd[t]:.6f}", names[int(np.argmax(p))] if names else ""]
                + [f"{x:.6f}" for x in p]
                + [texts[t] if texts else ""]
            )
    temporary.replace(folder / "scores.csv")
    return folder / "scores.csv"
