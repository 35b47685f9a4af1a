"""Our own folder: what is written comes back, what does not fit is refused, nothing is half-written."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from biomeg_lib.checkpoints.checkpoint import Checkpoint, load, save
from biomeg_lib.checkpoints.reading import locate, read
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.vocab import Vocabulary

CONFIG = ModelConfig(2, 32, 4, 96, max_length=40, norm="post", gelu="erf", norm_eps=1e-3)


def make(config: ModelConfig = CONFIG, without: str = "none", vocabulary: Vocabulary | None = None) -> Checkpoint:
    torch.manual_seed(5)
    state = PretrainingModel(config).state_dict()
    state = {name: value for name, value in state.items() if not name.startswith(without)}
    return Checkpoint.checked("here", config, state, vocabulary, "a test", ["one thing"])


@pytest.fixture
def vocabulary(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", *(f"##{c}" for c in "abcdefgh")]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return Vocabulary.load(tmp_path / "vocab.txt")


@pytest.mark.parametrize("without", ["none", "mlm", "order", "pooler"])
def test_what_is_saved_comes_back_bit_by_bit(without, vocabulary, tmp_path):
    checkpoint = make(without=without, vocabulary=vocabulary)
    save(checkpoint, tmp_path / "kept")
    back = read(tmp_path / "kept")
    assert back.config == checkpoint.config
    assert back.state.keys() == checkpoint.state.keys()
    assert all(torch.equal(back.state[name], value) for name, value in checkpoint.state.items())
    assert back.vocabulary.fingerprint == vocabulary.fingerprint
    assert (back.origin, back.notes, back.missing) == ("a test", ("one thing",), checkpoint.missing)
    assert back.missing == (() if without == "none" else (without,))


def test_a_folder_with_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear to me")
    with pytest.raises(BiomegError, match="an older checkpoint, found something else"):
        save(make(), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "dear to me"
    save(make(), tmp_path / "new")
    save(make(without="mlm"), tmp_path / "new")
    assert load(tmp_path / "new").missing == ("mlm",)


def test_a_part_that_lacks_a_tensor_is_left_out_with_a_note():
    state = {name: value for name, value in make().state.items() if name != "pooler.dense.bias"}
    checkpoint = Checkpoint.checked("here", CONFIG, state, None, "a test")
    assert checkpoint.missing == ("pooler",)
    assert checkpoint.notes == ("the pooler lacks 'pooler.dense.bias' and is left out",)


def changed(**tensors):
    return {**make().state, **tensors}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (changed(extra=torch.zeros(1)), "found 'extra'"),
        (changed(**{"mlm.bias": torch.zeros(97)}), r"'mlm.bias' of shape \[96\], found \[97\]"),
        (changed(**{"mlm.bias": torch.zeros(96, dtype=torch.int32)}), "of floating-point numbers, found torch.int32"),
        (
            {k: v for k, v in make().state.items() if "attention.output" not in k},
            r"'encoder.blocks.0.attention.output.weight' is missing and 3 more",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_shape_are_refused(state, expected):
    with pytest.raises(InputError, match=expected):
        Checkpoint.checked("here", CONFIG, state, None, "a test")


@pytest.mark.parametrize("changes", [{"layers": 10**9}, {"intermediate": 2**61}, {"max_length": 2**61}])
def test_an_absurd_shape_is_refused_without_memory(changes):
    with pytest.raises(InputError, match=r"at most 1000 layers|absurd sizes|of shape"):
        Checkpoint.checked("here", dataclasses.replace(CONFIG, **changes), make().state, None, "a test")


def test_an_embedding_far_larger_than_its_vocabulary_is_refused(vocabulary):
    config = dataclasses.replace(CONFIG, vocab_size=20_000)
    with pytest.raises(InputError, match="each of the vocabulary's 21 pieces, found 20,000"):
        Checkpoint.checked("here", config, PretrainingModel(config).state_dict(), vocabulary, "a test")


@pytest.mark.parametrize("file", ["model.json", "model.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff\xfe", b'{"layers": "many"}'])
def test_a_damaged_file_of_the_folder_is_one_line(file, content, tmp_path):
    save(make(), tmp_path / "kept")
    (tmp_path / "kept" / file).unlink()
    if content is not None:
        (tmp_path / "kept" / file).write_bytes(content)
    if (file, content) == ("checkpoint.json", b'{"layers": "many"}'):
        return  # a description may say more, and less
    with pytest.raises(InputError) as caught:
        read(tmp_path / "kept")
    assert "\n" not in str(caught.value)


def test_a_file_that_belongs_to_another_shape_is_refused(tmp_path):
    save(make(), tmp_path / "kept")
    save_file({"encoder.embeddings.word.weight": torch.zeros(96, 16)}, tmp_path / "kept" / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors: expected the whole encoder"):
        read(tmp_path / "kept")


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path):
    with pytest.raises(InputError, match="found nothing there"):
        read(tmp_path / "absent")
    with pytest.raises(InputError, match="none of the formats that are read: Hugging Face"):
        read(tmp_path)
    (tmp_path / "params.json").write_text(json.dumps({"pretraining": {}}))
    with pytest.raises(InputError, match="a complete run with its weights"):
        read(tmp_path)


def test_a_path_wins_over_a_name_and_an_unknown_name_gets_a_suggestion(tmp_path):
    (tmp_path / "biobert-base-cased").mkdir()
    assert locate("biobert-base-cased", tmp_path) == tmp_path / "biobert-base-cased"
    with pytest.raises(InputError, match="did you mean 'scibert-cased'"):
        locate("scibert-casd", tmp_path)
