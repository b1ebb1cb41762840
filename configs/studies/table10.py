"""Table 10: SemVAD's modules, one more switched on in every row.

    python main.py --study table10 [--data demo=demo ucf_captions=features/ucf_captions …]

Row 0 is VadCLIP; row 1 gives the temporal adapter [L_v(F), L_c(T)], rows 2 and 3 the attended and
the mixed captions in place of L_c(T), row 4 adds ℓ_sem. Cost: five runs a store; on the demo
store one of ten seeds takes about two minutes on two CPU cores.
"""

from semvad_jax.studies.study import Figure, Row, Study


def semvad(attention: bool, mixer: bool, sem: int) -> tuple[str, ...]:
    fusion = (f"model.attention={attention}", f"model.mixer={mixer}")
    return ("model.name=semvad", *fusion, f"loss.sem={sem}")


study = Study(
    title="Table 10: modules",
    rows=(
        Row("vadclip", "VadCLIP", ("model.name=vadclip",), {"ucf/auc": Figure(86.26, 0.918)}),
        Row("captions", "+ captions", semvad(False, False, 0), {"ucf/auc": Figure(86.50)}),
        Row("attention", "+ attention", semvad(True, False, 0), {"ucf/auc": Figure(86.642)}),
        Row("mixer", "+ conv mixer", semvad(True, True, 0), {"ucf/auc": Figure(87.08)}),
        Row("sem", "+ ℓ_sem", semvad(True, True, 1), {"ucf/auc": Figure(87.212, 0.462)}),
    ),
    note="`+ captions` takes L_c(T), of width D as in all rows; the paper may have taken T itself.",
)
