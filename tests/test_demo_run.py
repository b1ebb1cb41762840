"""The main job on the embedded default, beside its controls: what docs/RESULTS.md says of it.

`python main.py --results runs` wrote that file from ten-seed runs, which take minutes each.
"""

import re
from pathlib import Path

from semvad_jax import store
from tests.test_demo import DEMO, frame_auc, linear_scores

RESULTS = Path(__file__).parent.parent / "docs" / "RESULTS.md"


def last_step_auc(run: str, head: str) -> float:
    """Mean frame AUC over ten seeds, in per cent, of a run's section."""
    section = RESULTS.read_text().partition(f"### {run}\n")[2].partition("\n### ")[0]
    row = re.search(rf"^\| last step \| {head}.*? \| ([\d.]+) ± ", section, re.MULTILINE)
    assert row, f"{RESULTS} has no {head} head of {run}"
    return float(row.group(1))


def test_semvad_beats_a_linear_model_of_single_snippets():
    auc, demo = last_step_auc("runs/demo", "binary"), store.open(DEMO)
    linear = [
        linear_scores(demo, s, z) for s in ("visual+captions", "captions") for z in (False, True)
    ]
    best = 100 * max(frame_auc(demo, scores) for scores in linear)
    assert best < 85
    assert auc >= 90 and auc >= best + 5


def test_shuffled_labels_teach_nothing():
    for head in ("binary", "class"):
        assert abs(last_step_auc("runs/demo_shuffled", head) - 50) <= 5
