"""Table 13: attention whose values are its keys (QKK), or have a projection of their own (QKV).

    python main.py --study table13 [--data ucf=features/ucf xd=features/xd]

Cost: two runs a store, as long as those of table10.py.
"""

from semvad_jax.studies.study import HEADLINE, Figure, Row, Study

QKK = {
    "ucf/auc": Figure(87.21, 0.462),
    "ucf/map": Figure(8.13),
    "xd/ap": Figure(84.66, 1.26),
    "xd/map": Figure(31.15, 1.29),
}
QKV = {
    "ucf/auc": Figure(86.91),
    "ucf/map": Figure(8.05),
    "xd/ap": Figure(83.13),
    "xd/map": Figure(31.57),
}

study = Study(
    title="Table 13: QKK or QKV",
    metrics=(HEADLINE, "map"),
    rows=(
        Row("semvad", "QKK", ("model.name=semvad", "model.qkv=false"), QKK),
        Row("qkv", "QKV", ("model.name=semvad", "model.qkv=true"), QKV),
    ),
    note="The paper's figures of QKK are those of its Tables 2 and 3, but for UCF-Crime's mAP, 8.1 "
    "there.",
)
