"""Every plot of the study: one style, one way to save, and the plots that most notebooks draw.

Figures are made without pyplot's global state, so drawing many of them holds no memory, and a notebook shows each
once. SVG files carry their glyphs as outlines and neither dates nor random identifiers: they look the same on
every machine, need no font, and the same figure gives the same bytes.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from biomeg_lib import files
from biomeg_lib.errors import BiomegError
from biomeg_lib.metrics.statistics import mean_interval

WIDTH = 9.0  # inches at most: 864 CSS pixels, the width of the report's text on a laptop
INK, MUTED, PAPER = "#22262b", "#5b636d", "#ffffff"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STYLE: dict[str, Any] = {
    **sns.axes_style("whitegrid"),
    "axes.edgecolor": "#c3c8ce",
    "axes.grid.axis": "both",
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.prop_cycle": matplotlib.cycler(color=sns.color_palette("colorblind")),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # shipped with matplotlib, so that text has the same width everywhere
    "font.size": 10,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.title_fontsize": 9.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",
    "svg.hashsalt": "biomeg",
    "text.color": INK,
    "text.parse_math": False,  # a chemical name may hold dollar signs
    "xtick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.color": MUTED,
    "ytick.labelsize": 9.5,
}


def style() -> None:
    """Set the study's style for plots that a notebook draws itself; the functions below use it without being asked."""
    matplotlib.rcParams.update(STYLE)


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` as SVG, whole or not at all; an unchanged file keeps its time stamp.

    Raises:
        BiomegError: the name does not end in .svg.
    """
    if path.suffix != ".svg":
        raise BiomegError(f"{path}: expected a name that ends in .svg, figures are saved as SVG only")
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    files.write_if_changed(path, stream.getvalue())
    return path


def _need_columns(frame: pd.DataFrame, columns: Sequence[str | None]) -> None:
    """Raises BiomegError for an empty frame or a missing column."""
    missing = [column for column in columns if column is not None and column not in frame.columns]
    if missing:
        raise BiomegError(f"a figure needs the columns {missing}; the table has {list(frame.columns)}")
    if frame.empty:
        raise BiomegError("a figure needs at least one row; the table is empty")


def learning_curve(
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    references: Mapping[Any, float] | None = None,
    facet: str | None = None,
) -> Figure:
    """A metric over steps, tokens or sizes, one line a `hue`; where a point was measured several times (seeds), the
    line is their mean and the band spans the lowest and the highest.

    Args:
        frame: one row a measurement; rows without a `y` (a step that was not evaluated) are left out.
        x: column of the horizontal axis, a count.
        y: column of the metric.
        hue: column whose values are told apart by colour and marker, in order of appearance.
        x_label: what the horizontal axis shows, with its unit ("training tokens").
        y_label: what the vertical axis shows, with its unit ("masked-LM loss (nats per token)").
        log_x: logarithmic horizontal axis, for step counts that span powers of ten; a count of 0 has a place at its
            left, as far from the least other as that is from its tenfold.
        log_y: logarithmic vertical axis.
        references: a value of `hue` -> what it is to be compared with, a dashed line of the same colour.
        facet: column with one panel a value (the measure); panels share their horizontal axis alone.

    Raises:
        BiomegError: a column is missing or no row has a value.
    """
    _need_columns(frame, [x, y, hue, facet])
    frame = frame.dropna(subset=[x, y])
    _need_columns(frame, [])
    names = list(dict.fromkeys(frame[hue])) if hue else [None]
    facets = list(dict.fromkeys(frame[facet])) if facet else [None]
    palette = sns.color_palette("colorblind", len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5 if facet is None else WIDTH, 4.2), layout="constrained")
        panels = figure.subplots(1, len(facets), sharex=True, squeeze=False)[0]
        for axes, panel in zip(panels, facets, strict=True):
            part = frame if facet is None else frame[frame[facet] == panel]
            for i, name in enumerate(names):
                rows = part if hue is None else part[part[hue] == name]
                summary = rows.groupby(x)[y].agg(["mean", "min", "max"]).sort_index()
                few = len(summary) <= 25  # beyond that, markers hide the line
                marker = MARKERS[i % len(MARKERS)] if few else None
                label = None if hue is None else str(name)
                axes.plot(summary.index, summary["mean"], color=palette[i], marker=marker, markersize=5, label=label)
                if (summary["max"] > summary["min"]).any():
                    axes.fill_between(summary.index, summary["min"], summary["max"], color=palette[i], alpha=0.18, lw=0)
                if references and name in references:
                    axes.axhline(references[name], color=palette[i], linestyle="--", linewidth=1.2)
            if facet is not None:
                axes.set_title(str(panel))
        _scale(panels[0], frame[x], log_x)  # the others share it
        for axes in panels:
            axes.set_xlabel(x_label)
            if log_y:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
        panels[0].set_ylabel(y_label)
        if hue is not None:
            _legend_above(figure, *panels[0].get_legend_handles_labels(), title=hue)
    return figure


def _scale(axes: Axes, counts: pd.Series, log: bool) -> None:
    """Scale and ticks of a horizontal axis; within a power of ten, a logarithmic one has its ticks at the counts."""
    places = sorted(set(counts) - {0})
    ticks, digits = None, None
    if log and (counts == 0).any():
        axes.set_xscale("symlog", linthresh=places[0] if places else 1)
        ticks = [0, *places]
    elif log:
        axes.set_xscale("log")
        if places[-1] < 10 * places[0]:
            ticks, digits = places, 1
    if ticks is not None:
        axes.set_xticks(ticks)
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(EngFormatter(sep=" ", places=digits))  # last, since a scale brings its own


def score_bars(
    frame: pd.DataFrame,
    *,
    value: str,
    group: str,
    hue: str,
    facet: str | None = None,
    value_label: str,
    highest: float = 100.0,
) -> Figure:
    """Scores of grouped settings: a bar for each mean, a line for its 95 % interval (Student's t over the seeds), a
    dot for each seed, and the mean as a number. Intervals end at 0 and `highest`, beyond which no score lies.

    Args:
        frame: one row a seed, with the columns named by the other arguments.
        value: column of the score.
        group: column whose values share one block of bars (a vocabulary).
        hue: column told apart by colour within a block (the start of training).
        facet: column with one panel a value (the fraction of the training data); panels share their axes.
        value_label: what the axis shows, with its unit ("F1 on test (%)").
        highest: the largest possible score: 100 for per cent, 1 for fractions.

    Raises:
        BiomegError: a column is missing or no row has a value.
    """
    _need_columns(frame, [value, group, hue, facet])
    frame = frame.dropna(subset=[value])
    _need_columns(frame, [])
    groups, hues = (list(dict.fromkeys(frame[column])) for column in (group, hue))
    facets = list(dict.fromkeys(frame[facet])) if facet else [None]
    columns = min(len(facets), 3)
    lines = math.ceil(len(facets) / columns)
    block = len(groups) * (0.36 * len(hues) + 0.22)
    palette = dict(zip(hues, sns.color_palette("colorblind", len(hues)), strict=True))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(min(WIDTH, 3.6 + 2.7 * columns), lines * (block + 0.75) + 0.45), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        reach = 0.0
        for axes, name in zip(panels, facets, strict=False):
            rows = frame if facet is None else frame[frame[facet] == name]
            cells = {key: cell[value].to_numpy(dtype=np.float64) for key, cell in rows.groupby([group, hue])}
            reach = max(reach, _draw_bars(axes, cells, groups, palette, highest))
        for axes, name in zip(panels, facets, strict=False):
            axes.set_xlim(0, max(reach, highest / 100) * 1.16)  # room for the numbers
            axes.set_xlabel(value_label)
            axes.xaxis.set_tick_params(labelbottom=True)
            axes.set_yticks(range(len(groups)), [str(name) for name in groups])
            axes.set_ylim(len(groups) - 0.45, -0.55)
            axes.grid(False, axis="y")
            axes.tick_params(axis="y", length=0)
            if facet is not None:
                axes.set_title(f"{facet}: {name}")
        for axes in panels[len(facets) :]:
            axes.remove()
        _legend_above(figure, *panels[0].get_legend_handles_labels(), title=hue)
    return figure


def _draw_bars(
    axes: Axes,
    cells: Mapping[tuple[Any, Any], np.ndarray],
    groups: Sequence[Any],
    palette: Mapping[Any, tuple[float, float, float]],
    highest: float,
) -> float:
    """Draw one panel of `score_bars` from the scores of each (group, hue); returns how far right its marks reach."""
    height = 0.84 / len(palette)
    reach = 0.0
    for i, (name, colour) in enumerate(palette.items()):
        pale = tuple(0.3 + 0.7 * channel for channel in colour)
        # An empty bar keeps the legend whole in a panel that lacks this hue.
        axes.barh([math.nan], [math.nan], color=pale, label=str(name))
        for place, setting in enumerate(groups):
            scores = cells.get((setting, name))
            if scores is None:
                continue
            interval = mean_interval(scores)
            y = place - 0.42 + (i + 0.5) * height
            axes.barh(y, interval.mean, height=height * 0.88, color=pale, linewidth=0)
            end = max(interval.mean, *scores)
            if interval.low is not None:
                ends, beam = [max(interval.low, 0.0), min(interval.high, highest)], y - 0.16 * height
                axes.plot(ends, [beam, beam], "|-", color=INK, linewidth=1.3, markersize=6, markeredgewidth=1.3)
                end = max(end, ends[1])
            dots = np.full(len(scores), y + 0.17 * height)
            axes.plot(scores, dots, "o", color=PAPER, markeredgecolor=INK, markeredgewidth=0.9, markersize=4.2)
            text = (
                f"{interval.mean:.1f}" if highest > 1 else f"{interval.mean:.3f}"
            )  # a tenth of a point in either unit
            axes.annotate(text, (end, y), (6, 0), textcoords="offset points", va="center", fontsize=9)
            reach = max(reach, end)
    return reach


def _legend_above(figure: Figure, handles: list[Any], labels: list[str], title: str) -> None:
    """One legend for the whole figure, above it and at the left, where a long name takes nothing from the plot."""
    columns = 1 if max(map(len, labels)) > 40 else min(len(labels), 4)
    figure.legend(handles, labels, title=title, loc="outside upper left", ncols=columns, alignment="left")
