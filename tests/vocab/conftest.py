"""Each kind of vocabulary, cased and uncased, small enough that text has unknown characters."""

import pytest
from vocab_cases import CASES, SENTENCES, wordpiece_lines

from biomeg_lib.vocab import Vocabulary


@pytest.fixture(scope="session")
def vocabularies(tmp_path_factory):
    """All of them, keyed by (kind, lowercase)."""
    folder, made = tmp_path_factory.mktemp("vocabularies"), {}
    for lowercase in (False, True):
        path = folder / f"{lowercase}.txt"
        path.write_text("\n".join(wordpiece_lines(lowercase)) + "\n", encoding="utf-8")
        made["wordpiece", lowercase] = Vocabulary.load(path, lowercase)
        for algorithm in ("bpe", "unigram"):
            made[algorithm, lowercase] = Vocabulary.train(SENTENCES * 4, 130, algorithm, lowercase)
    return made


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'uncased' if case[1] else 'cased'}", scope="session")
def vocab(request, vocabularies):
    return vocabularies[request.param]
