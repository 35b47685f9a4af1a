"""Checkpoints that an audit broke the readers with: each ends in one line, soon, and reads nothing beside itself."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from export_runs import pretraining_run
from hostile import Storage, claimed, pickled, tarred, torch_zip, zipped
from safetensors.torch import save_file

from biomeg_lib.checkpoints import archives, checkpoint, hugging_face, reading, side_files
from biomeg_lib.checkpoints.archives import unpacked
from biomeg_lib.checkpoints.tensors import read_torch
from biomeg_lib.errors import InputError

HIDDEN, ROWS = 8, 16
SHAPE = {
    "vocab_size": ROWS,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 8,
}


def line(read, path: Path) -> str:
    """What is said about the file, or the one at that path in it."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(str(path))
    assert len(message) < len(str(path)) + 300
    return message


def weights(make=torch.zeros) -> dict[str, torch.Tensor]:
    """A BERT of one layer under Hugging Face's names, of what `make` makes of a shape."""
    sizes = {
        f"embeddings.{kind}_embeddings.weight": (rows, HIDDEN)
        for kind, rows in {"word": ROWS, "position": 8, "token_type": 2}.items()
    }
    layer = "encoder.layer.0"
    for name, (rows, columns) in {
        **{f"{layer}.attention.self.{own}": (HIDDEN, HIDDEN) for own in ("query", "key", "value")},
        f"{layer}.attention.output.dense": (HIDDEN, HIDDEN),
        f"{layer}.intermediate.dense": (32, HIDDEN),
        f"{layer}.output.dense": (HIDDEN, 32),
    }.items():
        sizes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        sizes |= {f"{name}.LayerNorm.{kind}": (HIDDEN,) for kind in ("weight", "bias")}
    return {f"bert.{name}": make(*size) for name, size in sizes.items()}


def folder(path: Path, state: dict | None = None, **changes) -> Path:
    """A checkpoint in Hugging Face's layout, its config with those changes."""
    path.mkdir(exist_ok=True)
    if state is None:
        save_file(weights(), path / "model.safetensors")
    else:
        torch.save(state, path / "pytorch_model.bin")
    (path / "config.json").write_text(json.dumps(SHAPE | changes))
    return path


class TestRunsInArchives:
    @pytest.mark.parametrize("name", ["/etc/passwd", "/dev/zero", "../../secret", "a/b", "..", "small\n", 5, [], None])
    def test_a_vocabulary_is_a_name(self, tmp_path, name):
        run, _ = pretraining_run(tmp_path / "study", "wordpiece", "post")
        (run / "sums.txt").unlink(missing_ok=True)
        params = json.loads((run / "params.json").read_text())
        params["pretraining"]["vocabulary"] = name
        (run / "params.json").write_text(json.dumps(params))
        assert "expected the name of a vocabulary, found" in line(reading.read, run)

    def test_it_is_looked_for_within(self, tmp_path):
        run, _ = pretraining_run(tmp_path / "study", "wordpiece", "post")
        files = {file.relative_to(run.parents[2]): file.read_bytes() for file in run.parents[2].rglob("*.*")}
        assert reading.read(zipped(tmp_path / "whole.zip", *((str(k), v) for k, v in files.items()))).vocabulary
        for depth in (1, 2):
            inner = {str(k.relative_to(*k.parts[:depth])): v for k, v in files.items() if run.name in k.parts}
            said = line(reading.read, zipped(tmp_path / "run.zip", *inner.items()))
            assert "expected a run in the folders of its study" in said


class TestFoldersInArchives:
    def test_many_in_each_other_are_refused(self, tmp_path):
        path = tarred(tmp_path / "deep.tar", ("a/" * 16 + "x", b""))
        assert "at most 16 folders in each other" in line(lambda path: unpacked(path).__enter__(), path)
        with unpacked(tarred(tmp_path / "sound.tar", ("a/" * 15 + "x", b""))) as place:
            assert (place / ("a/" * 15 + "x")).is_file()

    @pytest.mark.parametrize("name", ["b/c/d/e/x", "b/c/d/e/"])
    def test_those_that_a_name_needs_are_counted(self, tmp_path, monkeypatch, name):
        monkeypatch.setattr(archives, "_MOST_MEMBERS", 12)
        with unpacked(zipped(tmp_path / "sound.zip", (f"0/{name}", b""), ("x", b""))):
            pass
        path = zipped(tmp_path / "many.zip", *((f"{i}/{name}", b"") for i in range(3)), ("x", b""))
        assert "expected at most 12 members" in line(lambda path: unpacked(path).__enter__(), path)


class TestPickles:
    def read(self, tmp_path, value):
        return line(read_torch, torch_zip(tmp_path / "made.bin", pickled(value)))

    @pytest.mark.parametrize("key", [2**61 - 1, -(2**54), (0, 2**61), (-1, -2), (1.0,), (None, 4238894112)])
    def test_keys_that_may_hash_alike_are_refused(self, tmp_path, key):
        assert "found a dictionary key" in self.read(tmp_path, {key: None})

    def test_keys_of_sound_files_are_read(self, tmp_path):
        made = {-100: 0, 2**53: 1, 0.5: 2, (3, "a"): 3}
        assert read_torch(torch_zip(tmp_path / "made.bin", pickled(made))) == made

    def test_a_damaged_record_of_another_compression_is_one_line(self, tmp_path):
        path = tmp_path / "made.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("x/data.pkl", b"checkpoint" * 50)
        data = bytearray(path.read_bytes())
        data[30 + len("x/data.pkl") + 15] ^= 0xFF
        path.write_bytes(data)
        assert "compressed or encrypted ones" in line(reading.read, path)


class TestWeights:
    def test_views_of_one_storage_are_refused(self, tmp_path, monkeypatch):
        shared = torch.zeros(32 * HIDDEN, dtype=torch.uint8).view(torch.float8_e4m3fn)
        state = weights(lambda *size: shared[: torch.Size(size).numel()].view(size))
        assert reading.read(folder(tmp_path / "small", state)).config.hidden == HIDDEN
        monkeypatch.setattr(checkpoint, "_SHARED_ALLOWANCE", 0)
        assert "expected weights of their own, found" in line(reading.read, tmp_path / "small")

    def test_one_tensor_under_many_names_counts_each_time(self, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoint, "_SHARED_ALLOWANCE", 0)
        one = claimed(Storage("0", 16), (16,), (1,))
        state = read_torch(torch_zip(tmp_path / "x.bin", pickled({str(i): one for i in range(17)}), {"0": bytes(64)}))
        said = line(lambda path: checkpoint.check_sharing(path, state), tmp_path)
        assert "1,088 bytes of them in 64 of the file" in said

    def test_tied_weights_are_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoint, "_SHARED_ALLOWANCE", 0)
        state = weights(lambda *size: torch.rand(size).half())
        state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
        assert reading.read(folder(tmp_path / "tied", state)).notes == ()

    def test_numbers_that_cannot_be_converted_are_refused(self, tmp_path):
        state = weights()
        state["bert.embeddings.LayerNorm.bias"] = torch.zeros(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
        assert "torch.float4_e2m1fn_x2" in line(reading.read, folder(tmp_path / "odd", state))

    def test_projections_that_do_not_go_together_are_refused(self, tmp_path):
        state = weights() | {"bert.encoder.layer.0.attention.self.key.weight": torch.zeros(8, 7)}
        assert "expected query, key and value of one kind" in line(reading.read, folder(tmp_path / "odd", state))


class TestSideFiles:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"model_type": []}, "a model_type of bert or megatron-bert, found list"),
            ({"model_type": "b\x1b[31m"}, r"found 'b\x1b[31m'"),
            ({"hidden_act": {}}, "found dict"),
            ({"layer_norm_eps": 10**400}, "norm_eps must be a number above 0"),
            ({"hidden_dropout_prob": 10**400}, "dropout must be at least 0 and below 1"),
            ({"hidden_size": 10**30}, "hidden must be a whole number above 0 and below 2**63"),
            ({"hidden_size": 2**62}, "absurd sizes"),
            ({"max_position_embeddings": 10**30}, "max_length must be a whole number above 0 and below 2**63"),
            ({"vocab_size": "1\n2"}, "expected '1 2' rows of word embeddings"),
        ],
    )
    def test_a_config_no_model_has(self, tmp_path, changes, expected):
        assert expected in line(reading.read, folder(tmp_path / "made", **changes))

    @pytest.mark.parametrize(
        ("changes", "file"),
        [
            ({"norm_eps": 10**400}, "model.json"),
            ({"norm": [[]]}, "model.json"),
            ({"notes": 5}, "checkpoint.json"),
            ({"notes": None}, "checkpoint.json"),
        ],
    )
    def test_descriptions_of_ours(self, tmp_path, changes, file):
        checkpoint.save(reading.read(folder(tmp_path / "theirs")), tmp_path / "ours")
        path = tmp_path / "ours" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        assert f"{file}: " in line(reading.read, tmp_path / "ours")

    @pytest.mark.parametrize(
        ("table", "expected"),
        [
            ({"a": 0}, r"the special token \[PAD\]"),
            ({"a": 0, "b": "x"}, "pieces with ids from 0 on"),
            ({"\ud800": 0}, "pieces with ids from 0 on"),
            ({"": 0}, "one piece a line"),
        ],
    )
    def test_a_tokenizer_of_no_pieces(self, tmp_path, table, expected):
        folder(tmp_path / "made")
        (tmp_path / "made" / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": table}}))
        with pytest.raises(InputError, match=rf"tokenizer\.json: expected {expected}"):
            reading.read(tmp_path / "made")

    @pytest.mark.parametrize("part", [5, torch.ones(3), [1]])
    def test_a_part_that_is_no_mapping(self, tmp_path, part):
        torch.save(part, tmp_path / "p.bin")
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "p.bin"}}))
        assert "expected names and tensors, found" in line(reading.read, tmp_path)

    def test_long_ones_are_not_read(self, tmp_path, monkeypatch):
        folder(tmp_path / "made")
        os.truncate(tmp_path / "made" / "config.json", (8 << 20) + 1)
        assert "expected at most 8,388,608 bytes of JSON" in line(reading.read, tmp_path / "made")
        with pytest.raises(InputError, match="expected at most 10 bytes"):
            side_files.read_side_file(tmp_path / "made" / "config.json", longest=10)

    def test_names_cannot_forge_a_line(self, tmp_path):
        state = weights() | {"x\n\x1b[31mFORGED.weight": torch.zeros(1)}
        read = reading.read(folder(tmp_path / "made", state, architectures=["A\n\x1b[31mFORGED"]))
        assert read.notes == (r"a head of a task is left out: x\n\x1b[31mFORGED",)
        assert read.origin == r"Hugging Face A\n\x1b[31mFORGED, PyTorch"
        assert all(
            len(note) <= 1000
            for note in reading.read(
                folder(tmp_path / "long", weights() | {"x" * 10**6 + ".weight": torch.zeros(1)})
            ).notes
        )


def test_what_no_reader_foresaw_is_one_line_with_its_cause(tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a mistake of ours\nin two lines")

    monkeypatch.setattr(hugging_face, "read_folder", fail)
    with pytest.raises(InputError, match=r"found what its reader cannot handle \(ZeroDivisionError\)$") as caught:
        reading.read(folder(tmp_path / "made"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
