"""Held-out sets, a partition by keys that depends on the keys alone, and nested random fractions."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.errors import BiomegError
from biomeg_lib.tasks.splits import subset, with_held_out

LACKING = [(), ("devel",), ("test",), ("devel", "test")]
ITEMS = st.lists(st.tuples(st.integers(0, 60), st.text(max_size=3)), min_size=1, max_size=120)


def key(item):
    return f"context {item[0]}"


def made(items, lacking):
    given_splits = {"train": items, **{name: [(99, name)] for name in ("devel", "test") if name not in lacking}}
    return with_held_out(given_splits, key)


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.sampled_from(LACKING))
def test_a_partition_by_keys(items, lacking):
    items = [(number, text, place) for place, (number, text) in enumerate(items)]  # each one of its own
    splits = made(items, lacking)
    assert list(splits) == ["train", "devel", "test"]
    ours = {name: part for name, part in splits.items() if name in ("train", *lacking)}
    assert sorted(item for part in ours.values() for item in part) == sorted(items)
    keys = [{key(item) for item in part} for part in ours.values()]
    assert len(set.union(*keys)) == sum(map(len, keys))  # none in two
    for name, part in splits.items():
        if name in ours:
            assert part == [item for item in items if item in part]  # in their order
        else:
            assert part == [(99, name)]


@settings(max_examples=100, deadline=None)
@given(ITEMS, st.sampled_from(LACKING), st.integers(0, 99))
def test_the_order_of_the_items_does_not_matter_nor_how_many_share_a_key(items, lacking, seed):
    splits = made(items, lacking)
    shuffled = random.Random(seed).sample(items, len(items))
    again = made([*shuffled, *shuffled], lacking)
    assert {name: {key(item) for item in part} for name, part in again.items()} == {
        name: {key(item) for item in part} for name, part in splits.items()
    }


@pytest.mark.parametrize("lacking", LACKING[1:])
@pytest.mark.parametrize(("keys", "share"), [(10, 1), (100, 10), (1234, 123)])
def test_a_tenth_of_the_keys_each(lacking, keys, share):
    splits = made([(number, part) for number in range(keys) for part in "ab"], lacking)
    assert {name: len(splits[name]) for name in lacking} == dict.fromkeys(lacking, 2 * share)
    assert len(splits["train"]) == 2 * (keys - len(lacking) * share)


def test_what_is_given_stays():
    splits = {"test": ["c"], "train": ["a", "a", "b"], "devel": ["b"]}
    assert with_held_out(splits, key=str) == splits
    assert with_held_out({"train": list("abcdefghij"), "test": ["a"]}, key=str)["test"] == ["a"]


def test_a_test_set_does_not_depend_on_whether_there_is_a_development_set():
    items = list(range(50))
    both = with_held_out({"train": items}, key=str)
    assert with_held_out({"train": items, "devel": [1]}, key=str)["test"] == both["test"]
    assert len({*both["test"], *both["devel"]}) == 10


def test_the_choice_is_the_same_in_every_process_and_forever():
    items = list(range(40))
    splits = with_held_out({"train": items}, key=str)
    code = "from biomeg_lib.tasks.splits import *; print(with_held_out({'train': list(range(40))}, key=str))"
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(splits)
    assert (splits["test"], splits["devel"]) == ([8, 9, 29, 39], [4, 10, 13, 17])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 5))
def test_subsets_are_nested_and_in_order(count, one, other, seed):
    items = list(range(count))
    small, large = (subset(items, fraction, seed) for fraction in sorted((one, other)))
    assert len(small) == max(1, round(min(one, other) * count))
    assert set(small) <= set(large)
    assert large == sorted(set(large))
    assert subset(items, one, seed) == subset(items, one, seed)


def test_subsets_differ_by_seed_and_reject_bad_fractions():
    items = list(range(100))
    assert subset(items, 0.1, 1) != subset(items, 0.1, 2)
    assert subset(items, 1.0, 1) == items
    for fraction in (0, -0.1, 1.01, float("nan")):
        with pytest.raises(BiomegError, match="fraction"):
            subset(items, fraction, 1)
