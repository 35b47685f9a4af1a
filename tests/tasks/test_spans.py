"""Span features and decoding: windows against BERT's rules spelled out, gold answers there and back, a slow decoder."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biomeg_lib.benchmarks.questions import Answer, Question, read_squad
from biomeg_lib.errors import BiomegError
from biomeg_lib.tasks import span_check
from biomeg_lib.tasks.spans import Context, Prediction, Span, best_answer, build, decode, merge
from biomeg_lib.vocab import Encoding, Vocabulary


class Toy:
    """Pieces of two letters, numbered as they come; `m` gets an empty piece before it, and `x` gets no piece."""

    def __init__(self):
        self.pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        self.cls_id, self.sep_id = 2, 3

    def encode(self, text):
        result, start = Encoding(), 0
        while start < len(text):
            end = start + 1
            if text[start] == "m":
                self._add(result, "_", start, start)
            if end < len(text) and text[start].isalpha() and text[end] not in " \n\txm":
                end += 1
            if text[start] not in " \n\tx":
                self._add(result, text[start:end], start, end)
            start = end
        return result

    def _add(self, result, piece, start, end):
        if piece not in self.pieces:
            self.pieces.append(piece)
        result.ids.append(self.pieces.index(piece))
        result.offsets.append((start, end))

    def text(self, tokens):
        return " ".join(self.pieces[token] for token in tokens)


def question(context, answer=None, start=None, text="q?", id="q"):
    answers = () if answer is None else (Answer(answer, context.index(answer) if start is None else start),)
    return Question(id, text, context, answers)


def one_hot(features, name):
    return [np.where(np.arange(len(f)) == getattr(f, name), 10.0, 0.0) for f in features]


CONTEXT = "abcd ef gh ij kl"
TEXT = st.text("aabbcm x\n", max_size=40)


def test_a_feature():
    vocabulary = Toy()
    feature, last = build([question(CONTEXT, "gh ij ")], vocabulary, 9, 3, 2)
    assert vocabulary.text(feature.tokens) == "[CLS] q? [SEP] ab cd ef gh ij [SEP]"
    assert feature.types.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert feature.offsets.tolist() == [[0, 2], [2, 4], [5, 7], [8, 10], [11, 13]]
    assert (feature.first, feature.start, feature.end, len(feature)) == (3, 6, 7, 9)
    assert vocabulary.text(last.tokens) == "[CLS] q? [SEP] gh ij kl [SEP]"
    assert (last.begin, last.start, last.end, last.fresh) == (3, 3, 4, 2)
    # "gh" has no token after its own two in the first window and none before it in the last: 1 against 0; "ij" 0, 1.
    assert (feature.best, last.best) == (range(4), range(1, 3))


def test_a_question_is_cut_and_windows_have_the_stride_between_their_starts():
    vocabulary = Toy()
    features = build([question(CONTEXT, text="aabbcc")], vocabulary, 7, 1, 2)
    assert [vocabulary.text(feature.tokens) for feature in features] == [
        f"[CLS] aa bb [SEP] {window} [SEP]" for window in ("ab cd", "cd ef", "ef gh", "gh ij", "ij kl")
    ]
    features = build([question(CONTEXT, text="aabbcc")], vocabulary, 8, 100, 2)
    assert [(feature.begin, feature.stop) for feature in features] == [(0, 3), (3, 6)]


def test_the_first_answer_is_the_gold_one():
    both = Question("q", "q?", CONTEXT, (Answer("kl", 14), Answer("ab", 0)))
    assert build([both], Toy(), 20, 9, 2)[0].start == 8
    for nothing in (
        question(CONTEXT),
        question(CONTEXT, " ", 4),
        question("ab x cd", "x"),
        Question("q", "q?", CONTEXT, (Answer("kl", 14),), impossible=True),
    ):
        (feature,) = build([nothing], Toy(), 20, 9, 2)
        assert (feature.start, feature.end) == (0, 0)


def test_contexts_are_encoded_once():
    class Counting(Toy):
        calls = 0

        def encode(self, text):
            self.calls += text == CONTEXT
            return super().encode(text)

    vocabulary = Counting()
    features = build([question(CONTEXT, text=text) for text in ("a", "b", "c")], vocabulary, 8, 2, 2)
    assert vocabulary.calls == 1
    assert len({id(feature.context) for feature in features}) == 1
    assert len(features) == 6


def most_context(windows):
    """For each token the window that BERT's script takes: its loop over all windows, in floating point."""
    chosen = {}
    for token in range(windows[-1][1]):
        best = None
        for number, (begin, stop) in enumerate(windows):
            if begin <= token < stop:
                score = min(token - begin, stop - 1 - token) + 0.01 * (stop - begin)
                if best is None or score > best:
                    best, chosen[token] = score, number
    return chosen


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 90), st.integers(1, 30), st.integers(1, 40))
@example(700, 300, 130)  # long enough for a hundredth of the length to matter, where the last window is short
@example(650, 300, 250)
@example(301, 300, 150)
def test_windows(size, room, stride):
    features = build([question("a " * size, text="q")], Toy(), room + 4, stride, 1)
    assert all(len(feature) == len(feature.tokens) <= room + 4 for feature in features)
    windows = [(feature.begin, feature.stop) for feature in features]
    step = min(room, stride)
    assert [begin for begin, _ in windows] == [step * number for number in range(len(windows))]
    assert all(stop - begin == room for begin, stop in windows[:-1])
    assert windows[-1][1] == size
    assert all(stop < size for _, stop in windows[:-1])
    chosen = most_context(windows)
    assert len(chosen) == size
    for number, feature in enumerate(features):
        expected = [token - feature.begin for token, window in chosen.items() if window == number]
        assert list(feature.best) == expected
        assert feature.begin + feature.fresh == (windows[number - 1][1] if number else 0)


@settings(max_examples=200, deadline=None)
@given(TEXT, st.data(), st.integers(7, 16), st.integers(1, 9))
def test_gold_answers_come_back(text, data, max_length, stride):
    """Answers of whole tokens, with blanks around them, wherever some window can hold them."""
    vocabulary = Toy()
    context = Context(text, vocabulary)
    whole = np.flatnonzero(context.starts < context.ends).tolist()
    if not whole:
        return
    first = data.draw(st.sampled_from(whole))
    last = data.draw(st.sampled_from([piece for piece in whole if piece >= first]))
    start, end = int(context.starts[first]), int(context.ends[last])
    wide_start = len(text[:start].rstrip())
    wide_end = len(text) - len(text[end:].lstrip())
    asked = question(text, text[wide_start:wide_end], wide_start)
    features = build([asked], vocabulary, max_length, stride, 1)
    held = [feature for feature in features if feature.start]
    room = max_length - 4
    assert bool(held) == any(
        begin <= first and last < begin + room for begin in range(0, len(context.ids), min(stride, room))
    )
    for feature in held:
        assert feature.begin + feature.start - feature.first == first
        assert feature.begin + feature.end - feature.first == last
    (prediction,) = decode(features, one_hot(features, "start"), one_hot(features, "end"), [asked], 5, max_length)
    if held:
        assert prediction.spans[0] == Span(text[start:end], start, end, 20.0)
        assert best_answer(prediction, 0.0) == text[start:end]
    else:
        assert best_answer(prediction, 0.0) == ""


def slow_decode(features, starts, ends, asked, n_best, max_answer):
    """All pairs of tokens of the context, each read from the window that the module's docstring names."""
    chosen = most_context([(feature.begin, feature.stop) for feature in features]) if features[0].stop else {}
    pairs = []
    for first, number in chosen.items():
        for last in range(first, min(first + max_answer, features[-1].stop)):
            holding = [
                f for f in range(number, len(features)) if features[f].begin <= first and last < features[f].stop
            ]
            if holding:
                feature = features[holding[0]]
                at = feature.first - feature.begin
                score = float(starts[holding[0]][first + at]) + float(ends[holding[0]][last + at])
                start = feature.offsets.tolist()[first - feature.begin][0]
                end = feature.offsets.tolist()[last - feature.begin][1]
                if start < end:
                    pairs.append((-score, first, last, start, end))
    spans = {}
    for score, _, _, start, end in sorted(pairs):
        spans.setdefault(asked.context[start:end], Span(asked.context[start:end], start, end, -score))
    null = min(float(start[0]) + float(end[0]) for start, end in zip(starts, ends, strict=True))
    return Prediction(tuple(list(spans.values())[:n_best]), null)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=3), st.data())
def test_decoding_equals_a_slow_decoder(texts, data):
    """Whole numbers as logits, so that ties are many; features in any order; padding after the logits."""
    questions = [question(text, text="q" * number) for number, text in enumerate(texts)]
    max_length, stride = data.draw(st.integers(5, 16)), data.draw(st.integers(1, 12))
    n_best, max_answer = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 12))
    features = build(questions, Toy(), max_length, stride, 1)
    seed = np.random.default_rng(data.draw(st.integers(0, 1000)))
    starts, ends = ([seed.integers(-3, 4, len(f) + 3).astype(np.float32) for f in features] for _ in range(2))
    expected = []
    for number, asked in enumerate(questions):
        own = [index for index, feature in enumerate(features) if feature.question == number]
        rows = ([row[index] for index in own] for row in (features, starts, ends))
        expected.append(slow_decode(*rows, asked, n_best, max_answer))
    order = seed.permutation(len(features))
    shuffled = ([row[index] for index in order] for row in (features, starts, ends))
    assert decode(*shuffled, questions, n_best, max_answer) == expected


def test_a_long_answer_is_found_where_its_first_token_has_less_context():
    """BERT's script loses it: the window that is best for "gh" ends before "kl"."""
    asked = question("ab cd ef gh ij kl mn op qr", "ij kl mn")
    features = build([asked], Toy(), 10, 3, 1)
    assert [(feature.begin, feature.stop, bool(feature.start)) for feature in features] == [
        (0, 6, False),
        (3, 9, True),
        (6, 10, False),
    ]
    (prediction,) = decode(features, one_hot(features, "start"), one_hot(features, "end"), [asked])
    assert prediction.spans[0].text == "ij kl mn"


def test_text_is_cut_from_the_context_as_it_is():
    text = "The  b\n\t A"
    (feature,) = build([question(text)], Toy(), 20, 9, 2)
    starts = torch.zeros(14)
    starts[feature.first] = 1
    ends = torch.zeros(14)
    ends[feature.first + 3] = 1
    (prediction,) = decode([feature], [starts], [ends], [question(text)])
    assert best_answer(prediction, None) == text
    assert prediction.null == 0.0


def test_nothing_to_find():
    questions = [question("", text=""), question(" \n"), question("xx", "x")]
    features = build(questions, Toy(), 6, 2, 2)
    assert [feature.tokens.tolist()[-2:] for feature in features] == [[3, 3]] * 3
    assert all(feature.offsets.shape == (0, 2) for feature in features)
    rows = [np.ones(6)] * 3
    predictions = decode(features, rows, rows, questions)
    assert predictions == [Prediction((), 2.0)] * 3
    assert best_answer(predictions[0], None) == ""
    assert merge(predictions) == []
    assert build([], Toy(), 6, 2, 2) == decode([], [], [], []) == merge([]) == []


def test_threshold():
    prediction = Prediction((Span("a", 0, 1, 3.0), Span("b", 1, 2, 2.0)), 4.5)
    assert best_answer(prediction, None) == best_answer(prediction, 1.5) == "a"
    assert best_answer(prediction, 1.4) == ""
    assert best_answer(prediction, -20) == ""


def test_the_null_score_is_the_least_over_windows():
    asked = question(CONTEXT)
    features = build([asked], Toy(), 6, 2, 2)
    rows = [np.arange(len(feature)) + 10.0 * number for number, feature in enumerate(features)]
    rows[0], rows[1] = rows[1], rows[0]
    assert decode(features, rows, [0 * row for row in rows], [asked])[0].null == 0.0


def test_merge_sums_alike_answers_over_snippets():
    first = Prediction((Span("BRCA1  gene", 0, 10, math.log(3)), Span("p53", 20, 23, math.log(2))), 9.0)
    second = Prediction((Span("brca1 Gene", 5, 15, math.log(4)), Span("cell", 0, 4, math.log(8))), -9.0)
    ranked = merge([first, Prediction((), 0.0), second], 2)
    assert [text for text, _ in ranked] == ["cell", "brca1 Gene"]
    assert [probability for _, probability in ranked] == pytest.approx([8 / 17, 7 / 17])
    # A softmax a snippet would put "BRCA1 gene" first: 3/5 + 4/12 against 8/12.
    everything = merge([first, second])
    assert [text for text, _ in everything] == ["cell", "brca1 Gene", "p53"]
    assert sum(probability for _, probability in everything) == pytest.approx(1)
    huge = Prediction((Span("a", 0, 1, 5000.0), Span("b", 1, 2, 5000.0)), 0.0)
    assert merge([huge]) == [("a", 0.5), ("b", 0.5)]


def test_errors():
    asked = question(CONTEXT)
    with pytest.raises(BiomegError, match="max_length of at least 12"):
        build([asked], Toy(), 11, 2, 8)
    with pytest.raises(BiomegError, match="stride and max_question of at least 1, found 0 and 8"):
        build([asked], Toy(), 20, 0, 8)
    features = build([asked], Toy(), 12, 2, 8)
    rows = [np.zeros(len(feature)) for feature in features]
    with pytest.raises(BiomegError, match="1 features, found 0 and 1"):
        decode(features, [], rows, [asked])
    with pytest.raises(BiomegError, match=r"each of 10 tokens of question 0, found an array of shape \(9,\)"):
        decode(features, [row[1:] for row in rows], rows, [asked])
    with pytest.raises(BiomegError, match="finite logits for question 0"):
        decode(features, rows, [row + np.nan for row in rows], [asked])
    with pytest.raises(BiomegError, match="every question, found none of other"):
        decode(features, rows, rows, [asked, question(CONTEXT, id="other")])
    with pytest.raises(BiomegError, match="at least 1, found 0 and 30"):
        decode(features, rows, rows, [asked], 0)


def test_the_check_names_what_is_lost():
    questions = [
        question("ab cd ef gh ij kl", "ef gh", id="found"),
        question("ab cd ef gh ij kl", "ab cd ef gh ij", id="long"),
        question("ab cd ef gh ij kl", "ef gh ij", id="divided"),
        question("ab cd ef gh ij kl", "d ef", id="inside"),
        question("ab cdx ef", "ab cdx", id="dropped"),
        question("ab x ef", "x", id="nothing"),
        Question("impossible", "q?", "ab cd", (Answer("ab", 0),), True),
    ]
    result = span_check.check(questions, Toy(), 8, 3, 1)
    assert result.remainder == {
        span_check.LONG: ["long"],
        span_check.DIVIDED: ["divided"],
        span_check.INSIDE: ["inside"],
        span_check.DROPPED: ["dropped"],
        span_check.NO_TOKEN: ["nothing"],
    }
    assert (result.exact, result.questions) == (2 / 7, 7)
    assert result.exact < result.f1 < 1


def assert_lossless(questions, vocabulary, max_length, stride, lost):
    """All score 100 but `lost` questions of each reason."""
    result = span_check.check(questions, vocabulary, max_length, stride, 64)
    assert {reason: len(ids) for reason, ids in result.remainder.items()} == lost
    assert result.questions == len(questions)
    assert result.exact == pytest.approx(1 - sum(lost.values()) / len(questions))


LENGTHS = pytest.mark.parametrize(("max_length", "stride"), [(512, 128), (128, 64)])


@LENGTHS
@pytest.mark.parametrize("kind", ["cased", "uncased", "sentencepiece"])
def test_xquad_comes_back(shared_data, kind, max_length, stride):
    """All 1,190 but one, whose answer ends amid the digits of a number."""
    questions = read_squad(shared_data / "benchmarks" / "qa" / "xquad" / "xquad.en.json")
    if kind == "sentencepiece":
        vocabulary = Vocabulary.train(sorted({question.context for question in questions}), 4000)
    else:
        vocabulary = Vocabulary.load(shared_data / "vocab" / f"bert-base-{kind}-vocab.txt")
    assert len(questions) == 1190
    assert_lossless(questions, vocabulary, max_length, stride, {span_check.INSIDE: 1})


@LENGTHS
def test_long_articles_come_back(shared_data, max_length, stride):
    """Questions about 21 articles; the short windows are too short for some answers, or cut them."""
    questions = read_squad(shared_data / "benchmarks" / "qa" / "covid-qa" / "200423_covidQA.json", [])[:150]
    vocabulary = Vocabulary.load(shared_data / "vocab" / "bert-base-cased-vocab.txt")
    lost = {} if max_length == 512 else {span_check.DIVIDED: 7, span_check.LONG: 1}
    assert_lossless(questions, vocabulary, max_length, stride, lost)
