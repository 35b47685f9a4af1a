"""Reference results: what may be kept with the code of a profile's outputs, so that a visitor sees them before a run.

What is notable: they go to `outputs/<profile>/reference`, beside the outputs and not in their place: a committed
`tables/table1.csv` would satisfy `make` without ever having been computed. No weights are in them and no text of data
sets: pages of single runs are left out, and so are cells tagged `not-in-reference`, which show examples.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat

from biomeg_lib import sums
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_directory
from biomeg_lib.report.execute import render
from biomeg_lib.report.runs_page import Run, read_runs
from biomeg_lib.study import Study

FOLDER = "reference"
LEFT_OUT = "not-in-reference"
MOST_BYTES = 15_000_000


def keep(study: Study) -> Path:
    """Make `outputs/<profile>/reference` of a finished study: report, executed chapters, tables, figures, findings and
    the result of every run; whole or not at all, in place of an older one.

    Returns:
        The folder.

    Raises:
        InputError: a part of the study is not there yet.
        BiomegError: runs are unfinished, or the whole is larger than `MOST_BYTES`.
    """
    out = study.outputs
    runs, unfinished = read_runs(out / "runs")
    if unfinished or not runs:
        what = f"{len(unfinished)} unfinished ones" if unfinished else "none"
        raise BiomegError(
            f"{out / 'runs'}: expected complete runs, found {what}; run `make study PROFILE={study.profile}`"
        )
    chapters = sorted(path for path in (out / "notebooks").glob("*.ipynb") if "." not in path.stem)
    for path in (out / "findings.csv", out / "report" / "index.html"):
        if not path.is_file():
            raise InputError(path, f"expected this file, found none; run `make study PROFILE={study.profile}` first")
    with atomic_directory(out / FOLDER) as folder:
        for name in ("tables", "figures"):
            shutil.copytree(out / name, folder / name, ignore=shutil.ignore_patterns(sums.LEDGER))
        shutil.copy(out / "findings.csv", folder)
        for run in runs:
            target = folder / "runs" / run.kind / run.name
            target.mkdir(parents=True)
            for name in ("metrics.json", "params.json", "environment.json"):
                shutil.copy(out / "runs" / run.kind / run.name / name, target)
            shutil.copy(out / "runs" / run.kind / run.name / "state", target)
        (folder / "notebooks").mkdir()
        for path in chapters:
            nbformat.write(_without_text(path), folder / "notebooks" / path.name)
        render(study, [folder / "notebooks" / path.name for path in chapters], folder)
        (folder / "README.md").write_text(_readme(study, runs), encoding="utf-8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > MOST_BYTES:
            raise BiomegError(f"{out / FOLDER}: expected at most {MOST_BYTES:,} bytes, found {size:,}")
    return out / FOLDER


def _without_text(path: Path) -> nbformat.NotebookNode:
    """An executed notebook without the cells that show text of data sets, and its links from one folder deeper."""
    notebook = nbformat.read(path, as_version=4)
    for key in ("widgets", "papermill"):  # papermill notes the folders of the machine
        notebook.metadata.pop(key, None)
    notebook.cells = [cell for cell in notebook.cells if LEFT_OUT not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = output.data["text/html"].replace('href="../../../', 'href="../../../../')
    return notebook


def _readme(study: Study, runs: Sequence[Run]) -> str:
    def all_of(key: str) -> str:
        return ", ".join(sorted({str(run.environment.get(key, "unknown")) for run in runs}))

    dates = sorted(str(run.environment.get("date", "")) for run in runs)
    hours = sum(run.seconds for run in runs) / 3600
    return f"""# Reference results of the profile `{study.profile}`

What `make study PROFILE={study.profile}` left in `outputs/{study.profile}`, kept by
`biomeg reference {study.params_file.as_posix()}`: open `report/index.html`. Weights are left out, and so are pages and
cells that show text of the data sets.

| | |
| --- | --- |
| command | `make study PROFILE={study.profile}` |
| runs | {len(runs)}, started {dates[0][:16]} to {dates[-1][:16]} (UTC) |
| training | {hours:.2f} hours, summed over runs |
| hardware | {all_of("hardware")} |
| PyTorch | {", ".join(sorted({str(run.environment.get("packages", {}).get("torch")) for run in runs}))} |
| Python | {all_of("python")} |
| commit | {all_of("commit")} (a + marks files that differed from it) |

`findings.csv` has the claims of the paper and what was found; `tables/` and `figures/` are those of the report;
`runs/<kind>/<name>/` has each run's result, params and environment.
"""
