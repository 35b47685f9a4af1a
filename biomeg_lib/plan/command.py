"""`biomeg plan`: what the runs of a params file, or of a named model, would take on a machine."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from biomeg_lib.errors import BiomegError
from biomeg_lib.model.config import PRESETS, config_for
from biomeg_lib.params import suggestion
from biomeg_lib.plan import runs
from biomeg_lib.plan.machine import RESERVED, Machine, find
from biomeg_lib.plan.memory import Memory
from biomeg_lib.plan.planner import Option, Plan, plan
from biomeg_lib.plan.spread import Run
from biomeg_lib.study import Study, load

WORDS = 30_592  # rows of BERT's uncased vocabulary, the larger of its two
TOKENS = 8_192_000_000  # about the paper's one epoch: as params/paper.yaml
BATCH, LENGTH = 1024, 512  # of Megatron-BERT (Shoeybi et al. 2019, section 4.2)
SHOWN = 8  # spreads of a named model
PARTS = [field.name for field in dataclasses.fields(Memory)]
UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def machine_of(name: str, gpus: int | None, memory: float | None, peak: float | None, bandwidth: str | None) -> Machine:
    """A preset, changed.

    Args:
        gpus: how many.
        memory: GB (10^9 bytes) a GPU.
        peak: TFLOP/s a GPU.
        bandwidth: GB/s within a node, or within and between nodes, with a comma.

    Raises:
        BiomegError: no such preset, or a figure that no machine has.
    """
    changes: dict[str, float | int] = {}
    if gpus is not None:
        changes["gpus"] = gpus
    if memory is not None:
        changes["memory"] = memory * 1e9
    if peak is not None:
        changes["peak"] = peak * 1e12
    if bandwidth is not None:
        try:
            links = [float(part) * 1e9 for part in bandwidth.split(",")]
        except ValueError:
            links = []
        if len(links) not in (1, 2):
            raise BiomegError(f"plan: bandwidth must be GB/s within a node[,between nodes], found {bandwidth!r}")
        changes |= dict(zip(("intra_bandwidth", "inter_bandwidth"), links, strict=False))
    return dataclasses.replace(find(name), **changes)


def planned(
    target: str,
    machine: Machine,
    utilisation: float,
    tokens: int | None = None,
    batch: int | None = None,
    length: int | None = None,
    as_they_say: bool = False,
) -> Iterator[str]:
    """The lines that `biomeg plan` prints.

    Args:
        target: a params file, or a model of `biomeg models`.
        tokens, batch, length: of a model's run; a params file says its own.
        as_they_say: runs of a params file that say how they are spread are planned so.

    Raises:
        BiomegError: neither, or what cannot be planned.
    """
    if target in PRESETS:
        sizes = (TOKENS if tokens is None else tokens, BATCH if batch is None else batch)
        run = Run(*sizes, LENGTH if length is None else length)
        return iter(_of_model(target, plan(config_for(target, WORDS), run, machine, utilisation), utilisation))
    if not (target.endswith((".yaml", ".yml")) or Path(target).exists()):
        raise BiomegError(f"plan: expected a params file or a model, found {target!r}; {suggestion(target, PRESETS)}")
    if (tokens, batch, length) != (None, None, None):
        raise BiomegError("plan: tokens, batch and length are for a model: a params file has its own")
    if not 0 < utilisation <= 1:
        raise BiomegError(f"plan: utilisation must be above 0 and at most 1, found {utilisation:g}")
    return iter(_of_study(target, load(target), machine, utilisation, as_they_say))


def _of_model(name: str, found: Plan, utilisation: float) -> list[str]:
    run = found.run
    lines = [
        f"{name}: {found.parameters:,} parameters, vocabulary {found.config.vocab_size:,}; {run.tokens:,} tokens in "
        f"{run.steps:,} steps of {run.batch:,} x {run.length}: {_rounded(found.flops / 1e18)} EFLOP",
        *_machine(found.machine, utilisation),
        "",
        f"{found.fitting} of {len(found.options)} spreads fit; the {min(found.fitting, SHOWN)} fastest:"
        if found.fitting
        else f"None of {len(found.options)} spreads fits: {_lacking(found)}. The one that needs least:",
    ]
    if not found.fitting:
        return [*lines, *_memory(found.smallest)]
    unit = _unit([option.memory.total for option in found.options[: found.fitting]])
    rows = [["data", "tensor", "micro-batch", "accumulate", "recompute", f"{unit} a GPU", "step", "run", "GPU-hours"]]
    for option in found.options[: min(found.fitting, SHOWN)]:
        spread = option.spread
        rows.append(
            [
                *map(str, (spread.data, spread.tensor, spread.micro_batch, spread.accumulate)),
                "yes" if spread.recompute else "no",
                _bytes(option.memory.total, unit),
                _duration(option.time.total),
                _duration(3600 * found.hours(option)),
                _rounded(found.gpu_hours(option)),
            ]
        )
    best = found.options[0]
    seconds = [(field.name, getattr(best.time, field.name)) for field in dataclasses.fields(best.time)]
    spent = ", ".join(f"{part} {_duration(value)}" for part, value in seconds if value)
    return [*lines, *_table(rows), "", *_memory(best), f"A step of it: {spent}."]


def _of_study(target: str, study: Study, machine: Machine, utilisation: float, as_they_say: bool) -> list[str]:
    trained, tuned = runs.pretraining(study, machine, utilisation, as_they_say), runs.fine_tuning(study, machine)
    fitting = [row.plan.best for row in (*trained, *tuned) if row.plan is not None and row.plan.best is not None]
    unit = _unit([option.memory.total for option in fitting])
    rows = [["pre-training", "parameters", "tokens", "EFLOP", "mesh", "micro-batch", "recompute"]]
    rows[0] += [*PARTS, f"{unit} a GPU", "time", "GPU-hours"]
    total, counted = 0.0, 0
    for row in trained:
        cells = [row.name, f"{row.parameters:,}" if row.parameters else "", f"{row.tokens:,}"]
        if row.plan is None:
            rows.append([*cells, row.problem or "taken as it is"])
            continue
        cells.append(_rounded(row.plan.flops / 1e18))
        best = row.plan.best
        if best is None:
            rows.append([*cells, _lacking(row.plan)])
            continue
        hours = row.plan.gpu_hours(best)
        total, counted = total + hours, counted + 1
        sizes = [*(getattr(best.memory, part) for part in PARTS), best.memory.total]
        times = [_duration(3600 * row.plan.hours(best)), _rounded(hours)]
        rows.append([*cells, *_spread(best), *(_bytes(size, unit) for size in sizes), *times])
    own = as_they_say and any(run.parallel.ranks > 1 for run in study.pretraining.values())
    said = ["Runs with `parallel` are spread as that says, over as many GPUs."] if own else []
    lines = [f"{target}: {study.title}", *_machine(machine, utilisation), *said, "", *_table(rows), ""]
    lines.append(f"The runs that train and fit, {counted}, take {_rounded(total)} GPU-hours in all.")
    if not tuned:
        return lines
    heads = ["fine-tuning", "runs", "largest encoder", "batch", "mesh", "micro-batch", "recompute", f"{unit} a GPU"]
    rows = [heads]
    for grid in tuned:
        cells = [grid.name, str(grid.runs), grid.encoder or "", f"{grid.batch} x {grid.length}"]
        if grid.plan is None or grid.plan.best is None:
            rows.append([*cells, grid.problem or _lacking(grid.plan)])
        else:
            rows.append([*cells, *_spread(grid.plan.best), _bytes(grid.plan.best.memory.total, unit)])
    return [*lines, "", *_table(rows), "", "How long fine-tuning takes is known when the benchmarks have been read."]


def _machine(machine: Machine, utilisation: float) -> list[str]:
    return [
        f"on {machine.gpus} x {machine.name}, {machine.gpus_per_node} a node, {machine.precision}: "
        f"{machine.memory / 1e9:g} GB ({RESERVED:.0%} kept free), {machine.peak / 1e12:g} TFLOP/s of which products "
        f"reach {utilisation:.0%}; {machine.intra_bandwidth / 1e9:g} GB/s in a node, "
        f"{machine.inter_bandwidth / 1e9:g} between nodes a GPU",
        f"({machine.name}: {machine.source})",
        "Estimates of the planner, not measurements. Memory is that at the peak of a step, GB are 10^9 bytes; a mesh "
        "is data x tensor, a micro-batch sequences x how often.",
    ]


def _memory(option: Option) -> list[str]:
    unit = _unit([option.memory.total])
    parts = ", ".join(f"{part} {_bytes(getattr(option.memory, part), unit)}" for part in PARTS)
    mesh, micro_batch, recompute = _spread(option)
    again = "with" if recompute == "yes" else "without"
    whole = f"{_bytes(option.memory.total, unit)} {unit} a GPU"
    return [f"{mesh}, micro-batches {micro_batch}, {again} recomputation: {whole} ({parts})."]


def _unit(sizes: list[float]) -> str:
    return "GB" if max(sizes, default=0.0) >= 1e9 else "MB"


def _bytes(size: float, unit: str) -> str:
    return f"{size / (1e9 if unit == 'GB' else 1e6):.2f}"


def _spread(option: Option) -> list[str]:
    spread = option.spread
    micro_batch = f"{spread.micro_batch} x {spread.accumulate}"
    return [f"{spread.data} x {spread.tensor}", micro_batch, "yes" if spread.recompute else "no"]


def _lacking(found: Plan) -> str:
    machine, needed = found.machine, found.smallest.memory.total / (1 - RESERVED)
    return f"it needs GPUs of at least {needed / 1e9:.1f} GB, found {machine.memory / 1e9:g} GB"


def _duration(seconds: float) -> str:
    for size, unit in UNITS:
        if seconds >= size:
            return f"{_rounded(seconds / size)} {unit}"
    return f"{_rounded(seconds / UNITS[-1][0])} {UNITS[-1][1]}"


def _rounded(value: float) -> str:
    """Three digits, or all before the point."""
    decimals = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{decimals}f}"


def _table(rows: list[list[str]]) -> list[str]:
    """Columns as wide as they need; the last cell of a short row is a remark, of any length."""
    whole = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[place]) for row in whole) for place in range(len(rows[0]))]
    for row in rows:
        for place, cell in enumerate(row[:-1]):
            widths[place] = max(widths[place], len(cell))
    lines = []
    for row in rows:
        remark = [] if len(row) == len(rows[0]) else [row[-1]]
        cells = row[: len(row) - len(remark)]
        padded = [cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in
                  enumerate(zip(cells, widths, strict=False))]  # fmt: skip
        lines.append("  ".join([*padded, *remark]).rstrip())
    return lines
