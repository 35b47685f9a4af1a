"""The globals that an honest checkpoint may ask for, by the names that stand in its pickle. None is ever looked up.

`DTYPES` and `STORAGE_TYPES` say what numbers a tensor has. `INERT` and all that is in `PACKAGES` is not read: classes
of the toolkits that write checkpoints, random states, and types and functions that an argument namespace refers to.
"""

import torch

DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
STORAGE_TYPES = {f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()}
STORAGE_TYPES |= {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}

PACKAGES = {"apex", "deepspeed", "lightning", "megatron", "nemo", "omegaconf", "pytorch_lightning"}
PACKAGES |= {"transformer_engine"}
_NAMES = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.dtypes": "UInt32DType",
    "torch": "Tensor device",
    "torch.nn.parameter": "Parameter",
    "torch.nn.functional": "gelu relu silu",
    "torch._C": "Generator",
    "torch._C._nn": "gelu",
    "_codecs": "encode",
    "datetime": "datetime timedelta",
    "io": "BytesIO",
    "_io": "BytesIO",  # how Transformer Engine has kept its state beside the weights
    "signal": "Signals",
}
INERT = {f"{module}.{name}" for module, names in _NAMES.items() for name in names.split()}
