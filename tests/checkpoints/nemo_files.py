"""NeMo archives, written by the format's rules from models of `transformers`, and what their tests share."""

import io
import tarfile
from pathlib import Path

import pytest
import torch
import yaml
from megatron_files import flat_names, shard

from biomeg_lib.checkpoints.archives import unpacked
from biomeg_lib.checkpoints.nemo import is_nemo, read_nemo
from biomeg_lib.errors import InputError
from biomeg_lib.model import PretrainingModel

HASH = "0123456789abcdef0123456789abcdef"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"gene{i}" for i in range(80))]
TARGET = "nemo.collections.nlp.models.language_modeling.megatron_bert_model.MegatronBertModel"
TASK = "nemo.collections.nlp.models.token_classification.token_classification_model.TokenClassificationModel"
CONFIG = {
    "target": TARGET,
    "nemo_version": "1.8.0",
    "encoder_seq_length": 24,
    "max_position_embeddings": "${.encoder_seq_length}",
    "num_layers": 2,
    "hidden_size": 32,
    "ffn_hidden_size": 64,
    "num_attention_heads": 4,
    "hidden_dropout": 0.1,
    "layernorm_epsilon": "1e-5",  # as OmegaConf writes it; text to YAML
    "make_vocab_size_divisible_by": 96,
    "bert_binary_head": True,
    "bias_gelu_fusion": True,
    "tokenizer": {"library": "megatron", "type": "BertWordPieceLowerCase", "model": None},
}
NAMES = {f"{HASH}_vocab.txt": "\n".join(PIECES).encode()}
VOCABULARY = {"tokenizer": {**CONFIG["tokenizer"], "vocab_file": f"nemo:{HASH}_vocab.txt"}}


def weights(model, version: float = 3.0, count: int = 1, rank: int = 0, prefix: str = "model.") -> dict:
    """The state dict of NeMo's MegatronBertModel."""
    return {f"{prefix}{name}": value for name, value in flat_names(shard(model, rank, count, version)).items()}


def packed(path: Path, config: dict | None, states: dict | None, files: dict | None = None, mode: str = "w") -> Path:
    """An archive as NeMo's connector makes it: members under `./`, the folder itself first.

    Args:
        states: member -> state dict; or the one state dict.
    """
    members = dict(files or {})
    if config is not None:
        members["model_config.yaml"] = yaml.safe_dump(config).encode()
    states = {} if states is None else states
    for name, state in (states if all("/" in name for name in states) else {"model_weights.ckpt": states}).items():
        if state:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            members[name] = buffer.getvalue()
    with tarfile.open(path, mode) as archive:
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(root)
        for name, body in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return path


def read(path: Path):
    with unpacked(path) as folder:
        assert is_nemo(folder)
        return read_nemo(folder)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught, unpacked(path) as folder:
        read_nemo(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def batch(rows: int = 96):
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(24) < torch.tensor([24, 17, 9])[:, None]
    return torch.randint(1, rows, (3, 24), generator=generator) * mask, (torch.arange(24) > 5).long() * mask, mask


def assert_same_logits(checkpoint, theirs, parts: tuple[str, ...] = ("mlm", "order")) -> None:
    ours = PretrainingModel(checkpoint.config).eval()
    ours.load_state_dict(checkpoint.state)
    tokens, types, mask = batch(theirs.config.vocab_size)
    with torch.no_grad():
        expected = theirs(input_ids=tokens, token_type_ids=types, attention_mask=mask.long())
        logits, order = ours(tokens, types, mask)
    assert expected.prediction_logits.std() > 0.3  # of a size at which 1e-5 means something
    if "mlm" in parts:
        torch.testing.assert_close(logits[mask], expected.prediction_logits[mask], atol=1e-5, rtol=0)
    if "order" in parts:
        torch.testing.assert_close(order, expected.seq_relationship_logits, atol=1e-5, rtol=0)


def assert_same_states(checkpoint, theirs) -> None:
    ours = PretrainingModel(checkpoint.config).eval()
    ours.load_state_dict(checkpoint.state, strict=False)
    tokens, types, mask = batch(theirs.config.vocab_size)
    with torch.no_grad():
        expected = theirs(input_ids=tokens, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
        states = ours.encoder(tokens, types, mask)
    assert expected.std() > 0.3
    torch.testing.assert_close(states[mask], expected[mask], atol=1e-5, rtol=0)
