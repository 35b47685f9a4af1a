"""Exports in the pipelines of `transformers`: the entities, classes and answers of `biomeg predict`."""

import re

import pytest
import torch
from export_runs import SENTENCES, finetuned_run, pretraining_run, real_sentences, vocabulary_of

from biomeg_lib.benchmarks.pairs import SentencePair
from biomeg_lib.benchmarks.questions import Question
from biomeg_lib.benchmarks.relations import Relation, marked_text
from biomeg_lib.checkpoints.export import export
from biomeg_lib.predict import load_run
from biomeg_lib.predict.texts import sentences, words

transformers = pytest.importorskip("transformers")

KINDS = pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
REAL = 200


def of_card(folder, name):
    """The function of this name in the card's own lines of use."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    space = {"FOLDER": str(folder)}
    exec(code, space)
    return space[name]


@pytest.fixture(params=["made", "real"])
def texts(request):
    """Single sentences; words without combining marks, which the card's pattern leaves to `texts.words`."""
    found = SENTENCES if request.param == "made" else real_sentences(request.getfixturevalue("shared_data"), 300)
    return list(dict.fromkeys(text for text in found if len(sentences(text)) == 1))[:REAL]


class TestEntities:
    @pytest.mark.parametrize(("kind", "norm"), [("wordpiece", "post"), ("bpe", "pre")])
    def test_the_lines_of_the_card_find_what_predict_finds(self, kind, norm, texts, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", kind, norm, length=128)
        export(run, tmp_path / "to")
        entities, recogniser = of_card(tmp_path / "to", "entities"), load_run(run)
        texts = [text for text in texts if fits(recogniser.vocabulary, text, 128)]
        expected = [[(one.kind, one.start, one.end) for one in found] for found in recogniser.entities_of_all(texts)]
        assert sum(map(len, expected)) > len(texts)
        assert [entities(text) for text in texts] == expected

    def test_no_words_no_entities(self, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        export(run, tmp_path / "to")
        assert of_card(tmp_path / "to", "entities")(" ") == []

    def test_strategy_first_agrees_for_wordpiece_given_words(self, texts, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "wordpiece", "pre", length=128)
        export(run, tmp_path / "to")
        recogniser = load_run(run)
        tagger = transformers.pipeline("token-classification", str(tmp_path / "to"), aggregation_strategy="first")
        for text in texts:
            if not fits(recogniser.vocabulary, text, 128) or re.search("[\u3040-\u9fff\ufffd]", text):
                continue
            cut = [text[start:end] for start, end in words(text)]
            joined = " ".join(cut)
            found = [
                (one["entity_group"], joined[one["start"] : one["end"]].split())
                for one in tagger([cut], is_split_into_words=True)[0]
            ]
            assert found == [(one.kind, in_words(one.text)) for one in recogniser.entities(text)]


def in_words(text):
    return [text[start:end] for start, end in words(text)]


def fits(vocabulary, text, length):
    return len(vocabulary.encode_words(in_words(text)).ids) <= length - 2


class TestClasses:
    @KINDS
    def test_of_relations(self, kind, texts, tmp_path):
        run, _ = finetuned_run(tmp_path, "classification", kind, "pre", length=128)
        export(run, tmp_path / "to")
        labeller = load_run(run)
        classifier = transformers.pipeline("text-classification", str(tmp_path / "to"))
        relations = []
        for number, text in enumerate(texts):
            first, *_, last = words(text)
            relation = Relation(str(number), text, first, last, "")
            if len(labeller.vocabulary.encode(marked_text(relation, "markers")).ids) <= 126:
                relations.append(relation)
        expected = labeller.likeliest(relations)
        assert len(texts) < REAL or len({label for label, _ in expected}) > 1
        found = [classifier(marked_text(relation, "markers"), truncation=True)[0] for relation in relations]
        assert [one["label"] for one in found] == [label for label, _ in expected]
        assert [one["score"] for one in found] == pytest.approx([chance for _, chance in expected], abs=1e-5)

    @KINDS
    def test_of_pairs(self, kind, tmp_path):
        run, _ = finetuned_run(tmp_path, "pairs", kind, "post")
        export(run, tmp_path / "to")
        classifier = transformers.pipeline("text-classification", str(tmp_path / "to"))
        pairs = [SentencePair("", text[:20], text[20:40], "") for text in SENTENCES]
        for pair, (label, chance) in zip(pairs, load_run(run).likeliest(pairs), strict=True):
            found = classifier({"text": pair.first, "text_pair": pair.second})
            assert found["label"] == label
            assert found["score"] == pytest.approx(chance, abs=1e-5)


@KINDS
@torch.inference_mode()
def test_answers(kind, tmp_path):
    # transformers 5 has no pipeline for answers, so this is the rule of that of 4: the best start + end of a context.
    run, _ = finetuned_run(tmp_path, "qa", kind, "pre", length=128)
    export(run, tmp_path / "to")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "to").eval()
    questions = [Question(str(number), "the study?", text[:70], ()) for number, text in enumerate(SENTENCES)]
    for question, expected in zip(questions, load_run(run).answers(questions), strict=True):
        given = tokenizer(question.question, question.context, return_tensors="pt", return_offsets_mapping=True)
        places = given.pop("offset_mapping")[0].tolist()
        inside = torch.tensor([sequence == 1 for sequence in given.sequence_ids(0)])
        output = model(**given)
        scores = output.start_logits[0][:, None] + output.end_logits[0][None]
        possible = torch.ones_like(scores).triu().tril(11).bool() & inside[:, None] & inside[None]
        best = int(scores.masked_fill(~possible, -torch.inf).argmax())
        start, end = places[best // len(scores)][0], places[best % len(scores)][1]
        assert question.context[start:end] == expected


@KINDS
def test_masked_words_are_guessed_alike(kind, tmp_path):
    run, ours = pretraining_run(tmp_path, kind, "pre")
    export(run, tmp_path / "to")
    fill, vocabulary = transformers.pipeline("fill-mask", str(tmp_path / "to")), vocabulary_of(kind)
    start, end = vocabulary.encode("the study").ids, vocabulary.encode("effect").ids
    ids = [vocabulary.cls_id, *start, vocabulary.mask_id, *end, vocabulary.sep_id]
    with torch.inference_mode():
        tokens = torch.tensor([ids])
        scores = ours(tokens, torch.zeros_like(tokens), None)[0][0, 1 + len(start)]
    found = [one["token"] for one in fill(f"the study {fill.tokenizer.mask_token} effect")]
    assert found == scores.topk(5).indices.tolist()
