"""Models of `transformers` that the tests of NeMo archives are made from."""

import pytest
import torch
from megatron_files import random_bert
from transformers import BertConfig, BertForPreTraining


@pytest.fixture(scope="module")
def bert():
    return random_bert()


@pytest.fixture(scope="module")
def post_bert():
    """A tiny BERT of the original kind, every weight random."""
    config = BertConfig(
        vocab_size=96,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
        attn_implementation="eager",
    )
    model = BertForPreTraining(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model
