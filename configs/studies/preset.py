"""How the preset `best` was chosen: candidates by cross-validation over the train videos.

    python main.py --study preset --folds 5 --vmap-seeds 2 \\
        --data ucf_c3d=features/ucf_c3d demo=demo ucf_captions=features/ucf_captions

No test video is looked at. A candidate stays where its mean over the stores is the highest. Cost: a
minute or two a candidate and store on two CPU cores; what is there already is not trained again.
"""

from semvad_jax.studies.folds import CrossValidation
from semvad_jax.studies.study import Row

SEMVAD = ("model.name=semvad",)
NORM = (*SEMVAD, "model.input_norm=true", "model.residual=both", "model.dropout=0.5")
MORE = tuple(text.replace("dropout=0.5", "dropout=0.7") for text in NORM)

study = CrossValidation(
    title="The preset `best`: candidates out of fold",
    seeds=2,
    rows=(
        Row("mil", "MIL (both streams)", ("model.name=mil",)),
        Row("paper", "SemVAD paper", SEMVAD),
        Row("both", "residual on both, inputs normed, dropout", NORM),
        Row("shortcut", "the same with the shortcut", (*NORM, "model.shortcut=true")),
        Row("more", "the same, dropout 0.7", (*MORE, "model.shortcut=true")),
    ),
)
