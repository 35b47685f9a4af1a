"""Where a page stands in the report: its chapters in groups, and which one comes before and after.

Notable: the order of `GROUPS` is the order in which the report is read; a chapter that no group names comes behind.
"""

from collections.abc import Sequence

# Group -> the stems of its pages' files, `report` being the index. "runs" is the page that is no notebook.
GROUPS = {
    "Study": ("report", "data"),
    "Factors": ("vocab", "labeling", "size"),
    "Tasks": ("relation", "questions"),
    "Training": ("domain_transfer", "imbalance"),
    "Computing": ("scaling", "benchmark", "runs"),
}
MORE = "More"

Link = tuple[str, str]
Navigation = Sequence[tuple[str, Sequence[Link]]]


def grouped(chapters: Sequence[tuple[str, str, str]]) -> Navigation:
    """The chapters that there are, in the order in which they are read.

    Args:
        chapters: (stem, title, href) of each.

    Returns:
        (group, [(title, href), ...]) of each group that has a chapter.
    """
    links = {stem: (title, href) for stem, title, href in chapters}
    named = {stem for stems in GROUPS.values() for stem in stems}
    groups = {**GROUPS, MORE: tuple(stem for stem in links if stem not in named)}
    parts = ((group, [links[stem] for stem in stems if stem in links]) for group, stems in groups.items())
    return [(group, part) for group, part in parts if part]


def neighbours(navigation: Navigation, here: str) -> tuple[Link | None, Link | None]:
    """The chapters before and after the one with href `here`; None at the ends, and for a page that is no chapter."""
    chapters = [link for _, links in navigation for link in links]
    hrefs = [href for _, href in chapters]
    if here not in hrefs:
        return None, None
    place = hrefs.index(here)
    return (chapters[place - 1] if place else None), (chapters[place + 1] if place + 1 < len(chapters) else None)
