"""Lists of checksums: what damage they find, and that they never call a sound file damaged."""

import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib import files, sums
from biomeg_lib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def test_lines_are_those_of_another_implementation(tmp_path):
    files.write_if_changed(tmp_path / "a.csv", "x\n1\n")
    assert (tmp_path / "sums.txt").read_text() == f"{zlib.crc32(b'x' + bytes([10]) + b'1' + bytes([10])):08x} 4 a.csv\n"
    assert sums.problem_of(tmp_path / "a.csv") is None
    files.write_if_changed(tmp_path / "a.csv", "x\n1\n")
    assert len((tmp_path / "sums.txt").read_text().splitlines()) == 1


@settings(max_examples=200, deadline=None)
@given(data=st.binary(min_size=1, max_size=200), chance=st.randoms(use_true_random=False))
def test_any_flipped_bit_and_any_cut_is_found(tmp_path_factory, data, chance):
    folder = tmp_path_factory.mktemp("sums")
    path = folder / "a"
    path.write_bytes(data)
    sums.seal(folder)
    assert list(sums.problems_of(folder)) == []
    damaged = bytearray(data)
    damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    for other in (bytes(damaged), data[: chance.randrange(len(data))], data + b"x"):
        path.write_bytes(other)
        assert [found for found, _ in sums.problems_of(folder)] == [path]
        with pytest.raises(InputError, match="it is damaged"):
            sums.check(path)


def test_a_missing_file_and_one_in_a_folder_within(tmp_path):
    (tmp_path / "0001").mkdir()
    for name in ("a", "0001/b", "lock"):
        (tmp_path / name).write_text(name)
    sums.seal(tmp_path, ["lock"])
    (tmp_path / "lock").write_text("another")
    assert list(sums.problems_of(tmp_path)) == []
    (tmp_path / "0001" / "b").unlink()
    assert list(sums.problems_of(tmp_path)) == [(tmp_path / "0001" / "b", "expected a file of 6 bytes, found none")]
    assert list(sums.problems_of(tmp_path, ["a"])) == []


def test_announced_and_never_written(tmp_path):
    """A kill between line and file: the older file stays sound."""
    path = tmp_path / "a"
    files.write_if_changed(path, "old")
    sums.announce(path, b"newer")
    assert sums.problem_of(path) is None
    path.write_text("odd")
    assert sums.problem_of(path) is not None


@pytest.mark.parametrize("ledger", [b"", b"\xff\xfe", b"no line\n", b"zz 3 a\n", b"00000000 x a\n", b"8c736521 3 a"])
def test_a_list_that_is_none_says_nothing_wrong(tmp_path, ledger):
    (tmp_path / "a").write_bytes(b"foo")
    (tmp_path / "sums.txt").write_bytes(ledger)
    assert list(sums.problems_of(tmp_path)) == []
    files.write_if_changed(tmp_path / "b", "text")  # behind a line that was cut short
    assert sums.is_listed(tmp_path / "b")


def test_permissions_are_those_of_a_new_file(tmp_path):
    code = """import os, sys
os.umask(0o077)
from pathlib import Path
from biomeg_lib import files
folder = Path(sys.argv[1])
files.write_if_changed(folder / "a", "x")
with files.atomic_directory(folder / "b"):
    pass
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert modes == {"a": "0o600", "b": "0o700", "sums.txt": "0o600"}


def test_lines_that_lead_elsewhere_are_left_out(tmp_path):
    (tmp_path / "victim").write_text("mine")
    folder = tmp_path / "tables"
    folder.mkdir()
    names = ("../victim", f"{tmp_path}/victim", "a/../../victim", 300 * "x", 200 * "\ufffd", "a\0b")
    (folder / "sums.txt").write_text("".join(f"00000000 1 {name}\n" for name in names))
    assert list(sums.problems_of(folder)) == []


def test_many_processes_add_to_one_list(tmp_path):
    code = (
        "import sys; from pathlib import Path; from biomeg_lib.files import write_if_changed\n"
        "for n in range(50): write_if_changed(Path(sys.argv[1]) / f'{sys.argv[2]}.{n}', sys.argv[2] * n)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)], cwd=ROOT) for number in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert len((tmp_path / "sums.txt").read_text().splitlines()) == 150
    assert list(sums.problems_of(tmp_path)) == []


def test_a_stream_is_summed_as_it_is_written(tmp_path):
    pieces = [random.Random(n).randbytes(n) for n in range(50)]
    with open(tmp_path / "a", "wb") as stream:
        summed = sums.Summed(stream)
        for piece in pieces:
            summed.write(memoryview(piece))
        summed.flush()
    sums.announce(tmp_path / "a", summed)
    assert sums.problem_of(tmp_path / "a") is None
    assert (summed.bytes, summed.crc32) == (sum(range(50)), zlib.crc32(b"".join(pieces)))
