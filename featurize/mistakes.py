"""What a user can mend, whichever library raises it, told as a BadInput of one sentence."""

import contextlib
import errno
from collections.abc import Iterator

from semvad_jax.files import BadInput

# What stands in a RuntimeError of PyTorch's, and what to do then.
REMEDIES = {
    "torchvision::": "torchvision was built for another torch; install the two of one release.",
    "out of memory": "The GPU has too little memory for this model; take a smaller one, or a GPU "
    "that holds it.",
}


@contextlib.contextmanager
def as_bad_input() -> Iterator[None]:
    """Raises BadInput in place of the block's error where a package is missing, memory or the disk
    is too small, or a file cannot be read or written. Other errors are defects, and stay.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or "a package of the featurizer"  # transformers leaves the name out
        extra = "ray" if name == "ray" else "featurize"
        raise BadInput(f'{name} is missing; run pip install -e ".[{extra}]".') from None
    except RuntimeError as error:
        for sign, remedy in REMEDIES.items():
            if sign in str(error):
                raise BadInput(remedy) from None
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not (full or error.filename):
            raise
        where = "The disk is full" if full else f"{error.filename}: {error.strerror}"
        raise BadInput(f"{where}; mend that and repeat the command.") from None
