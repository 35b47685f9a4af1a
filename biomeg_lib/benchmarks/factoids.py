"""Questions in SQuAD's form as factoids in BioASQ's: a question, a snippet that holds the answer, and its synonyms.

What is notable: BioASQ's training file needs a registration, but public sets of biomedical questions have SQuAD's form
and whole articles as contexts. Asked in this way they are scored by BioASQ's own measures and take the same path as its
questions. It is not the same task: one snippet a question, which always holds the answer, where BioASQ has many of
which some do not. So scores under the two do not compare; those of models under one of them do.
"""

import hashlib
import re
from collections.abc import Sequence

from biomeg_lib.benchmarks.bioasq import BioasqQuestion, Snippet
from biomeg_lib.benchmarks.questions import Question

_WORD = re.compile(r"\S+")


def as_factoids(questions: Sequence[Question], answer_words: int, snippet_words: int) -> list[BioasqQuestion]:
    """The questions whose first answer has at most `answer_words` words, each with a snippet of its context.

    The snippet has `snippet_words` words, or the whole context if that is shorter, and more only where the answer alone
    does. Where in it the answer stands is decided by a digest of the question's id, so that no place is more likely
    than another and every reader gets the same. `document` of the snippet names the context, by a digest.
    """
    made = []
    for question in questions:
        if not question.answers or len(question.answers[0].text.split()) > answer_words:
            continue
        answer = question.answers[0]
        text = _around(question.context, answer.start, answer.start + len(answer.text), snippet_words, question.id)
        document = hashlib.sha256(question.context.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        synonyms = tuple(dict.fromkeys(answer.text for answer in question.answers))
        made.append(
            BioasqQuestion(question.id, question.question, "factoid", (Snippet(text, document),), (synonyms,), None)
        )
    return made


def _around(context: str, start: int, end: int, words: int, name: str) -> str:
    """About `words` words of `context`, all of those in [start, end) among them."""
    spans = [match.span() for match in _WORD.finditer(context)]
    first = next(i for i, (_, stop) in enumerate(spans) if stop > start)
    last = next(i for i in range(len(spans) - 1, -1, -1) if spans[i][0] < end)
    spare = max(0, words - (last - first + 1))
    before = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]) % (spare + 1)
    begin = max(0, min(first - before, len(spans) - words))
    stop = min(len(spans), max(last + 1, begin + words))
    return context[spans[begin][0] : spans[stop - 1][1]]
