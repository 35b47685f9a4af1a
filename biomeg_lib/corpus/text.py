"""What a document is, and the folding of white space that all readers share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A document: paragraphs are abstract paragraphs, then body paragraphs; whitespace folded, none empty."""

    id: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        """Title, if any, and paragraphs, one a line."""
        return "\n".join((self.title, *self.paragraphs) if self.title else self.paragraphs)

    @property
    def words(self) -> int:
        """Number of whitespace-separated words of `text`."""
        return sum(text.count(" ") + 1 for text in (self.title, *self.paragraphs) if text)


def fold(text: str) -> str:
    """`text` with every run of Unicode whitespace made one space, and none at its ends."""
    # All whitespace but the space counts as unprintable, so most text needs no cutting: nearly three times as fast.
    if text.isprintable() and "  " not in text and text[:1] != " " and text[-1:] != " ":
        return text
    return " ".join(text.split())
