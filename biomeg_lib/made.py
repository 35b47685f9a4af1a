"""A folder of outputs: its lock, what it was made with (`params.json`), and the refusal to mix it with other params."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biomeg_lib.errors import BiomegError
from biomeg_lib.files import locked, read_json, sweep

PARAMS = "params.json"


@contextlib.contextmanager
def alone(folder: Path, part: str = "") -> Iterator[None]:
    """Hold a stage's folder, or a part of it; the lock is outside, since the folder is replaced as a whole."""
    with locked(lock_of(folder, part), str(folder)):
        sweep(folder.parent, f".{folder.name}.*.part")
        yield


def lock_of(folder: Path, part: str = "") -> Path:
    """The lock of a stage's folder, or of a part of it."""
    return folder.parent / f".{folder.name}{part}.lock"


def refuse_other_params(folder: Path, params: dict[str, Any]) -> None:
    """Do nothing if `folder` was made with `params`, or holds no `params.json`.

    Raises:
        BiomegError: it was made with other ones; the line shows the differences and what to do.
    """
    path = folder / PARAMS
    if not path.is_file():
        return
    found = [
        f"{key}: {_short(there)} there, {_short(here)} here"
        for key, there, here in _differences(read_json(path), params)
    ]
    if found:
        shown = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
        raise BiomegError(
            f"{folder}: expected to be made with the same params, found other ones ({shown}); "
            "delete the folder to make it anew, or undo the change"
        )


def _differences(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            path = f"{key}.{name}" if key else name
            yield from _differences(there.get(name), here.get(name), path)
    elif there != here:
        yield key, there, here


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
