"""The report's first screen: the findings as a table, as a figure, and in words."""

import html

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from biomeg_lib.report import figures
from biomeg_lib.report.findings.judging import Finding
from biomeg_lib.report.linked import Link

_COLOURS = {"supported": "#0173b2", "contradicted": "#d55e00", "inconclusive": "#8b939c"}
_MARKERS = {"supported": "o", "contradicted": "s", "inconclusive": "D"}


def in_short(found: list[Finding]) -> str:
    """One sentence that counts verdicts."""
    counts = {verdict: sum(finding.verdict == verdict for finding in found) for verdict in _COLOURS}
    parts = [f"{number} {verdict}" for verdict, number in counts.items()]
    return f"Of {len(found)} claims of the paper, this profile finds {parts[0]}, {parts[1]} and {parts[2]}."


def as_shown(table: pd.DataFrame) -> pd.DataFrame:
    """What `findings.table` returns, narrow enough for a page: effect and interval as text, the claim as a link to the
    cell that shows it."""
    rows = []
    for row in table.to_dict("records"):
        effect = "\N{EN DASH}"
        if pd.notna(row["effect"]):
            effect = f"{row['effect']:+.2f}"
            if pd.notna(row["ci_low"]):
                effect += f" ({row['ci_low']:+.2f} to {row['ci_high']:+.2f})"
        rows.append(
            {
                "claim": Link(row["claim"], row["link"]) if pd.notna(row["link"]) else row["claim"],
                "the paper says": row["statement"],
                "verdict": row["verdict"],
                "effect here (95 % interval)": effect,
                "of": f"{row['comparison']}" if pd.notna(row["comparison"]) else "no runs",
                "in the paper": row["published"],
            }
        )
    return pd.DataFrame(rows)


def in_words(found: list[Finding]) -> str:
    """All evidence, as an HTML list: what each part of a claim gave, and how many seeds would decide what is open."""
    items = [
        f"<li><b>{html.escape(one.claim.number)}, {html.escape(one.verdict)}.</b> {html.escape(one.claim.statement)}. "
        f"{html.escape(one.evidence)}</li>"
        for one in found
    ]
    return f"<ul>{''.join(items)}</ul>"


def forest(found: list[Finding]) -> Figure:
    """Each part of each claim that is measured in points: its effect, its 95 % interval, and the threshold it is held
    against (a short line), coloured and marked by the verdict of the claim."""
    parts = [(finding, one) for finding in found for one in finding.claim.parts if one.unit == "points"]
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 0.42 * max(len(parts), 2) + 1.1), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=figures.MUTED, linewidth=1)
        for place, (finding, one) in enumerate(parts):
            colour, marker = _COLOURS[finding.verdict], _MARKERS[finding.verdict]
            difference = one.difference
            if difference.low is not None:
                axes.plot([difference.low, difference.high], [place, place], color=colour, linewidth=2.2)
            axes.plot(difference.mean, place, marker, color=colour, markersize=7)
            if one.threshold:
                axes.plot([one.threshold] * 2, [place - 0.3, place + 0.3], color=figures.INK, linewidth=1.4)
        for verdict, colour in _COLOURS.items():
            axes.plot([], [], _MARKERS[verdict], color=colour, label=verdict)
        # one interval over two seeds can be many times as wide as all others together
        ends = [abs(end) for _, one in parts for end in (one.difference.low, one.difference.high) if end is not None]
        if ends:
            reach = min(max(ends), max(4 * sorted(ends)[len(ends) // 2], 5.0))
            axes.set_xlim(-reach * 1.05, reach * 1.05)
        names = [f"{finding.claim.number}  {_short(one.name)}" for finding, one in parts]
        axes.set_yticks(range(len(parts)), names)
        axes.set_ylim(len(parts) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel("Difference on test (points), with 95 % interval")
        figure.legend(loc="outside upper left", ncols=3, alignment="left", title="Verdict of the claim")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 62 else name[:59].rstrip() + "..."
