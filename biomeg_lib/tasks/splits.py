"""Which part of a benchmark is used: held-out sets for one that comes without them, and random fractions of it."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from biomeg_lib.errors import BiomegError

Item = TypeVar("Item")


def with_held_out(
    splits: dict[str, list[Item]], key: Callable[[Item], Any], share: float = 0.1
) -> dict[str, list[Item]]:
    """train, devel and test; those that are lacking are each about a `share` of `train`, which loses it.

    An item goes by a digest of its key, so items with the same key (questions about one text) stay together, and the
    choice depends on nothing else.
    """
    lacking = [name for name in ("test", "devel") if name not in splits]
    names = {str(key(item)) for item in splits["train"]} if lacking else set()
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = max(1, round(share * len(order)))
    taken = {name: set(order[i * count : (i + 1) * count]) for i, name in enumerate(lacking)}
    held_out = set().union(*taken.values())
    return {
        "train": [item for item in splits["train"] if str(key(item)) not in held_out] if lacking else splits["train"],
        **{
            name: splits[name] if name in splits else [i for i in splits["train"] if str(key(i)) in taken[name]]
            for name in ("devel", "test")
        },
    }


def subset(items: Sequence[Item], fraction: float, seed: int) -> list[Item]:
    """A random sample without replacement of round(fraction * n) items, at least one, in their original order.

    Samples are nested: with the same seed, a smaller fraction's items are among a larger one's, so that a learning
    curve over fractions adds data and never exchanges it.

    Raises:
        BiomegError: the fraction is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise BiomegError(f"expected a fraction above 0 and at most 1, found {fraction}")
    order = np.random.default_rng(seed).permutation(len(items))
    kept = order[: max(1, round(fraction * len(items)))]
    return [items[index] for index in sorted(kept.tolist())]


def of_records(features: Sequence[Item], chosen: Sequence[int], record: Callable[[Item], int]) -> list[Item]:
    """Those features that were made of the chosen records; `record` tells the index of a feature's."""
    wanted = set(chosen)
    return [feature for feature in features if record(feature) in wanted]
