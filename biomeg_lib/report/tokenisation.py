"""The drawing of Figure 1: phrases, and below each the pieces of several vocabularies in boxes, with their labels.

What is notable: boxes are as wide as the text in them, which is measured before anything is drawn; long rows wrap.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import text_to_path

from biomeg_lib.errors import BiomegError
from biomeg_lib.report import figures

WORD_COLOUR, PIECE_COLOUR = "#0b5fb4", "#86259b"  # the paper's blue and purple, dark enough for small text on white

# Sizes of Figure 1 in points.
_PIECE = FontProperties(family=["DejaVu Sans Mono"], size=10)
_WORD_LABEL = FontProperties(family=["DejaVu Sans"], size=9)
_PIECE_LABEL = FontProperties(family=["DejaVu Sans"], size=9, style="italic")  # told apart without colour, too
_NAME = FontProperties(family=["DejaVu Sans"], size=9.5)
_CONTEXT = FontProperties(family=["DejaVu Sans"], size=11)
_ENTITY = FontProperties(family=["DejaVu Sans"], size=11, weight="bold")
_MARGIN, _LEGEND, _HEADING_LINE, _PIECE_LINE, _AFTER_EXAMPLE = 8.0, 28.0, 18.0, 52.0, 12.0
_PAD, _BOX_HEIGHT, _PIECE_GAP, _WORD_GAP = 4.0, 18.0, 2.5, 10.0


def _text_width(text: str, font: FontProperties) -> float:
    """Width of `text` in points."""
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _box_width(piece: str, word_label: str | None, piece_label: str) -> float:
    """Width in points of a piece's box, wide enough for the labels below it."""
    labels = max(_text_width(word_label or "", _WORD_LABEL), _text_width(piece_label, _PIECE_LABEL))
    return max(_text_width(piece, _PIECE) + 2 * _PAD, labels + 6)


def _wrap(widths: Sequence[float], gaps: Sequence[float], room: float) -> list[list[tuple[int, float]]]:
    """Lay boxes out left to right in lines that are `room` wide: per line, the index and the left edge of each box.

    `gaps[i]` is the space before box i when it is not the first of its line. A box wider than `room` has its own line.
    """
    lines: list[list[tuple[int, float]]] = [[]]
    right = 0.0
    for i, width in enumerate(widths):
        left = right + gaps[i] if lines[-1] else 0.0
        if lines[-1] and left + width > room:
            lines.append([])
            left = 0.0
        lines[-1].append((i, left))
        right = left + width
    return lines


class _Sheet:
    """A page in points, origin at the top left, whose height is known only when everything is on it."""

    def __init__(self, width: float):
        self.width, self.top = width, _MARGIN
        self._texts: list[tuple[float, float, str, FontProperties, dict[str, Any]]] = []
        self._boxes: list[tuple[float, float, float]] = []

    def text(self, x: float, down: float, text: str, font: FontProperties, **kwargs: Any) -> None:
        """Put `text` with its baseline `down` points below the current top."""
        self._texts.append((x, self.top + down, text, font, kwargs))

    def box(self, x: float, width: float) -> None:
        self._boxes.append((x, self.top, width))

    def draw(self) -> Figure:
        height = self.top + _MARGIN
        with matplotlib.rc_context(figures.STYLE):
            figure = Figure(figsize=(self.width / 72, height / 72))
            axes = figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(height, 0))
            axes.set_axis_off()
            for x, y, width in self._boxes:
                shape = "round,pad=0,rounding_size=3"
                box = FancyBboxPatch((x, y), width, _BOX_HEIGHT, shape, fc="#f2f4f7", ec="#8b939c", lw=0.9)
                axes.add_patch(box)
            for x, y, text, font, kwargs in self._texts:
                axes.text(x, y, text, fontproperties=font, va="baseline", **kwargs)
        return figure


def tokenisation_figure(
    examples: Sequence[Mapping[str, Sequence[str]]], rows: Sequence[Sequence[Mapping[str, Any]]]
) -> Figure:
    """Figure 1 of the paper: how vocabularies cut phrases. Below each piece stands in blue the label of its word
    (under a word's first piece alone) and in purple the label of the piece.

    Args:
        examples: phrases, each {"words": [...], "tags": [...]} (IOB tags, one a word); tagged words are set in bold.
        rows: for each example, its rows: {"vocabulary": name, "pieces": [...], "word_labels": [...],
            "piece_labels": [...]}; the three lists are equally long, and a word label is None for a piece that
            continues a word.

    Returns:
        A figure as wide as a laptop's page: long rows are wrapped between pieces, and only a piece that is wider than
        the page widens it.

    Raises:
        BiomegError: nothing to draw, or lists of different lengths.
    """
    if not examples or len(examples) != len(rows):
        raise BiomegError(f"expected rows for each of one or more examples, found {len(rows)} for {len(examples)}")
    for example in examples:
        if len(example["words"]) != len(example["tags"]):
            raise BiomegError(f"expected one tag a word, found {example['tags']} for {example['words']}")
    every_row = [row for group in rows for row in group]
    for row in every_row:
        if not len(row["pieces"]) == len(row["word_labels"]) == len(row["piece_labels"]):
            raise BiomegError(f"{row['vocabulary']}: expected as many labels of both kinds as pieces: {row['pieces']}")

    indent = _MARGIN + 14 + max((_text_width(row["vocabulary"], _NAME) for row in every_row), default=0.0)
    boxes = [list(map(_box_width, row["pieces"], row["word_labels"], row["piece_labels"])) for row in every_row]
    room = max([figures.WIDTH * 72 - indent - _MARGIN, *(width for row in boxes for width in row)])
    sheet = _Sheet(indent + room + _MARGIN)
    sheet.text(_MARGIN, 11, "label of the word", _WORD_LABEL, color=WORD_COLOUR)
    after = 3 * _MARGIN + _text_width("label of the word", _WORD_LABEL)
    sheet.text(after, 11, "label of the sub-token", _PIECE_LABEL, color=PIECE_COLOUR)
    sheet.top += _LEGEND

    remaining = iter(boxes)
    for example, group in zip(examples, rows, strict=True):
        words, fonts = example["words"], [_CONTEXT if tag == "O" else _ENTITY for tag in example["tags"]]
        for line in _wrap(list(map(_text_width, words, fonts)), [6.0] * len(words), sheet.width - 2 * _MARGIN):
            for i, left in line:
                sheet.text(_MARGIN + left, 11, words[i], fonts[i])
            sheet.top += _HEADING_LINE
        sheet.top += 4
        for row in group:
            widths = next(remaining)
            gaps = [_PIECE_GAP if label is None else _WORD_GAP for label in row["word_labels"]]
            sheet.text(_MARGIN, 12.5, row["vocabulary"], _NAME, color=figures.MUTED)
            for line in _wrap(widths, gaps, room):
                for i, left in line:
                    x = indent + left
                    middle = {"x": x + widths[i] / 2, "ha": "center"}
                    sheet.box(x, widths[i])
                    sheet.text(down=12.5, text=row["pieces"][i], font=_PIECE, **middle)
                    if row["word_labels"][i] is not None:
                        sheet.text(down=29, text=row["word_labels"][i], font=_WORD_LABEL, color=WORD_COLOUR, **middle)
                    sheet.text(down=41, text=row["piece_labels"][i], font=_PIECE_LABEL, color=PIECE_COLOUR, **middle)
                sheet.top += _PIECE_LINE
        sheet.top += _AFTER_EXAMPLE
    return sheet.draw()
