"""The stage `scores`: what a training-free system thinks of a finished store's snippets.

    STORE/scores_NAME.npy    float32 [N], a score a snippet, in the order of caption_embedding.npy
    STORE/scores_NAME.json   what made them: scorer, model, prompts, settings, answers that could
                             not be read, and the checksums of the store and of the scores

Scores are from 0 to 1, higher = more anomalous. A scorer with a language model scores the test
videos, which are what is judged; rows of other videos hold NaN, and `scored` tells the splits.
`python main.py --scorer NAME --data STORE` judges them.
"""

import io
from typing import Any

import numpy as np
from rich.progress import track

from featurize.request import LLM, Request
from semvad_jax import store
from semvad_jax.files import (
    json_text,
    locked,
    remove_leftovers,
    replacing,
    require,
    sha256,
    write,
)
from semvad_jax.store import Store
from semvad_jax.store.format import rows_of, starts_of
from semvad_jax.store.scorers import scores_file


def make(request: Request) -> None:
    """Writes the two files, and tells how many answers could not be read. With a shard, only the
    answers of its videos are asked for, and kept: a call without one writes the files of them.

    Raises BadInput where STORE is none, and for what the scorer refuses. An interrupt loses at most
    a minute's answers: those that a model gave stay in STORE.work.
    """
    features = store.open(request.out)
    system = scorer(request, features)
    of = [i for i, v in enumerate(features.videos) if v.split in system.splits and v.snippets]
    require(bool(of), f"{request.out} has no {' or '.join(system.splits)} videos to score.")
    if request.shard is not None:
        own = [i for i in of if request.shares(features.videos[i].video)]
        for i in track(own, description=f"{'scores':15}"):
            system(i)
        print(f"answers on {len(own)} of {len(of)} videos -> {request.work}")
        return
    path = scores_file(request.out, str(request.scorer))
    with locked(path):
        remove_leftovers(path)
        remove_leftovers(path.with_suffix(".json"))
        starts = starts_of(rows_of("caption_embedding.npy", features.videos))
        scores = np.full(starts[-1], np.nan, np.float32)
        asked = unread = without = 0
        for i in track(of, description=f"{'scores':15}"):
            scored = system(i)
            scores[starts[i] : starts[i + 1]] = scored.scores
            asked, unread = asked + scored.asked, unread + scored.unread
            without += 0 < scored.asked == scored.unread
        counts = {"asked": asked, "not read": unread, "videos without one that was read": without}
        array = io.BytesIO()
        np.save(array, scores, allow_pickle=False)
        with replacing(path) as partial:
            partial.write_bytes(array.getvalue())
            made: dict[str, Any] = {
                "scorer": request.scorer,
                "producer": system.producer,
                "made": system.made,
                "answers": counts,
                "snippets": len(scores),
                "scored": list(system.splits),
                "store_sha256": features.info["sha256"],
                "sha256": sha256(partial),
            }
            # the scores come last: beside a description of others they are refused
            write(path.with_suffix(".json"), json_text(made))
    told = f"; {unread} of {asked} answers were not read and were interpolated" if asked else ""
    how = f", nearest by {system.producer['nearest']}" if "nearest" in system.producer else ""
    print(f"{len(of)} videos scored by {request.scorer}{how}{told} -> {path}")


def scorer(request: Request, store: Store) -> Any:
    """The training-free system that a request names: producer, made (what it found out about the
    whole store), splits (that it scores), (video of the store) -> answers.Scored.
    """
    if request.scorer == "similarity":
        from featurize.similarity import Similarity

        return Similarity(store)
    if request.scorer == "vlm":
        from featurize.vlm import Vlm

        return Vlm(store, request)
    from featurize.answers import Answers
    from featurize.llm import LocalLLM

    answers = Answers(LocalLLM(request.weights[LLM]), request.work, request.resume)
    if request.scorer == "lavad":
        from featurize.lavad import Lavad

        return Lavad(store, answers)
    from featurize.anomaly_ruler import AnomalyRuler

    return AnomalyRuler(store, answers)
