"""Lines of a text file that nobody vouches for, and what a reader does with a bad record."""

from collections.abc import Iterator
from pathlib import Path

from biomeg_lib.corpus.untrusted import bounded_lines
from biomeg_lib.errors import InputError


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end). Only a newline ends a line: Unicode's other separators do not.

    Accepted: Windows line ends, a byte-order mark, no newline at the end.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or has a carriage return inside a line or a line that is far
            too long.
    """
    try:
        with open(path, "rb") as stream:
            for number, raw in bounded_lines(path, stream):
                try:
                    line = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
                except UnicodeDecodeError as error:
                    found = f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line"
                    raise InputError(path, f"expected UTF-8 text, found {found}", number) from None
                if number == 1:
                    line = line.removeprefix("\ufeff")
                if "\r" in line:
                    raise InputError(path, "expected lines that end in LF or CR LF, found a CR inside a line", number)
                yield number, line
    except OSError as error:
        raise InputError(path, f"expected a readable file, found: {error.strerror}") from None


def refuse(error: InputError, skipped: list[str] | None) -> None:
    """Raise the error about a bad record, or note it in `skipped` where there is such a list."""
    if skipped is None:
        raise error
    skipped.append(str(error))


def shown(value: object) -> str:
    """`value` quoted, on one line, and not too long for a message."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return repr(text) if isinstance(value, str) else text
