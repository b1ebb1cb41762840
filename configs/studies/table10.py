"""Table 10: SemVAD's modules, one more switched on in every row.

    python main.py --study table10 [--data demo=demo ucf_captions=features/ucf_captions …]

Row 0 is VadCLIP, of width D; the others are of width 2D. Row 1 puts the caption vectors beside the
features as they are (§4.8) and brings both to 2D by one Linear; rows 2 and 3 give the temporal
adapter L_v(F) with the attended and with the mixed captions, row 4 adds ℓ_sem. The last three rows
are readings that the paper leaves open: row 1 by a Linear of width D for each stream, row 4's ℓ_sem
on anomalous videos alone, and row 4's attended captions added to the captions, as the authors'
program has it. Cost: eight runs a store; on the demo store one of ten seeds takes about two minutes
on two CPU cores.
"""

from semvad_jax.studies.study import Figure, Row, Study


def semvad(attention: bool, mixer: bool, sem: int, *more: str) -> tuple[str, ...]:
    fusion = (f"model.attention={attention}", f"model.mixer={mixer}")
    return ("model.name=semvad", *fusion, f"loss.sem={sem}", *more)


RAW = "model.captions_raw=true"
ANOMALOUS = "loss.sem_videos=anomalous"
TO_CAPTION = "model.residual=caption"

study = Study(
    title="Table 10: modules",
    rows=(
        Row("vadclip", "VadCLIP", ("model.name=vadclip",), {"ucf/auc": Figure(86.26, 0.918)}),
        Row("captions", "+ captions", semvad(False, False, 0, RAW), {"ucf/auc": Figure(86.50)}),
        Row("attention", "+ attention", semvad(True, False, 0), {"ucf/auc": Figure(86.642)}),
        Row("mixer", "+ conv mixer", semvad(True, True, 0), {"ucf/auc": Figure(87.08)}),
        Row("sem", "+ ℓ_sem", semvad(True, True, 1), {"ucf/auc": Figure(87.212, 0.462)}),
        Row("projected", "captions by L_c", semvad(False, False, 0)),
        Row("sem_anomalous", "ℓ_sem: anomalous", semvad(True, True, 1, ANOMALOUS)),
        Row("residual", "residual: caption", semvad(True, True, 1, TO_CAPTION)),
    ),
    note="VadCLIP's width is D, the others' 2D.",
)
