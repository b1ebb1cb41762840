"""Table 1: how many words a class caption may choose from, the top x % of its ranking.

    cp -r features/ucf.work features/ucf_5.work        # all but the class captions is found there
    python featurize/run.py --dataset ucf --top-percent 5 --out features/ucf_5     # and 30, 50
    python main.py --study table1 --data 5=features/ucf_5 10=features/ucf 30=… 50=…

The labels are the values of x; 10 is the default, and the demo's. Cost: one run a store.
"""

from semvad_jax.studies.study import Figure, Row, Study

PAPER = {
    "5/auc": Figure(87.09),
    "10/auc": Figure(87.21),
    "30/auc": Figure(87.22),
    "50/auc": Figure(87.19),
}

study = Study(
    title="Table 1: class captions from the top x % of words",
    data={"10": "demo"},
    by_label=True,
    rows=(Row("semvad", "x = {} %", ("model.name=semvad",), PAPER),),
    note="The paper's figures are UCF-Crime's.",
)
