"""bench.csv and curves.csv: columns, reading, and what replaces what.

Notable: a row belongs to a case and a machine. A new measurement replaces that of the same case and machine; results of
other machines stay beside it, so a file can be carried from one to another. A case that could not be measured has a row
without numbers, which never replaces one with numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from biomeg_lib.errors import InputError
from biomeg_lib.files import atomic_open

COLUMNS = (
    *("case", "unit", "ours", "peer", "peer_name", "ratio_median", "ratio_min", "ratio_max"),
    *("runs", "hardware", "date"),
)
CURVE_COLUMNS = ("curve", "x", "x_unit", "y", "y_unit", "hardware", "date")
_NUMBERS = ("ours", "peer", "ratio_median", "ratio_min", "ratio_max", "runs", "x", "y")


@dataclass(frozen=True, slots=True)
class Row:
    """A case on a machine.

    Attributes:
        ours, peer: medians over the rounds, in `unit`; None where not measured.
        ratio_median: ours / peer.
        ratio_min, ratio_max: the lowest and the highest of the single rounds.
        runs: rounds.
        date: ISO, UTC.
    """

    case: str
    unit: str
    ours: float | None
    peer: float | None
    peer_name: str
    ratio_median: float | None
    ratio_min: float | None
    ratio_max: float | None
    runs: int
    hardware: str
    date: str


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a cost curve."""

    curve: str
    x: float
    x_unit: str
    y: float
    y_unit: str
    hardware: str
    date: str


def read(path: Path, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """A file of results; an empty table with these columns if there is none.

    Raises:
        InputError: other columns, or text where a number is due.
    """
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    try:
        frame = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise InputError(path, f"expected results as `make bench` writes them, found {error}") from None
    if tuple(frame.columns) != tuple(columns):
        raise InputError(path, f"expected the columns {', '.join(columns)}, found {', '.join(frame.columns)}")
    for name in set(columns) & set(_NUMBERS):
        if frame[name].dtype == object or pd.api.types.is_string_dtype(frame[name]):
            numbers = pd.to_numeric(frame[name], errors="coerce")
            wrong = frame.index[numbers.isna() & frame[name].notna()]
            if len(wrong):
                expected = f"expected a number as {name}, found {frame[name][wrong[0]]!r}"
                raise InputError(path, expected, int(wrong[0]) + 2)
            frame[name] = numbers
    for name in ("unit", "peer_name", "hardware"):
        if name in columns:
            frame[name] = frame[name].fillna("")
    return frame


def add_rows(path: Path, rows: Iterable[Row]) -> None:
    """Put rows into bench.csv, each in place of the one of the same case and machine."""
    frame = read(path)
    for row in rows:
        same = (frame["case"] == row.case) & (frame["hardware"] == row.hardware)
        if row.ours is None and frame.loc[same, "ours"].notna().any():
            continue
        frame = _replace(frame, same, [asdict(row)], COLUMNS)
    _write(path, frame)


def add_points(path: Path, points: Sequence[Point]) -> None:
    """Put points into curves.csv, in place of those of the same curve, quantity and machine."""
    frame = read(path, CURVE_COLUMNS)
    for curve, unit, machine in dict.fromkeys((p.curve, p.y_unit, p.hardware) for p in points):
        new = [asdict(p) for p in points if (p.curve, p.y_unit, p.hardware) == (curve, unit, machine)]
        same = (frame["curve"] == curve) & (frame["y_unit"] == unit) & (frame["hardware"] == machine)
        frame = _replace(frame, same, new, CURVE_COLUMNS)
    _write(path, frame)


def _replace(frame: pd.DataFrame, old: pd.Series, new: list[dict], columns: Sequence[str]) -> pd.DataFrame:
    kept = frame[~old]
    added = pd.DataFrame(new, columns=list(columns))
    return added if kept.empty else pd.concat([kept.astype(object), added.astype(object)], ignore_index=True)


def _write(path: Path, frame: pd.DataFrame) -> None:
    shown = frame.astype(object).map(lambda value: f"{value:.6g}" if isinstance(value, float) else value)
    shown = shown.where(frame.notna(), "")
    with atomic_open(path) as stream:
        shown.to_csv(stream, index=False, lineterminator="\n")
