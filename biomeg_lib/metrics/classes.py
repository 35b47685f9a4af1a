"""Precision, recall and F1 of a classifier, micro-averaged over the classes that count, and class by class.

What is notable: an excluded class is one that nobody looks for, such as "no relation". Taking it for another class is
a false alarm, and the reverse a miss, but getting it right earns nothing. ChemProt is scored over five relation groups
in this way. Without excluded classes the micro scores are all the accuracy.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.scores import Scores, typed_scores


def class_scores(gold: Sequence[str], predicted: Sequence[str], excluded: Collection[str] = ()) -> Scores:
    """Compare one predicted with one gold class for each item.

    Args:
        gold, predicted: the class of each item.
        excluded: classes that are neither averaged over nor listed in `by_type`.

    Raises:
        BiomegError: another number of predictions than of gold classes.
    """
    if len(gold) != len(predicted):
        raise BiomegError(f"expected {len(gold)} predicted classes, found {len(predicted)}")
    right = (label for label, guess in zip(gold, predicted, strict=True) if label == guess)
    return typed_scores(
        *(Counter(label for label in part if label not in excluded) for part in (right, predicted, gold))
    )
