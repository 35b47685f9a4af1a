"""MRPC: five columns in, sentence pairs out."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.pairs import LABELS, SentencePair, read_mrpc
from biomeg_lib.corpus import untrusted
from biomeg_lib.errors import InputError

HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
GOOD = '1\t10\t11\t"Yes, " he said.\tHe said yes.\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pairs.txt"


def test_quotation_marks_are_text(path):
    path.write_bytes((HEADER + GOOD + '0\t10\t12\t"One.\tTwo".').replace("\n", "\r\n").encode())
    assert read_mrpc(path) == [
        SentencePair("10.11", '"Yes, " he said.', "He said yes.", "1"),
        SentencePair("10.12", '"One.', 'Two".', "0"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1\t10\t13\tA\n", "expected 5 columns parted by tabs, found 4"),
        ("1\t10\t13\tA\tB\tC\n", "expected 5 columns parted by tabs, found 6"),
        ("\n", "expected 5 columns parted by tabs, found 1"),
        ("2\t10\t13\tA\tB\n", "expected a quality of 0 or 1, found '2'"),
        ("0\t10\t11\tA\tB\n", "expected a pair of ids once, found '10' and '11' again"),
        ("0\t10\t\tA\tB\n", "expected text in the column #2 ID, found none"),
        ("0\t10\t13\tA\t \n", "expected text in the column #2 String, found none"),
    ],
)
def test_bad_lines_are_refused_or_skipped(path, row, message):
    path.write_text(HEADER + GOOD + row + "0\t20\t21\tA\tB\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"pairs\.txt:3: {message}"):
        read_mrpc(path)
    skipped = []
    assert [pair.id for pair in read_mrpc(path, skipped)] == ["10.11", "20.21"]
    assert len(skipped) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: expected the columns Quality, #1 ID"),
        (GOOD.encode(), ":1: expected the columns Quality, #1 ID"),
        (HEADER.encode(), "expected at least one pair of sentences, found none"),
        (HEADER.encode() + b"1\t1\t2\t\xe9\tB\n", ":2: expected UTF-8 text, found byte 0xe9"),
    ],
)
def test_wrong_files_are_refused(path, content, message):
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_mrpc(path, skipped=[])


def test_lines_have_an_end(path, monkeypatch):
    monkeypatch.setattr(untrusted, "RECORD_LIMIT", 1 << 20)
    path.write_text(HEADER + GOOD + "1" * (1 << 21), encoding="utf-8")
    with pytest.raises(InputError, match=r"pairs\.txt:3: expected lines of at most 1 MiB"):
        read_mrpc(path)


def same_as_pandas(path):
    """The oracle: pandas, told that quotes are text."""
    pairs = read_mrpc(path)
    table = pd.read_csv(path, sep="\t", quoting=3, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    found = [[pair.label, *pair.id.split("."), pair.first, pair.second] for pair in pairs]
    assert found == table.to_numpy().tolist()
    return pairs


@pytest.mark.parametrize(("split", "count", "same"), [("train", 4076, 2753), ("test", 1725, 1147)])
def test_real_files(shared_data, split, count, same):
    pairs = same_as_pandas(shared_data / "benchmarks" / "cls" / "mrpc" / f"msr_paraphrase_{split}.txt")
    assert (len(pairs), sum(pair.label == "1" for pair in pairs)) == (count, same)


def test_the_miniature(mini):
    for split in ("train", "test"):
        assert {pair.label for pair in same_as_pandas(mini / "mrpc" / f"{split}.txt")} == {*LABELS}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.text('01ab\t\t\t"\r\n \u2028', max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("pairs") / "any.txt"
    path.write_bytes(HEADER.encode() + content)
    message, pairs = "", []
    try:
        pairs = read_mrpc(path)
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) == (0 if pairs else 1)
    assert all(pair.first.strip() and pair.second.strip() and pair.label in LABELS for pair in pairs)
