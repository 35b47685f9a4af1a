"""The two files that hold a model of ours, of a run or of a checkpoint: `model.json` and `model.safetensors`."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from biomeg_lib import sums
from biomeg_lib.checkpoints.side_files import read_side_file
from biomeg_lib.checkpoints.tensors import read_safetensors
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import write_json
from biomeg_lib.model import ModelConfig

SHAPE, WEIGHTS = "model.json", "model.safetensors"


def save_weights(folder: Path, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """Write shape and weights, each whole or not at all."""
    write_json(folder / SHAPE, config.to_dict())
    temporary = folder / f".{WEIGHTS}.part"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary)
    os.replace(temporary, folder / WEIGHTS)


def load_weights(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Shape and weights, the latter as they are in the file.

    Raises:
        InputError: one of the files is absent or damaged.
    """
    sums.check(folder / WEIGHTS)
    return load_shape(folder), read_safetensors(folder / WEIGHTS)


def load_shape(folder: Path) -> ModelConfig:
    """The shape alone.

    Raises:
        InputError: the file is absent or damaged.
    """
    values = read_side_file(folder / SHAPE)
    try:
        return ModelConfig.from_dict(values)
    except (BiomegError, TypeError) as error:
        raise InputError(folder / SHAPE, str(error)) from None
