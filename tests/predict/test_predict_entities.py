"""Entities are what stands at their offsets, from the first word's first character to the last word's last."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from biomeg_lib.errors import BiomegError
from biomeg_lib.predict.entities import Entity, entities_of
from biomeg_lib.predict.texts import sentences


def test_entities_by_example():
    text = "\ufeffLow-dose acetyl\u00adsalicylic\t\r\tacid cures pain. Pain\r\nIL-2\n"
    spans = sentences(text)
    tags = [
        ["O"] * 3 + ["B-Chemical", "I-Chemical", "O", "B-Disease", "O"],
        ["I-Disease"],
        ["B-Gene", "I-Gene", "B-Gene"],
    ]
    assert entities_of(text, spans, tags) == [
        Entity("Chemical", 10, 33, "acetyl\u00adsalicylic\t\r\tacid"),
        Entity("Disease", 40, 44, "pain"),
        Entity("Disease", 46, 50, "Pain"),
        Entity("Gene", 52, 55, "IL-"),
        Entity("Gene", 55, 56, "2"),
    ]
    assert entities_of("", [], []) == []


def test_tags_must_fit():
    with pytest.raises(BiomegError, match="tags for 1 sentences, found 0"):
        entities_of("a b", [[(0, 1), (2, 3)]], [])
    with pytest.raises(BiomegError, match="expected 2 tags in sentence 0, found 1"):
        entities_of("a b", [[(0, 1), (2, 3)]], [["O"]])


@settings(max_examples=200, deadline=None)
@given(st.text(st.one_of(st.sampled_from("ab.-A \n\r\t\u200b\u0301\U0001f600"), st.characters())), st.randoms())
def test_entities_equal_their_slices_and_seqeval_counts_as_many(text, random):
    spans = sentences(text)
    tags = [[random.choice(["O", "B-X", "I-X", "B-Y", "I-Y"]) for _ in sentence] for sentence in spans]
    entities = entities_of(text, spans, tags)
    expected = [
        (kind, sentence[first][0], sentence[last][1])
        for sentence, row in zip(spans, tags, strict=True)
        for kind, first, last in get_entities(row)
    ]
    assert [(entity.kind, entity.start, entity.end) for entity in entities] == expected
    for entity in entities:
        assert entity.text == text[entity.start : entity.end] == entity.text.strip() != ""
    assert all(left.end <= right.start for left, right in itertools.pairwise(entities))
