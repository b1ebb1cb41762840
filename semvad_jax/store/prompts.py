"""Class vectors from a file, in place of a store's vectors of its class names (`model.prompts`).

The file is an .npz; for a store of dataset D, `D_classes` [C] names the classes of the rows of
`D_prompts…` [C, width] in any order. Names count as written, whatever their case and the signs
between words. Nothing of the file is run, and no more of it is read than these two arrays.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from semvad_jax.files import MOST, BadInput, refuse_pointer, require
from semvad_jax.store.format import DAMAGED


def read_prompts(file: str, dataset: str, classes: Sequence[str]) -> Float[np.ndarray, "C D_text"]:
    """The vectors of `classes`, in this order.

    Raises BadInput for anything but such a file, and where a class has no vector in it.
    """
    path = Path(file)
    require(
        path.is_file(), f"there is no file {path}; model.prompts takes an .npz of class vectors"
    )
    refusal = f"{path} is not an .npz of class vectors"
    try:
        with zipfile.ZipFile(path) as members:
            sizes = {m.filename.removesuffix(".npy"): m.file_size for m in members.infolist()}
        known, prefix = f"{dataset}_classes", f"{dataset}_prompts"
        named = sorted(name for name in sizes if name.startswith(prefix))
        require(
            known in sizes and len(named) == 1,
            f"{path} must hold {known} and one array {prefix}…; it holds {', '.join(sizes)}",
        )
        require(sizes[known] + sizes[named[0]] <= MOST, f"{refusal}: it holds more than 64 MiB")
        with np.load(path, allow_pickle=False) as arrays:
            names, vectors = np.asarray(arrays[known]), np.asarray(arrays[named[0]])
    except BadInput:
        raise
    except (*DAMAGED, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        refuse_pointer(path)
        raise BadInput(f"{refusal}; make it with numpy.savez") from None
    shape = list(vectors.shape)
    require(
        names.ndim == 1
        and names.dtype.kind == "U"
        and vectors.ndim == 2
        and shape[1] > 0
        and len(names) == shape[0],
        f"{path}: {named[0]} is {shape} and {known} {list(names.shape)}; "
        "there must be as many names, as text, as there are vectors",
    )
    require(vectors.dtype.kind == "f", f"{path}: {named[0]} is {vectors.dtype}, not of floats")
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    require(bool(usable.all()), f"{path}: {named[0]} has a vector that is 0 or not finite")
    rows = {_plain(str(name)): row for name, row in zip(names, vectors, strict=True)}
    missing = [name for name in classes if _plain(name) not in rows]
    require(
        not missing,
        f"{path} has no vector of {', '.join(missing)}; {known} must name every class of the store",
    )
    return np.stack([rows[_plain(name)] for name in classes]).astype(np.float32)


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
