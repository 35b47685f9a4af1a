"""The model: its configuration and named shapes, the transformer, and the heads on it.

`PretrainingModel(config)` and `TokenClassifier(config, ...)` both offer `loss(batch) -> (total, parts)`, all that a
training loop needs to know of them.
"""

from biomeg_lib.model.config import PRESETS, ModelConfig, Preset, config_for, count_parameters
from biomeg_lib.model.heads import FullyConnected, PretrainingModel, TokenClassifier, encoder_state, load_encoder
from biomeg_lib.model.transformer import Block, Embeddings, Encoder

__all__ = [
    "PRESETS",
    "Block",
    "Embeddings",
    "Encoder",
    "FullyConnected",
    "ModelConfig",
    "Preset",
    "PretrainingModel",
    "TokenClassifier",
    "config_for",
    "count_parameters",
    "encoder_state",
    "load_encoder",
]
