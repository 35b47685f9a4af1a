"""What a user would otherwise pick: Hugging Face's models, with our weights, trained as their own package does it.

Notable: `MegatronBert` has no SDPA (transformers 5.23 refuses it), so its variants are of data types; `Bert`, post-LN,
has. The optimiser and the clipping are the defaults of transformers' `TrainingArguments`: fused AdamW, norm 1.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from biomeg_lib.checkpoints.hugging_face_names import to_hugging_face
from biomeg_lib.errors import BiomegError
from biomeg_lib.model import ModelConfig


def import_transformers() -> Any:
    """The package, without its advice on stderr.

    Raises:
        BiomegError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise BiomegError("transformers is not installed: pip install 'biomeg-lib[bench]'") from None
    transformers.logging.set_verbosity_error()
    return transformers


def hugging_face_state(state: Mapping[str, Tensor], norm: str) -> dict[str, Tensor]:
    """Our state dict of a pre-training model or a token classifier under Hugging Face's names.

    Args:
        norm: "pre" for MegatronBert, "post" for Bert.
    """
    head = "classifier.layers.0."
    classifier = {name.replace(head, "classifier."): value for name, value in state.items() if name.startswith(head)}
    rest = {name: value for name, value in state.items() if not name.startswith(head)}
    return {**to_hugging_face(rest, norm), **classifier}


def hugging_face(task: str, ours: nn.Module, attention: str = "eager") -> nn.Module:
    """Hugging Face's model of the same shape and with the same weights, in training mode.

    Args:
        task: "PreTraining" or "TokenClassification".
        ours: our model of that task; pre-LN gives a MegatronBert, post-LN a Bert.
        attention: their `attn_implementation`.

    Raises:
        BiomegError: transformers is not installed, or does not have this attention for the model.
    """
    transformers = import_transformers()
    config: ModelConfig = ours.config
    kind = {"pre": "MegatronBert", "post": "Bert"}[config.norm]
    labels = {"num_labels": ours.classifier.layers[-1].out_features} if task == "TokenClassification" else {}
    shape = getattr(transformers, f"{kind}Config")(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate,
        hidden_act={"tanh": "gelu_new", "erf": "gelu"}[config.gelu],
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout,
        max_position_embeddings=config.max_length,
        layer_norm_eps=config.norm_eps,
        attn_implementation=attention,
        **labels,
    )
    name = f"{kind}For{task}"
    try:
        model = getattr(transformers, name)(shape)
    except ValueError as error:
        raise BiomegError(str(error).split(" through ")[0]) from None
    model.load_state_dict(hugging_face_state(ours.state_dict(), config.norm))
    return model.train()


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW as transformers' Trainer has it by default."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Mapping[str, Tensor], device: str, dtype: str
) -> None:
    """Forward, backward, clip, step.

    Args:
        dtype: "fp32" or "bf16", which is autocast.
    """
    with torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16"):
        loss = model(**inputs).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def loss_without_dropout(model: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    """The loss of a batch in fp32; the model is left in training mode."""
    model.eval()
    with torch.inference_mode():
        loss = float(model(**inputs).loss)
    model.train()
    return loss
