"""Table 11: captions decoded greedily, or sampled at a temperature.

    python featurize/run.py --dataset ucf --temperature 0.7 --out features/ucf_t0.7
    python main.py --study table11 --data greedy=features/ucf 0.7=features/ucf_t0.7 …

The labels are `greedy` and temperatures; only the paper's greedy figures were at hand. Cost: one
run a store.
"""

from semvad_jax.studies.study import HEADLINE, Figure, Row, Study

study = Study(
    title="Table 11: the captions' temperature",
    metrics=(HEADLINE, "map"),
    data={},
    needs="give --data greedy=STORE 0.7=STORE …, of captions decoded at these temperatures",
    by_label=True,
    rows=(
        Row(
            "semvad",
            "{}",
            ("model.name=semvad",),
            {"greedy/auc": Figure(87.26), "greedy/map": Figure(8.1)},
        ),
    ),
    note="The paper's figures are UCF-Crime's.",
)
