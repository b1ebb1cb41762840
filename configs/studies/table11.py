"""Table 11: captions decoded greedily, or sampled at a temperature.

    python featurize/run.py --dataset ucf --temperature 0.7 --top-p 0.7 --out features/ucf_t0.7
    python main.py --study table11 --data greedy=features/ucf 0.7=features/ucf_t0.7 …

The labels are `greedy` and temperatures. The paper sets temperature and top-p to one value, 0.3 or
0.7. Cost: one run a store.
"""

from semvad_jax.studies.study import HEADLINE, Figure, Row, Study

PAPER = {
    "0.3/auc": Figure(86.2),
    "0.3/map": Figure(5.48),
    "0.7/auc": Figure(85.85),
    "0.7/map": Figure(4.99),
    "greedy/auc": Figure(87.26),
    "greedy/map": Figure(8.1),
}

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
            PAPER,
        ),
    ),
    note="The paper's figures are UCF-Crime's.",
)
