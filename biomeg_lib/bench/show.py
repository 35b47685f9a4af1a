"""What the notebook shows of the results: a table a machine, how far each case is from its target, cost curves."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from biomeg_lib.bench import results
from biomeg_lib.bench.cases import CASES
from biomeg_lib.bench.curves import BUILDING
from biomeg_lib.bench.targets import TARGETS
from biomeg_lib.report import figures
from biomeg_lib.report.linked import linked_figure, linked_table
from biomeg_lib.study import find_root

NOT_MEASURED = "not measured"
MET, MISSED = "met", "missed"
RECORDS = Path("docs/results/bench")
_MARKS = {MET: ("#0b7a4b", "o"), MISSED: ("#c0392b", "X")}


@dataclass(frozen=True)
class Results:
    """Results as read: of `outputs/<profile>`, and dated records that are kept with the code.

    Attributes:
        cases: rows of bench.csv, a machine after the other, in the order of the cases.
        curves: rows of curves.csv.
        folder: where figures go, in `figures`.
        links: file -> where it is, as seen from the page.
    """

    cases: pd.DataFrame
    curves: pd.DataFrame
    folder: Path
    links: dict[str, str]

    @property
    def machines(self) -> list[str]:
        """Those with a measurement, of cases or curves."""
        measured = self.cases.loc[self.cases["ours"].notna(), "hardware"]
        return list(dict.fromkeys([*measured, *self.curves["hardware"]]))

    @property
    def unmeasured(self) -> list[str]:
        """Cases that no machine has measured."""
        return [name for name in CASES if name not in set(self.cases.loc[self.cases["ours"].notna(), "case"])]

    def table(self, machine: str) -> HTML:
        """All cases on one machine."""
        rows = self.cases[self.cases["hardware"] == machine]
        dates = sorted({str(date) for date in rows.loc[rows["ours"].notna(), "date"]})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}" if dates else NOT_MEASURED
        caption = (
            f"{machine}, {when}. Medians over interleaved rounds; the ratio is that of the medians, beside it the "
            "lowest and the highest of single rounds."
        )
        return HTML(linked_table(shown(rows), caption, self._links("bench.csv")))

    def peers(self, machine: str) -> HTML:
        """What ours was compared with on one machine."""
        rows = self.cases[(self.cases["hardware"] == machine) & self.cases["ours"].notna()]
        table = rows[["case", "peer_name", "runs", "date"]].rename(columns={"peer_name": "peer", "runs": "rounds"})
        return HTML(linked_table(table, f"{machine}: what the peers are.", self._links("bench.csv")))

    def margins(self) -> HTML:
        """How far the cases are from what they are held to."""
        path = figures.save(draw_margins(self.cases), self.folder / "figures" / "margins.svg")
        caption = (
            "Ratio over target, for memory and waiting target over ratio, so that right of the line is met everywhere; "
            "lines reach from the lowest to the highest round."
        )
        return HTML(linked_figure(path, caption, self._links("bench.csv")))

    def curve(self, name: str, quantity: str, caption: str) -> HTML:
        """One cost curve, a line a machine.

        Args:
            quantity: what is drawn, by its unit: "tokens/s", "seconds", "MB".
        """
        rows = self.curves[(self.curves["curve"] == name) & (self.curves["y_unit"] == quantity)]
        if rows.empty:
            return HTML(f"<p>{html.escape(name)}: {NOT_MEASURED}.</p>")
        labels = {"MB": "peak memory (MB)"}
        figure = figures.learning_curve(
            rows,
            x="x",
            y="y",
            hue="hardware",
            x_label=f"{'corpus' if name == BUILDING else name} ({', '.join(dict.fromkeys(rows['x_unit']))})",
            y_label=labels.get(quantity, quantity),
        )
        figure.axes[0].set_ylim(bottom=0, top=1.15 * rows["y"].max())
        file = f"{name}-{quantity}".replace(" ", "-").replace("/", "-per-")
        path = figures.save(figure, self.folder / "figures" / f"{file}.svg")
        return HTML(linked_figure(path, caption, self._links("curves.csv")))

    def _links(self, *files: str) -> list[tuple[str, str]]:
        return [(Path(name).name, self.links[name]) for name in ("benchmark.ipynb", *files) if name in self.links]


def read(profile: str, records: Path = RECORDS, chapter: str = "") -> Results:
    """The results of `outputs/<profile>` and, behind them, the records, newest first.

    A row of a case and machine is shown once, the first that has numbers.

    Args:
        chapter: the profile of a study whose report the page is a chapter of; empty for a page of its own beside the
            results.

    Raises:
        InputError: a file that is none of the benchmark's.
    """
    root = find_root()
    folder = root / "outputs" / profile
    kept = sorted((root / records).glob("*.csv"), reverse=True)
    curve_files = [path for path in kept if path.stem.endswith("curves")]
    cases = _stack([folder / "bench.csv", *(path for path in kept if path not in curve_files)], results.COLUMNS)
    cases = cases.iloc[cases["ours"].isna().argsort(kind="stable")].drop_duplicates(["case", "hardware"])
    place = cases["case"].map({name: number for number, name in enumerate(CASES)})
    cases = cases.assign(place=place).dropna(subset="place").sort_values("place", kind="stable")
    curves = _stack([folder / "curves.csv", *curve_files], results.CURVE_COLUMNS)
    curves = curves.drop_duplicates(["curve", "x", "y_unit", "hardware"])
    links = {name: name for name in ("benchmark.ipynb", "bench.csv", "curves.csv")}
    if chapter:
        links = {name: f"../../{profile}/{name}" for name in links if (folder / name).is_file()}
        links["benchmark.ipynb"] = "../notebooks/benchmark.ipynb"
        folder = root / "outputs" / chapter
    return Results(cases.drop(columns="place").reset_index(drop=True), curves.reset_index(drop=True), folder, links)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """bench.csv as it is printed: numbers of three digits in their units, targets and whether they are met."""
    lines = []
    for row in rows.itertuples():
        target = TARGETS[row.case]
        line = {"case": row.case, "ours": "", "peer": "", "unit": row.unit, "ratio": "", "rounds": ""}
        if not math.isnan(row.ours):
            spread = f"{number(row.ratio_min)} \N{EN DASH} {number(row.ratio_max)}"
            line |= {"ours": number(row.ours), "peer": number(row.peer), "ratio": number(row.ratio_median)}
            line |= {"rounds": spread}
        verdict = verdict_of(row.case, row.ratio_median)
        lines.append({**line, "at least": str(target), "verdict": verdict})
    return pd.DataFrame(lines, columns=["case", "ours", "peer", "unit", "ratio", "rounds", "at least", "verdict"])


def verdict_of(case: str, ratio: float) -> str:
    """`met`, `missed` or `not measured`."""
    if math.isnan(ratio):
        return NOT_MEASURED
    return MET if TARGETS[case].met(ratio) else MISSED


def number(value: float) -> str:
    """Three digits, more where there are more before the point: 12,345; 6.12; 0.0134."""
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def draw_margins(rows: pd.DataFrame) -> Figure:
    """A dot a case and machine at ratio / target (target / ratio where less is better), on a logarithmic axis."""
    rows = rows.dropna(subset=["ratio_median"])
    names = list(dict.fromkeys(rows["case"]))
    machines = list(dict.fromkeys(rows["hardware"]))
    with matplotlib.rc_context():
        figures.style()
        figure = Figure(figsize=(8.5, 0.9 + 0.34 * max(len(names), 1)), layout="constrained")
        axes = figure.subplots()
        palette = sns.color_palette("colorblind", max(len(machines), 1))
        for row in rows.itertuples():
            target = TARGETS[row.case]
            margins = [
                _margin(value, target.ratio, target.at_least)
                for value in (row.ratio_min, row.ratio_median, row.ratio_max)
            ]
            offset = 0.3 * (machines.index(row.hardware) - (len(machines) - 1) / 2) / max(len(machines), 1)
            y = names.index(row.case) + offset
            colour, mark = _MARKS[verdict_of(row.case, row.ratio_median)]
            axes.plot([margins[0], margins[2]], [y, y], color=palette[machines.index(row.hardware)], linewidth=2.2)
            axes.plot(margins[1], y, mark, color=colour, markersize=7)
        for verdict, (colour, mark) in _MARKS.items():
            axes.plot([], [], mark, color=colour, label=verdict)
        for machine, colour in zip(machines, palette, strict=False):
            axes.plot([], [], color=colour, label=machine)
        axes.axvline(1, color=figures.INK, linewidth=1)
        axes.set_xscale("log")
        ticks = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(FixedLocator([]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel("measured over target")
        figure.legend(loc="outside upper left", ncols=2, alignment="left")
    return figure


def _margin(ratio: float, target: float, at_least: bool) -> float:
    return ratio / target if at_least else target / max(ratio, 1e-9)


def _stack(paths: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    frames = [frame for path in paths if not (frame := results.read(path, columns)).empty]
    return pd.concat(frames, ignore_index=True) if frames else results.read(Path(), columns)
