"""Copying the weights of a Hugging Face model into ours, and batches to compare the two on."""

from types import SimpleNamespace

import pytest
import torch

BLOCK = {  # ours: theirs; the two that differ between the norms are in NORMS
    "attention.output": "attention.output.dense",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
}
NORMS = {
    "pre": {"attention_norm": "attention.ln", "mlp_norm": "ln"},
    "post": {"attention_norm": "attention.output.LayerNorm", "mlp_norm": "output.LayerNorm"},
}
OUTER = {
    "embeddings.word.weight": "bert.embeddings.word_embeddings.weight",
    "embeddings.position.weight": "bert.embeddings.position_embeddings.weight",
    "embeddings.token_type.weight": "bert.embeddings.token_type_embeddings.weight",
}
FINAL = {"pre": {"norm": "bert.encoder.ln"}, "post": {"embeddings.norm": "bert.embeddings.LayerNorm"}}
HEADS = {
    "mlm.dense": "cls.predictions.transform.dense",
    "mlm.norm": "cls.predictions.transform.LayerNorm",
    "pooler.dense": "bert.pooler.dense",
    "order": "cls.seq_relationship",
}


def our_names(config) -> dict[str, list[str]]:
    """For each of our encoder's parameters the names of theirs, to be concatenated by rows."""
    names = {ours: [theirs] for ours, theirs in OUTER.items()}
    for kind in ("weight", "bias"):
        names |= {f"{ours}.{kind}": [f"{theirs}.{kind}"] for ours, theirs in FINAL[config.norm].items()}
        for i in range(config.layers):
            ours, theirs = f"blocks.{i}.", f"bert.encoder.layer.{i}."
            parts = [f"{theirs}attention.self.{part}.{kind}" for part in ("query", "key", "value")]
            names[f"{ours}attention.qkv.{kind}"] = parts
            for a, b in (BLOCK | NORMS[config.norm]).items():
                names[f"{ours}{a}.{kind}"] = [f"{theirs}{b}.{kind}"]
    return names


def copy_weights(source, model) -> dict[str, list[str]]:
    """Copy all weights of Hugging Face `source` into our `model`; returns ours: theirs of every parameter."""
    names = {f"encoder.{ours}": theirs for ours, theirs in our_names(model.config).items()}
    for kind in ("weight", "bias"):
        if hasattr(model, "mlm"):
            names |= {f"{ours}.{kind}": [f"{theirs}.{kind}"] for ours, theirs in HEADS.items()}
            names["mlm.bias"] = ["cls.predictions.bias"]
        else:
            names[f"classifier.layers.0.{kind}"] = [f"classifier.{kind}"]
    state = source.state_dict()
    model.load_state_dict({ours: torch.cat([state[name] for name in theirs]) for ours, theirs in names.items()})
    return names


@pytest.fixture(scope="session")
def copier():
    """The function `copy_weights`."""
    return copy_weights


@pytest.fixture
def batch():
    """Four sequences of 24 tokens of 96, two segments each, three of them with padding, a sixth of them masked."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([24, 20, 11, 7])
    mask = torch.arange(24) < lengths[:, None]
    tokens = torch.randint(5, 96, (4, 24), generator=generator) * mask
    types = (torch.arange(24) >= lengths[:, None] // 2).long() * mask
    real = mask.flatten().nonzero().flatten()
    positions = real[torch.randperm(len(real), generator=generator)[: len(real) // 6]].sort().values
    labels = torch.randint(5, 96, positions.shape, generator=generator)
    return SimpleNamespace(
        tokens=tokens, types=types, mask=mask, positions=positions, labels=labels, order=torch.tensor([0, 1, 1, 0])
    )


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small matrices are not worth a second thread, and results then repeat."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
