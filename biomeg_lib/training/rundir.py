"""The folder of one training run, and the rules of when a run is reused, resumed or refused.

    params.json       all that decides the result
    environment.json  what it ran on: versions, commit, hardware, date
    state             one word: running, complete or failed
    metrics.jsonl     one line a logged step
    metrics.json      the result, written last
    tensorboard/      the same for TensorBoard, with BIOMEG_TENSORBOARD=1 and the extra `tensorboard`
    checkpoint.pt     while it runs in one process, checkpoints/ while it does in several (`sharded`)
    model.safetensors, model.json   the weights of a complete run, where they are kept
    sums.txt          what the others have to be, of a complete run; of another one its checkpoint

Same params and complete: reused. Same params and partial: resumed. Other params: refused, and the difference is shown.
Of two processes at the same run one waits for the other, and uses what that has done.
"""

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from biomeg_lib import sums
from biomeg_lib.checkpoints.weights import save_weights
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_open, locked, locked_if_free, read_json, sweep, write_json
from biomeg_lib.made import refuse_other_params
from biomeg_lib.model import ModelConfig
from biomeg_lib.training.environment import describe_environment

CHECKPOINT, SHARDED, RESULT, LOG = "checkpoint.pt", "checkpoints", "metrics.json", "metrics.jsonl"
LOCK = "lock"
START_OVER = "delete the run's folder to start over"
UNSUMMED = ("state", LOCK, CHECKPOINT, SHARDED, "failure", "launcher.log", "launcher.lock", "tensorboard")


class RunDirectory:
    """One run's folder.

    Args:
        path: the folder; made by `start`.
        params: all that decides the result, JSON values only.
    """

    def __init__(self, path: str | Path, params: dict[str, Any]):
        self.path = Path(path)
        self.params = json.loads(json.dumps(params, allow_nan=False))
        self._events: Any = None
        self._logged = 0  # CRC-32 of what the log holds

    @property
    def state(self) -> str:
        """`absent`, `running`, `complete` or `failed`."""
        return state_of(self.path)

    @property
    def complete(self) -> bool:
        """Whether the result is there and belongs to these params.

        Raises:
            BiomegError: the folder holds a run with other params.
        """
        self._refuse_other_params()
        return self.state == "complete"

    @property
    def at_work(self) -> bool:
        """Whether a process holds the folder."""
        if not (self.path / LOCK).is_file():
            return False
        with locked_if_free(self.path / LOCK) as free:
            return not free

    @property
    def metrics(self) -> dict[str, Any]:
        """The result of a complete run."""
        return read_json(self.path / RESULT)

    @contextlib.contextmanager
    def start(self) -> Iterator[bool]:
        """Hold the folder while the run goes on; its state is `complete` after the block, `failed` after an exception.

        Waits while another process holds it.

        Returns:
            Whether there is anything left to do.

        Raises:
            BiomegError: the folder holds a run with other params.
        """
        self._refuse_other_params()
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / LOCK, str(self.path)):
            if self.complete:
                yield False
                return
            sweep(self.path, ".*")
            write_json(self.path / "params.json", self.params)
            write_json(self.path / "environment.json", describe_environment(self.path))
            self._set_state("running")
            try:
                self._events = event_writer(self.path / "tensorboard")
                yield True
            except BaseException:
                self._set_state("failed")
                raise
            finally:
                if self._events is not None:
                    self._events.close()
            if not (self.path / RESULT).is_file():
                raise RuntimeError(f"{self.path}: the run ended without a result")
            sums.seal(self.path, UNSUMMED)
            self._set_state("complete")
            tidy(self.path)

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        line = json.dumps(record, allow_nan=False) + "\n"
        with open(self.path / LOG, "a", encoding="utf-8") as stream:
            stream.write(line)
        self._logged = zlib.crc32(line.encode(), self._logged)
        if self._events is not None:
            for name, value in record.items():
                self._events.add_scalar(name, value, record["step"])

    @property
    def logged(self) -> int:
        """CRC-32 of the log, for a checkpoint to hold."""
        return self._logged

    def rewind(self, step: int, logged: int | None = None) -> None:
        """Forget what was logged after `step`; the steps after it are going to be done again.

        Args:
            logged: what `logged` was after that step.

        Raises:
            InputError: the log is damaged.
        """
        path = self.path / LOG
        text = "".join(json.dumps(record) + "\n" for record in read_log(self.path) if record["step"] <= step)
        self._logged = zlib.crc32(text.encode())
        if logged is not None and logged != self._logged:
            raise InputError(path, f"expected what was logged up to step {step}, found something else; {START_OVER}")
        with atomic_open(path) as stream:
            stream.write(text)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
        with atomic_open(self.path / CHECKPOINT, "wb") as stream:
            summed = sums.Summed(stream)
            torch.save(state, summed)
            sums.announce(self.path / CHECKPOINT, summed)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint, or None. Only tensors and plain containers are read from the file.

        Raises:
            InputError: it is damaged.
        """
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        if (problem := sums.problem_of(path)) is not None:
            raise InputError(path, f"expected a checkpoint of this run, {problem}; delete it to start over")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch and pickle raise many types for a damaged file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                path, f"expected a checkpoint of this run, found {reason}; delete it to start over"
            ) from None

    def save_model(self, weights: Mapping[str, torch.Tensor], config: ModelConfig) -> None:
        """Write the weights (safetensors) and the shape (JSON)."""
        save_weights(self.path, config, weights)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write the result."""
        write_json(self.path / RESULT, metrics)

    def _set_state(self, state: str) -> None:
        with atomic_open(self.path / "state") as stream:
            stream.write(state + "\n")

    def _refuse_other_params(self) -> None:
        refuse_other_params(self.path, self.params)


def event_writer(directory: Path) -> Any:
    """TensorBoard's writer where it is asked for (`BIOMEG_TENSORBOARD=1`), else None.

    Raises:
        BiomegError: it is asked for and not installed.
    """
    if os.environ.get("BIOMEG_TENSORBOARD") != "1":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BiomegError("BIOMEG_TENSORBOARD=1 needs TensorBoard: pip install 'biomeg-lib[tensorboard]'") from None
    return SummaryWriter(str(directory))


def state_of(directory: Path) -> str:
    """`absent`, `running`, `complete` or `failed`: of the run in a folder.

    A run is complete when its files are, even if a kill or damage has kept its `state` from saying so.
    """
    try:
        said = (directory / "state").read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        said = "absent"
    if (directory / RESULT).is_file() and (said == "complete" or sums.is_listed(directory / RESULT)):
        return "complete"
    return said if said in ("absent", "failed") else "running"


def tidy(directory: Path) -> None:
    """Delete what a complete run has no use for: checkpoints, and what a kill left half-written."""
    sweep(directory, ".*")
    (directory / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(directory / SHARDED, ignore_errors=True)


def read_log(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line cut short by a kill is left out.

    Raises:
        InputError: the file is damaged.
    """
    path = directory / LOG
    records: list[dict[str, Any]] = []
    if not path.is_file():
        return records
    sums.check(path)
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise InputError(path, f"expected JSON with a step, found something else; {START_OVER}", number)
        records.append(record)
    return records
