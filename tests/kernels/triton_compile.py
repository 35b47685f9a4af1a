"""Compile every Triton kernel for an A100, to machine code, without a GPU: a process of its own, without interpreter.

The interpreter accepts what the compiler does not. Prints the kernels' names.
"""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from biomeg_lib.kernels import triton_cross_entropy, triton_pointwise, triton_rows

CONSTANTS = {"BLOCK": 256, "TILE": 2, "TANH": True, "DROP": True, "MASKED": True, "GRADIENT": True, "by_key": 1}
TYPES = {"labels": "*i64", "allowed": "*u8", "seed": "i64", "scale": "fp32", "eps": "fp32"}
WIDE = ("weight", "bias", "mean", "inverse", "sums", "losses")
NARROW = ("x", "out", "gradient", "residual", "scores", "chances", "logits")
TYPES |= dict.fromkeys(WIDE, "*fp32") | dict.fromkeys(NARROW, "*bf16")


def compile_kernel(kernel: JITFunction) -> None:
    """Raises what the compiler raises."""
    constants = {name: CONSTANTS[name] for name in kernel.arg_names if name in CONSTANTS}
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 1})
    assert compiled.asm["cubin"]


if __name__ == "__main__":
    for module in (triton_pointwise, triton_rows, triton_cross_entropy):
        for name, kernel in vars(module).items():
            # the others are parts of these
            if isinstance(kernel, JITFunction) and {"out", "losses"} & set(kernel.arg_names):
                compile_kernel(kernel)
                print(name)
