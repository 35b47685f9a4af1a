"""What a notebook shows: every table and figure is a file of the study first, and links to what made it."""

import html
from collections.abc import Sequence

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from biomeg_lib.benchmarks.iob import entity_spans
from biomeg_lib.report import figures, tables
from biomeg_lib.report.linked import linked_figure, linked_table
from biomeg_lib.study import Study


class Show:
    """Saves and shows the products of one executed notebook.

    Args:
        study: whose outputs they are.
        notebook: the executed notebook's name, without its ending.
    """

    def __init__(self, study: Study, notebook: str):
        self.study = study
        self.makers = [
            (f"{notebook}.ipynb", f"../notebooks/{notebook}.ipynb"),
            (str(study.params_file), f"../../../{study.params_file.as_posix()}"),
        ]

    def table(self, frame: pd.DataFrame, name: str, caption: str, shown: pd.DataFrame | None = None) -> HTML:
        """Save `frame` as `tables/<name>.csv` and show it, or a narrower form of it that fits a page."""
        tables.save(frame, self.study.table(name))
        source = [*self.makers, (f"{name}.csv", f"../tables/{name}.csv")]
        return HTML(linked_table(frame if shown is None else shown, caption, source, name))

    def frame(self, frame: pd.DataFrame, caption: str, name: str = "", files: Sequence[tuple[str, str]] = ()) -> HTML:
        """Show a table that is no file in `tables`; `files` are what it was made from, beside the notebook."""
        return HTML(linked_table(frame, caption, [*self.makers, *files], name))

    def figure(self, figure: Figure, name: str, caption: str) -> HTML:
        """Save `figure` as `figures/<name>.svg` and show it."""
        path = figures.save(figure, self.study.figure(name))
        return HTML(linked_figure(path, caption, [*self.makers, (f"{name}.svg", f"../figures/{name}.svg")]))


def marked(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> HTML:
    """Sentences with their entities marked, as HTML; all text is escaped."""
    lines = []
    for words, row in zip(sentences, tags, strict=True):
        parts, position = [], 0
        for kind, start, stop in entity_spans(row):
            parts += [html.escape(word) for word in words[position:start]]
            entity = html.escape(" ".join(words[start:stop]))
            parts.append(f'<mark title="{html.escape(kind)}">{entity}</mark>')
            position = stop
        parts += [html.escape(word) for word in words[position:]]
        lines.append(f"<p>{' '.join(parts)}</p>")
    return HTML("\n".join(lines))
