"""Figure 6b: the metric against the seed.

    python main.py --study figure6b [--data ucf=features/ucf xd=features/xd]

A table and a drawing. The weight seed varies alone: the data seed is 234, VadCLIP's own, unless
--data-seeds names others. Cost: two runs a store.
"""

from semvad_jax.studies.study import Figure, Row, Study

VADCLIP = {"ucf/auc": Figure(86.26, 0.918, 88.02), "xd/ap": Figure(83.20, 1.53, 84.51)}
SEMVAD = {"ucf/auc": Figure(87.21, 0.462, 88.48), "xd/ap": Figure(84.66, 1.26, 86.55)}

study = Study(
    title="Figure 6b: metric against seed",
    each_seed=True,
    data_seed=234,
    rows=(
        Row("vadclip", "VadCLIP", ("model.name=vadclip",), VADCLIP),
        Row("semvad", "SemVAD", ("model.name=semvad",), SEMVAD),
    ),
    note="The paper draws its seeds; it prints their mean and SD alone, in Table 2, "
    "where both seeds vary.",
)
