"""Table 2: coarse results, frame AUC (UCF-Crime) or AP (XD-Violence).

    python main.py --study table2 [--data ucf=features/ucf xd=features/xd]

Every system trains on the same store, with its own program's settings where a config of ours does
not narrow them. `MIL` is our two-layer scorer; MGFN and DSANet are not in the paper's table. UMIL
has the paper's figures alone. Cost: ten runs a store, most of them shorter than those of
table10.py.
"""

from semvad_jax.studies.study import HEADLINE, Figure, Row, Study


def both(ucf: Figure, xd: Figure) -> dict[str, Figure]:
    return {"ucf/auc": ucf, "xd/ap": xd}


RTFM = both(Figure(best=85.66), Figure(best=78.27))
S3R = both(Figure(best=85.99), Figure(best=80.47))
UMIL = {"ucf/auc": Figure(best=86.75)}
DEEP_MIL = both(Figure(75.58, 0.77, 77.92), Figure(73.24, 1.22, 75.18))
UR_DMU = both(Figure(85.52, 0.744, 86.75), Figure(79.22, 1.206, 82.41))
CLIP_TSA = both(Figure(85.02, 0.466, 87.58), Figure(79.83, 1.05, 82.17))
PEL4VAD = both(Figure(85.21, 0.366, 86.76), Figure(84.21, 0.31, 85.59))
VADCLIP = both(Figure(86.26, 0.918, 88.02), Figure(83.20, 1.53, 84.51))
SEMVAD = both(Figure(87.21, 0.462, 88.48), Figure(84.66, 1.26, 86.55))

study = Study(
    title="Table 2: coarse results",
    metrics=(HEADLINE, "ap_trapezoid"),
    rows=(
        Row("rtfm", "RTFM", ("model.name=rtfm",), RTFM),
        Row("s3r", "S3R", ("model.name=s3r",), S3R),
        Row("umil", "UMIL", paper=UMIL),
        Row("deep_mil", "DeepMIL", ("model.name=deep_mil",), DEEP_MIL),
        Row("ur_dmu", "UR-DMU", ("model.name=ur_dmu",), UR_DMU),
        Row("clip_tsa", "CLIP-TSA", ("model.name=clip_tsa",), CLIP_TSA),
        Row("pel4vad", "PEL4VAD", ("model.name=pel4vad",), PEL4VAD),
        Row("mil", "MIL (ours)", ("model.name=mil",)),
        Row("vadclip", "VadCLIP", ("model.name=vadclip",), VADCLIP),
        Row("mgfn", "MGFN", ("model.name=mgfn",)),
        Row("dsanet", "DSANet", ("model.name=dsanet",)),
        Row("semvad", "SemVAD", ("model.name=semvad",), SEMVAD),
    ),
    note="RTFM's, S3R's and UMIL's are single published figures, not means over seeds. The paper "
    "does not say which features its baselines had; published figures of these systems are of "
    "CLIP's. UMIL, MIST and REWARD tune the network that sees the frames: "
    "nothing of them is left on features that are given. The public programs of RTFM, S3R, UR-DMU, "
    "CLIP-TSA, PEL4VAD, MGFN and DeepMIL compute AP by trapezoids, those of VadCLIP, DSANet and "
    "SemVAD by steps.",
)
