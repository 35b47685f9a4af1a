"""The one exception type for problems a user can mend: its text is the single line that the command line shows."""

from pathlib import Path


class BiomegError(Exception):
    """A problem with the input, the params or the surroundings. `str(error)` is one line that says what to do."""

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows in place of a traceback, which would bury the line."""
        return [f"{type(self).__name__}: {self}"]


class InputError(BiomegError):
    """A file that is not what was expected.

    Args:
        path: the file, as the user knows it (for an archive member: `archive.tar.gz:member`).
        expected: what was expected and what was found instead, one line.
        line: 1-based line number, where the format has lines.
    """

    def __init__(self, path: str | Path, expected: str, line: int | None = None):
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {expected}")
        self.path, self.line = str(path), line
