"""`biomeg export`: a run or a checkpoint of ours as a folder that `transformers` loads.

    config.json, model.safetensors                  see `hf_writer`
    tokenizer.json, tokenizer_config.json, vocab.txt or spm.model   see `hf_tokenizer`
    README.md                                       see `model_card`
    biomeg_export.json                              that this folder is an export, and of what

A pre-training run becomes a masked-LM model (pooler and sentence-order head are in the file, as in BERT's own); a
fine-tuned one a token classifier, a sequence classifier or a model for question answering.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from biomeg_lib.checkpoints import checkpoint as ours
from biomeg_lib.checkpoints import hf_tokenizer, reading
from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.checkpoints.hf_writer import CLASSES, Exportable, write_model
from biomeg_lib.checkpoints.model_card import Card, model_card
from biomeg_lib.checkpoints.side_files import read_side_file
from biomeg_lib.checkpoints.weights import load_weights
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_directory, atomic_open, write_json
from biomeg_lib.model import ModelConfig
from biomeg_lib.schema import TASK_OF_FORMAT

DESCRIPTION = "biomeg_export.json"


def export(source: str | Path, to: str | Path) -> str:
    """Write the folder `to`, whole or not at all. An older export there is replaced, nothing else is.

    Args:
        source: the folder of a complete run with its weights, or of a checkpoint as `checkpoint.save` writes it.

    Returns:
        The class of `transformers` that the folder holds.

    Raises:
        BiomegError: `to` exists and is no export, the source is neither or is not complete, or its head is one that
            Hugging Face has no class for.
    """
    source, to = Path(source).resolve(), Path(to).resolve()
    if to.exists() and not (to / DESCRIPTION).is_file():
        raise BiomegError(f"{to}: expected a new folder or an older export, found something else")
    params = _mapping(source / "params.json") if (source / "params.json").is_file() else {}
    if not params and not (source / ours.DESCRIPTION).is_file():
        raise InputError(source, "expected the folder of a run or of a checkpoint, found neither")
    whole = reading.read(source)
    metrics = _mapping(source / "metrics.json") if params else {}
    model = _exportable(source, whole, params, metrics)
    length = _length(whole.config, params)
    with atomic_directory(to) as new:
        write_model(new, model)
        if whole.vocabulary is not None:
            hf_tokenizer.write_tokenizer(new, whole.vocabulary, length)
        environment = source / "environment.json"
        card = Card(
            name=source.name,
            origin=whole.origin,
            model=model,
            vocabulary=whole.vocabulary,
            length=length,
            notes=() if params else whole.notes,  # of a run: that its head is left out, which it is not here
            params=params,
            metrics=metrics,
            environment=_mapping(environment) if environment.is_file() else {},
        )
        with atomic_open(new / "README.md") as stream:
            stream.write(model_card(card))
        write_json(new / DESCRIPTION, {"source": source.name, "class": model.class_name})
    return model.class_name


def _exportable(source: Path, whole: Checkpoint, params: dict[str, Any], metrics: dict[str, Any]) -> Exportable:
    pad_id = whole.vocabulary.pad_id if whole.vocabulary is not None else 0
    if "cell" not in params:
        purpose = "encoder" if "mlm" in whole.missing else "masked words"
        return Exportable(purpose, whole.config, whole.state, pad_id=pad_id)
    try:
        purpose = TASK_OF_FORMAT[params["benchmark"]["format"]]
        labels = [] if purpose == "qa" else [str(label) for label in metrics["labels"]]
        dropout = dict(params["recipe"])["fc_dropout"]
        dict(params["cell"])
    except (KeyError, TypeError, ValueError):
        wanted = "a run with cell, benchmark, recipe and labels"
        raise InputError(source, f"expected {wanted}, found one without") from None
    head = _head(source, whole.config, purpose, 2 if purpose == "qa" else len(labels))
    return Exportable(purpose, whole.config, whole.state, head, labels, pad_id, dropout)


def _head(source: Path, config: ModelConfig, purpose: str, outputs: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of the classifier.

    Raises:
        InputError: it has several layers, or another shape.
    """
    _, weights = load_weights(source)
    layers = sum(name.startswith("classifier.layers.") and name.endswith(".weight") for name in weights)
    if layers != 1:
        known = f"expected a head of one layer, as that of {CLASSES[purpose].removeprefix('For')} is, found {layers}"
        raise InputError(source, f"{known}; a run with search: {{num_fc_layers: [1]}} in its params would export")
    weight, bias = weights["classifier.layers.0.weight"], weights.get("classifier.layers.0.bias")
    if weight.shape != (outputs, config.hidden) or bias is None or bias.shape != (outputs,):
        wanted = f"a classifier of shape {[outputs, config.hidden]} with a bias"
        raise InputError(source / "model.safetensors", f"expected {wanted}, found {list(weight.shape)}")
    return weight.float(), bias.float()


def _length(config: ModelConfig, params: dict[str, Any]) -> int:
    """The longest text in tokens: what the run was trained with, since later positions have learnt nothing."""
    trained = params.get("recipe", params.get("pretraining", {})).get("length", config.max_length)
    return min(trained, config.max_length)


def _mapping(path: Path) -> dict[str, Any]:
    values = read_side_file(path)
    if not isinstance(values, dict):
        raise InputError(path, "expected a mapping of names to values")
    return values
