"""Tensors come back as torch and safetensors wrote them, and hostile or damaged files end in one line.

Ours is compared with `torch.load`, which is another reader of the same files; hostile ones are written by the rules of
the formats.
"""

import argparse
import collections
import enum
import os
import pathlib
import signal
import struct
import sys
import types
import zipfile

import hostile
import numpy as np
import pytest
import safetensors.torch
import torch
from hostile import FORMATS, Storage, claimed, entry, failure, pickled, same, save, torch_zip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.checkpoints.pickles import Opaque
from biomeg_lib.checkpoints.tensors import read_safetensors, read_state, read_torch
from biomeg_lib.errors import InputError

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128]
NEWER = [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2]  # without storage classes


def of_dtype(dtype):
    numbers = torch.arange(12).reshape(3, 4)
    return numbers.to(torch.float32).to(dtype) if "float8" in str(dtype) else numbers.to(dtype)


class TestTorch:
    @FORMATS
    @pytest.mark.parametrize("dtype", [*DTYPES, *NEWER], ids=str)
    def test_tensors_of_every_type_come_back_as_torch_reads_them(self, tmp_path, zipped, dtype):
        whole = of_dtype(dtype)
        state = {"whole": whole, "turned": whole.t(), "part": whole[1:, 2], "none": whole[:0], "one": whole[0, 1]}
        path = save(state, tmp_path / "made.bin", zipped)
        read = read_torch(path)
        assert same(read, state)
        if zipped or dtype not in NEWER:  # torch writes these in the older format, and then cannot read them
            assert same(read, torch.load(path, weights_only=True))
        assert type(read) is dict

    @FORMATS
    def test_the_state_of_a_module_comes_back(self, tmp_path, zipped):
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 3, bias=False))
        module[2].weight = module[0].weight
        path = save(module.state_dict(), tmp_path / "made.bin", zipped)
        read = read_torch(path)
        assert type(read) is dict
        assert same(read, dict(module.state_dict()))
        assert read["0.weight"].data_ptr() == read["2.weight"].data_ptr() != read["0.bias"].data_ptr()

    @FORMATS
    def test_tensors_that_share_memory_share_it_and_the_file_stays_as_it_is(self, tmp_path, zipped):
        whole = torch.arange(20.0)
        path = save([whole, whole[5:10], whole[::2]], tmp_path / "made.bin", zipped)
        before = path.read_bytes()
        first, second, third = read_torch(path)
        first[6] = -1
        assert second[1] == third[3] == -1
        assert path.read_bytes() == before
        assert same(read_torch(path), [whole, whole[5:10], whole[::2]])

    @FORMATS
    def test_parameters_and_tensors_with_attributes_are_tensors_without_gradients(self, tmp_path, zipped):
        plain, parameter = torch.ones(3), torch.nn.Parameter(torch.ones(3))
        values = [plain, parameter, torch.nn.Parameter(torch.zeros(2)), torch.nn.Buffer(torch.zeros(2))]
        plain.partition_dim = parameter.partition_dim = 0
        read = read_torch(save(values, tmp_path / "made.bin", zipped))
        assert same(read, [value.detach() for value in values])
        assert not any(value.requires_grad for value in read)
        assert all(type(value) is torch.Tensor for value in read)

    @FORMATS
    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_plain_containers_come_back(self, tmp_path, zipped, protocol):
        value = {
            "numbers": [1, -1, 300, 70_000, -(2**40), 2**100, 1.5, True, False, None, float("inf")],
            "texts": ["", "a", "\u00e9\u4e2d", "x" * 300, ("t",), (), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
            3: {"inner": {(1, "pair"): []}},
            "types": (torch.float16, torch.bfloat16),
        }
        assert same(read_torch(save(value, tmp_path / "made.bin", zipped, pickle_protocol=protocol)), value)

    @FORMATS
    def test_the_containers_of_collections_become_plain_ones(self, tmp_path, zipped):
        value = [
            collections.OrderedDict(a=1, b=[2]),
            collections.defaultdict(list, {"a": [1]}),
            collections.Counter("aab"),
            collections.deque([1, 2], maxlen=5),
            torch.Size([2, 3]),
        ]
        expected = [{"a": 1, "b": [2]}, {"a": [1]}, {"a": 2, "b": 1}, [1, 2], (2, 3)]
        assert same(read_torch(save(value, tmp_path / "made.bin", zipped)), expected)

    @FORMATS
    def test_a_file_as_megatron_writes_it_is_read_as_data(self, tmp_path, zipped, monkeypatch):
        megatron = types.ModuleType("megatron.core.enums")
        megatron.ModelType = enum.Enum("ModelType", {"encoder": 1}, module=megatron.__name__)
        for name in ("megatron", "megatron.core", megatron.__name__):
            monkeypatch.setitem(sys.modules, name, megatron)
        args = argparse.Namespace(num_layers=2, lr=1e-4, params_dtype=torch.float16, model_type=megatron.ModelType(1))
        args.vocab_file, args.exit_signal, args.inner = (
            pathlib.PurePosixPath("a/b"),
            signal.SIGTERM,
            argparse.Namespace(a=1),
        )
        args.init, args.betas = torch.nn.functional.gelu, (0.9, 0.999)
        state = {
            "args": args,
            "checkpoint_version": 3.0,
            "iteration": 10,
            "model": {"language_model": {"embedding": {"word": torch.ones(4, 2).half()}}},
            "rng_state": [{"np": np.random.get_state(), "torch": torch.get_rng_state(), "py": (3, (1, 2), None)}],
            "rate": np.float64(0.5),
            "other": {"set": {1}, "bytes": b"ab", "device": torch.device("cpu"), "simple": types.SimpleNamespace(b=2)},
        }
        path = save(state, tmp_path / "model_optim_rng.pt", zipped)
        monkeypatch.undo()
        read = read_torch(path)
        assert type(read["args"]) is dict
        assert list(read["args"]) == list(vars(args))
        assert read["args"]["inner"] == {"a": 1}
        assert {key: read["args"][key] for key in ("num_layers", "lr", "params_dtype", "betas")} == {
            "num_layers": 2,
            "lr": 1e-4,
            "params_dtype": torch.float16,
            "betas": (0.9, 0.999),
        }
        assert read["args"]["model_type"].name == "megatron.core.enums.ModelType"
        assert read["args"]["exit_signal"].name == "signal.Signals"
        assert isinstance(read["args"]["vocab_file"], Opaque)
        assert isinstance(read["args"]["init"], Opaque)
        assert same(read["model"], state["model"])
        assert same(read["rng_state"][0]["torch"], torch.get_rng_state())
        assert read["rng_state"][0]["py"] == (3, (1, 2), None)
        assert isinstance(read["rng_state"][0]["np"][1], Opaque)
        assert isinstance(read["rate"], Opaque)
        assert read["other"]["simple"] == {"b": 2}
        assert "megatron" not in sys.modules

    def test_an_enum_as_some_pythons_write_it_is_read(self, tmp_path):
        data = b"\x80\x02c__builtin__\ngetattr\ncmegatron.model.enums\nModelType\nX\x01\0\0\0a\x86R."
        assert read_torch(torch_zip(tmp_path / "made.pt", data)).name == "megatron.model.enums.ModelType"

    def test_a_file_saved_without_check_sums_is_read(self, tmp_path):
        torch.serialization.set_crc32_options(False)
        try:
            path = save({"a": torch.ones(3)}, tmp_path / "made.bin")
        finally:
            torch.serialization.set_crc32_options(True)
        assert same(read_torch(path), {"a": torch.ones(3)})

    def test_numbers_are_mapped_and_take_no_memory(self, tmp_path):
        path = save({"a": torch.zeros(32 << 20)}, tmp_path / "made.bin")
        before = _own_memory()
        read = read_torch(path)
        assert _own_memory() - before < 64 << 20
        assert read["a"].sum() == 0


class TestZipRecords:
    def good(self, tmp_path):
        return save({"a": torch.arange(100.0), "b": [torch.ones(3).half()]}, tmp_path / "good.pt")

    def test_compressed_records_are_refused(self, tmp_path):
        data = pickled(claimed(Storage("0", 1 << 20), (1 << 20,), (1,)))
        path = torch_zip(tmp_path / "made.pt", data, {"0": bytes(4 << 20)}, compress_type=zipfile.ZIP_DEFLATED)
        assert "expected records as torch.save stores them, found compressed" in failure(read_torch, path)

    @pytest.mark.parametrize("field", [20, 24], ids=["compressed", "real"])
    def test_a_record_that_claims_more_than_the_file(self, tmp_path, field):
        data = bytearray(self.good(tmp_path).read_bytes())
        start = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
        data[start + field : start + field + 4] = b"\xff\xff\xff\x7f"
        path = tmp_path / "made.pt"
        path.write_bytes(data)
        assert "expected records within the file's" in failure(read_torch, path)

    @pytest.mark.parametrize("value", [2**63, 2**64 - 1])
    def test_a_record_that_is_said_to_lie_beyond_all_files(self, tmp_path, value):
        data = self.good(tmp_path).read_bytes()
        first = data.index(b"PK\x01\x02")
        extra = struct.pack("<HHQ", 1, 8, value)  # where a large file's offset stands
        header = bytearray(data[first : data.index(b"PK\x01\x02", first + 1)])
        header[42:46], header[30:32] = b"\xff\xff\xff\xff", struct.pack("<H", len(extra))
        rest = data[first + len(header) : data.index(b"PK\x06\x06")]
        directory = bytes(header) + extra + rest
        count = directory.count(b"PK\x01\x02")
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), first, 0)
        (tmp_path / "made.pt").write_bytes(data[:first] + directory + end)
        failure(read_torch, tmp_path / "made.pt")

    def test_two_records_of_one_name_are_refused(self, tmp_path):
        path = hostile.zipped(tmp_path / "x", ("a/data.pkl", pickled([1])), ("a/data.pkl", pickled([2])))
        assert "two records of one name" in failure(read_torch, path)

    def test_other_zips_and_torchscript_are_refused(self, tmp_path):
        assert "a zip archive of other files" in failure(read_torch, hostile.zipped(tmp_path / "x", ("a", b"")))
        script = hostile.zipped(tmp_path / "y", ("a/data.pkl", pickled([])), ("a/constants.pkl", pickled(())))
        assert "a TorchScript program" in failure(read_torch, script)

    def test_numbers_in_the_other_byte_order_are_refused(self, tmp_path):
        path = hostile.zipped(tmp_path / "x", ("a/data.pkl", pickled([1])), ("a/byteorder", b"big"))
        assert "found big" in failure(read_torch, path)

    def test_damage_to_any_byte_of_the_numbers_is_seen(self, tmp_path):
        data = self.good(tmp_path).read_bytes()
        start = data.index(torch.arange(100.0).numpy().tobytes())
        for place in range(start, start + 400, 37):
            (tmp_path / "made.pt").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            assert "the check sum differs" in failure(read_torch, tmp_path / "made.pt")


class TestSafetensors:
    def test_tensors_of_every_type_come_back(self, tmp_path):
        state = {str(dtype): of_dtype(dtype) for dtype in (*DTYPES, *NEWER) if dtype != torch.complex128}
        state |= {"none": torch.empty(0, 768), "one": torch.tensor(1.0)}
        safetensors.torch.save_file(state, tmp_path / "made", metadata={"format": "pt"})
        assert same(read_safetensors(tmp_path / "made"), state)
        assert same(read_state(str(tmp_path / "made")), state)

    @pytest.mark.parametrize(
        ("header", "data", "expected"),
        [
            ({"a": entry([2**60], 0, 4)}, b"1234", "claims 1,152,921,504,606,846,976 numbers in 4 bytes"),
            ({"a": entry([2**40, 2**40], 0, 4)}, b"1234", "numbers in 4 bytes"),
            ({"a": entry([2**60], 0, 2**62)}, b"1234", "claims bytes 0 to 4,611,686,018,427,387,904 of 4"),
            ({"a": entry([1], 4, 8)}, b"1234", "claims bytes 4 to 8 of 4"),
            ({"a": entry([1], 4, 0)}, b"1234", "claims bytes 4 to 0"),
            ({"a": entry([1], -4, 0)}, b"1234", "claims bytes -4 to 0"),
            ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234", "invalid offset"),
            ({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, b"123456", "invalid offset"),
            ({"a": entry([1], 0, 4), "b": entry([1], 5, 9)}, b"123456789", "invalid offset"),
            ({"a": entry([1], 0, 4)}, b"12345678", "not fully covered"),
            ({"a": entry([1], 0, 3)}, b"123", "damage"),
            ({"a": entry([1] * 17, 0, 4)}, b"1234", "claims 17 dimensions"),
            ({"a": entry([10**300] * 10_000, 0, 4)}, b"1234", "claims 10,000 dimensions"),
            ({"a": entry([0, 2**63], 0, 0)}, b"", "damage"),
            ({"a": entry([1], 0, 4, "F6_E2M3")}, b"1234", "damage"),
            ({"a": entry([1], 0, 4, "Q")}, b"1234", "damage"),
            ({"a\n\x1b[2J": entry([2**60], 0, 4)}, b"1234", "claims"),
            ({"a": 1}, b"", "describes no tensors"),
            ({"a": {"dtype": "F32"}}, b"", "describes no tensors"),
            ([], b"", "describes no tensors"),
            (b'{"a":' + b"[" * 100_000, b"", "no JSON"),
            (b"{", b"", "no JSON"),
            (b"\xff\xfe{", b"", "no JSON"),
        ],
    )
    def test_a_header_that_claims_or_says_what_is_not_there(self, tmp_path, header, data, expected):
        assert expected in failure(read_safetensors, hostile.safetensors(tmp_path / "made", header, data))

    @pytest.mark.parametrize("length", [3, 2**20, 2**31, 2**60, 2**63, 2**64 - 1])
    def test_a_header_longer_than_the_file_or_cut(self, tmp_path, length):
        path = hostile.safetensors(tmp_path / "made", {"a": entry([1], 0, 4)}, b"1234", length)
        assert "expected" in failure(read_safetensors, path)
        failure(read_state, path)

    def test_a_header_of_absurd_length_is_not_read(self, tmp_path):
        path = tmp_path / "made"
        with open(path, "wb") as stream:
            stream.write((1 << 30).to_bytes(8, "little") + b"{")
            stream.truncate(2 << 30)
        assert "found one of 1,073,741,824 bytes" in failure(read_safetensors, path)

    def test_every_way_to_cut_it_is_an_error(self, tmp_path):
        data = safetensors.torch.save({"a": torch.arange(6.0), "b": torch.ones(2, 2).half()})
        for end in range(len(data)):
            (tmp_path / "made").write_bytes(data[:end])
            failure(read_safetensors, tmp_path / "made")


class TestOtherFiles:
    @pytest.mark.parametrize("read", [read_state, read_torch])
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer, not the file"),
            (b"\n <!DOCTYPE html><html>", "a web page"),
            (b"<html>", "a web page"),
            (b"\x89HDF\r\n\x1a\n\0\0\0", "an HDF5 file of TensorFlow or Keras; only PyTorch weights are read"),
            (b"\0\0\x01\0" + bytes(40) + bytes.fromhex("57fb808b247547db"), "a TensorFlow checkpoint; only PyTorch"),
            (b"", "an empty file"),
            (b"12345678{ is JSON, perhaps", "something else"),
            (b'{\n"a b":{}}', "something else"),
            (b'{"model_type": "bert"}', "something else"),
            (bytes(range(1, 201)) * 3, "something else"),
        ],
    )
    def test_the_line_says_what_it_is(self, tmp_path, read, data, expected):
        (tmp_path / "pytorch_model.bin").write_bytes(data)
        assert expected in failure(read, tmp_path / "pytorch_model.bin")

    def test_the_numbers_of_a_tensorflow_checkpoint_are_known_by_their_name(self, tmp_path):
        path = tmp_path / "bert_model.ckpt.data-00000-of-00001"
        path.write_bytes(bytes(100))
        assert "a TensorFlow checkpoint" in failure(read_state, path)

    @pytest.mark.parametrize("read", [read_state, read_torch, read_safetensors])
    def test_what_is_no_file(self, tmp_path, read):
        assert failure(read, tmp_path / "absent") == "expected a file, found none"
        assert failure(read, tmp_path) == "expected a file, found something else"
        os.mkfifo(tmp_path / "pipe")
        assert failure(read, tmp_path / "pipe") == "expected a file, found something else"

    def test_the_kind_is_known_by_content_and_not_by_name(self, tmp_path):
        state = {"a": torch.arange(4.0)}
        safetensors.torch.save_file(state, tmp_path / "x.bin")
        assert same(read_state(tmp_path / "x.bin"), state)
        for zipped in (True, False):
            assert same(read_state(save(state, tmp_path / "x.safetensors", zipped)), state)


def _small():
    return {
        "a": torch.arange(6.0).reshape(2, 3),
        "args": argparse.Namespace(layers=2),
        "b": [torch.ones(3).half(), "text"],
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    made = {
        "zip": save(_small(), folder / "zip").read_bytes(),
        "legacy": save(_small(), folder / "legacy", zipped=False).read_bytes(),
        "safetensors": safetensors.torch.save({"a": torch.arange(6.0), "b": torch.ones(3).half()}),
    }
    return folder / "damaged", {kind: (data, _read(folder / f"whole-{kind}", data)) for kind, data in made.items()}


def _read(path, data):
    path.write_bytes(data)
    return read_state(path)


DAMAGE = settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])


@DAMAGE
@given(kind=st.sampled_from(["zip", "legacy", "safetensors"]), cut=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_anywhere_is_refused(files, kind, cut):
    path, made = files
    data, _ = made[kind]
    with pytest.raises(InputError):
        _read(path, data[: int(cut * len(data))])


@DAMAGE
@given(
    kind=st.sampled_from(["zip", "legacy", "safetensors"]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_damaged_bytes_are_refused_or_do_not_matter(files, kind, damage):
    path, made = files
    data, whole = made[kind]
    damaged = bytearray(data)
    for place, change in damage:
        damaged[int(place * len(data))] ^= change
    try:
        read = _read(path, bytes(damaged))
    except InputError:
        return
    # Only the zip format has check sums; the others can be read as something of the same small size.
    assert kind != "zip" or same(read, whole)


def _own_memory() -> int:
    """Bytes that are no file's."""
    with open("/proc/self/smaps_rollup") as stream:
        fields = dict(line.split(":", 1) for line in stream.readlines()[1:])
    return int(fields["Anonymous"].split()[0]) << 10
