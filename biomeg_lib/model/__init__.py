"""The model: its configuration and named shapes, the transformer, and the heads on it.

`PretrainingModel(config)` and the classifiers offer `loss(batch) -> (total, parts)`, all that a training loop needs to
know of them.
"""

from biomeg_lib.model.classifiers import (
    FullyConnected,
    SpanClassifier,
    TextClassifier,
    TokenClassifier,
    encoder_state,
    load_encoder,
)
from biomeg_lib.model.config import PRESETS, ModelConfig, Preset, config_for, count_parameters
from biomeg_lib.model.heads import PretrainingModel
from biomeg_lib.model.losses import CrossEntropy, SelfAdjustingDice, balanced_weights
from biomeg_lib.model.transformer import Block, Embeddings, Encoder

__all__ = [
    "PRESETS",
    "Block",
    "CrossEntropy",
    "Embeddings",
    "Encoder",
    "FullyConnected",
    "ModelConfig",
    "Preset",
    "PretrainingModel",
    "SelfAdjustingDice",
    "SpanClassifier",
    "TextClassifier",
    "TokenClassifier",
    "balanced_weights",
    "config_for",
    "count_parameters",
    "encoder_state",
    "load_encoder",
]
