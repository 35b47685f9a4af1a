"""Where the Triton kernels can run, that they compile, and that their tests are run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from triton_interpreter import interpreted

from biomeg_lib.kernels import triton_backend

HERE = Path(__file__).resolve().parent
installed = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="the package triton is not installed")


def run(*arguments: str, **variables: str) -> str:
    """A Python process in the project's folder, which has to succeed; its output."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=HERE.parent.parent
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@installed
@pytest.mark.parametrize("module", ["pointwise", "rows", "cross_entropy"])
def test_kernels_that_could_not_be_tested_in_this_process(module):
    if torch.cuda.is_available() or "triton" not in sys.modules or interpreted():
        pytest.skip("tested in this process")
    out = run("-m", "pytest", "-p", "no:cacheprovider", str(HERE / f"test_triton_{module}.py"), TRITON_INTERPRET="1")
    assert "." in out.split()[0]  # one for each test that passed
    assert "s" not in out.split()[0]


@installed
def test_kernels_compile_for_a_gpu(tmp_path):
    names = run(str(HERE / "triton_compile.py"), TRITON_CACHE_DIR=str(tmp_path)).split()
    assert names == [
        *("_bias_gelu", "_bias_gelu_backward", "_bias_dropout_add", "_bias_dropout_backward"),
        *("_layer_norm", "_layer_norm_backward", "_masked_softmax", "_masked_softmax_backward", "_cross_entropy"),
    ]


def test_reasons_why_it_cannot_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert triton_backend.reason() == "there is no CUDA device"
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert triton_backend.reason() == "there is no CUDA device"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_backend.reason() is None
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert triton_backend.reason() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert triton_backend.reason() == "the package triton is not installed"


@installed
def test_all_five_functions_are_there_and_triton_is_imported_late():
    names = ("bias_gelu", "bias_dropout_add", "layer_norm", "masked_softmax", "linear_cross_entropy")
    code = f"""
import sys, torch
from biomeg_lib.kernels import triton_backend
assert triton_backend.reason() is None
assert "triton" not in sys.modules
for name in {names}:
    assert callable(getattr(triton_backend, name)) and getattr(triton_backend, name).__name__ == name
print(hasattr(triton_backend, "softmax"))
print(triton_backend.bias_gelu(torch.zeros(2, 3), torch.zeros(3), "erf").sum().item())
"""
    assert run("-c", code, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="").split() == ["False", "0.0"]
