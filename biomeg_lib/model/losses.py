"""Losses of classifiers: cross-entropy, class weights, and the self-adjusting dice loss, for labels out of balance.

Notable: of the remedies of the paper's section 5.5, oversampling is a matter of batches (`tasks.batching`); the other
two are here. All take logits float[N, L] and labels int64[N] with `IGNORE` where there is none, and give a scalar; a
batch without any label gives 0.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biomeg_lib.errors import BiomegError

IGNORE = -100


class CrossEntropy(nn.Module):
    """Mean cross-entropy in nats, over the labels or, with class weights, over their weights.

    Args:
        weights: one for each class; None for all alike.
    """

    def __init__(self, weights: Sequence[float] | None = None):
        super().__init__()
        tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", tensor, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        total = F.cross_entropy(logits.float(), labels, self.weights, ignore_index=IGNORE, reduction="sum")
        if self.weights is None:
            return total / (labels != IGNORE).sum().clamp(min=1)
        share = self.weights[labels[labels != IGNORE]].sum()
        return total / share.clamp(min=torch.finfo(torch.float32).tiny)


class SelfAdjustingDice(nn.Module):
    """The self-adjusting dice loss of Li et al. 2019, "Dice Loss for Data-imbalanced NLP Tasks", equation 11.

    For each class c, with p the softmax probability of c and y its indicator, both over the labels of the batch, and
    q = (1 - p)^alpha * p, the loss is 1 - (2 sum(q y) + smooth) / (sum(q) + sum(y) + smooth); the result is the mean
    over classes. The sums run over the batch, as in the authors' program, since for a single example of another class
    the printed formula has the same optimum at p = 1 as at p = 0.

    Args:
        alpha: how strongly easy examples are weighed down; 0.01 is what the authors' published runs on SQuAD use.
        smooth: the constant gamma of the formula, 1 there.
    """

    def __init__(self, alpha: float = 0.01, smooth: float = 1.0):
        super().__init__()
        self.alpha, self.smooth = alpha, smooth

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        there = labels != IGNORE
        chances = logits[there].float().softmax(-1)
        truth = F.one_hot(labels[there], logits.shape[-1]).to(chances.dtype)
        # (1 - p) ** alpha has no finite slope at p = 1
        weighed = (1 - chances).clamp(min=1e-6) ** self.alpha * chances
        overlap = 2 * (weighed * truth).sum(0) + self.smooth
        return (1 - overlap / (weighed.sum(0) + truth.sum(0) + self.smooth)).mean()


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Class weights n / (classes * count), so that all classes weigh the same together (King and Zeng 2001).

    A class that does not occur gets the weight 0.

    Raises:
        BiomegError: no class occurs.
    """
    occurring = sum(count > 0 for count in counts)
    if not occurring:
        raise BiomegError("expected at least one labelled example, found none")
    return [sum(counts) / (occurring * count) if count else 0.0 for count in counts]
