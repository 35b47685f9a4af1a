"""Label bias of a data set, as the paper's Table 8 defines it.

What is notable: these are ratios, though the paper heads the column "Bias %". 1 is balanced and 0 is one label alone
for two classes; with three classes or more, where the minority labels are summed, the ratio can exceed 1.

For question answering the caption takes the repeats "of the same answer", section 5.5 those of "question-answer
combinations". Pairs are meant: an answer alone, such as a number, comes back more often than the section's "at most
twice" in SQuAD (six times in the 1,190 questions of XQuAD).
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from biomeg_lib.errors import BiomegError

INSIDE, OUTSIDE = "I", "O"


def tag_counts(tags: Iterable[Sequence[str]]) -> Counter[str]:
    """Words inside entities ("I": any tag but `O`) and outside ("O").

    Args:
        tags: for each sentence its IOB tags, one a word.
    """
    return Counter(OUTSIDE if tag == "O" else INSIDE for sentence in tags for tag in sentence)


def majority_label(counts: Mapping[str, int]) -> str:
    """The label with the most samples; of several, the first by name.

    Raises:
        BiomegError: there is no label.
    """
    if not counts:
        raise BiomegError("expected the samples of at least one label, found none")
    return min(counts, key=lambda label: (-counts[label], label))


def label_bias(counts: Mapping[str, int], majority: str | None = None) -> float:
    """[sum of the samples of minority labels] / [samples of the majority label] (Table 8, caption).

    Args:
        counts: label -> samples.
        majority: the label that divides, where it is known beforehand, such as `O` of words; otherwise that with the
            most samples. All others are minority labels.

    Raises:
        BiomegError: a negative number of samples, or none of the majority label.
    """
    majority = majority_label(counts) if majority is None else majority
    if min(counts.values(), default=0) < 0 or counts.get(majority, 0) == 0:
        raise BiomegError(f"expected numbers of samples, that of {majority!r} above 0, found {dict(counts)}")
    return (sum(counts.values()) - counts[majority]) / counts[majority]


def bias_of_tags(tags: Iterable[Sequence[str]]) -> float:
    """The ratio of words inside entities to words outside (section 5.5: "the ratio of I/O to O tags").

    Raises:
        BiomegError: no word is outside.
    """
    return label_bias(tag_counts(tags), OUTSIDE)


def answer_bias(counts: Mapping[Hashable, int]) -> float:
    """[fewest repeats] / [most repeats] of a question-answer pair (Table 8, caption); a pair that is there once has 1.

    Args:
        counts: pair -> how often it is there, such as from `questions.repeats`.

    Raises:
        BiomegError: no pair, or one that is there less than once.
    """
    fewest, most = min(counts.values(), default=0), max(counts.values(), default=0)
    if fewest < 1:
        raise BiomegError(
            f"expected at least one pair, each there once or more, found {len(counts)}, one {fewest} times"
        )
    return fewest / most


def distribution(counts: Mapping[Hashable, int]) -> dict[int, int]:
    """How many pairs are there once, twice and so on: repeats -> pairs, fewest repeats first, none with 0 pairs."""
    return dict(sorted(Counter(counts.values()).items()))
