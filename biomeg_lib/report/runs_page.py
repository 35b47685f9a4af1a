"""The page "Runs": every training run with its date, commit, time, score, params, versions and hardware.

Notable: the page stays small for hundreds of runs, as params and environments that are equal stand on it once. Its
energy is an estimate, see `WATTS_A_CORE` and `BOARD_WATTS`.
"""

import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import markupsafe
import pandas as pd

from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json
from biomeg_lib.report.html import template
from biomeg_lib.report.linked import Link, linked_table
from biomeg_lib.report.tables import HEADS
from biomeg_lib.training.rundir import state_of

PAGE = "runs"
KINDS = ("pretrain", "search", "finetune")

# An assumption, nothing is measured: CPUs of 150 to 300 W have 32 to 64 cores, so a busy core takes about as much.
WATTS_A_CORE = 5.0
# Board power in watts as NVIDIA's data sheets state it, by the name that CUDA gives the card.
BOARD_WATTS = {
    "NVIDIA B200": 1000,
    "NVIDIA H200": 700,
    "NVIDIA H100 80GB HBM3": 700,
    "NVIDIA H100 PCIe": 350,
    "NVIDIA A100-SXM4-80GB": 400,
    "NVIDIA A100-SXM4-40GB": 400,
    "NVIDIA A100 80GB PCIe": 300,
    "NVIDIA A100-PCIE-40GB": 250,
    "NVIDIA L40S": 350,
    "NVIDIA L4": 72,
    "NVIDIA GeForce RTX 4090": 450,
    "NVIDIA GeForce RTX 3090": 350,
    "Tesla V100-SXM2-32GB": 300,
    "Tesla V100-SXM2-16GB": 300,
    "Tesla T4": 70,
}
_CARD = re.compile(r"NVIDIA|Tesla|Quadro|GeForce|GRID|Instinct|Radeon")

_SHARED_FROM = 240  # characters of JSON from which a value is shown once and linked; shorter ones stand at each run
_SEARCHED = re.compile(r"devel_(\w+)")


@dataclass(frozen=True, slots=True)
class Run:
    """A complete run, as its folder describes it.

    Attributes:
        seconds: of training, evaluations included.
        tokens: real tokens trained on; None where that was not counted.
        score: None where the result has none that is known here.
        measure: what `score` is.
    """

    kind: str
    name: str
    params: dict[str, Any]
    environment: dict[str, Any]
    seconds: float
    tokens: float | None
    score: float | None
    measure: str

    @property
    def hardware(self) -> str:
        """The processor without the number of those that the machine has."""
        text = str(self.environment.get("hardware", "unknown"))
        return re.sub(r"^\d+ x ", "", text)

    @property
    def watts(self) -> float | None:
        """The power it is taken to have drawn; None where that is unknown."""
        if self.hardware in BOARD_WATTS:
            return BOARD_WATTS[self.hardware]
        threads = self.environment.get("threads")
        if _CARD.search(self.hardware) or not isinstance(threads, int):
            return None
        return threads * WATTS_A_CORE

    @property
    def kilowatt_hours(self) -> float | None:
        """`watts` over `seconds`."""
        return None if self.watts is None else self.watts * self.seconds / 3.6e6


def run_href(name: str) -> str:
    """Where the report describes a run: `runs.html#run-<name>`, for a `Link`."""
    return f"{PAGE}.html#{quote(_anchor(name))}"


def _anchor(name: str) -> str:
    return f"run-{'-'.join(name.split())}"


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs in `outputs/<profile>/runs`, in the order of `KINDS` and by name.

    Returns:
        Complete runs, and "<kind> <name> (<state>)" of the others.

    Raises:
        InputError: a complete run has a file that is missing or damaged.
    """
    runs, unfinished = [], []
    for kind in KINDS:
        for path in sorted(path for path in (folder / kind).glob("*") if (path / "params.json").is_file()):
            if (state := state_of(path)) == "complete":
                runs.append(_read_run(kind, path))
            else:
                unfinished.append(f"{kind} {path.name} ({state})")
    return runs, unfinished


def _read_run(kind: str, folder: Path) -> Run:
    metrics = _object(folder / "metrics.json")
    seconds = metrics.get("seconds")
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise InputError(folder / "metrics.json", f"expected a number of seconds, found {seconds!r}")
    score, measure = _score(metrics)
    params, environment = (_object(folder / name) for name in ("params.json", "environment.json"))
    return Run(kind, folder.name, params, environment, float(seconds), _number(metrics.get("tokens")), score, measure)


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(path, f"expected a JSON object, found {type(value).__name__}; delete its folder")
    return value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _score(metrics: dict[str, Any]) -> tuple[float | None, str]:
    """The score that a run is about, and what it is: of a fine-tuning run in per cent, of a pre-training run a loss."""
    test = metrics.get("test")
    if isinstance(test, dict):
        key = "mean_reciprocal_rank" if test.get("mean_reciprocal_rank") is not None else "f1"
        if (score := _number(test.get(key))) is not None:
            return 100 * score, f"{HEADS[key]}, %"
    for key, value in metrics.items():
        if (found := _SEARCHED.fullmatch(key)) and (score := _number(value)) is not None:
            return 100 * score, f"devel. {HEADS.get(found[1], 'score')}, %"
    if (loss := _number(metrics.get("heldout_mlm"))) is not None:
        return loss, "loss, nats"
    return None, ""


def runs_page(folder: Path, stems: Collection[str] = ()) -> str:
    """The page's body as HTML, all text escaped.

    Args:
        folder: `outputs/<profile>/runs`; it need not be there.
        stems: of the report's other pages, to link a run to its own: `pretrain.<run>`, `finetune.<job>`.

    Raises:
        InputError: see `read_runs`.
    """
    runs, unfinished = read_runs(folder)
    energies = [run.kilowatt_hours for run in runs]
    unknown = [run.hardware for run, energy in zip(runs, energies, strict=True) if energy is None]
    in_common = _InCommon()
    return template("runs.html.j2").render(
        runs=runs,
        unfinished=unfinished,
        hours=sum(run.seconds for run in runs) / 3600,
        kilowatt_hours=sum(energy for energy in energies if energy is not None),
        watts_a_core=WATTS_A_CORE,
        unknown=len(unknown),
        unknown_hardware=sorted(set(unknown)),
        totals=markupsafe.Markup(linked_table(_totals(runs), "All runs of a kind together.", [], "totals")),
        table=markupsafe.Markup(
            linked_table(
                _rows(runs),
                "One row a run; its name leads to its params, versions and hardware. Scores are on the test set, of a "
                "search on the development set; losses on held-out text. The date is that of its start, or of its last "
                "resumption. A + behind a commit: files differed from it.",
                [],
                "runs",
            )
        ),
        entries=[
            {"run": run, "anchor": _anchor(run.name), "page": _page(run, stems), **in_common.entry(run)} for run in runs
        ],
        blocks=in_common.blocks,
    )


def _totals(runs: Sequence[Run]) -> pd.DataFrame:
    rows = []
    for kind in dict.fromkeys(run.kind for run in runs):
        of_kind = [run for run in runs if run.kind == kind]
        tokens = [run.tokens for run in of_kind if run.tokens is not None]
        known = [run.kilowatt_hours for run in of_kind if run.kilowatt_hours is not None]
        rows.append(
            {
                "Kind": kind,
                "Runs": len(of_kind),
                "Hours": sum(run.seconds for run in of_kind) / 3600,
                "Tokens": sum(tokens) if tokens else None,
                "Energy, estimate (Wh)": 1000 * sum(known) if known else None,
            }
        )
    return pd.DataFrame(rows)


def _rows(runs: Sequence[Run]) -> pd.DataFrame:
    rows = [
        {
            "Kind": run.kind,
            "Run": Link(run.name, f"#{quote(_anchor(run.name))}"),
            "Score": run.score,
            "Measure": run.measure,
            "Seconds": round(run.seconds, 1),
            "Tokens": run.tokens,
            "Date (UTC)": str(run.environment.get("date") or "\N{EN DASH}")[:16].replace("T", " "),
            "Commit": _short(str(run.environment.get("commit") or "\N{EN DASH}")),
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def _short(commit: str) -> str:
    """The first digits of a commit, and the `+` of one that files differ from."""
    return commit[:7] + "+" * (len(commit) > 7 and commit.endswith("+"))


def _page(run: Run, stems: Collection[str]) -> str | None:
    """The page on which a run is shown: its own, or that of its job, which its name begins with."""
    parts = [run.kind.replace("search", "finetune"), *run.name.split(".")]
    candidates = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next((f"{quote(stem)}.html" for stem in candidates if stem in stems), None)


@dataclass(slots=True)
class _InCommon:
    """Long values and environments of runs, each once, numbered in the order in which runs have them."""

    blocks: list[tuple[str, str, str]] = field(default_factory=list)
    _known: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def entry(self, run: Run) -> dict[str, Any]:
        """What stands at the run itself, `own`, and `shared`: (label, anchor) of what stands elsewhere."""
        own, shared = [], []
        for key, value in run.params.items():
            text = json.dumps(value, ensure_ascii=False)
            if len(text) < _SHARED_FROM:
                own.append(f"{key}: {text}")
            else:
                shared.append(self._link(key, value))
        of_run = ("date", "commit")
        own += [f"{key}: {json.dumps(run.environment.get(key), ensure_ascii=False)}" for key in of_run]
        surroundings = {key: value for key, value in run.environment.items() if key not in of_run}
        return {"own": "\n".join(own), "shared": [*shared, self._link("environment", surroundings)]}

    def _link(self, what: str, value: Any) -> tuple[str, str]:
        text = json.dumps(value, ensure_ascii=False, indent=1)
        if (what, text) not in self._known:
            number = 1 + sum(1 for known, _ in self._known if known == what)
            anchor = f"shared-{'-'.join(what.split())}-{number}"
            self._known[what, text] = (f"{what} {number}", anchor)
            self.blocks.append((f"{what} {number}", anchor, text))
        return self._known[what, text]
