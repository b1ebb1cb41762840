"""Figure 6a: what the weight seed does and what the data seed does, every one with every other.

    python main.py --study figure6a --vmap-seeds 5 [--data ucf=features/ucf]

--vmap-seeds N is N × N pairs in one program (5 unless given; --seeds and --data-seeds name them;
--seed-chunk says how many are in memory at once). Cost: one run of N × N seeds.
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
