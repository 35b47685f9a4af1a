"""All cases: what is measured, against what, and in which shapes.

A row's figure is ours / peer: speeds, so that more is better, but for memory and for waiting.
"""

from typing import Any

from biomeg_lib.bench.harness import Plan
from biomeg_lib.bench.targets import KERNELS

MINI = {"layers": 4, "hidden": 256, "heads": 4, "vocabulary": 30_592, "batch": 32, "length": 128, "device": "cpu"}
BASE = {"layers": 12, "hidden": 768, "heads": 12, "vocabulary": 30_592, "batch": 8, "length": 128, "device": "cpu"}
NANO = {"layers": 2, "hidden": 32, "heads": 2, "vocabulary": 500, "batch": 4, "length": 32, "device": "cpu"}
M345 = {"layers": 24, "hidden": 1024, "heads": 16, "vocabulary": 30_592, "batch": 32, "length": 512, "device": "cuda"}
B1_2 = {"layers": 24, "hidden": 2048, "heads": 32, "vocabulary": 30_592, "batch": 16, "length": 512, "device": "cuda"}
TAGGING = {"layers": 4, "hidden": 256, "heads": 4, "sentences": 512, "rows": 32}
NANO_TAGGING = {"layers": 1, "hidden": 32, "heads": 2, "sentences": 32, "rows": 8}

_PRETRAINING = "biomeg_lib.bench.pretraining:make"
# MegatronBert refuses sdpa, which each run says; a release of transformers that has it will be measured with it.
_VARIANTS = ("eager, fp32", "eager, bf16", "sdpa, fp32")


def _finetune(name: str, padding: str) -> Plan:
    return Plan(
        "biomeg_lib.bench.tagging:make_finetune",
        case=name,
        unit="sentences/s",
        peers=(f"{padding}, fp32", f"{padding}, bf16"),
        settings=TAGGING,
        quick=NANO_TAGGING,
    )


def _kernel(name: str) -> Plan:
    """A kernel against its peers, and its bytes a second against those of a copy; the last is bound by arithmetic."""
    bound = name == "linear-cross-entropy"
    return Plan(
        "biomeg_lib.bench.gpu:make",
        case=f"gpu-peers-{name}",
        unit="calls/s" if bound else "GB/s",
        share=None if bound else f"gpu-kernel-{name}",
        share_unit="GB/s",
        peers=("eager", "torch.compile", "apex"),
        settings={"kernel": name, "device": "cuda"},
        cuda=True,
    )


PLANS: tuple[Plan, ...] = (
    Plan(
        _PRETRAINING,
        case="pretrain-mini",
        unit="tokens/s",
        share="peak-share-mini",
        share_unit="GFLOP/s",
        peers=_VARIANTS,
        settings=MINI,
        quick=NANO,
    ),
    Plan(
        _PRETRAINING,
        case="pretrain-768",
        unit="tokens/s",
        share="peak-share-768",
        share_unit="GFLOP/s",
        peers=_VARIANTS,
        settings=BASE,
        quick=NANO,
    ),
    Plan(
        "biomeg_lib.bench.pretraining:make_memory",
        case="memory-mini",
        unit="MB",
        peers=("eager, fp32",),
        settings={**MINI, "batch": 64},
        quick=NANO,
        fresh=True,
    ),
    _finetune("finetune-pad128", "padded to 128"),
    _finetune("finetune-dynamic", "dynamic padding"),
    Plan(
        "biomeg_lib.bench.tagging:make_predict",
        case="predict",
        unit="sentences/s",
        peers=tuple(f"batch size {size}" for size in (1, 8, 32, 64)),
        settings={**TAGGING, "sentences": 256},
        quick=NANO_TAGGING,
    ),
    Plan(
        "biomeg_lib.bench.texts:make_reader",
        case="pmc-read",
        unit="articles/s",
        peers=("pubmed_parser",),
        settings={"articles": 60},
        quick={"articles": 5},
        cores=1,
    ),
    Plan(
        "biomeg_lib.bench.texts:make_tokenizer",
        case="tokenise",
        unit="MB/s",
        peers=("encode_batch", "encode_batch_fast"),
        settings={"characters": 3_000_000, "chunks": 10},
        quick={"characters": 20_000, "chunks": 3},
    ),
    Plan(
        "biomeg_lib.bench.waiting:make",
        share="input-wait",
        share_unit="ms",
        settings={**MINI, "steps": 12},
        quick={**NANO, "steps": 4},
    ),
    Plan(
        "biomeg_lib.bench.ranks:make",
        case="ranks",
        unit="tokens/s",
        peers=("one process",),
        # What ranks say to each other in a step does not grow with its batch: a quarter of the paper's tokens a rank.
        settings={**MINI, "batch": 128},
        quick=NANO,
    ),
    Plan(_PRETRAINING, share="gpu-pretrain-345m", share_unit="GFLOP/s", settings=M345, cuda=True),
    Plan(_PRETRAINING, share="gpu-pretrain-1.2b", share_unit="GFLOP/s", settings=B1_2, cuda=True),
    Plan(
        _PRETRAINING,
        case="gpu-step-345m",
        unit="tokens/s",
        peers=("Bert, sdpa, compiled, bf16", "eager, compiled, bf16"),
        settings=M345,
        cuda=True,
    ),
    *(_kernel(name) for name in KERNELS),
)

CASES: tuple[str, ...] = tuple(name for plan in PLANS for name in plan.cases)


def settings_of(plan: Plan, quick: bool) -> dict[str, Any]:
    """What a plan's maker gets; a plan without a quick form is what it is."""
    return dict(plan.quick if quick and plan.quick else plan.settings)
