"""Figure 6a: how much of a metric's spread the weight seed brings, and how much the data seed.

    python main.py --study figure6a --vmap-seeds 5 [--data ucf=features/ucf] [--model semvad]

VadCLIP's, as the paper's figure is; --model takes another's. Every weight seed is trained with
every data seed: --vmap-seeds N means N × N pairs in one program (default: 5 × 5, the paper's four
among them). --seeds and --data-seeds name the seeds, --seed-chunk says how many pairs are in memory
at once. Cost: one run of N × N seeds.
"""

from semvad_jax.studies.study import Figure, Row, Study

VADCLIP = {"ucf/auc": Figure(86.26, 0.918), "xd/ap": Figure(83.20, 1.53)}
CELLS = {"234, 234": 87.44, "9, 9": 85.61, "234, 9": 88.24, "9, 234": 86.33}

study = Study(
    title="Figure 6a: weight seed × data seed",
    cross_seeds=True,
    seeds=5,
    rows=(Row("vadclip", "VadCLIP", ("model.name=vadclip",), VADCLIP, CELLS),),
    note="The paper's mean and SD are Table 2's, where both seeds vary together; its cells are "
    "UCF-Crime's.",
)
