"""BERT's pre-tokenisation as one table for `str.translate`: clean text, isolate punctuation and CJK characters, lower.

After `text.translate(CHARACTERS[lowercase])` the words are what stands between spaces. The rules are asked of
`tokenizers`, one character at a time, so each character of a word stems from exactly one character of the text: that is
what makes offsets exact.
"""

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer


class Characters(dict):
    """Code point -> the normalised character, between spaces where it is a word of its own; filled as they turn up.

    White space becomes a space, control characters and U+FFFD nothing; so do lone surrogates, which are no characters.

    Over more than one character, BERT's rules do one thing more, when uncased: they reorder adjacent combining marks
    that are not stripped (spacing ones: musical signs, Hangul tone marks). Such pairs are left in their order here.
    """

    def __init__(self, lowercase: bool):
        super().__init__()
        self.normalizer = BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=lowercase, lowercase=lowercase
        )
        self.pre_tokenizer = BertPreTokenizer()

    def __missing__(self, code: int) -> str:
        surrogate = 0xD800 <= code <= 0xDFFF  # the library refuses these
        normal = "" if surrogate else self.normalizer.normalize_str(chr(code))
        self[code] = "".join(map(self._isolate, normal))
        return self[code]

    def _isolate(self, character: str) -> str:
        alone = len(self.pre_tokenizer.pre_tokenize_str(f"a{character}a")) == 3
        return f" {character} " if alone else character


CHARACTERS = {lowercase: Characters(lowercase) for lowercase in (False, True)}
