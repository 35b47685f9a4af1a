"""What the library is held to, case by case; the notebook shows a miss as a miss."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of ours / peer.

    Attributes:
        ratio: the bound.
        at_least: False where less is better: memory, waiting.
    """

    ratio: float
    at_least: bool = True

    def met(self, ratio: float) -> bool:
        """Whether a measured ratio keeps to the bound."""
        return ratio >= self.ratio if self.at_least else ratio <= self.ratio

    def __str__(self) -> str:
        return f"{self.ratio:g}" if self.at_least else f"\N{LESS-THAN OR EQUAL TO} {self.ratio:g}"


KERNELS = ("bias-gelu", "bias-dropout-add", "layer-norm", "masked-softmax", "linear-cross-entropy")

TARGETS: dict[str, Target] = {
    "pretrain-mini": Target(6.0),
    "pretrain-768": Target(2.4),
    "peak-share-mini": Target(0.75),
    "peak-share-768": Target(0.80),
    "memory-mini": Target(0.4, at_least=False),
    "finetune-pad128": Target(4.5),
    "finetune-dynamic": Target(2.0),
    "predict": Target(4.0),
    "pmc-read": Target(2.5),
    "tokenise": Target(1.0),
    "input-wait": Target(0.03, at_least=False),
    "ranks": Target(0.85),
    "gpu-pretrain-345m": Target(0.50),
    "gpu-pretrain-1.2b": Target(0.55),
    "gpu-step-345m": Target(1.3),
    **{f"gpu-kernel-{name}": Target(0.8) for name in KERNELS[:-1]},
    **{f"gpu-peers-{name}": Target(1.0) for name in KERNELS},
}
