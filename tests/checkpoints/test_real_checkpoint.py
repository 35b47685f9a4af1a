"""A real trained checkpoint, all-MiniLM-L6-v2, against `transformers` on real sentences; skipped where it is not."""

from pathlib import Path

import pytest
import torch

from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.checkpoints import published
from biomeg_lib.checkpoints.checkpoint import save
from biomeg_lib.checkpoints.reading import read
from biomeg_lib.errors import BiomegError
from biomeg_lib.model import PretrainingModel
from biomeg_lib.training.environment import set_up

transformers = pytest.importorskip("transformers")


@pytest.fixture
def minilm(monkeypatch) -> Path:
    monkeypatch.setenv("BIOMEG_OFFLINE", "1")
    try:
        return published.fetch("all-minilm-l6-v2")
    except BiomegError as error:
        pytest.skip(f"needs all-minilm-l6-v2 in the cache: {error}")


@pytest.fixture
def sentences(shared_data) -> list[str]:
    """Fifty, from 4 words to the longest, spread over the lengths."""
    read_ones = read_iob(shared_data / "benchmarks" / "ner" / "bc5cdr-chem" / "test.tsv")
    by_length = sorted((s for s in read_ones if len(s.words) > 3), key=lambda sentence: len(sentence.words))
    step = (len(by_length) - 1) / 49
    return [" ".join(by_length[round(i * step)].words) for i in range(50)]


def test_hidden_states_are_those_of_transformers_on_50_sentences_in_one_batch(minilm, sentences, tmp_path):
    save(read(minilm), tmp_path / "kept")
    checkpoint = read(tmp_path / "kept")
    vocabulary = checkpoint.vocabulary
    rows = [[vocabulary.cls_id, *vocabulary.encode(text).ids, vocabulary.sep_id] for text in sentences]
    width = max(map(len, rows))
    assert len(set(map(len, rows))) > 20
    tokens = torch.tensor([row + [vocabulary.pad_id] * (width - len(row)) for row in rows])
    mask = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
    theirs = transformers.AutoModel.from_pretrained(minilm, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], tokens)  # the vocabulary was read as they read it
    set_up(1, "auto")
    ours = PretrainingModel(checkpoint.config).eval()
    ours.load_state_dict(checkpoint.state, strict=False)
    with torch.inference_mode():
        expected = theirs(**batch).last_hidden_state
        found = ours.encoder(tokens, torch.zeros_like(tokens), mask)
    difference = (found - expected)[mask].abs().max().item()
    print(f"largest difference {difference:.2e} of {expected[mask].abs().max():.2f}")
    assert difference < 1e-5
