"""Tables and figures as HTML that a notebook displays, with a caption, and links to the files that made them.

What is notable: a table's text may be that of any data set, so every cell is escaped here, and the page that shows it
goes through its own allow-list again (`html.py`). A link in a cell is relative, so that a report leads nowhere else.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biomeg_lib.errors import BiomegError, InputError

Links = Sequence[tuple[str, str]]

_RELATIVE = re.compile(r"(?![/\\])[^:/?#]*([/?#]|\Z)")  # browsers take a backslash for a slash
_VERDICTS = ("supported", "contradicted", "inconclusive")


@dataclass(frozen=True, slots=True)
class Link:
    """A cell of a table that leads to another place of the report, such as `Link("Table 3", "vocab.html#table3")`.

    Raises:
        BiomegError: `href` is not relative.
    """

    text: str
    href: str

    def __post_init__(self) -> None:
        if not self.href or not _RELATIVE.match(re.sub(r"[\s\x00-\x1f]", "", self.href)):
            raise BiomegError(f"expected a relative link, such as vocab.html#table3, found {self.href!r}")

    def __str__(self) -> str:
        return self.text


def _decimals(column: pd.Series) -> int:
    """Decimals, three at most, with which every number of a column shows what it has in three."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return next(d for d in range(4) if d == 3 or np.array_equal(np.round(numbers, d), np.round(numbers, 3)))


def _cell(value: Any, decimals: int) -> str:
    if isinstance(value, Link):
        return f'<a href="{html.escape(value.href)}">{html.escape(value.text)}</a>'
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, (float, np.floating)):
        return f"{value:,.{decimals}f}"
    return html.escape(str(value))


def _badge(cell: str) -> str:
    """A cell of a column "verdict"; the style gives each of the three a mark beside its colour."""
    return f'<span class="verdict {cell}">{cell}</span>' if cell in _VERDICTS else cell


def _opening(name: str | None) -> str:
    return f'<figure id="{html.escape("-".join(name.split()))}">' if name else "<figure>"


def _caption(caption: str, source: Links) -> str:
    links = ", ".join(f'<a href="{html.escape(href)}">{html.escape(name)}</a>' for name, href in source)
    made = f' <span class="made">Made by {links}.</span>' if links else ""
    return f"<figcaption>{html.escape(caption)}{made}</figcaption>"


def linked_table(frame: pd.DataFrame, caption: str, source: Links, name: str | None = None) -> str:
    """A table with a caption and links to what made it, as HTML that a notebook displays.

    Numbers stand at the right, a column with the same decimals throughout (three at most), missing ones as a dash.
    The index is not shown. In a column "verdict", `supported`, `contradicted` and `inconclusive` become badges.

    Args:
        frame: any table; all its text is escaped. A cell may be a `Link`.
        caption: one or two sentences, with the unit of the numbers.
        source: (text, href) of the makers, such as the notebook and the params file; hrefs as seen from the page.
        name: of its file without the ending, by which others link to it: `vocab.html#table3`.
    """
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    right = [pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) for column in columns]
    # A name that breaks at its hyphens is hard to read; only columns of longer texts are wrapped.
    wide = [
        not number and column.astype(str).str.len().max() > 32 for number, column in zip(right, columns, strict=True)
    ]
    attributes = [  # styles are inline since JupyterLab has no style sheet of ours
        f'style="text-align: {"right" if number else "left"}; white-space: {"normal" if wraps else "nowrap"}"'
        + (' class="wide"' if wraps else "")
        for number, wraps in zip(right, wide, strict=True)
    ]
    head = "".join(
        f'<th scope="col" {attribute}>{html.escape(str(heading))}</th>'
        for attribute, heading in zip(attributes, frame.columns, strict=True)
    )
    shown = []
    for column, attribute, decimals in zip(columns, attributes, map(_decimals, columns), strict=True):
        cells = [_cell(value, decimals) for value in column]
        cells = [_badge(cell) for cell in cells] if str(column.name).lower() == "verdict" else cells
        shown.append([f"<td {attribute}>{cell}</td>" for cell in cells])
    rows = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*shown, strict=True))
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    return f'{_opening(name)}\n<div class="scroll" tabindex="0">{table}</div>\n{_caption(caption, source)}\n</figure>'


def linked_figure(path: Path, caption: str, source: Links) -> str:
    """A saved SVG, embedded, with a caption (also its alternative text) and links to what made it, as HTML. Others link
    to it by the file's name without its ending: `vocab.html#figure1`.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(path, "expected a saved figure (.svg), found no such file")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(caption)}">'
    return f'{_opening(path.stem)}\n<div class="scroll">{image}</div>\n{_caption(caption, source)}\n</figure>'
