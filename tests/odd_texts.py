"""Texts as they come from anywhere, by what is odd about them; none is made for a benchmark."""

import random

WORDS = "the patient was given aspirin 100 mg daily and of with in (TNF-alpha) p53 cells ."


def _long(characters: int) -> str:
    chance, words = random.Random(1), WORDS.split()
    return " ".join(chance.choices(words, k=characters // 4))[:characters]


LONG = _long(2_000_000)  # characters, and bytes
TOKEN = "".join(random.Random(2).choices("acgtACGT-0123456789", k=100_000))
ODD = {
    "two million characters": LONG,
    "one token of 100,000 characters": f"before {TOKEN} after .",
    "one letter 100,000 times": "a" * 100_000,
    "100,000 characters without a sentence's end": _long(100_000).replace(".", ","),
    "100,000 marks on one letter": "x" + "\u0301" * 100_000,
    "empty": "",
    "only blanks": " \t\n\u00a0\u2003 \n",
    "only punctuation": "... !?; -- ()[]{} \u2026\u00bf \u3002" * 20,
    "right to left": (
        "\u05d4\u05d7\u05d5\u05dc\u05d4 \u05e7\u05d9\u05d1\u05dc aspirin. "
        "\u202b\u0627\u0644\u062f\u0648\u0627\u0621\u202c 5 mg \u200f(\u0645\u0631\u064a\u0636)."
    ),
    "NUL": "aspirin\0 and \0\0 ibuprofen\0.",
    "other controls": "a\x01b\x1bc\x7fd\x85e\x1ff",
    "mixed normal forms": "caf\u00e9 cafe\u0301 \u212b \u00c5 A\u030a \ufb01x \uff21spirin \u1e9b\u0323",
    "beyond the basic plane": "\U0001f469\U0001f3fd\u200d\u2695\ufe0f gave \U0001d7d9 mg \U00020000 .",
    "markup": "<script>alert(1)</script> <b>x</b> [CLS] [SEP] [MASK] <pad> </s> \u2581 ##ing &amp; ```",
}
LONE_SURROGATE = "half of \ud83d a pair"  # no UTF-8, but JSON can spell it
