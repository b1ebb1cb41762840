"""Lets torchvision be imported beside a PyTorch without CUDA: put this folder on PYTHONPATH.

The small PyTorch that tests use has no CUDA, and PyPI's torchvision for Linux looks for CUDA's
libraries: it then lacks two operators, `nms` and `qnms`, that it describes at import. Nothing here
calls them.
"""

import platform
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import version


class _DefineOperators(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname != "torchvision":
            return
        import torch

        defined = hasattr(torch.ops.torchvision, "nms")
        if torch.version.cuda is None and "+" not in version("torchvision") and not defined:
            for operator in ("nms", "qnms"):
                signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{operator}", signature)


if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
    sys.meta_path.insert(0, _DefineOperators())
