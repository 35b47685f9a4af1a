"""`biomeg bench`: measure, write the tables, execute the notebook, render it."""

import datetime
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biomeg_lib.bench import data, results
from biomeg_lib.bench.cases import CASES, PLANS, settings_of
from biomeg_lib.bench.curves import measure_curves
from biomeg_lib.bench.harness import Figures, Plan, Rounds, measure
from biomeg_lib.bench.machine import machine, today
from biomeg_lib.bench.results import Row
from biomeg_lib.bench.targets import TARGETS
from biomeg_lib.errors import BiomegError
from biomeg_lib.params import suggestion
from biomeg_lib.report.execute import execute
from biomeg_lib.report.html import render_notebook
from biomeg_lib.study import Study, find_root
from biomeg_lib.training.environment import describe_environment

CURVES = "curves"
ROUNDS = 7
PROFILES = {False: "bench", True: "bench-quick"}  # outputs/<this>


def bench(cases: Sequence[str] | None = None, rounds: int = ROUNDS, quick: bool = False) -> Path:
    """Measure cases, put them into `outputs/bench/bench.csv`, and make the page of the notebook.

    Args:
        cases: names, `curves` among them; None for all.
        rounds: measured rounds of each.
        quick: tiny shapes on the miniature, into `outputs/bench-quick`: shows that all works, and nothing else.

    Returns:
        The page, `benchmark.html`.

    Raises:
        BiomegError: an unknown case; or, when all is written, that some cases failed.
    """
    if rounds < 1:
        raise BiomegError(f"bench: expected at least one round, found {rounds}")
    known = (*CASES, CURVES)
    wanted = set(cases or known)
    for name in sorted(wanted.difference(known)):
        raise BiomegError(f"bench: no case is called {name!r}; {suggestion(name, known)}")
    root = find_root()
    folder = root / "outputs" / PROFILES[quick]
    how = Rounds(2, 0.05) if quick else Rounds(rounds, 1.5)
    failed = []
    with tempfile.TemporaryDirectory(prefix="biomeg-bench-") as scratch:
        shared = {"folder": scratch, "miniature": quick}
        if not quick and data.is_generated(shared):
            _tell("real data are not here, so cases that read text take the embedded miniature: see `biomeg fetch`")
        for plan in PLANS:
            chosen = wanted.intersection(plan.cases)
            if chosen:
                rows, problem = _measured(plan, {**shared, **settings_of(plan, quick)}, how, chosen)
                results.add_rows(folder / "bench.csv", rows)
                failed += [name for name in plan.cases if name in chosen] if problem else []
        if CURVES in wanted:
            points_of = measure_curves(shared, Rounds(min(3, how.rounds), how.seconds), quick, _tell)
            for points in points_of:
                results.add_points(folder / "curves.csv", points)
    page = _page(root, PROFILES[quick])
    if failed:
        raise BiomegError(f"bench: {len(failed)} of {len(wanted)} cases failed: {', '.join(failed)}; see above")
    return page


def _measured(plan: Plan, settings: Mapping[str, Any], rounds: Rounds, wanted: set[str]) -> tuple[list[Row], bool]:
    """The rows of a plan, without numbers where it cannot run or has failed, and whether it has failed."""
    if plan.cuda and hardware_without_cuda():
        _tell(f"{', '.join(name for name in plan.cases if name in wanted)}: not measured: no CUDA GPU")
        return [_unmeasured(plan, name) for name in plan.cases if name in wanted], False
    try:
        found = measure(plan, settings, rounds, wanted, _tell)
    except BiomegError as error:
        _tell(f"{', '.join(name for name in plan.cases if name in wanted)}: failed: {error}")
        return [_unmeasured(plan, name) for name in plan.cases if name in wanted], True
    rows = []
    for name, figures in found.items():
        rows.append(_row(plan, name, figures))
        _tell(_line(rows[-1]))
    return rows, False


def hardware_without_cuda() -> bool:
    """Whether this machine lacks a CUDA GPU."""
    import torch

    return not torch.cuda.is_available()


def _row(plan: Plan, name: str, figures: Figures) -> Row:
    unit = plan.unit if name == plan.case else plan.share_unit
    return Row(
        case=name,
        unit=f"{unit} (miniature)" if figures.generated else unit,
        ours=statistics.median(figures.ours),
        peer=statistics.median(figures.peer),
        peer_name=figures.peer_name,
        ratio_median=figures.ratio,
        ratio_min=min(figures.ratios),
        ratio_max=max(figures.ratios),
        runs=len(figures.ours),
        hardware=machine(plan.cuda),
        date=today(),
    )


def _unmeasured(plan: Plan, name: str) -> Row:
    unit = plan.unit if name == plan.case else plan.share_unit
    return Row(name, unit, None, None, "", None, None, None, 0, machine(plan.cuda), today())


def _line(row: Row) -> str:
    target = TARGETS[row.case]
    verdict = "met" if target.met(row.ratio_median) else "missed"
    bound = f"{'at least' if target.at_least else 'at most'} {target.ratio:g}"
    figures = f"{row.ours:,.4g} against {row.peer:,.4g} {row.unit}"
    spread = f"{row.ratio_min:.3g} to {row.ratio_max:.3g} in {row.runs} rounds"
    return f"{row.case}: {row.ratio_median:.3g} ({spread}), {bound}: {verdict}; {figures}; {row.peer_name}"


def _page(root: Path, profile: str) -> Path:
    """Execute the notebook on what is there and render it."""
    study = Study(profile=profile, title="Benchmark", description="Speed and memory beside peers", seeds=[1])
    study._root = root
    executed, page = study.outputs / "benchmark.ipynb", study.outputs / "benchmark.html"
    execute(study, "benchmark", executed, {})
    environment = describe_environment(root)
    packages = {name: str(version) for name, version in environment.pop("packages").items()}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    kept = {key: str(value) for key, value in environment.items() if key not in ("date", "threads")}
    provenance = {**kept, "rendered": now, "versions": packages}
    render_notebook(executed, page, navigation=[("Computing", [("Benchmark", page.name)])], provenance=provenance)
    return page


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
