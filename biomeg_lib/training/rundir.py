"""The folder of one training run, and the rules of when a run is reused, resumed or refused.

    params.json       all that decides the result
    environment.json  what it ran on: versions, commit, hardware, date
    state             one word: running, complete or failed
    metrics.jsonl     one line a logged step
    metrics.json      the result, written last
    tensorboard/      the same for TensorBoard, with BIOMEG_TENSORBOARD=1 and the extra `tensorboard`
    checkpoint.pt     while it runs in one process, checkpoints/ while it does in several (`sharded`)
    model.safetensors, model.json   the weights of a complete run, where they are kept

Same params and complete: reused. Same params and partial: resumed. Other params: refused, and the difference is shown.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from biomeg_lib.checkpoints.weights import save_weights
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_open, read_json, write_json
from biomeg_lib.made import refuse_other_params
from biomeg_lib.model import ModelConfig
from biomeg_lib.training.environment import describe_environment

SHARDED = "checkpoints"


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

    @property
    def state(self) -> str:
        """`absent`, `running`, `complete` or `failed`."""
        try:
            return (self.path / "state").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return "absent"

    @property
    def complete(self) -> bool:
        """Whether the result is there and belongs to these params.

        Raises:
            BiomegError: the folder holds a run with other params.
        """
        self._refuse_other_params()
        return self.state == "complete" and (self.path / "metrics.json").is_file()

    @property
    def metrics(self) -> dict[str, Any]:
        """The result of a complete run."""
        return read_json(self.path / "metrics.json")

    @contextlib.contextmanager
    def start(self) -> Iterator["RunDirectory"]:
        """Hold the folder while the run goes on; its state is `complete` after the block, `failed` after an exception.

        Raises:
            BiomegError: the folder holds a run with other params, or another process is at work in it.
        """
        self._refuse_other_params()
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            write_json(self.path / "params.json", self.params)
            write_json(self.path / "environment.json", describe_environment(self.path))
            self._set_state("running")
            try:
                self._events = event_writer(self.path / "tensorboard")
                yield self
            except BaseException:
                self._set_state("failed")
                raise
            finally:
                if self._events is not None:
                    self._events.close()
            if not (self.path / "metrics.json").is_file():
                raise RuntimeError(f"{self.path}: the run ended without a result")
            self._set_state("complete")
            (self.path / "checkpoint.pt").unlink(missing_ok=True)
            shutil.rmtree(self.path / SHARDED, ignore_errors=True)

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, allow_nan=False) + "\n")
        if self._events is not None:
            for name, value in record.items():
                self._events.add_scalar(name, value, record["step"])

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`; the steps after it are going to be done again."""
        kept = [record for record in read_log(self.path) if record["step"] <= step]
        with atomic_open(self.path / "metrics.jsonl") as stream:
            stream.writelines(json.dumps(record) + "\n" for record in kept)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
        with atomic_open(self.path / "checkpoint.pt", "wb") as stream:
            torch.save(state, stream)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint, or None. Only tensors and plain containers are read from the file."""
        path = self.path / "checkpoint.pt"
        if not path.is_file():
            return None
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
        write_json(self.path / "metrics.json", metrics)

    def _set_state(self, state: str) -> None:
        with atomic_open(self.path / "state") as stream:
            stream.write(state + "\n")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """An advisory lock that the system releases when its process ends, however it ends."""
        with open(self.path / "lock", "w", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BiomegError(
                    f"{self.path}: another process is at work on this run; wait for it or end it"
                ) from None
            yield

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


def read_log(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line cut short by a kill is left out."""
    path = directory / "metrics.jsonl"
    records: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            records.append(json.loads(line))
    return records
