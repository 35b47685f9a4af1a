"""Weights and config.json of one of Hugging Face's models: `Bert` for post-LN, `MegatronBert` for pre-LN.

What is notable: their sequence classification has a pooler, tanh(dense), between [CLS] and the classifier, and ours
has not. So the pooler is written as 2**-k times the identity, and the classifier's weights times 2**k. Powers of two
change no digit of a float32, and k is so large that tanh(y) is y for whatever the last LayerNorm can give: that is at
most sqrt(hidden) times its largest gain, plus its bias. In float16 the pooled values would be too small to keep their
digits; float32 and bfloat16 have no such limit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from biomeg_lib.checkpoints.hugging_face_names import DECODER, to_hugging_face
from biomeg_lib.errors import InputError
from biomeg_lib.files import as_usual, write_json
from biomeg_lib.model import ModelConfig

MODEL_TYPES = {"pre": "megatron-bert", "post": "bert"}
CLASSES = {  # what the model is for -> the end of the class's name
    "encoder": "Model",
    "masked words": "ForMaskedLM",
    "ner": "ForTokenClassification",
    "classification": "ForSequenceClassification",
    "qa": "ForQuestionAnswering",
}
_KINDS = {"pre": "MegatronBert", "post": "Bert"}
_GELUS = {"tanh": "gelu_new", "erf": "gelu"}
_TINY = 12  # binary places: below 2**-12, y**3/3 is less than half a unit in the last place of a float32 y


@dataclass(frozen=True)
class Exportable:
    """A model that Hugging Face has a class for.

    Attributes:
        purpose: a key of `CLASSES`.
        config: the shape.
        state: the encoder and the parts on it, under the names of `PretrainingModel`.
        head: of a task: weight float32[labels, hidden] and bias float32[labels]; None without a task.
        labels: by index; none for question answering, whose two outputs are start and end.
        pad_id: id of [PAD].
        head_dropout: before the head, in further training.
    """

    purpose: str
    config: ModelConfig
    state: Mapping[str, Tensor]
    head: tuple[Tensor, Tensor] | None = None
    labels: Sequence[str] = ()
    pad_id: int = 0
    head_dropout: float | None = None

    @property
    def class_name(self) -> str:
        """The name of the class in `transformers`."""
        return _KINDS[self.config.norm] + CLASSES[self.purpose]


def write_model(folder: Path, model: Exportable) -> None:
    """Write config.json and model.safetensors into a folder that is there.

    Raises:
        InputError: the last LayerNorm holds a value that is no finite number.
    """
    weights = to_hugging_face(model.state, model.config.norm)
    # The decoder is tied to what is written already, and one tensor may stand in a file only once.
    weights = {name: value for name, value in weights.items() if name not in (DECODER, "cls.predictions.decoder.bias")}
    if model.head is not None:
        weight, bias = model.head
        if model.purpose == "classification":
            pooler, weight = _through_pooler(model.config, model.state, weight)
            weights |= pooler
        name = "qa_outputs" if model.purpose == "qa" else "classifier"
        weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
    path = folder / "model.safetensors"
    # Query, key and value are views of one tensor, which the format refuses.
    save_file({name: value.clone() for name, value in weights.items()}, path, metadata={"format": "pt"})
    as_usual(path)
    write_json(folder / "config.json", _config(model))


def scale_of_pooler(config: ModelConfig, state: Mapping[str, Tensor]) -> int:
    """The k of the module's docstring.

    Args:
        state: as in `Exportable`.

    Raises:
        InputError: the last LayerNorm holds a value that is no finite number.
    """
    last = "encoder.norm" if config.norm == "pre" else f"encoder.blocks.{config.layers - 1}.mlp_norm"
    gain, bias = state[f"{last}.weight"].double().abs(), state[f"{last}.bias"].double().abs()
    most = float((math.sqrt(config.hidden) * gain + bias).max())
    if not math.isfinite(most):
        raise InputError("model.safetensors", f"expected finite numbers in {last!r}, found others")
    return _TINY + max(0, math.frexp(most)[1])


def _through_pooler(
    config: ModelConfig, state: Mapping[str, Tensor], weight: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """The pooler's weights, and the classifier's to go with them."""
    k = scale_of_pooler(config, state)
    dense = torch.eye(config.hidden) * 2.0**-k
    return {"bert.pooler.dense.weight": dense, "bert.pooler.dense.bias": torch.zeros(config.hidden)}, weight * 2.0**k


def _config(model: Exportable) -> dict[str, Any]:
    config = model.config
    values: dict[str, Any] = {
        "architectures": [model.class_name],
        "model_type": MODEL_TYPES[config.norm],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "hidden_act": _GELUS[config.gelu],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": config.max_length,
        "type_vocab_size": config.token_types,
        "initializer_range": config.init_std,
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": model.pad_id,
        "tie_word_embeddings": True,
    }
    if model.labels:
        values["id2label"] = {str(number): label for number, label in enumerate(model.labels)}
        values["label2id"] = {label: number for number, label in enumerate(model.labels)}
        if model.purpose == "classification":
            values["problem_type"] = "single_label_classification"
    if model.head_dropout is not None:
        values["classifier_dropout"] = model.head_dropout
    return values
