"""Table 9: trained on one data set, judged on the other.

    python main.py --study table9 --data ucf=features/ucf xd=features/xd
           [--class-map configs/studies/ucf_xd.json]

The two class lists differ: the binary head alone is reported, by the metric and the test crop of
the data set judged on, unless a class map says which classes mean the same. ucf_xd.json pairs the
five with a namesake; it is ours, the paper names none. Stores must have features of the same kind.
With one store, the demo's unless others are given, runs are judged on what they were trained on:
that shows only that the program works. Cost: two runs a store.
"""

from semvad_jax.studies.study import HEADLINE, Figure, Row, Study

study = Study(
    title="Table 9: transfer to another data set",
    metrics=(HEADLINE, "map"),
    transfer=True,
    rows=(
        Row(
            "vadclip",
            "VadCLIP",
            ("model.name=vadclip",),
            {"xd/ap": Figure(66.66), "ucf/auc": Figure(81.1)},
        ),
        Row(
            "semvad",
            "SemVAD",
            ("model.name=semvad",),
            {"xd/ap": Figure(71.66), "ucf/auc": Figure(84.66)},
        ),
    ),
    note="By the last step's weights. By which head and weights the paper's are is not said.",
)
