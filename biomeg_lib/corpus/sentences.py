"""Sentence boundaries in biomedical English, by rule: a regular expression finds candidates, cheap checks refuse some.

Made for speed and for the mistakes that matter in this text: `Fig. 2`, `et al.`, `E. coli`, `i.p. injection`,
`p = 0.05`, initials. In doubt it does not break: two sentences in one span cost a sample little, half a sentence costs
more. So a sentence that begins in lower case (`p53 is ...`) stays with the one before it. Time is linear in the length
of the text.
"""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPENING, _CLOSING = "\"'“‘«([", "\"'”’»)]"  # noqa: RUF001
# A stop, closing marks, perhaps a citation in brackets, then space and the first letter or sign of what follows. Every
# part is possessive or bounded, and only the last stop of a run ("...") can match, so that nothing is scanned twice.
_CANDIDATE = re.compile(
    rf"[.!?…][{re.escape(_CLOSING)}]*+(?:\[[\d,;\s\u2013-]{{1,40}}\])?\s++(?=[{re.escape(_OPENING)}]*+(\S))|\n"
)
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")  # i.p, U.S, a.m
_WORD = re.compile(r"[^\W\d_]++(?!\.)")  # not an initial
_LOOK_BACK = 24  # characters; no abbreviation is longer

# Abbreviations as they are written within a sentence; with a capital they are found, too, but not in capitals alone,
# since ED, MRS and CO are other words. The first kind never ends a sentence.
_NEVER = _words("""
    e.g i.e eg ie vs viz cf ca approx fig figs eq eqs eqn ref refs tab suppl sect dr drs mr mrs prof st resp incl esp
    ver vol vols pp ed eds nr var subsp ssp bv pv jan feb mar apr jun jul aug sep sept oct nov dec dept univ mt
""")
# Not the end of a sentence where a number follows: "no. 5", but "The answer is no. We ...".
_BEFORE_NUMBER = _words("no nos sec chap art p cat lot ser")
# The end only where a word follows that often opens a sentence: "Smith et al. The ...".
_PERHAPS = _words("al etc sp spp inc ltd co corp jr sr conc temp")
_OPENERS = _words("""
    A After All Although Among An And Another As At Because Before Besides Both But By Consistent Conversely
    Currently Despite Due During Each Even Finally First For From Furthermore Given Hence Here How However If
    Importantly In Indeed Instead Interestingly It Its Later Like Many More Moreover Most Next No None Notably Of On
    Once One Only Other Our Overall Previous Previously Recent Recently Results Second Several Similarly Since So
    Some Specifically Studies Such Taken That The Their Then There Therefore These They This Those Three Though Thus
    To Together Two Under Unlike Until Upon Using We What When Whereas Whether Which While With Within Yet
""")


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Cut `text` into sentences.

    A line end always separates; so a title and paragraphs joined by line ends are never run together.

    Returns:
        Character spans (start, end), in order and without overlap, that neither begin nor end with whitespace and
        together cover every character that is not whitespace. Empty for blank text.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _CANDIDATE.finditer(text):
        if _is_boundary(text, match, start):
            _add(spans, text, start, match.end())
            start = match.end()
    _add(spans, text, start, len(text))
    return spans


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end].rstrip()
    end = start + len(piece)
    start = end - len(piece.lstrip())
    if start < end:
        spans.append((start, end))


def _is_boundary(text: str, match: re.Match[str], start: int) -> bool:
    """Whether the candidate ends the sentence that began at `start`."""
    found, opening = match.group(), match.group(1)
    if "\n" in found:
        return True
    if opening.islower() or opening in ",;:.)]":
        return False
    if found[0] != ".":
        return True
    stop = match.start()
    words = text[max(start, stop - _LOOK_BACK) : stop].split()
    word = words[-1].lstrip(_OPENING) if words else ""
    if word.isdigit():
        return len(words) > 1 or text[start:stop].strip() != word  # "1. Methods" is one span
    key = word[:1].lower() + word[1:]
    if key in _NEVER:
        return False
    if key in _BEFORE_NUMBER:
        return not opening.isdigit()
    letter = len(word) == 1 and word.isalpha()
    if letter and word.islower() and len(words) > 1 and words[-2][-1].isdigit():
        return True  # a unit: "for 2 h. Cells ..."
    if letter or key in _PERHAPS or _DOTTED.fullmatch(word):
        following = _WORD.match(text, match.start(1))
        return following is not None and following.group() in _OPENERS
    return True
