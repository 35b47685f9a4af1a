"""The losses: cross-entropy against PyTorch's, class weights against scikit-learn's, dice against its formula."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from biomeg_lib.errors import BiomegError
from biomeg_lib.model import CrossEntropy, SelfAdjustingDice, balanced_weights
from biomeg_lib.model.losses import IGNORE

LOSSES = [CrossEntropy(), CrossEntropy([0.5, 2.0, 1.0, 0.25]), SelfAdjustingDice(), SelfAdjustingDice(0.5, 0.1)]


def some(seed=0, count=40, classes=4, ignored=7):
    """Logits and labels, the last `ignored` of them `IGNORE`."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator) * 2
    labels = torch.randint(classes, (count,), generator=generator)
    labels[count - ignored :] = IGNORE
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 0.25]])
@pytest.mark.parametrize("ignored", [0, 7, 39])
def test_cross_entropy_is_pytorchs_mean(weights, ignored):
    logits, labels = some(ignored=ignored)
    ours = CrossEntropy(weights)(logits, labels)
    theirs = F.cross_entropy(logits, labels, None if weights is None else torch.tensor(weights))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


def test_cross_entropy_by_hand():
    """Two examples of probabilities 1/2 and 1/4: the mean of the logs, and the mean by weights of 1 and 3."""
    logits = torch.tensor([[0.0, 0.0], [0.0, np.log(3.0)], [5.0, -5.0]])
    labels = torch.tensor([1, 0, IGNORE])
    assert CrossEntropy()(logits, labels).item() == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert CrossEntropy([3.0, 1.0])(logits, labels).item() == pytest.approx((np.log(2) + 3 * np.log(4)) / 4)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_label_is_no_loss_and_no_gradient(loss):
    logits, labels = some(ignored=40)
    value = loss(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_what_has_no_label_has_no_influence(loss):
    logits, labels = some()
    value = loss(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    assert not gradient[-7:].any()
    torch.testing.assert_close(loss(logits[:-7], labels[:-7]), value)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_a_number_whatever_the_logits_and_their_type(loss):
    labels = torch.tensor([0, 1, 2, 3])
    for scale in (1e4, -1e4):
        logits = (torch.eye(4) * scale).requires_grad_()
        value = loss(logits, labels)
        assert torch.isfinite(value)
        assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all()
    logits, labels = some()
    halved = loss(logits.bfloat16(), labels)
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, loss(logits, labels), atol=0.02, rtol=0)


def test_class_weights_are_not_saved():
    assert CrossEntropy([1.0, 2.0]).state_dict() == {}
    assert [buffer.tolist() for buffer in CrossEntropy([1.0, 2.0]).buffers()] == [[1.0, 2.0]]  # so it moves to a GPU


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any))
def test_balanced_weights_are_scikit_learns(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = np.unique(labels)
    expected = np.zeros(len(counts))
    expected[classes] = compute_class_weight("balanced", classes=classes, y=labels)
    assert balanced_weights(counts) == pytest.approx(expected.tolist())
    # All classes weigh the same together, and an example 1 in the mean.
    weighed = [weight * count for weight, count in zip(balanced_weights(counts), counts, strict=True) if count]
    assert weighed == pytest.approx([sum(counts) / len(classes)] * len(classes))


@pytest.mark.parametrize("counts", [[], [0, 0]])
def test_weights_need_a_class(counts):
    with pytest.raises(BiomegError, match="at least one labelled example"):
        balanced_weights(counts)


def dice_by_class(logits: np.ndarray, labels: np.ndarray, alpha: float, smooth: float) -> float:
    """The formula, one class and one example at a time, in double precision."""
    classes = logits.shape[1]
    losses = []
    for c in range(classes):
        both = predicted = true = 0.0
        for row, label in zip(logits, labels, strict=True):
            if label == IGNORE:
                continue
            p = float(np.exp(row[c]) / np.exp(row).sum())
            q = (1 - p) ** alpha * p
            y = 1.0 if label == c else 0.0
            both, predicted, true = both + q * y, predicted + q, true + y
        losses.append(1 - (2 * both + smooth) / (predicted + true + smooth))
    return sum(losses) / classes


@pytest.mark.parametrize(("alpha", "smooth"), [(0.01, 1.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.1)])
@pytest.mark.parametrize("classes", [2, 5])
def test_dice_is_its_formula_and_so_is_its_gradient(alpha, smooth, classes):
    logits, labels = some(seed=classes, count=12, classes=classes, ignored=3)
    loss = SelfAdjustingDice(alpha, smooth)(logits, labels)
    wide, plain = logits.detach().double().numpy(), labels.numpy()
    assert loss.item() == pytest.approx(dice_by_class(wide, plain, alpha, smooth), abs=1e-6)
    step, numeric = 1e-5, np.zeros_like(wide)
    for place in np.ndindex(*wide.shape):
        moved = np.zeros_like(wide)
        moved[place] = step
        up, down = (dice_by_class(wide + sign * moved, plain, alpha, smooth) for sign in (1, -1))
        numeric[place] = (up - down) / (2 * step)
    (gradient,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(gradient.numpy(), numeric, atol=1e-6)


def test_the_default_dice_is_that_of_the_published_runs():
    logits, labels = some()
    torch.testing.assert_close(SelfAdjustingDice()(logits, labels), SelfAdjustingDice(0.01, 1.0)(logits, labels))


def test_dice_is_least_where_predictions_are_right():
    labels = torch.tensor([0, 0, 0, 1, 2])
    right = F.one_hot(labels).float()
    assert SelfAdjustingDice(alpha=0.0)(right * 60, labels).item() == pytest.approx(0, abs=1e-6)
    sharp = [SelfAdjustingDice()(right * scale, labels).item() for scale in (-4, 0, 1, 2, 4)]
    assert sharp == sorted(sharp, reverse=True)
    wrong = F.one_hot((labels + 1) % 3).float()
    assert SelfAdjustingDice()(wrong * 4, labels).item() > SelfAdjustingDice()(right * 0, labels).item()


def test_descent_on_dice_finds_the_rare_classes():
    """From equal logits, the steepest way down raises every example's own label, however rare that label is."""
    labels = torch.tensor([0] * 20 + [1, 2])
    logits = torch.zeros(22, 3, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=20.0)
    for _ in range(200):
        optimizer.zero_grad()
        SelfAdjustingDice()(logits, labels).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(-1), labels)


def test_alpha_weighs_easy_examples_down():
    """The gradient of an example that is already right is the smaller share of the whole, the larger alpha is."""
    labels = torch.tensor([0, 0])
    shares = []
    for alpha in (0.0, 0.5, 1.0):
        logits = torch.tensor([[3.0, 0.0], [0.0, 0.0]], requires_grad=True)
        (gradient,) = torch.autograd.grad(SelfAdjustingDice(alpha)(logits, labels), logits)
        shares.append((gradient[0, 0] / gradient[1, 0]).item())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
