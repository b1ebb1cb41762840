"""Which study a name means."""

import runpy
from pathlib import Path

from semvad_jax.config import CONFIGS
from semvad_jax.files import BadInput
from semvad_jax.studies.captions import CaptionMatch
from semvad_jax.studies.folds import CrossValidation
from semvad_jax.studies.runtime import Runtime
from semvad_jax.studies.study import Study


def find_study(name_or_path: str) -> Study | CaptionMatch | CrossValidation | Runtime:
    """What configs/studies/NAME.py, or a file at a path, calls `study`.

    Raises BadInput where there is no such file, and where it has no study, or one of other fields.
    """
    folder = CONFIGS / "studies"
    path = Path(name_or_path)
    path = path if path.suffix == ".py" else folder / f"{name_or_path}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.py")))
        raise BadInput(f"no study {path}; --study takes a path that ends in .py or one of: {known}")
    try:
        study = runpy.run_path(str(path)).get("study")
    except TypeError as error:
        raise BadInput(f"{path}: {error}; semvad_jax/studies/study.py has the fields") from None
    if not isinstance(study, Study | CaptionMatch | CrossValidation | Runtime):
        kinds = "a Study, CaptionMatch, CrossValidation or Runtime"
        raise BadInput(f"{name_or_path} must define `study`, {kinds}")
    return study
