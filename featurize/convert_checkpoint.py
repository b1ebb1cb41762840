"""A published PyTorch checkpoint as safetensors, which the JAX side reads.

    python featurize/convert_checkpoint.py IN.pth OUT.safetensors
    python main.py --config ucf --model vadclip --from-torch OUT.safetensors --eval

IN.pth is a state dict, or a training checkpoint with one under `model_state_dict`. Nothing in it is
ever run: a file that holds more than tensors and plain numbers is refused.
"""

import argparse
import pickle
import sys
import warnings
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder would come before the libraries that have the names of our files.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import safetensors.torch
import torch

from semvad_jax.files import BadInput, refuse_pointer, write

# A training checkpoint's best metric may be a NumPy number, which NumPy 1 and 2 name differently.
SCALAR = np.float64(0).__reduce__()[0]
NUMBERS = [
    np.dtype,
    np.dtypes.Float64DType,
    (SCALAR, "numpy.core.multiarray.scalar"),
    (SCALAR, "numpy._core.multiarray.scalar"),
]


def read(path: Path) -> dict[str, torch.Tensor]:
    """The float32 tensors of a state dict, by name.

    Raises BadInput for a file that is missing, no PyTorch file, or holds anything but weights.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not there; give the .pth file of the published weights")
    refuse_pointer(path)
    try:
        with torch.serialization.safe_globals(NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are refused in our own words below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BadInput(
            f"{path} holds code or objects besides weights, or is no PyTorch file; it was not run: "
            "take a file that torch.save made of a state dict"
        ) from None
    except (RuntimeError, EOFError, ValueError):
        raise BadInput(f"{path} is damaged or no PyTorch file; download it again") from None
    weights = content.get("model_state_dict", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or not all(torch.is_tensor(x) for x in weights.values()):
        raise BadInput(
            f"{path} holds no state dict, neither at its top nor under model_state_dict; save "
            "model.state_dict() with torch.save"
        )
    return {name: value.float().contiguous().clone() for name, value in weights.items()}


def main(argv: list[str] | None = None) -> None:
    """The command line; exits with 2 and one sentence on a user's mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="IN.pth", type=Path)
    parser.add_argument("target", metavar="OUT.safetensors", type=Path)
    args = parser.parse_args(argv)
    try:
        weights = read(args.source)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    # not save_file: what it writes only its owner may read
    write(args.target, safetensors.torch.save(weights))
    print(f"{len(weights)} tensors: {args.target}")


if __name__ == "__main__":
    main()
