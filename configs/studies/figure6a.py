"""Figure 6a: how much of a metric's spread the weight seed brings, and how much the data seed.

    python main.py --study figure6a --vmap-seeds 5 [--data ucf=features/ucf]

Every weight seed is trained with every data seed: --vmap-seeds N means N × N pairs in one program
(default: 5 × 5). --seeds and --data-seeds name the seeds, --seed-chunk says how many pairs are in
memory at once. Cost: one run of N × N seeds.
"""

from semvad_jax.studies.study import Figure, Row, Study

SEMVAD = {"ucf/auc": Figure(87.21, 0.462), "xd/ap": Figure(84.66, 1.26)}

study = Study(
    title="Figure 6a: weight seed × data seed",
    cross_seeds=True,
    seeds=5,
    rows=(Row("semvad", "SemVAD", ("model.name=semvad",), SEMVAD),),
    note="The paper's mean and SD are Table 2's, where both seeds vary together.",
)
