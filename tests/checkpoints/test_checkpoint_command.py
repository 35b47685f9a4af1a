"""`biomeg inspect`, `import` and `export` as a user runs them, on good files and on hostile ones."""

import json
from pathlib import Path

import hostile
import pytest
import torch
from megatron_files import args_of, random_bert, write
from safetensors.torch import load_file, save_file

from biomeg_lib.checkpoints.checkpoint import Checkpoint, save
from biomeg_lib.cli import main
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.vocab import Vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(90))]


@pytest.fixture
def vocabulary(tmp_path) -> Path:
    path = tmp_path / "given-vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES))
    return path


def ours(folder: Path, vocabulary: Path, norm: str) -> Path:
    """One of our checkpoints, complete, with random weights."""
    torch.manual_seed(4)
    config = ModelConfig(2, 32, 4, 96, max_length=24, norm=norm, gelu="erf", norm_eps=1e-6)
    model = PretrainingModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    checkpoint = Checkpoint.checked("here", config, model.state_dict(), Vocabulary.load(vocabulary), "a test")
    save(checkpoint, folder)
    return folder


def write_megatron_files(model, folder: Path, count: int = 1) -> None:
    write(folder, model, count=count, args=args_of(model, count))


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def same_checkpoint(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    same = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    files = ["model.json", "vocabulary/vocab.json", "vocabulary/vocab.txt"]
    return same and all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_import_export_import_is_bit_identical(norm, vocabulary, tmp_path, capsys):
    first = ours(tmp_path / "first", vocabulary, norm)
    assert run("export", first, "--to", tmp_path / "theirs") == 0
    assert run("import", tmp_path / "theirs", "--to", tmp_path / "second") == 0
    assert same_checkpoint(first, tmp_path / "second")
    kind = {"pre": "MegatronBertForMaskedLM", "post": "BertForMaskedLM"}[norm]
    assert f"format        Hugging Face {kind}, safetensors" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 2, 4])
def test_our_weights_in_megatrons_layout_come_back_bit_by_bit(count, vocabulary, tmp_path):
    first = ours(tmp_path / "first", vocabulary, "pre")
    options = ("--format", "megatron", "--tensor-parallel", count)
    assert run("export", first, "--to", tmp_path / "megatron", *options) == 0
    assert len(list(tmp_path.glob("megatron/release/mp_rank_*/model_optim_rng.pt"))) == count
    assert run("import", tmp_path / "megatron", "--to", tmp_path / "second") == 0
    theirs = json.loads((tmp_path / "second" / "model.json").read_text())
    assert theirs == json.loads((first / "model.json").read_text())
    assert same_checkpoint(first, tmp_path / "second")


def test_inspect_says_what_a_checkpoint_is_and_what_it_lacks(vocabulary, tmp_path, capsys):
    folder = ours(tmp_path / "kept", vocabulary, "post")
    assert run("inspect", folder) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["architecture"] == "BERT (post-LN), exact GeLU, LayerNorm epsilon 1e-06"
    assert said["shape"].startswith("2 layers, hidden size 32, 4 heads, feed-forward 128, 24 positions")
    assert said["vocabulary"] == "95 pieces (wordpiece, uncased), 96 rows, 1 of them padding"
    assert said["parameters"] == f"{sum(v.numel() for v in load_file(folder / 'model.safetensors').values()):,}"
    assert said["missing"] == "nothing"


def test_a_vocabulary_can_be_given_to_a_checkpoint_without_one(vocabulary, tmp_path, capsys):
    write_megatron_files(random_bert(), tmp_path / "megatron")
    assert run("import", tmp_path / "megatron", "--to", tmp_path / "bare") == 0
    assert "not in the files; 96 rows" in capsys.readouterr().out
    assert not (tmp_path / "bare" / "vocabulary").exists()
    assert run("import", tmp_path / "megatron", "--to", tmp_path / "kept", "--vocabulary", vocabulary) == 0
    assert Vocabulary.load(tmp_path / "kept" / "vocabulary").pieces == PIECES
    vocabulary.write_text("".join(f"{piece}\n" for piece in [*PIECES, "two", "more"]))
    assert run("import", tmp_path / "megatron", "--to", tmp_path / "no", "--vocabulary", vocabulary) == 1
    assert "an embedding row for each of the vocabulary's 97 pieces, found 96" in capsys.readouterr().err


def test_a_zip_is_read_through_and_errors_name_its_members(vocabulary, tmp_path, capsys):
    write_megatron_files(random_bert(), tmp_path / "megatron")
    shard = next((tmp_path / "megatron").rglob("model_optim_rng.pt"))
    archive = hostile.zipped(tmp_path / "v0.1.zip", ("release/mp_rank_00/model_optim_rng.pt", shard.read_bytes()))
    assert run("inspect", archive) == 0
    assert "Megatron-LM" in capsys.readouterr().out
    cut = hostile.zipped(tmp_path / "cut.zip", ("release/mp_rank_00/model_optim_rng.pt", shard.read_bytes()[:-900]))
    assert run("inspect", cut) == 1
    assert f"{cut}:release/mp_rank_00/model_optim_rng.pt: expected" in capsys.readouterr().err


def test_the_list_names_what_the_paper_compares(capsys):
    assert run("import", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("bert-base-cased", "biobert-base-cased", "pubmedbert-fulltext", "megatron-bert-345m-cased"):
        assert any(line.startswith(f"{name} ") for line in lines)
    assert any("in the paper: Table" in line for line in lines)


def code_zip(folder: Path) -> Path:
    return hostile.torch_zip(folder / "model.bin", hostile.pickled({"a": hostile.Runs(folder / "ran")}))


def code_legacy(folder: Path) -> Path:
    return hostile.torch_legacy(folder / "model.bin", hostile.pickled({"a": hostile.Runs(folder / "ran")}))


def leading_out(folder: Path) -> Path:
    return hostile.tarred(folder / "model.nemo", ("../ran", b"x"), ("model_config.yaml", b"{}"))


def truncated(folder: Path) -> Path:
    save_file({"embeddings.word_embeddings.weight": torch.zeros(96, 32)}, folder / "model.safetensors")
    path = folder / "cut.safetensors"
    path.write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    return path


def huge(folder: Path) -> Path:
    header = {"embeddings.word_embeddings.weight": hostile.entry([2**30, 2**30], 0, 2**62)}
    return hostile.safetensors(folder / "model.safetensors", header, b"\0" * 64)


def gpt2(folder: Path) -> Path:
    save_file({"wte.weight": torch.zeros(96, 32), "h.0.attn.c_attn.weight": torch.zeros(32, 96)}, folder / "g.st")
    return folder / "g.st"


def too_many_pieces(folder: Path) -> Path:
    model = random_bert()
    model.save_pretrained(folder / "theirs")
    (folder / "theirs" / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*PIECES, "two", "more"]))
    return folder / "theirs"


def missing_shard(folder: Path) -> Path:
    write_megatron_files(random_bert(), folder / "megatron", count=4)
    next((folder / "megatron").rglob("mp_rank_02/model_optim_rng.pt")).unlink()
    return folder / "megatron"


def unequal_shards(folder: Path) -> Path:
    write_megatron_files(random_bert(), folder / "megatron", count=2)
    write_megatron_files(random_bert(hidden=64), folder / "other", count=2)
    other = next((folder / "other").rglob("mp_rank_01/model_optim_rng.pt"))
    next((folder / "megatron").rglob("mp_rank_01/model_optim_rng.pt")).write_bytes(other.read_bytes())
    return folder / "megatron"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (code_zip, "posix.system, which could run code"),
        (code_legacy, "posix.system, which could run code"),
        (leading_out, "model.nemo:../ran: expected a relative name without `..`"),
        (truncated, "cut.safetensors: expected safetensors, found a tensor"),
        (huge, "claims bytes 0 to 4,611,686,018,427,387,904 of 64"),
        (gpt2, "expected the weights of a BERT encoder, found those of GPT-2"),
        (too_many_pieces, "an embedding row for each of the vocabulary's 97 pieces, found 96"),
        (missing_shard, "mp_rank_02: expected model_optim_rng.pt or model_rng.pt, found neither"),
        (unequal_shards, "expected shards of one shape, found"),
    ],
)
def test_a_hostile_file_is_one_line_and_leaves_nothing(make, expected, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    path = make(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert run("import", path, "--to", tmp_path / "out" / "kept") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert expected in said.err
    assert said.err.startswith("biomeg: ")
    assert said.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before  # nothing was run, nothing was left


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["import"], "expected --list, or a file"),
        (["inspect", "biobert-base-casd"], "did you mean 'biobert-base-cased'?"),
        (["export", "nowhere", "--to", "out"], "expected the folder of a run or of a checkpoint, found neither"),
    ],
)
def test_a_mistake_of_the_user_is_one_line(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 1
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_shards_are_for_megatron_alone(vocabulary, tmp_path, capsys):
    first = ours(tmp_path / "first", vocabulary, "pre")
    assert run("export", first, "--to", tmp_path / "out", "--tensor-parallel", 2) == 1
    assert "--tensor-parallel with --format megatron alone" in capsys.readouterr().err
    assert run("export", first, "--to", tmp_path / "out", "--format", "megatron", "--tensor-parallel", 3) == 1
    assert "possible: 1, 2, 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
