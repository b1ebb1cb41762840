"""The training-free systems whose scores of a store's snippets may lie beside it."""

from pathlib import Path

SCORERS = {  # by --scorer NAME, as they are called in print
    "similarity": "similarity",
    "lavad": "LAVAD",
    "anomaly_ruler": "AnomalyRuler",
    "vlm": "VLM asked for a score",
}


def scores_file(store: Path, scorer: str) -> Path:
    """Where the scores lie; what made them stands beside them in a .json."""
    return store / f"scores_{scorer}.npy"
