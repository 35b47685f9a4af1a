"""The table of published checkpoints, and their download from the loopback server."""

import hashlib
import re
from dataclasses import replace

import pytest
from source_server import files_in

from biomeg_lib.catalogue import Source
from biomeg_lib.checkpoints import published
from biomeg_lib.checkpoints.published import fetch, find, names, rows
from biomeg_lib.errors import BiomegError

NAME = "all-minilm-l6-v2"
PLAIN = "biobert-base-cased"  # nothing of it is pinned
COMMIT = r"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/[0-9a-f]{40}/"
NEWEST = {"biobert-large-cased"}  # whose commit is not known


@pytest.fixture
def pinned(monkeypatch, server):
    """The files of NAME, pinned to bytes that the server has: {file: bytes}."""
    bodies = {source.path.rsplit("/", 1)[1]: f"{source.path} of the server".encode() for source in find(NAME).files}
    files = tuple(
        replace(source, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        for source, body in zip(find(NAME).files, bodies.values(), strict=True)
    )
    monkeypatch.setitem(published._PUBLISHED, NAME, replace(find(NAME), files=files))
    server.files |= {f"checkpoints/{NAME}/{file}": body for file, body in bodies.items()}
    return bodies


def serve(server, name: str) -> dict[str, bytes]:
    bodies = {source.path: source.path.encode() for source in find(name).files}
    server.files |= bodies
    return bodies


def refusal(name: str) -> str:
    with pytest.raises(BiomegError) as caught:
        fetch(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The table


def test_every_checkpoint_is_described_and_has_weights_and_what_is_needed_to_read_them():
    weights = {
        "Hugging Face": r"model\.safetensors|pytorch_model\.bin",
        "NeMo": r".+\.nemo",
        "Megatron-LM": r"model_optim_rng\.pt",
    }
    for row in rows():
        assert row.title
        assert row.licence
        assert re.fullmatch(r"(\d\d,\d{3}|[35]0k) (un)?cased", row.vocabulary)
        files = [source.path.removeprefix(f"checkpoints/{row.name}/") for source in row.files]
        assert all("/" not in file for file in files)
        assert len(set(files)) == len(files)
        assert sum(bool(re.fullmatch(weights[row.format], file)) for file in files) == 1
        assert row.format == "NeMo" or "vocab.txt" in files
        assert row.format != "Hugging Face" or "config.json" in files


def test_addresses_are_of_one_commit_and_checksums_are_whole():
    for row in rows():
        for source in row.files:
            assert source.url.startswith(("https://huggingface.co/", "https://api.ngc.nvidia.com/"))
            assert not source.sha256 or re.fullmatch(r"[0-9a-f]{64}", source.sha256)
            assert source.url.rsplit("/", 1)[1] == source.path.rsplit("/", 1)[1]
            if "huggingface.co" in source.url and row.name not in NEWEST:
                assert re.match(COMMIT, source.url)
        assert len({source.url.rsplit("/", 1)[0] for source in row.files}) == 1 or row.format == "Megatron-LM"


def test_every_row_of_the_files_belongs_to_a_checkpoint():
    listed = {row["checkpoint"] for row in published._read_table("published_files.tsv")}
    assert listed == set(names())


def test_names_are_those_of_the_study_and_a_wrong_one_gets_the_nearest():
    assert {"bert-base-uncased", PLAIN, "scibert-uncased", "pubmedbert-fulltext"} < set(names())
    assert {"megatron-bert-345m-cased", "biomegatron-345m-bio-50k-cased", NAME} < set(names())
    with pytest.raises(BiomegError, match="unknown checkpoint 'biobert-base-case': did you mean 'biobert-base-cased'"):
        find("biobert-base-case")


# The download


def test_all_files_come_into_one_folder_under_their_own_names(cache, server, pinned):
    folder = fetch(NAME)
    assert folder == cache / "checkpoints" / NAME
    assert {file: (folder / file).read_bytes() for file in files_in(folder)} == pinned


def test_a_second_time_nothing_is_asked(cache, server, pinned):
    fetch(NAME)
    asked = list(server.asked)
    assert fetch(NAME) == cache / "checkpoints" / NAME
    assert server.asked == asked


def test_a_file_that_is_not_the_pinned_one_is_refused_and_not_kept(cache, server, pinned):
    server.files[f"checkpoints/{NAME}/vocab.txt"] = b"of another checkpoint"
    assert re.search(r"vocab\.txt is not the file wanted: expected .*[0-9a-f]{64} as pinned, found", refusal(NAME))
    assert not (cache / "checkpoints" / NAME / "vocab.txt").exists()


def test_where_nothing_is_pinned_the_first_download_binds(cache, server):
    serve(server, PLAIN)
    folder = fetch(PLAIN)
    (folder / "pytorch_model.bin").unlink()
    server.files[f"checkpoints/{PLAIN}/pytorch_model.bin"] = b"changed"
    assert "at the first download" in refusal(PLAIN)


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Log in", b"\n <html>"])
def test_a_web_page_does_not_become_a_part_of_a_checkpoint(cache, server, page):
    serve(server, PLAIN)
    server.files[f"checkpoints/{PLAIN}/config.json"] = page
    assert "expected a part of a checkpoint, found a web page" in refusal(PLAIN)
    assert not list(cache.rglob("config.json"))


def test_without_network_a_local_folder_is_enough(cache, server, pinned, tmp_path, monkeypatch):
    monkeypatch.setenv("BIOMEG_OFFLINE", "1")
    assert f"{NAME}/config.json: not here, and BIOMEG_OFFLINE is set" in refusal(NAME)
    local = tmp_path / "own" / "checkpoints" / NAME
    local.mkdir(parents=True)
    for file, body in pinned.items():
        (local / file).write_bytes(body)
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "own"))
    assert fetch(NAME) == local
    assert server.asked == []


def test_files_from_different_places_are_brought_together(cache, server, pinned, tmp_path, monkeypatch):
    local = tmp_path / "own" / "checkpoints" / NAME
    local.mkdir(parents=True)
    (local / "vocab.txt").write_bytes(pinned["vocab.txt"])
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "own"))
    for _ in range(2):
        folder = fetch(NAME)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == pinned
    assert not (cache / "checkpoints" / NAME / "vocab.txt").exists()
    assert files_in(local) == ["vocab.txt"]


def test_where_links_cannot_be_made_files_are_copied(cache, server, pinned, tmp_path, monkeypatch):
    local = tmp_path / "own" / "checkpoints" / NAME
    local.mkdir(parents=True)
    (local / "vocab.txt").write_bytes(pinned["vocab.txt"])
    monkeypatch.setenv("BIOMEG_DATA", str(tmp_path / "own"))

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.symlink", refuse)
    folder = fetch(NAME)
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == pinned


def test_a_checkpoint_of_a_single_archive_is_that_file(cache, server):
    bodies = serve(server, "biomegatron-345m-cased")
    path = fetch("biomegatron-345m-cased")
    assert path.name == "BioMegatron345mCased.nemo"
    assert [path.read_bytes()] == list(bodies.values())


def test_an_address_that_has_nothing_says_where_a_copy_would_go(cache, server):
    message = refusal("biomegatron-345m-bio-30k-cased")
    assert "answered 404" in message
    assert "NVIDIA's may need an account there" in message
    assert "BIOMEG_DATA/checkpoints/biomegatron-345m-bio-30k-cased/BioMegatron345m-biovocab-30k-cased.nemo" in message


def test_files_are_sources_like_those_of_data():
    assert all(isinstance(source, Source) for row in rows() for source in row.files)
    assert {source.bytes for source in find(NAME).files} == {612, 350, 90868376, 231508}


# Names of the hub


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("vocabulary", [True, False])
def test_a_model_of_the_hub_is_fetched_with_what_it_has(weights, vocabulary, server, cache):
    files = ["config.json", weights] + (["vocab.txt"] if vocabulary else [])
    server.files |= {f"checkpoints/hub/owner/model-1/main/{file}": file.encode() for file in files}
    folder = fetch("owner/model-1")
    assert files_in(folder) == sorted(files)
    assert (folder / weights).read_bytes() == weights.encode()


def test_a_revision_of_the_hub_has_a_place_of_its_own(server, cache):
    for revision in ("main", "v2"):
        for file in ("config.json", "model.safetensors"):
            server.files[f"checkpoints/hub/owner/model/{revision}/{file}"] = revision.encode()
    assert (fetch("owner/model@v2") / "config.json").read_bytes() == b"v2"
    assert (fetch("owner/model") / "config.json").read_bytes() == b"main"


def test_what_the_hub_does_not_have_is_one_line_and_leaves_nothing(server, cache):
    assert "owner/absent/config.json" in refusal("owner/absent")
    server.files["checkpoints/hub/owner/half/main/config.json"] = b"{}"
    assert "owner/half/pytorch_model.bin" in refusal("owner/half")


@pytest.mark.parametrize("name", ["../secret", "a/..", "a/b/c", "/a", "a/", "a/b@../c", "-a/b"])
def test_what_is_no_name_of_the_hub_is_not_asked_for(name):
    assert not published.on_the_hub(name)
