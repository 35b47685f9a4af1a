"""Gold tags of all four real benchmarks, through every vocabulary kind and labelling and back, score 100 exactly."""

import itertools

import numpy as np
import pytest

from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.metrics.entities import entity_scores
from biomeg_lib.tasks.ner import LABELLINGS, build, decode, labels_of
from biomeg_lib.vocab import Vocabulary

BIOMEDICAL = ("train.tsv", "devel.tsv", "test.tsv")
FILES = {
    "bc5cdr-chem": BIOMEDICAL,
    "bc5cdr-disease": BIOMEDICAL,
    "ncbi-disease": BIOMEDICAL,
    "conll2003": ("eng.train", "eng.testa", "eng.testb"),
}
# Entities of each split: the `B-` lines of the biomedical files, counted by grep; CoNLL's by type in Tjong Kim Sang and
# De Meulder (2003), Table 2.
ENTITIES = {
    "bc5cdr-chem": (5203, 5347, 5385),
    "bc5cdr-disease": (4182, 4246, 4424),
    "ncbi-disease": (5134, 787, 960),
    "conll2003": (23499, 5942, 5648),
}
LENGTHS = (24, 128)  # at 24 tokens most sentences are cut
VOCABULARIES = ("cased", "uncased", "bpe", "unigram")
COMBINATIONS = list(itertools.product(VOCABULARIES, LABELLINGS, LENGTHS))


@pytest.fixture(scope="module")
def benchmarks(shared_data):
    """The splits of each benchmark."""
    folder = shared_data / "benchmarks" / "ner"
    return {
        name: [read_iob(folder / name / file, "conll" if name == "conll2003" else "iob") for file in files]
        for name, files in FILES.items()
    }


@pytest.fixture(scope="module")
def vocabularies(shared_data, benchmarks):
    """BERT's two, and two small ones learned from a tenth of the training sentences: most words break into pieces."""
    texts = [" ".join(sentence.words) for splits in benchmarks.values() for sentence in splits[0][::10]]
    return {
        **{kind: Vocabulary.load(shared_data / "vocab" / f"bert-base-{kind}-vocab.txt") for kind in VOCABULARIES[:2]},
        "bpe": Vocabulary.train(texts, 2000, "bpe"),
        "unigram": Vocabulary.train(texts, 1000, "unigram", lowercase=True),
    }


@pytest.mark.parametrize("name", FILES)
def test_no_entity_is_lost_in_reading(benchmarks, name):
    counts = [entity_scores(tags, tags).gold for tags in ([s.tags for s in split] for split in benchmarks[name])]
    assert tuple(counts) == ENTITIES[name]


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("name", FILES)
def test_gold_tags_come_back(benchmarks, vocabularies, name, kind):
    """Each combination has a sixteenth of the benchmark, so that together they see all of it.

    Predictions are right at the first piece of each word and random everywhere else.
    """
    splits, vocabulary = benchmarks[name], vocabularies[kind]
    labels = labels_of(sentence for split in splits for sentence in split)
    noise = np.random.default_rng(0)
    for number, (_, labelling, length) in enumerate(COMBINATIONS):
        if COMBINATIONS[number][0] != kind:
            continue
        for split in splits:
            part = split[number :: len(COMBINATIONS)]
            features = build(part, vocabulary, labelling, length, labels)
            assert max(len(feature.tokens) for feature in features) <= length
            assert length > 24 or len(features) > 1.2 * len(part)
            predictions = [noise.integers(len(labels), size=length) for _ in features]
            for row, feature in zip(predictions, features, strict=True):
                row[feature.first] = np.array(feature.labels)[feature.first]
            scores = entity_scores([s.tags for s in part], decode(features, predictions, labels, part))
            assert (scores.precision, scores.recall, scores.f1) == (1.0, 1.0, 1.0)
            assert set(scores.by_type) == {label[2:] for label in labels if label != "O"}
