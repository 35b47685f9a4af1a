"""The JSON files beside weights, which nobody vouches for: a config, an index, the description of a tokeniser."""

from pathlib import Path
from typing import Any

from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json

_LONGEST = 8 << 20  # bytes; real ones have some thousand, an index a hundred for each weight


def read_side_file(path: Path, longest: int = _LONGEST) -> Any:
    """The values of a JSON file.

    Args:
        longest: bytes that it may have: in memory a value takes up to twenty times as many.

    Raises:
        InputError: absent, damaged, or longer.
    """
    if path.is_file() and (size := path.stat().st_size) > longest:
        raise InputError(path, f"expected at most {longest:,} bytes of JSON, found {size:,}")
    return read_json(path)
