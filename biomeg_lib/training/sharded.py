"""Checkpoints of a run on several ranks: each writes what it holds, in the background; any other mesh can read it.

    checkpoints/step-00000020/shard-00001-....safetensors    the parts of rank 0, by torch.distributed.checkpoint
    checkpoints/step-00000020/checkpoint.json                the loop's tally, and CRC-32 of it and of each file

What is notable: a folder has its name only when all of it is written, the newest `KEPT` stay, and before one is read
its files are compared with their sums. A damaged one is named, and the one before is taken. The format is safetensors
with the place of each part in its header, so nothing is unpickled.
"""

import json
import shutil
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageReader, HuggingFaceStorageWriter

from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import read_json, write_json
from biomeg_lib.sums import crc32
from biomeg_lib.training.rundir import SHARDED

DESCRIPTION, KEPT = "checkpoint.json", 2


class ShardedCheckpoints:
    """The checkpoints of one run.

    Args:
        run: the run's folder, which all ranks see.
        group: of all ranks, on CPUs, for nothing but this; None where one process reads them alone.
    """

    def __init__(self, run: Path, group: dist.ProcessGroup | None):
        self.folder, self.group = run / SHARDED, group
        self.first = group is None or dist.get_rank(group) == 0
        self._writing: Future | None = None

    def save(self, step: int, state: dict[str, Tensor], tally: dict[str, Any]) -> None:
        """Write the state of a step; returns when it has been copied, and goes on in the background.

        Args:
            state: name -> DTensor, or a tensor that all ranks have.
            tally: JSON values.

        Raises:
            BiomegError: the one before could not be written.
        """
        self.wait()
        target = self.folder / f"step-{step:08d}"
        part = self.folder / f".step-{step:08d}.part"
        if self.first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        dist.barrier(self.group)
        writer = HuggingFaceStorageWriter(str(part), save_distributed=True)
        written = dcp.async_save(state, storage_writer=writer, process_group=self.group)
        self._writing = Future()
        written.add_done_callback(_then(self._writing, lambda: self._publish(part, target, tally)))

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
            BiomegError: it could not be; the older checkpoints are as they were.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            try:
                writing.result()
            except (Exception, CheckpointException) as error:  # of any rank, the latter a BaseException
                raise BiomegError(f"{self.folder}: a checkpoint could not be written: {_reason(error)}") from None

    def load(self, state: dict[str, Tensor]) -> dict[str, Any] | None:
        """Read the newest sound checkpoint into these tensors, in place.

        Returns:
            Its tally; None if there is none.

        Raises:
            InputError: it is sound, and of another model.
        """
        for folder in reversed(self._folders()):
            problem = self._agree(_damage(folder) if self.first else None)
            if problem is None:
                reader = HuggingFaceStorageReader(str(folder))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of one process, that there is but one
                    try:
                        dcp.load(state, storage_reader=reader, process_group=self.group, no_dist=self.group is None)
                    except CheckpointException as error:
                        raise InputError(folder, f"expected a checkpoint of this run, found {_reason(error)}") from None
                return read_json(folder / DESCRIPTION)["tally"]
            if self.first:
                print(f"{problem}; going back to the checkpoint before", flush=True)
        return None

    def newest(self) -> int:
        """The step of the newest one, sound or not; -1 if there is none."""
        return max((int(folder.name[5:]) for folder in self._folders()), default=-1)

    def _folders(self) -> list[Path]:
        """The oldest first."""
        return sorted(folder for folder in self.folder.glob("step-*") if folder.name[5:].isdecimal())

    def _publish(self, part: Path, target: Path, tally: dict[str, Any]) -> None:
        if not self.first:
            return
        files = {path.name: {"bytes": path.stat().st_size, "crc32": crc32(path)} for path in sorted(part.iterdir())}
        write_json(part / DESCRIPTION, {"tally": tally, "crc32": _sum(tally), "files": files})
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        for old in self._folders()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _agree(self, problem: str | None) -> str | None:
        if self.group is None:
            return problem
        found = torch.tensor([0 if problem is None else 1])
        dist.broadcast(found, group=self.group, group_src=0)
        return (problem or "damaged") if found.item() else None


def _then(done: Future, publish: Callable[[], None]) -> Callable[[Any], None]:
    def finish(written: Any) -> None:
        try:
            written.result()
            publish()
        except BaseException as error:  # in another thread: for who waits
            done.set_exception(error)
        else:
            done.set_result(None)

    return finish


def _reason(error: BaseException) -> str:
    """What went wrong, in one line: of DCP's exception, on the first rank that failed."""
    if isinstance(error, CheckpointException):
        error = error.failures[min(error.failures)][0]
    return str(error).strip().splitlines()[-1]


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in one line that names the file; None if nothing is."""
    try:
        description = read_json(folder / DESCRIPTION)
        if description["crc32"] != _sum(description["tally"]):
            return f"{folder / DESCRIPTION}: expected a tally with CRC-32 {description['crc32']}, found another"
        for name, expected in description["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{path}: expected a part of a checkpoint, found none"
            if path.stat().st_size != expected["bytes"]:
                return f"{path}: expected {expected['bytes']:,} bytes, found {path.stat().st_size:,}"
            if crc32(path) != expected["crc32"]:
                return f"{path}: expected CRC-32 {expected['crc32']}, found another; it is damaged"
    except InputError as error:
        return str(error)
    except (KeyError, TypeError, AttributeError, OSError):
        return f"{folder / DESCRIPTION}: expected the description of a checkpoint, found something else"
    return None


def _sum(tally: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(tally, sort_keys=True).encode())
