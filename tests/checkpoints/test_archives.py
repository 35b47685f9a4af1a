"""Archives are unpacked whole into a folder that goes away, and hostile or damaged ones end in one line."""

import gzip
import io
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from hostile import member, save, tarred, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeg_lib.checkpoints import archives
from biomeg_lib.checkpoints.archives import is_archive, unpacked
from biomeg_lib.checkpoints.tensors import read_torch
from biomeg_lib.errors import InputError

FILES = {"model_config.yaml": b"a: 1\n", "inner/model_weights.ckpt": bytes(range(256)) * 300, "inner/empty": b""}
KINDS = pytest.mark.parametrize("kind", ["zip", "deflated", "tar", "tar.gz"])


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made: nothing may be left there, and nothing made beside it."""
    folder = tmp_path / "around" / "temporary"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert [path.name for path in (tmp_path / "around").rglob("*")] == ["temporary"]


def made(path: Path, kind: str, files=FILES) -> Path:
    if "zip" in kind or kind == "deflated":
        method = zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED
        return zipped(path, *((member(name, compress_type=method), data) for name, data in files.items()))
    return tarred(path, *files.items(), mode="w:gz" if kind == "tar.gz" else "w")


def content(path: Path) -> dict[str, bytes]:
    with unpacked(path) as folder:
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(path: Path, inner: str = "") -> str:
    """The one line about an archive, or a member of it."""
    place = f"{path}:{inner}" if inner else str(path)
    with pytest.raises(InputError) as caught:
        content(path)
    message = str(caught.value)
    assert message.startswith(f"{place}: expected ")
    assert message.isprintable()
    return message.removeprefix(f"{place}: ")


class TestGoodArchives:
    @KINDS
    def test_every_kind_is_unpacked_whatever_its_name(self, tmp_path, temporary, kind):
        path = made(tmp_path / "model.nemo", kind)
        assert is_archive(path)
        assert content(path) == FILES
        with unpacked(str(path)) as folder:
            assert folder.parent == temporary
        assert not folder.exists()

    def test_names_as_nemo_writes_them(self, tmp_path):
        """NeMo adds the folder `.` itself."""
        (tmp_path / "in" / "mp_rank_00").mkdir(parents=True)
        (tmp_path / "in" / "mp_rank_00" / "model_weights.ckpt").write_bytes(b"x")
        (tmp_path / "in" / "model_config.yaml").write_bytes(b"y")
        with tarfile.open(tmp_path / "model.nemo", "w:gz") as archive:
            archive.add(tmp_path / "in", arcname=".")
        assert content(tmp_path / "model.nemo") == {"mp_rank_00/model_weights.ckpt": b"x", "model_config.yaml": b"y"}

    def test_folders_and_long_names(self, tmp_path):
        name = "a" * 150 + "/" + "\u00e9" * 100
        files = {name: b"x", "b/": b"", "b/c": b"y"}
        assert content(made(tmp_path / "x", "zip", files)) == {name: b"x", "b/c": b"y"}
        with tarfile.open(tmp_path / "y", "w", format=tarfile.PAX_FORMAT) as archive:
            header = tarfile.TarInfo(name)
            header.size = 1
            archive.addfile(header, io.BytesIO(b"x"))
        assert content(tmp_path / "y") == {name: b"x"}

    def test_an_error_of_the_user_of_the_folder_is_passed_on_and_the_folder_removed(self, tmp_path):
        with pytest.raises(ValueError, match="mine"), unpacked(made(tmp_path / "x", "tar")):
            raise ValueError("mine")

    def test_files_cannot_be_executed(self, tmp_path):
        path = zipped(tmp_path / "x", (member("run", external_attr=(stat.S_IFREG | 0o4777) << 16), b""))
        with unpacked(path) as folder:
            assert not (folder / "run").stat().st_mode & 0o7111

    def test_a_tensor_outlives_the_folder(self, tmp_path):
        data = save({"a": torch.arange(1000.0)}, tmp_path / "weights").read_bytes()
        with unpacked(made(tmp_path / "x", "tar", {"model_weights.ckpt": data})) as folder:
            read = read_torch(folder / "model_weights.ckpt")
        assert read["a"].equal(torch.arange(1000.0))


class TestWhatIsAnArchive:
    def test_what_torch_saves_is_none_even_when_it_has_been_cut(self, tmp_path):
        path = save({"a": torch.ones(3)}, tmp_path / "pytorch_model.bin")
        assert not is_archive(path)
        path.write_bytes(path.read_bytes()[:-10])
        assert not is_archive(path)
        assert not is_archive(save({"a": torch.ones(3)}, tmp_path / "older.bin", zipped=False))

    def test_a_zip_that_has_a_saved_file_inside_is_one(self, tmp_path):
        assert is_archive(made(tmp_path / "x", "zip", {"release/mp_rank_00/model_optim_rng.pt": b"PK"}))

    @pytest.mark.parametrize(
        "data", [b"", b"PK", b"{}", b"\x1f\x8b", gzip.compress(b"text"), bytes(1024), os.urandom(2000)]
    )
    def test_other_files_are_none(self, tmp_path, data):
        (tmp_path / "x").write_bytes(data)
        assert not is_archive(tmp_path / "x")
        refused(tmp_path / "x")

    def test_no_files_are_none(self, tmp_path):
        assert not is_archive(tmp_path)
        assert not is_archive(tmp_path / "absent")
        assert refused(tmp_path / "absent") == "expected an archive, found none"
        assert refused(tmp_path) == "expected an archive, found something else"


class TestNames:
    LEADING_ELSEWHERE = ["../evil", "a/../../evil", "a/..", "/var/evil", "//var/evil", "..", "inner/../evil"]
    NOT_PLAIN = [
        "..\\evil",
        "a\\b",
        "C:\\evil",
        "C:/evil",
        "c:evil",
        "a:stream",
        "a\nb",
        "a\x1b[2J",
        "a\u202eb",
        "\x7f",
    ]

    @pytest.mark.parametrize("name", LEADING_ELSEWHERE + NOT_PLAIN)
    @KINDS
    def test_names_that_lead_elsewhere_are_refused(self, tmp_path, kind, name):
        files = {"good": b"x", name: b"x"}
        message = refused(made(tmp_path / "a.nemo", kind, files), ascii(name)[1:-1])
        assert ("one that leads elsewhere" in message) is (name in self.LEADING_ELSEWHERE)

    def test_a_zip_name_that_goes_on_behind_a_nul_is_refused(self, tmp_path):
        path = made(tmp_path / "x.zip", "zip", {"good-name": b"x"})
        path.write_bytes(path.read_bytes().replace(b"good-name", b"good\0name"))
        assert "plain name" in refused(path, r"good\x00name")

    @pytest.mark.parametrize("second", ["a", "./a", ".//./a"])
    @KINDS
    def test_a_name_that_stands_twice_is_refused(self, tmp_path, kind, second):
        path = tmp_path / "x"
        if kind in ("zip", "deflated"):
            zipped(path, ("a", b"1"), (second, b"2"))
        else:
            tarred(path, ("a", b"1"), (second, b"2"), mode="w:gz" if kind == "tar.gz" else "w")
        assert "expected each name once" in refused(path, second)

    @KINDS
    def test_a_file_in_the_place_of_a_folder_is_refused(self, tmp_path, kind):
        refused(made(tmp_path / "x", kind, {"a": b"1", "a/b": b"2"}), "a/b")
        refused(made(tmp_path / "y", kind, {"a/b": b"1", "a": b"2"}), "a")
        refused(made(tmp_path / "z", kind, {"n" * 300: b"1"}), "n" * 300)


class TestLinksAndDevices:
    @pytest.mark.parametrize(
        "fields",
        [
            {"type": tarfile.SYMTYPE, "linkname": "/etc"},
            {"type": tarfile.SYMTYPE, "linkname": "../../around"},
            {"type": tarfile.SYMTYPE, "linkname": "good"},
            {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
            {"type": tarfile.LNKTYPE, "linkname": "good"},
            {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
            {"type": tarfile.BLKTYPE},
            {"type": tarfile.FIFOTYPE},
        ],
        ids=lambda fields: f"{fields['type'].decode()}-{fields.get('linkname', '')}",
    )
    def test_in_a_tar_they_are_refused(self, tmp_path, fields):
        path = tarred(tmp_path / "x", ("good", b"x"), ("bad", None), ("bad/evil", b"x"), **fields)
        assert "found a link, a device or a sparse file" in refused(path, "bad")

    def test_a_sparse_file_is_refused(self, tmp_path):
        header = bytearray(tarfile.TarInfo("bad").tobuf(tarfile.GNU_FORMAT))
        header[156:157] = tarfile.GNUTYPE_SPARSE
        header[483:495] = b"%011o\0" % 2**32  # the size that it unpacks to
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (tmp_path / "x").write_bytes(bytes(header) + bytes(1024))
        assert "a sparse file" in refused(tmp_path / "x", "bad")

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
    def test_in_a_zip_they_are_refused(self, tmp_path, kind):
        path = zipped(tmp_path / "x", ("good", b"x"), (member("bad", external_attr=(kind | 0o777) << 16), b"/etc"))
        assert "found a link or a device" in refused(path, "bad")


class TestClaims:
    @pytest.fixture(autouse=True)
    def small_allowance(self, monkeypatch):
        monkeypatch.setattr(archives, "_ALLOWANCE", 1 << 20)

    @pytest.mark.parametrize("kind", ["deflated", "tar.gz"])
    def test_a_compression_bomb_is_refused(self, tmp_path, temporary, kind):
        path = made(tmp_path / "x", kind, {"zeros": bytes(8 << 20)})
        assert path.stat().st_size < 20_000
        assert "a compression bomb" in refused(path, "zeros")

    def test_zeros_behind_the_end_of_a_tar_are_counted(self, tmp_path):
        path = tmp_path / "x"
        path.write_bytes(gzip.compress(made(tmp_path / "y", "tar").read_bytes() + bytes(8 << 20)))
        assert "a compression bomb" in refused(path, "inner/empty")

    def test_many_members_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archives, "_MOST_MEMBERS", 10)
        for kind in ("zip", "tar.gz"):
            path = made(tmp_path / kind, kind, {f"{number}/": b"" for number in range(11)})
            assert "at most 10 members" in refused(path)

    @KINDS
    def test_more_than_the_disk_has_room_for_is_refused(self, tmp_path, monkeypatch, kind):
        usage = archives.shutil.disk_usage(tmp_path)._replace(free=(256 << 20) + 70_000)
        monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
        message = refused(made(tmp_path / "x", kind), "inner/model_weights.ckpt")
        assert "expected to need at most the free 70,000 bytes of disk" in message

    def test_a_tar_member_that_claims_more_than_there_is(self, tmp_path):
        header = tarfile.TarInfo("bad")
        header.size = 50 << 20
        (tmp_path / "x").write_bytes(header.tobuf() + b"data" + bytes(2048))
        refused(tmp_path / "x", "bad")
        header.size = 2**62
        (tmp_path / "x").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"data" + bytes(2048))
        assert "a compression bomb" in refused(tmp_path / "x", "bad")

    def test_a_tar_header_that_is_extended_by_a_large_one_is_refused(self, tmp_path):
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 1 << 30
        (tmp_path / "x").write_bytes(header.tobuf() + bytes(2048))
        assert "a header of 1073741824 bytes" in refused(tmp_path / "x")

    @pytest.mark.parametrize(("field", "value"), [(20, 2**31), (24, 2**31), (24, 1)])
    def test_a_zip_member_that_claims_another_size_than_it_has(self, tmp_path, field, value):
        data = bytearray(made(tmp_path / "x", "deflated").read_bytes())
        start = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
        struct.pack_into("<I", data, start + field, value)
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(InputError, match="expected"):
            content(tmp_path / "x")

    def test_zip_members_that_share_their_bytes_are_refused(self, tmp_path):
        """A compression bomb without much compression: each entry of the directory stands for the same data."""
        data = made(tmp_path / "x", "zip", {"a": bytes(1000)}).read_bytes()
        start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
        directory = data[start:end] * 3
        tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, len(directory), start, 0)
        (tmp_path / "x").write_bytes(data[:start] + directory + tail)
        assert "expected members within the archive's" in refused(tmp_path / "x")

    def test_members_that_a_damaged_directory_hides_are_missed(self, tmp_path):
        data = bytearray(made(tmp_path / "x", "zip").read_bytes())
        first, second, third = (place for place in range(len(data)) if data.startswith(b"PK\x01\x02", place))
        data[first + 32] = third - second  # the length of a comment
        (tmp_path / "x").write_bytes(data)
        assert "expected 3 members, as its end says, found 2" in refused(tmp_path / "x")

    def test_encrypted_and_oddly_compressed_members_are_refused(self, tmp_path):
        path = made(tmp_path / "x", "zip", {"a": b"x"})
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "y").write_bytes(data)
        assert "an encrypted one" in refused(tmp_path / "y", "a")
        zipped(path, (member("a", compress_type=zipfile.ZIP_LZMA), b"x"))
        assert "found type 14" in refused(path, "a")


class TestDamage:
    @KINDS
    def test_an_archive_that_is_cut_anywhere_is_refused(self, tmp_path, kind):
        data = made(tmp_path / "x", kind).read_bytes()
        padding = len(data) - len(data.rstrip(b"\0")) if kind == "tar" else 0  # a tar ends in zeros
        for end in range(0, len(data) - padding, max(1, len(data) // 40)):
            (tmp_path / "x").write_bytes(data[:end])
            with pytest.raises(InputError, match="expected"):
                content(tmp_path / "x")

    def test_a_damaged_later_header_is_not_taken_for_the_end(self, tmp_path):
        data = bytearray(made(tmp_path / "x", "tar").read_bytes())
        data[data.index(b"inner/model") + 5] ^= 1
        (tmp_path / "x").write_bytes(data)
        assert "bad checksum" in refused(tmp_path / "x", "model_config.yaml")

    def test_a_second_archive_behind_the_first_is_refused(self, tmp_path):
        data = made(tmp_path / "x", "tar").read_bytes()
        (tmp_path / "x").write_bytes(data + data)
        assert "more data behind the archive's end" in refused(tmp_path / "x", "inner/empty")


SMALL = {"a.yaml": b"a: 1\n", "b/c": bytes(range(100))}


@settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["zip", "deflated", "tar", "tar.gz"]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3),
    end=st.floats(0.5, 2),
)
def test_damaged_bytes_are_refused_or_do_not_matter(tmp_path, kind, damage, end):
    data = bytearray(made(tmp_path / "good", kind, SMALL).read_bytes())
    for place, change in damage:
        data[int(place * len(data))] ^= change
    (tmp_path / "x").write_bytes(data[: int(end * len(data))])
    is_archive(tmp_path / "x")
    try:
        found = content(tmp_path / "x")
    except InputError:
        return
    # A tar has check sums of its headers only.
    assert found.keys() == SMALL.keys()
    assert kind == "tar" or found == SMALL
