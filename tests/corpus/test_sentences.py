"""Spans that cover the text, boundaries a reader would agree with, and time that grows with the text and no faster."""

# ruff: noqa: RUF001  (typographic signs are what is tested)

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus.readers import read_documents
from biomeg_lib.corpus.sentences import split_sentences

# The mark "|" stands for a boundary.
CASES = [
    "One sentence.|Another one!|A third?|(A fourth.)|“A fifth.”|The sixth",
    "Doses were low, e.g. Aspirin at 5 mg, i.e. Nothing much.|We agree.",
    "This was shown by Smith et al. (2004) and Jones et al. [12] in mice.",
    "It was shown by Smith et al.|The effect was small.",
    "See Fig. 2 and Figs. S1–S3, Eq. 4, ref. 5 and Suppl. Table 1.|Then stop.",
    "Aspirin vs. Placebo was tested.|No. 5 was lost.|The answer is no.|We went on.",
    "E. coli and S. Typhimurium grew.|S. aureus did not.",
    "It was significant (p = 0.05).|The rest was not, P = .3 and n = 1.5.|We stop.",
    "J. A. Smith and Dr. Brown read it.|Prof. White did not.",
    "They lived in the U.S. Department of Health housing.",
    "Rats got 5 mg i.p. daily.|They got it i.v.|The controls did not.",
    "Cells grew for 2 h.|Mice were kept at 4 °C.|Rats at 5 g.|Done.",
    "Patients came to the ED.|Mice had MRS.|Rats breathed CO.|All lived.",
    "It was hepatitis B.|The virus of type C. Elegans was not.",
    "It was treated.[12]|Others were not.[3,4–6]|The end.",
    "1. Introduction is a heading.|2. Methods is one, too.",
    "It rose in 2010.|5 patients died.",
    "Wait...|What?!|Yes.",
    "The gene was found. p53 was not.",
    "Bought from Sigma Chemical Co. St. Louis, and Acme Inc. (Boston).|We used it.",
    "A title without a stop|A paragraph.|α-Synuclein was there.",
    "Ende.|Ärzte kamen.|Это конец.|Да.",
]


@pytest.mark.parametrize("case", CASES)
def test_boundaries(case):
    text = case.replace("stop|A", "stop\nA").replace(".|α", ".\nα").replace("|", " ")
    assert [text[start:end] for start, end in split_sentences(text)] == case.split("|")


def check(text: str) -> None:
    spans = split_sentences(text)
    covered, last = [], 0
    for start, end in spans:
        assert last <= start < end <= len(text)
        assert not text[start].isspace()
        assert not text[end - 1].isspace()
        assert not text[last:start].strip()
        covered.append(text[start:end])
        last = end
    assert not text[last:].strip()
    assert "".join("".join(covered).split()) == "".join(text.split())


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(st.sampled_from([*'.!?…")]([“”’ \n\t\u2003\x1c19aAé', "et al", "Fig", "e.g", "The", "[1,2]"])).map(
            "".join
        ),
    )
)
@example("")
@example(". . .")
@example(".\u2028A")
def test_spans_cover_the_text(text):
    check(text)


@pytest.mark.parametrize(
    "unit",
    [".", ". ", ".)", ") ", "! (", " ", "\n", "1. ", ".[1", ".[1,2] ", "a. B", "et al. ", "\u00a0. A", '."', "A"],
)
def test_time_is_linear(unit):
    """A megabyte of anything takes well under what a quadratic rule would (hours)."""
    text = unit * (1_000_000 // len(unit)) + "A."
    start = time.process_time()
    spans = split_sentences(text)
    assert time.process_time() - start < 5
    assert spans[-1][1] == len(text)


def test_real_abstracts_have_sentences_of_a_usual_length(shared_data):
    path = shared_data / "corpora" / "pmc" / "oa_comm_xml.PMC000xxxxxx.sample.tar.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    sentences = words = 0
    for document in read_documents(path, "jats"):
        for paragraph in document.paragraphs:
            check(paragraph)
            sentences += len(split_sentences(paragraph))
            words += len(paragraph.split())
    assert 18 < words / sentences < 30
