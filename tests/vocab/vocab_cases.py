"""Texts and small vocabularies that the tests of vocabularies share, and BERT's pre-tokenisation as the reference."""

import re

from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from biomeg_lib.vocab import SPECIALS

SENTENCES = [
    "Selegiline-induced postural hypotension in Parkinson's disease: a longitudinal study.",
    "Naloxone (0.1 mg/kg) reversed the effect of alpha-methyldopa, but not of β-blockers.",
    "IL-2 and TNF-\u03b1 rose by 3.5±0.2 µg/ml at 37 °C; naïve CD4+ T-cells did not respond.",
    "The Müller-Glia marker was 東京 positive, 한국어 negative, and résumé-like “quoted” text.",
    "Lidocaine-induced cardiac asystole occurred\tin two\u00a0patients\nof ten.",
]
CASES = [(kind, lowercase) for kind in ("wordpiece", "bpe", "unigram") for lowercase in (False, True)]
# Much of what can go wrong is rare among all of Unicode: it is drawn on purpose.
TEXT = st.text(
    st.one_of(
        st.sampled_from("abcdeinorstAEIL  -,./()[]0123456789"),
        st.sampled_from(
            "\u2581\u2585\0\ufffd\u200b\u00ad\u0301\u0308\u00a0\u2009\x1c\x85éüßµ\u03b1İ中가｡\u037e\ud800\udfff\ue000\U0001f600"
        ),
        st.characters(),
    ),
    max_size=60,
)


def wordpiece_lines(lowercase):
    """A vocab.txt in small: BERT's special tokens, letters and a few longer pieces."""
    letters = [chr(code) for code in range(33, 127)] + list("éüµαβ°±”中가")
    if lowercase:
        letters = sorted({letter.lower() for letter in letters})
    endings = ["##ine", "##ing", "##ed", "##tion", "##an", "##on"]
    words = ["the", "Selegiline", "induced", "hypotension", "study", "effect", "respond", "disease", "did", "not"]
    words = [word.lower() if lowercase else word for word in words]
    return [
        *SPECIALS[:1],
        "[unused1]",
        *SPECIALS[1:],
        *letters,
        *("##" + letter for letter in letters),
        *endings,
        *words,
    ]


def normalised(text, lowercase):
    """The text as BERT's normaliser leaves it, lone surrogates dropped."""
    text = re.sub("[\ud800-\udfff]", "", text)
    normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=lowercase, lowercase=lowercase
    )
    return normalizer.normalize_str(text)


def pre_tokenised(text, lowercase):
    """The words of BERT's pre-tokeniser."""
    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(normalised(text, lowercase))]


def assert_aligned(vocab, encoding, length):
    """Offsets lie in the text and never decrease; only a lone space mark has an empty one."""
    starts, ends = [start for start, _ in encoding.offsets], [end for _, end in encoding.offsets]
    assert len(encoding.ids) == len(encoding.words) == len(encoding.offsets)
    assert all(0 <= start <= end <= length for start, end in encoding.offsets)
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert encoding.words == sorted(encoding.words)
    for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        assert start < end or vocab.pieces[i] == "\u2581"
