"""Whether this process runs Triton's kernels in its interpreter, which the first import of Triton decides."""

import sys

import pytest
import torch


def interpreted() -> bool:
    """Whether Triton, imported already, is an interpreter."""
    import triton.language
    from triton.runtime.interpreter import InterpretedFunction

    return isinstance(triton.language.zeros, InterpretedFunction)


def import_kernels() -> None:
    """Import the kernels, interpreted where there is no GPU; the variable is not left behind for other tests.

    Where something else has imported Triton already, uninterpreted and without a GPU, the calling module is skipped,
    and `test_triton_backend` runs it in a process of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setenv("TRITON_INTERPRET", "1")
            if "triton" in sys.modules and not interpreted():
                pytest.skip("run by test_triton_backend in a process of its own", allow_module_level=True)
        from biomeg_lib.kernels import triton_cross_entropy, triton_pointwise, triton_rows  # noqa: F401
