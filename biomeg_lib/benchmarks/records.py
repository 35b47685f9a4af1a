"""Objects of a JSON file that nobody vouches for, whose fields are read with their types checked.

What is notable: errors name the file and the path of the object (`data[3].paragraphs[2].qas[1]`), since JSON is often
one endless line. Not-a-number, infinity and integers of more than 20 digits, which Python's parser lets pass, are
refused, and so is text with half a surrogate pair, which no UTF-8 file can hold.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from biomeg_lib.benchmarks.lines import refuse, shown
from biomeg_lib.corpus import untrusted
from biomeg_lib.errors import InputError

_DIGITS = 20


class Record:
    """A JSON object, and where it stands.

    Args:
        path: its file.
        place: its path in the file; empty for the whole.
        value: what stands there.
    Raises:
        InputError: the value is not an object.
    """

    def __init__(self, path: str | Path, place: str, value: Any):
        self._path, self._place, self._name = path, place, ""
        if not isinstance(value, dict):
            raise self.error(f"expected an object, found {described(value)}")
        self._fields: dict[str, Any] = value

    def error(self, message: str) -> InputError:
        """The error about this record: `message` after its place and its id."""
        name = f" (id {self._name})" if self._name else ""
        return InputError(self._path, f"{self._place}{name}: {message}" if self._place else message)

    def __contains__(self, field: str) -> bool:
        return field in self._fields

    def get(self, field: str) -> Any:
        """The unchecked value of a field, None where it is absent."""
        return self._fields.get(field)

    def identify(self, numbers: bool = False) -> str:
        """The field `id`, by which errors call the record from then on.

        Args:
            numbers: an integer is accepted, too, and becomes text.
        """
        value = self._fields.get("id")
        name = str(value) if numbers and type(value) is int else self.text("id")
        self._name = shown(name)
        return name

    def text(self, field: str) -> str:
        """A text field with more than blanks in it."""
        return self.checked_text(self._fields.get(field), f"in the field {field}", field in self._fields)

    def checked_text(self, value: Any, where: str, there: bool = True) -> str:
        """`value` if it is text with more than blanks in it."""
        if not isinstance(value, str):
            raise self.error(f"expected text {where}, found {described(value) if there else 'no such field'}")
        if not value.strip():
            raise self.error(f"expected text {where}, found {shown(value)}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            found = f"half a surrogate pair at character {error.start}"
            raise self.error(f"expected Unicode text {where}, found {found}") from None
        return value

    def number(self, field: str) -> int:
        """A field with an integer that is not negative."""
        value = self._fields.get(field)
        if type(value) is not int or value < 0:  # a bool is an int, too
            raise self._unfit(field, "a whole number of at least 0")
        return value

    def flag(self, field: str) -> bool:
        """A field that is true or false; false where it is absent."""
        value = self._fields.get(field, False)
        if not isinstance(value, bool):
            raise self._unfit(field, "true or false")
        return value

    def elements(self, field: str) -> list[Any]:
        """A field with a list."""
        value = self._fields.get(field)
        if not isinstance(value, list):
            raise self._unfit(field, "a list")
        return value

    def each(self, field: str, skipped: list[str] | None = None) -> Iterator["Record"]:
        """The objects in a list field.

        Args:
            skipped: where given, a field that is no list, or elements that are no objects, are left out and noted.
        """
        try:
            values = self.elements(field)
        except InputError as error:
            refuse(error, skipped)
            return
        prefix = f"{self._place}.{field}" if self._place else field
        for index, value in enumerate(values):
            try:
                record = Record(self._path, f"{prefix}[{index}]", value)
            except InputError as error:
                refuse(error, skipped)
                continue
            yield record

    def _unfit(self, field: str, expected: str) -> InputError:
        found = described(self._fields[field]) if field in self._fields else "no such field"
        return self.error(f"expected {expected} in the field {field}, found {found}")


def load_record(path: str | Path) -> Record:
    """The object that a JSON file holds; a byte-order mark is accepted.

    Raises:
        InputError: the file cannot be read, is not UTF-8 or not JSON, nests too deeply, or holds something else or more
            than `untrusted.FILE_LIMIT` bytes.
    """
    try:
        with open(path, "rb") as stream:
            content = untrusted.read_whole(stream, untrusted.FILE_LIMIT + 1)
        if len(content) > untrusted.FILE_LIMIT:
            raise InputError(path, f"expected at most {untrusted.FILE_LIMIT >> 20} MiB of JSON, found more")
        text = content.decode("utf-8").removeprefix("\ufeff")
        return Record(path, "", json.loads(text, parse_int=_integer, parse_constant=_constant))
    except OSError as error:
        raise InputError(path, f"expected a readable file, found: {error.strerror}") from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at byte {error.start + 1}"
        raise InputError(path, f"expected UTF-8 text, found {found}") from None
    except json.JSONDecodeError as error:
        raise InputError(path, f"expected JSON, found at column {error.colno}: {error.msg}", error.lineno) from None
    except RecursionError:
        raise InputError(path, "expected JSON, found lists or objects that nest too deeply") from None
    except ValueError as error:
        raise InputError(path, f"expected JSON, found {error}") from None


def described(value: Any) -> str:
    """A JSON value for a message, short however large it is."""
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object"
    return shown(value) if isinstance(value, str) else json.dumps(value)


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"an integer of {len(digits)} characters")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"the number {name}, which JSON does not have")
