"""Plots: what they draw (lines, intervals, labels below their pieces), sizes of text, and files that repeat."""

import hashlib
import itertools
import math
import os
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from lxml import etree
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from biomeg_lib.errors import BiomegError
from biomeg_lib.report import figures
from biomeg_lib.report.tokenisation import PIECE_COLOUR, WORD_COLOUR, tokenisation_figure


def tokenisation():
    examples = [
        {"words": ["selegiline", "and"], "tags": ["B-Chemical", "O"]},
        {"words": ["7-hydroxy-$2$-propylaminotetralin" * 2], "tags": ["B-Chemical"]},
    ]
    cut = {
        "vocabulary": "BERT-cased",
        "pieces": ["se", "##leg", "##iline", "and"],
        "word_labels": ["B-Chemical", None, None, "O"],
        "piece_labels": ["B-Chemical", "I-Chemical", "I-Chemical", "O"],
    }
    many = {
        "vocabulary": "bio-8k",
        "pieces": [f"▁$p{i}$" for i in range(40)],
        "word_labels": ["B-Chemical", *[None] * 39],
        "piece_labels": ["B-Chemical", *["I-Chemical"] * 39],
    }
    return examples, [[cut], [many]]


def scores(seeds=3):
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {"f1": 60 + 10 * start + generator.normal(0, 1), "vocabulary": vocabulary, "start": start, "fraction": fraction}
        for vocabulary in ("bio-8k", "BERT-cased")
        for start in (0, 1)
        for fraction in ("10 %", "100 %")
        for _ in range(seeds)
    )


def bars(frame, **kwargs):
    return figures.score_bars(
        frame, value="f1", group="vocabulary", hue="start", value_label="F1 on test (%)", **kwargs
    )


def curve(frame, **kwargs):
    return figures.learning_curve(frame, "tokens", "loss", x_label="tokens", y_label="loss (nats per token)", **kwargs)


RUNS = pd.DataFrame(
    {"tokens": [1, 1, 2, 2, 1, 2], "loss": [5.0, 7.0, 4.0, np.nan, 9.0, 8.0], "run": ["a", "a", "a", "a", "b", "b"]}
)
ALL = {
    "tokenisation": lambda: tokenisation_figure(*tokenisation()),
    "curve": lambda: curve(RUNS, hue="run"),
    "bars": lambda: bars(scores(), facet="fraction"),
}


@pytest.mark.parametrize("name", ALL)
def test_svg_repeats_and_stands_alone(name, tmp_path):
    path = figures.save(ALL[name](), tmp_path / "new" / "figure.svg")
    first = hashlib.sha256(path.read_bytes()).hexdigest()
    os.utime(path, (1, 1))
    figures.save(ALL[name](), path)
    assert path.stat().st_mtime == 1, "an unchanged figure was written again"
    again = figures.save(ALL[name](), tmp_path / "again.svg")
    assert hashlib.sha256(again.read_bytes()).hexdigest() == first
    root = etree.parse(path, etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True)).getroot()
    tags = {etree.QName(element).localname for element in root.iter(etree.Element)}
    assert not tags & {"text", "script", "image", "date"}
    links = [value for element in root.iter() for key, value in element.attrib.items() if key.endswith("href")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert float(re.match(r"[\d.]+", root.get("width"))[0]) <= figures.WIDTH * 72 + 0.5


@pytest.mark.parametrize("name", ALL)
def test_text_is_at_least_nine_points(name):
    figure = ALL[name]()
    figure.draw_without_rendering()
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 9


def test_only_svg_files(tmp_path):
    with pytest.raises(BiomegError, match=r"\.svg"):
        figures.save(curve(RUNS), tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_style_sets_the_rc_for_plots_of_ones_own():
    with matplotlib.rc_context():
        figures.style()
        assert matplotlib.rcParams["svg.hashsalt"] == "biomeg"
        assert matplotlib.rcParams["font.size"] >= 9


def test_labels_stand_below_their_pieces_in_two_colours():
    figure = tokenisation_figure(*tokenisation())
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 44
    blue = [text for text in axes.texts if text.get_color() == WORD_COLOUR]
    purple = [text for text in axes.texts if text.get_color() == PIECE_COLOUR]
    assert [text.get_text() for text in blue[1:]] == ["B-Chemical", "O", "B-Chemical"]
    assert len(purple[1:]) == 44
    for box, label in zip(boxes, purple[1:], strict=True):
        extent = label.get_window_extent().transformed(axes.transData.inverted())
        left, right = box.get_x(), box.get_x() + box.get_width()
        assert left - 1 <= extent.x0 <= extent.x1 <= right + 1
        assert min(extent.y0, extent.y1) >= box.get_y() + box.get_height()
    for label in blue[1:]:
        assert any(box.get_x() < label.get_position()[0] < box.get_x() + box.get_width() for box in boxes)


def test_boxes_hold_their_text_and_do_not_overlap():
    figure = tokenisation_figure(*tokenisation())
    axes = figure.axes[0]
    pieces = [text for text in axes.texts if text.get_fontfamily() == ["DejaVu Sans Mono"]]
    boxes = list(axes.patches)
    for box, text in zip(boxes, pieces, strict=True):
        extent = text.get_window_extent().transformed(axes.transData.inverted())
        assert box.get_x() <= extent.x0 <= extent.x1 <= box.get_x() + box.get_width()
    for one, other in itertools.pairwise(boxes):
        assert other.get_y() > one.get_y() or other.get_x() >= one.get_x() + one.get_width()
    assert len({box.get_y() for box in boxes}) > 2, "forty pieces fit on no single line"


def test_a_piece_wider_than_the_page_widens_it():
    row = {"vocabulary": "v", "pieces": ["x" * 200], "word_labels": ["O"], "piece_labels": ["O"]}
    figure = tokenisation_figure([{"words": ["x" * 200], "tags": ["O"]}], [[row]])
    assert figure.get_size_inches()[0] > figures.WIDTH
    (box,) = figure.axes[0].patches
    assert box.get_x() + box.get_width() < figure.get_size_inches()[0] * 72


def test_tokenisation_says_what_does_not_fit():
    examples, rows = tokenisation()
    with pytest.raises(BiomegError, match="rows for each"):
        tokenisation_figure(examples, rows[:1])
    with pytest.raises(BiomegError, match="rows for each"):
        tokenisation_figure([], [])
    with pytest.raises(BiomegError, match="BERT-cased: expected as many labels"):
        tokenisation_figure(examples, [[rows[0][0] | {"piece_labels": ["O"]}], rows[1]])
    with pytest.raises(BiomegError, match="one tag a word"):
        tokenisation_figure([{"words": ["a"], "tags": []}], [[]])


def test_learning_curve_draws_means_and_ranges():
    axes = curve(RUNS, hue="run").axes[0]
    first, second = axes.lines
    assert first.get_xydata().tolist() == [[1, 6], [2, 4]]
    assert second.get_xydata().tolist() == [[1, 9], [2, 8]]
    (band,) = axes.collections  # only run a was measured twice
    assert band.get_datalim(axes.transData).bounds == pytest.approx((1, 4, 1, 3))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens", "loss (nats per token)")
    legend = axes.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_learning_curve_on_a_logarithmic_axis_without_hue():
    axes = curve(RUNS[RUNS["run"] == "b"], log_x=True).axes[0]
    assert axes.get_xscale() == "log"
    assert not axes.figure.legends


def test_score_bars_show_means_seeds_and_intervals():
    frame = scores()
    figure = bars(frame, facet="fraction")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["fraction: 10 %", "fraction: 100 %"]
    axes = figure.axes[1]
    means = frame[frame["fraction"] == "100 %"].groupby(["start", "vocabulary"], sort=False)["f1"].mean()
    expected = [means[start, vocabulary] for start in (0, 1) for vocabulary in ("bio-8k", "BERT-cased")]
    widths = [patch.get_width() for patch in axes.patches if not math.isnan(patch.get_width())]
    assert widths == pytest.approx(expected)
    dots = np.concatenate([line.get_xdata() for line in axes.lines if line.get_marker() == "o"])
    assert sorted(dots) == pytest.approx(sorted(frame.loc[frame["fraction"] == "100 %", "f1"]))
    assert sum(line.get_marker() == "|" for line in axes.lines) == 4
    assert [text.get_text() for text in axes.texts] == [f"{mean:.1f}" for mean in expected]
    assert axes.get_xlim()[0] == 0


def test_score_bars_without_repeats_and_with_missing_settings():
    frame = scores(seeds=1)
    frame = frame[~((frame["vocabulary"] == "bio-8k") & (frame["start"] == 1))]
    (axes,) = bars(frame[frame["fraction"] == "10 %"]).axes
    assert all(line.get_marker() == "o" for line in axes.lines)
    assert len(axes.texts) == 3
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["0", "1"]


def test_intervals_end_at_the_highest_score():
    frame = pd.DataFrame({"f1": [0.2, 0.99], "vocabulary": "v", "start": "random"})
    (axes,) = bars(frame, highest=1.0).axes
    (interval,) = [line for line in axes.lines if line.get_marker() == "|"]
    assert interval.get_xdata().tolist() == [0, 1]
    assert axes.texts[0].get_text() == "0.595"


def test_missing_columns_and_empty_tables_are_said():
    with pytest.raises(BiomegError, match=r"\['hue'\]"):
        curve(RUNS, hue="hue")
    with pytest.raises(BiomegError, match="empty"):
        curve(RUNS.assign(loss=np.nan))
    with pytest.raises(BiomegError, match="empty"):
        bars(scores().iloc[:0])


def test_label_colours_are_legible_on_white():
    """WCAG contrast of at least 4.5 with white, by the relative luminance of sRGB."""
    for colour in (WORD_COLOUR, PIECE_COLOUR, figures.MUTED, figures.INK):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4.5
