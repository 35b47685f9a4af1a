"""Pre-training samples: what they are made of, what they depend on, and how often what happens."""

import json
import subprocess
import sys
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeg_lib.corpus.indexed import IndexedWriter
from biomeg_lib.corpus.samples import PretrainingSamples, permuted
from biomeg_lib.errors import BiomegError, InputError

PAD, UNK, CLS, SEP, MASK = 0, 1, 2, 3, 4
SIZE = 60000
FIELDS = ("tokens", "types", "mask", "positions", "labels", "order")


def make_vocabulary(size=SIZE):
    """Even ids start a word, odd ids continue one."""
    continues = np.arange(size) % 2 == 1
    continues[:5] = False
    return SimpleNamespace(size=size, pad_id=PAD, unk_id=UNK, cls_id=CLS, sep_id=SEP, mask_id=MASK, continues=continues)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Documents whose tokens are all different and ascend, so that each can be found again and order can be told."""
    rng = np.random.default_rng(7)
    prefix = tmp_path_factory.mktemp("shards") / "train"
    lengths, boundaries, total = [], set(), 0
    ids = np.array([token for token in range(10, 30_000) if token % 4 != 1])  # word starts and continuing pieces mixed
    with IndexedWriter(prefix, np.uint16) as writer:
        for document in range(220):
            words = int(rng.integers(1, 60))
            sentences = [] if document == 3 else [int(n) for n in rng.integers(1, 25, size=words // 10 + 1)]
            ends = total + np.cumsum([0, *sentences])
            writer.add_document([ids[start:end] for start, end in pairwise(ends)])
            boundaries.update(ends.tolist())
            lengths.append(sum(sentences))
            total += sum(sentences)
    return SimpleNamespace(prefix=prefix, lengths=lengths, boundaries=boundaries, tokens=ids[:total])


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory):
    """Some long documents of random tokens, for statistics."""
    rng = np.random.default_rng(8)
    prefix = tmp_path_factory.mktemp("long") / "train"
    with IndexedWriter(prefix, np.uint16) as writer:
        for _ in range(40):
            writer.add_document([rng.integers(5, SIZE, size=rng.integers(5, 40)) for _ in range(100)])
    return prefix


def make(corpus, length=32, seed=1, **options):
    return PretrainingSamples(corpus.prefix, make_vocabulary(), length, seed, **options)


def equal(one, other):
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in FIELDS)


def rows(batch):
    """Each sample of a batch by itself, as comparable Python values."""
    count, length = batch.tokens.shape
    positions, labels = batch.positions.tolist(), batch.labels.tolist()
    return [
        (
            batch.tokens[b].tolist(),
            batch.types[b].tolist(),
            batch.mask[b].tolist(),
            [(p - b * length, label) for p, label in zip(positions, labels, strict=True) if p // length == b],
            int(batch.order[b]),
        )
        for b in range(count)
    ]


def restore(sample):
    """A sample's row with the hidden pieces put back: (segment A, segment B, order)."""
    tokens, types, mask, hidden, order = sample
    tokens = list(tokens)
    for column, label in hidden:
        tokens[column] = label
    real = sum(mask)
    assert mask == [True] * real + [False] * (len(mask) - real)
    assert tokens[real:] == [PAD] * (len(mask) - real)
    first = tokens.index(SEP)
    assert tokens[0] == CLS
    assert tokens[real - 1] == SEP
    assert types == [0] * (first + 1) + [1] * (real - first - 1) + [0] * (len(mask) - real)
    return tokens[1:first], tokens[first + 1 : real - 1], order


def test_shapes_and_types(corpus):
    batch = make(corpus).batch(0, 5)
    assert batch.tokens.shape == batch.types.shape == batch.mask.shape == (5, 32)
    assert batch.positions.shape == batch.labels.shape
    assert batch.order.shape == (5,)
    assert {field: getattr(batch, field).dtype for field in FIELDS} == dict.fromkeys(FIELDS, torch.int64) | {
        "mask": torch.bool
    }
    assert (batch.positions[1:] > batch.positions[:-1]).all()


def test_an_epoch_holds_every_window_once_and_whole(corpus):
    samples = make(corpus)
    room = 29
    expected, start = set(), 0
    for length in corpus.lengths:
        for place in range(0, length, room):
            size = min(room, length - place)
            if size >= 8:
                expected.add((start + place, start + place + size))
        start += length
    assert len(samples) == len(expected)

    place_of = {token: place for place, token in enumerate(corpus.tokens)}
    found, splits = [], []
    for sample in rows(samples.batch(0, len(samples))):
        first, second, order = restore(sample)
        assert len(first) >= 1
        assert len(second) >= 1
        assert order == int(first[0] > second[0])
        a, b = (second, first) if order else (first, second)
        start, end = place_of[a[0]], place_of[b[-1]] + 1
        assert a + b == corpus.tokens[start:end].tolist()
        found.append((start, end))
        splits.append(start + len(a))
    assert len(found) == len(expected)
    assert set(found) == expected

    # The split is a sentence boundary if there is one inside, else the start of a word.
    lone = 0
    for (start, end), split in zip(found, splits, strict=True):
        inside = corpus.boundaries & set(range(start + 1, end))
        assert split in (inside or range(start + 1, end))
        if not inside:
            lone += 1
            assert corpus.tokens[split] % 2 == 0
    assert lone > 20
    assert len(set(found)) - lone > 20


def test_windows_without_a_word_start_are_split_anywhere(tmp_path):
    with IndexedWriter(tmp_path / "x", np.uint16) as writer:
        writer.add_document([np.arange(7, 7 + 2 * 13, 2)])  # odd ids only
    samples = PretrainingSamples(tmp_path / "x", make_vocabulary(), 16, 0)
    assert len(samples) == 1
    lengths = set()
    for sample in rows(samples.batch(0, 400)):
        first, second, order = restore(sample)
        lengths.add(len(second if order else first))
    assert lengths == set(range(1, 13))


def test_epochs_differ_and_cover(corpus):
    samples = make(corpus)
    count = len(samples)

    def windows(epoch):
        return [frozenset(a + b) for a, b, _ in map(restore, rows(samples.batch(epoch, count)))]

    first, second = windows(0), windows(1)
    assert set(first) == set(second)
    assert len(set(first)) == count
    assert first != second
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 10  # one is expected of a random order
    assert not equal(samples.batch(0, count), make(corpus, seed=2).batch(0, count))


@settings(max_examples=25, deadline=None)
@given(step=st.integers(0, 200), size=st.integers(1, 40), whole_word=st.booleans(), data=st.data())
def test_a_sample_depends_on_seed_and_index_alone(corpus, step, size, whole_word, data):
    samples = make(corpus, whole_word=whole_word)
    batch = rows(samples.batch(step, size))
    fresh = make(corpus, whole_word=whole_word)
    for b in data.draw(st.permutations(range(size))):
        assert rows(fresh.batch(step * size + b, 1)) == [batch[b]]


def test_a_batch_may_span_epochs(tmp_path):
    with IndexedWriter(tmp_path / "x", np.uint16) as writer:
        for document in range(3):
            writer.add_document([np.arange(10 + 20 * document, 18 + 20 * document)])
    samples = PretrainingSamples(tmp_path / "x", make_vocabulary(), 16, 0)
    many = rows(samples.batch(0, 30))
    assert many == [rows(samples.batch(i, 1))[0] for i in range(30)]
    for epoch in range(10):
        leads = {min(a + b) for a, b, _ in map(restore, many[3 * epoch : 3 * epoch + 3])}
        assert leads == {10, 30, 50}


def test_another_process_draws_the_same(corpus):
    program = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_samples import FIELDS, PretrainingSamples, make_vocabulary
batch = PretrainingSamples({str(corpus.prefix)!r}, make_vocabulary(), 32, 1).batch(7, 6)
print(json.dumps([getattr(batch, field).tolist() for field in FIELDS]))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    batch = make(corpus).batch(7, 6)
    assert json.loads(done.stdout) == [getattr(batch, field).tolist() for field in FIELDS]


def test_masking_rates(long_corpus):
    samples = PretrainingSamples(long_corpus, make_vocabulary(), 128, 3)
    batch = samples.batch(0, 4000)
    flat = batch.tokens.reshape(-1)
    pieces = int(batch.mask.sum()) - 3 * 4000
    drawn = len(batch.labels)
    assert drawn / pieces == pytest.approx(0.15, abs=0.003)  # 19 of 125 pieces is 0.152

    shown, labels = flat[batch.positions], batch.labels
    masked, kept = shown == MASK, shown == labels
    assert drawn > 70_000  # standard error of a rate below 0.0015
    assert masked.float().mean() == pytest.approx(0.8, abs=0.008)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.006)
    other = shown[~masked & ~kept]
    assert int(other.min()) >= 5
    assert int(other.max()) < SIZE
    assert other.double().mean() == pytest.approx((SIZE + 5) / 2, rel=0.02)

    # Every place of a sample is as likely as every other one, and no special is ever chosen.
    assert not set(labels.tolist()) & {PAD, CLS, SEP, MASK}
    assert (batch.mask.reshape(-1)[batch.positions]).all()
    column = np.bincount(batch.positions.numpy() % 128, minlength=128)
    assert column[0] == column[127] == 0
    assert column[1:127].std() / column[1:127].mean() < 0.06  # about 1 / sqrt(600)
    assert batch.order.float().mean() == pytest.approx(0.5, abs=0.03)


def test_at_least_one_piece_is_masked(tmp_path):
    with IndexedWriter(tmp_path / "x", np.uint16) as writer:
        writer.add_document([np.arange(6, 15)])
    for options in ({}, {"whole_word": True}):
        samples = PretrainingSamples(tmp_path / "x", make_vocabulary(), 12, 0, mask_probability=0.01, **options)
        assert all(len(hidden) >= 1 for *_, hidden, _ in rows(samples.batch(0, 50)))


def test_whole_words_are_masked_whole(long_corpus):
    samples = PretrainingSamples(long_corpus, make_vocabulary(), 128, 3, whole_word=True)
    batch = samples.batch(0, 2000)
    assert len(batch.labels) / (int(batch.mask.sum()) - 3 * 2000) == pytest.approx(0.15, abs=0.004)
    broken = words = 0
    for sample in rows(samples.batch(0, 400)):
        first, second, _ = restore(sample)
        chosen = {column for column, _ in sample[3]}
        column = 1
        for segment in (first, second):
            word = None
            for piece in segment:
                if word is not None and piece % 2 == 1:
                    broken += (column in chosen) != word
                else:
                    word = column in chosen
                    words += word
                column += 1
            column += 1
    assert broken == 0
    assert words > 400 * 5


def test_evaluation_is_fixed(corpus):
    one, other = make(corpus, seed=1), make(corpus, seed=2)
    one.batch(5, 8)
    batches = list(one.evaluation(16, 40))
    assert [len(batch.order) for batch in batches] == [16, 16, 8]
    assert all(equal(a, b) for a, b in zip(batches, other.evaluation(16, 40), strict=True))
    assert list(chain(*map(rows, batches))) == list(chain(*map(rows, one.evaluation(7, 40))))
    whole = [frozenset(a + b) for batch in one.evaluation(64) for a, b, _ in map(restore, rows(batch))]
    assert len(whole) == len(set(whole)) == len(one)
    assert sum(len(batch.order) for batch in one.evaluation(64, 10**9)) == len(one)
    assert not equal(batches[0], make(corpus, seed=0).batch(0, 16))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10, 99, 100, 101, 4096, 10007])
def test_permuted_is_a_permutation(count):
    places = np.arange(count)
    results = [permuted(places, count, (seed, 1, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for result in results:
        assert sorted(result.tolist()) == places.tolist()
        assert permuted(places[::-1], count, (0, 1, 0)).tolist() == results[0][::-1].tolist()
    if count > 90:
        for result in [*results, results[0] - results[1]]:
            # Independent of the place, and of its neighbour: a correlation of n pairs has deviation 1 / sqrt(n).
            assert abs(np.corrcoef(places, result)[0, 1]) < 4 / np.sqrt(count)
            assert abs(np.corrcoef(result[1:], result[:-1])[0, 1]) < 4 / np.sqrt(count)
            assert (result == places).sum() < 8


def test_permuted_reaches_all_orders_of_few():
    places = np.arange(4)
    orders = [tuple(permuted(places, 4, (seed, 1, 0)).tolist()) for seed in range(2400)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert counts.min() > 40  # 100 expected


def test_bad_arguments_and_files(tmp_path, corpus):
    with pytest.raises(BiomegError, match="expected 11 to 65535"):
        make(corpus, length=10)
    with pytest.raises(BiomegError, match="mask_probability"):
        make(corpus, mask_probability=1.5)
    with pytest.raises(InputError, match="found none here"):
        PretrainingSamples(tmp_path / "absent", make_vocabulary(), 32, 0)
    with IndexedWriter(tmp_path / "short", np.uint16) as writer:
        writer.add_document([np.arange(5, 12)])
    with pytest.raises(InputError, match="at least 8 tokens"):
        PretrainingSamples(tmp_path / "short", make_vocabulary(), 32, 0)
    samples = PretrainingSamples(corpus.prefix, make_vocabulary(500), 32, 0)
    with pytest.raises(InputError, match="token ids below 500, the size of the vocabulary"):
        samples.batch(0, len(samples))
