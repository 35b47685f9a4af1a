"""Pickles run no code, and get no memory for what they only claim: each ends in one line, at once."""

import collections
import io
import os
import pickle
import tracemalloc

import pytest
import torch
from hostile import FORMATS, Call, Runs, Storage, claimed, failure, pickled, same, save, torch_legacy, torch_zip

from biomeg_lib.checkpoints.tensors import read_state, read_torch
from biomeg_lib.errors import InputError

FLOATS = b"\0\0\x80\x3f" * 10  # ten ones


class TestCodeInPickles:
    @FORMATS
    @pytest.mark.parametrize("call", [os.system, eval, exec], ids=lambda call: call.__name__)
    def test_it_is_not_run(self, tmp_path, zipped, call):
        made = tmp_path / "made"
        path = save({"weight": torch.ones(2), "x": Runs(made, call)}, tmp_path / "hostile.bin", zipped)
        name = f"{call.__module__}.{call.__name__}"
        found = f"expected tensors and plain containers, found {name}, which could run code"
        assert failure(read_torch, path) == failure(read_state, path) == found
        assert not made.exists()
        torch.load(path, weights_only=False)  # the file would have run it
        assert made.exists()

    @pytest.mark.parametrize("part", range(5))
    def test_it_is_not_run_in_any_of_the_older_formats_pickles(self, tmp_path, part):
        made = tmp_path / "made"
        path = torch_legacy(tmp_path / "made.bin", pickled([]))
        stream = io.BytesIO(path.read_bytes())
        parts = []
        for _ in range(5):
            begin = stream.tell()
            pickle.load(stream)
            parts.append(stream.getvalue()[begin : stream.tell()])
        parts[part] = pickled(Runs(made))
        path.write_bytes(b"".join(parts))
        assert "posix.system, which could run code" in failure(read_torch, path)
        assert not made.exists()

    @pytest.mark.parametrize(
        "name", ["builtins getattr", "builtins __import__", "torch.hub load", "os.path join", "numpy load", "x y\tz"]
    )
    def test_a_global_that_is_not_known_is_refused_even_if_it_is_never_called(self, tmp_path, name):
        data = b"\x80\x02c%s\n0N." % name.replace(" ", "\n", 1).encode()
        data = data if "getattr" not in name else b"\x80\x02cbuiltins\ngetattr\ncio\nBytesIO\nX\x01\0\0\0a\x86R."
        assert "which could run code" in failure(read_torch, torch_zip(tmp_path / "made.pt", data))

    @pytest.mark.parametrize(
        "instruction", [b"(iposix\nsystem\n.", b"(cposix\nsystem\no.", b"P0\n.", b"\x82\x01.", b"\x97."]
    )
    def test_instructions_that_call_or_fetch_in_other_ways_are_refused(self, tmp_path, instruction):
        failure(read_torch, torch_zip(tmp_path / "made.pt", b"\x80\x02" + instruction))

    def test_a_global_by_a_name_from_the_stack_is_refused_too(self, tmp_path):
        data = b"\x80\x04\x8c\x05posix\x8c\x06system\x93."
        assert "posix.system" in failure(read_torch, torch_zip(tmp_path / "made.pt", data))

    def test_what_stands_for_a_class_runs_nothing_when_called_set_or_filled(self, tmp_path):
        data = b"\x80\x02cmegatron.x\nY\n(X\x01\0\0\0atR}X\x02\0\0\0__s(X\x01\0\0\0bu]b(K\x01e."
        assert read_torch(torch_zip(tmp_path / "made.pt", data)).name == "megatron.x.Y"


class TestClaims:
    """Sizes in the file are held against the file before memory is taken."""

    def write(self, path, zipped, tensor, count=10, data=FLOATS):
        if zipped:
            return torch_zip(path, pickled({"a": tensor}), {"0": data})
        return torch_legacy(path, pickled({"a": tensor}), {"0": (count, data)})

    @FORMATS
    def test_the_builders_make_good_files_too(self, tmp_path, zipped):
        view = () if zipped else (None,)
        path = self.write(
            tmp_path / "made.pt", zipped, claimed(Storage("0", 10, torch.FloatStorage, *view), (2, 5), (5, 1))
        )
        assert same(read_torch(path), {"a": torch.ones(2, 5)})
        assert same(torch.load(path), {"a": torch.ones(2, 5)})

    @FORMATS
    @pytest.mark.parametrize("count", [11, 2**60, 2**70])
    def test_a_storage_of_more_than_the_file_has(self, tmp_path, zipped, count):
        tensor = claimed(Storage("0", count), (count,), (1,))
        message = failure(read_torch, self.write(tmp_path / "made.pt", zipped, tensor, min(count, 2**62)))
        assert f"claims {count * 4:,} bytes" in message or "claims" in message

    @FORMATS
    @pytest.mark.parametrize(
        ("size", "stride", "offset"),
        [
            ((2**60,), (1,), 0),
            ((11,), (1,), 0),
            ((10,), (1,), 1),
            ((2,), (10,), 0),
            ((2**40,), (0,), 0),  # one number over and over
            ((2**20, 2**20), (0, 0), 0),
            ((6, 5), (1, 1), 0),
        ],
    )
    def test_a_tensor_of_more_than_its_storage_has(self, tmp_path, zipped, size, stride, offset):
        tensor = claimed(Storage("0", 10), size, stride, offset)
        message = failure(read_torch, self.write(tmp_path / "made.pt", zipped, tensor))
        assert message.endswith(" elements of a storage of 10")

    @FORMATS
    @pytest.mark.parametrize(
        ("size", "stride", "offset"),
        [
            ((-1,), (1,), 0),
            ((2,), (-1,), 5),
            ((2, 2), (1,), 0),
            ((1,) * 17, (1,) * 17, 0),
            ((2.0,), (1,), 0),
            ((True,), (1,), 0),
            ((1,), (1,), -1),
            (7, 7, 0),
        ],
    )
    def test_a_tensor_of_no_shape(self, tmp_path, zipped, size, stride, offset):
        failure(read_torch, self.write(tmp_path / "made.pt", zipped, claimed(Storage("0", 10), size, stride, offset)))

    @FORMATS
    def test_a_newer_type_of_more_than_its_storage_has(self, tmp_path, zipped):
        storage = Storage("0", 40, torch.UntypedStorage)
        arguments = (storage, 0, (21,), (1,), False, collections.OrderedDict(), torch.uint16)
        tensor = Call(torch._utils._rebuild_tensor_v3, *arguments)
        assert "claims 21 elements of a storage of 20" in failure(
            read_torch, torch_zip(tmp_path / "made.pt", pickled(tensor), {"0": FLOATS})
        )

    @FORMATS
    def test_a_storage_that_is_not_there(self, tmp_path, zipped):
        failure(read_torch, self.write(tmp_path / "made.pt", zipped, claimed(Storage("1", 10), (10,), (1,))))

    def test_storages_of_the_older_format_that_claim_other_sizes_or_names(self, tmp_path):
        data = pickled(claimed(Storage("0", 10), (10,), (1,)))
        for number, storages in enumerate(
            [{}, {"0": (2**60, FLOATS)}, {"0": (9, FLOATS)}, {"0": (-1, FLOATS)}, {"0": (10, FLOATS), "1": (1, FLOATS)}]
        ):
            failure(read_torch, torch_legacy(tmp_path / f"{number}.pt", data, storages))

    @pytest.mark.parametrize(
        "call",
        [
            Call(torch.FloatTensor, 2**40),
            Call(torch.empty, 2**40),
            Call(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, ()),
            Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (2**40,), (1,), False),
        ],
        ids=["class", "function", "sparse", "meta"],
    )
    def test_tensors_made_in_other_ways_are_refused(self, tmp_path, call):
        assert "which could run code" in failure(read_torch, torch_zip(tmp_path / "made.pt", pickled(call)))

    def test_a_buffer_of_a_claimed_size_is_not_made(self, tmp_path):
        read = read_torch(torch_zip(tmp_path / "made.pt", pickled([Call(bytearray, 2**40), Call(bytes, 2**40)])))
        assert [value.name for value in read] == ["builtins.bytearray", "builtins.bytes"]

    @pytest.mark.parametrize(
        "data",
        [
            b"\x80\x02]r\xff\xff\xff\x7f.",  # not refused: a dictionary holds any number
            b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f].",  # the same: no frame is read ahead
        ],
        ids=["memo", "frame"],
    )
    def test_an_absurd_memo_number_or_frame_takes_no_memory(self, tmp_path, data):
        path = torch_zip(tmp_path / "made.pt", data)
        tracemalloc.start()
        assert read_torch(path) == []
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()

    @pytest.mark.parametrize(
        "data",
        [
            b"X\xff\xff\xff\xffabc.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
            b"\x8b\xff\xff\xff\x7fabc.",
            b"cabc",
            b"h\x05.",
            b"}]K\x01s.",  # a list as a key
            b"K\x01K\x02\x86.",  # no damage, but not what was asked for
            b"a.",
            b".",
            b"",
            b"\xff\xff",
        ],
    )
    def test_pickles_that_claim_or_ask_for_what_is_not_there(self, tmp_path, data):
        legacy = tmp_path / "legacy.pt"
        legacy.write_bytes(b"\x80\x02" + data)
        failure(read_torch, legacy)
        if b"\x86" not in data:
            failure(read_torch, torch_zip(tmp_path / "made.pt", b"\x80\x02" + data))

    def test_an_integer_of_many_digits(self, tmp_path):
        assert "bits" in failure(read_torch, torch_zip(tmp_path / "made.pt", pickled([2**100_000])))

    def test_containers_that_hold_each_other_again_and_again(self, tmp_path):
        bomb = []
        for _ in range(60):
            bomb = [bomb, bomb]
        itself = []
        itself.append(itself)
        deep = []
        for _ in range(150):
            deep = [deep]
        for value in (bomb, itself, deep):
            assert "without end" in failure(read_torch, torch_zip(tmp_path / "made.pt", pickled(value)))

    def test_keys_that_take_for_ever_to_hash(self, tmp_path):
        nested = b")q\0" + b"0h\0h\0\x86q\0" * 60
        assert "dictionary key of tuple" in failure(
            read_torch, torch_zip(tmp_path / "made.pt", b"\x80\x02}" + nested + b"Ns.")
        )

    def test_instructions_that_copy_a_large_thing_again_and_again(self, tmp_path):
        many = b"(" + b"N" * 20_000 + b"tq\0"
        again = b"ccollections\ndeque\nq\x01" + b"h\x01h\0\x85R" * 200
        data = b"\x80\x02" + many + again + b"."
        assert "more than 500,000 instructions" in failure(read_torch, torch_zip(tmp_path / "made.pt", data))

    def test_more_instructions_than_any_checkpoint_has(self, tmp_path):
        data = b"\x80\x02" + b"N0" * 260_000 + b"N."
        with pytest.raises(InputError, match="more than 500,000 instructions"):
            read_torch(torch_zip(tmp_path / "made.pt", data))
