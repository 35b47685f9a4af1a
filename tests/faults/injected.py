"""Faults that are put into processes: `faults.c`, built and preloaded; and damage that is done to files."""

import ctypes
import os
import random
import struct
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
HOWS = ("count", "kill", "kill group", "term", "no space", "no access")  # as in faults.c
ENTRIES = struct.Struct("<4Q")  # count, at, how, struck


def build(folder: Path) -> Path:
    """Compile the library.

    Raises:
        OSError: there is no C compiler.
    """
    library = folder / "faults.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


@dataclass
class Faults:
    """The state that all processes share which were started with `environment`.

    Args:
        library: what `build` made.
        root: the folder whose files count.
        state: a file for the state, outside of it.
    """

    library: Path
    root: Path
    state: Path

    def __post_init__(self) -> None:
        self.state.write_bytes(ENTRIES.pack(0, 0, 0, 0))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs besides its own variables."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAULTS_ROOT": os.path.realpath(self.root),
            "FAULTS_STATE": str(self.state),
        }

    def arm(self, how: str, at: int) -> None:
        """From now on the fault comes at operation `at`, counted from 1; with 0 never."""
        with open(self.state, "r+b", buffering=0) as stream:  # mapped by processes: it may not be cut
            stream.write(ENTRIES.pack(0, at, HOWS.index(how), 0))

    @property
    def count(self) -> int:
        """Operations since it was armed."""
        return ENTRIES.unpack(self.state.read_bytes())[0]

    @property
    def struck(self) -> bool:
        """Whether the fault has come."""
        return bool(ENTRIES.unpack(self.state.read_bytes())[3])


def arm_oneself(how: str, at: int) -> None:
    """`Faults.arm` from within a process that has the library preloaded."""
    ctypes.CDLL(os.environ["LD_PRELOAD"]).faults_arm(HOWS.index(how), ctypes.c_uint64(at))


def count_oneself() -> int:
    """`Faults.count`, likewise."""
    function = ctypes.CDLL(os.environ["LD_PRELOAD"]).faults_count
    function.restype = ctypes.c_uint64
    return int(function())


def damage(path: Path, kind: str, chance: random.Random) -> str:
    """Damage a file that is not empty; says what was done.

    Args:
        kind: "truncated" or "flipped", one bit.
    """
    data = bytearray(path.read_bytes())
    if kind == "truncated":
        length = chance.randrange(len(data))
        path.write_bytes(data[:length])
        return f"truncated to {length} of {len(data)} bytes"
    bit = chance.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return f"bit {bit % 8} of byte {bit // 8} flipped"
