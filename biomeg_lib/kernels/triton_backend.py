"""The five kernels in Triton, for CUDA, or anywhere in Triton's interpreter (`TRITON_INTERPRET=1`, for tests: slow).

Notable: Triton is imported when the first kernel is asked for, not before: the import takes a while, and decides for
the whole process whether kernels are compiled or interpreted.
"""

import importlib
import importlib.util
import os
from typing import Any

import torch

_HOMES = {
    "bias_gelu": "triton_pointwise",
    "bias_dropout_add": "triton_pointwise",
    "layer_norm": "triton_rows",
    "masked_softmax": "triton_rows",
    "linear_cross_entropy": "triton_cross_entropy",
}


def reason() -> str | None:
    """None where the kernels can run, otherwise one line that says why they cannot."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if not torch.cuda.is_available() and not _interpreting():
        return "there is no CUDA device"
    return None


def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = getattr(importlib.import_module(f"biomeg_lib.kernels.{_HOMES[name]}"), name)
    globals()[name] = function
    return function
