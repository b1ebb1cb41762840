"""Table 12: σ-greedy selection of snippets, off and on.

    python main.py --study table12 [--data demo=demo ucf_captions=features/ucf_captions …]

The paper's run has 1,125 steps, over which σ falls to nothing early; in a run of 96 it hardly does.
The last row's σ ends the run where the paper's does. Cost: five runs a store, as long as those of
table10.py.
"""

from semvad_jax.studies.study import Figure, Row, Study


def settings(model: str, on: bool) -> tuple[str, ...]:
    return (f"model.name={model}", f"loss.sigma_greedy={on}")


study = Study(
    title="Table 12: σ-greedy",
    rows=(
        Row("vadclip", "VadCLIP", settings("vadclip", False), {"ucf/auc": Figure(86.26, 0.917)}),
        Row(
            "vadclip_sigma",
            "VadCLIP, σ-greedy",
            settings("vadclip", True),
            {"ucf/auc": Figure(86.12, 0.694)},
        ),
        Row("semvad", "SemVAD", settings("semvad", False), {"ucf/auc": Figure(87.21, 0.462)}),
        Row(
            "semvad_sigma",
            "SemVAD, σ-greedy",
            settings("semvad", True),
            {"ucf/auc": Figure(87.08, 0.248)},
        ),
        Row(
            "semvad_sigma_length",
            "SemVAD, σ to the run's length",
            settings("semvad", True),
            sigma_to_length=True,
        ),
    ),
)
