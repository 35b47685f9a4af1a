"""The configuration: presets and their sizes, JSON, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch

from biomeg_lib.errors import BiomegError
from biomeg_lib.model import PRESETS, ModelConfig, PretrainingModel, config_for, count_parameters

TINY = {"layers": 2, "hidden": 64, "heads": 2, "vocab_size": 96}


@pytest.mark.parametrize(("vocab_size", "parameters"), [(29_056, 334_723_458), (30_592, 336_297_858)])
def test_345m_has_the_published_size(vocab_size, parameters):
    # 334.7 and 336.3 million, worked out by hand from 24 blocks of 12 H^2 + 13 H, the embeddings and the heads
    assert count_parameters(config_for("345m", vocab_size)) == parameters


def test_110m_is_bert_base():
    from transformers import BertConfig, BertForPreTraining

    with torch.device("meta"):
        theirs = BertForPreTraining(BertConfig(vocab_size=28_996))
    assert count_parameters(config_for("110m", 28_996)) == theirs.num_parameters()


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_count_equals_an_allocated_model(name):
    config = config_for(name, 1024)
    assert count_parameters(config) == sum(p.numel() for p in PretrainingModel(config).parameters())


def test_every_preset_makes_a_model_and_says_where_it_is_from():
    for name, preset in PRESETS.items():
        config = config_for(name, 30_592)
        assert preset.source
        assert (config.layers, config.hidden, config.heads) == (preset.layers, preset.hidden, preset.heads)
    assert "assumption" in PRESETS["800m"].source
    sizes = [count_parameters(config_for(name, 30_592)) for name in ("800m", "1.2b", "3.9b", "8.3b")]
    assert [round(size / 1e9, 1) for size in sizes] == [0.8, 1.3, 3.9, 8.3]


def test_defaults():
    pre, post = ModelConfig(**TINY), ModelConfig(**TINY, norm="post")
    assert (pre.intermediate, pre.norm_eps, pre.head_size) == (256, 1e-5, 32)
    assert post.norm_eps == 1e-12


@pytest.mark.parametrize("extra", [{}, {"norm": "post", "gelu": "erf", "intermediate": 80, "max_length": 32}])
def test_json_round_trip(extra):
    config = ModelConfig(**TINY, **extra)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 3}, "heads must divide hidden"),
        ({"layers": 0}, "layers must be a whole number"),
        ({"hidden": "64"}, "hidden must be a whole number"),
        ({"vocab_size": 96.0}, "vocab_size"),
        ({"heads": True}, "heads"),
        ({"max_length": -1}, "max_length"),
        ({"intermediate": 0}, "intermediate"),
        ({"norm": "rms"}, "norm must be one of pre, post"),
        ({"gelu": "relu"}, "gelu must be one of tanh, erf"),
        ({"dropout": 1.0}, "dropout must be at least 0"),
        ({"attention_dropout": float("nan")}, "attention_dropout"),
        ({"norm_eps": 0}, "norm_eps"),
        ({"init_std": "small"}, "init_std"),
    ],
)
def test_values_that_make_no_model(change, words):
    with pytest.raises(BiomegError, match=words):
        replace(ModelConfig(**TINY), **change)


def test_unknown_names():
    with pytest.raises(BiomegError, match="unknown field 'depth'"):
        ModelConfig.from_dict(TINY | {"depth": 3})
    with pytest.raises(BiomegError, match="field 'heads' is missing"):
        ModelConfig.from_dict({"layers": 2, "hidden": 64, "vocab_size": 96})
    with pytest.raises(BiomegError, match=r"unknown name '2b', expected one of tiny, mini"):
        config_for("2b", 96)
