"""Runs on several ranks through `rank.main`: begun on one mesh and ended on another, damaged, interrupted, unlike."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from ranked_run import RUN, check_as_alone, copied, run_of, write_params
from several_ranks import on_ranks
from torch.distributed.checkpoint import HuggingFaceStorageWriter

from biomeg_lib.training import loop, pretrain, rank
from biomeg_lib.training.process import OneProcess
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.training.sharded import ShardedCheckpoints

STOP = 20


class StopAt:
    """In place of `HeldInterrupt`: Ctrl-C in step `STOP`."""

    def __init__(self) -> None:
        self.steps = 0

    @property
    def asked(self) -> bool:
        self.steps += 1
        return self.steps == STOP

    def __enter__(self) -> "StopAt":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def run_rank(number: int, params: str, stop: bool) -> int:
    if stop:
        loop.HeldInterrupt = StopAt
    return rank.main(params, RUN)


run_rank.own_group = True


def train(root: Path, data: int, tensor: int, stop: bool = False) -> list[int]:
    """The exit codes of all ranks."""
    write_params(root, gpus_per_node=data * tensor, tensor=tensor)
    return on_ranks(data * tensor, run_rank, str(root / "params" / "nano.yaml"), stop)


@pytest.fixture(scope="module")
def stopped(prepared, tmp_path_factory) -> Path:
    """The same run on 2 x 2 ranks, interrupted."""
    root = copied(prepared, tmp_path_factory.mktemp("stopped") / "project")
    assert train(root, 2, 2, stop=True) == [130] * 4
    run = run_of(root)
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{STOP:08d}"]
    assert (run / "state").read_text().strip() == "failed"
    assert not (run / "metrics.json").exists()
    return root


@pytest.mark.parametrize(("data", "tensor"), [(1, 4), (4, 1)])
def test_a_run_goes_on_on_another_mesh(prepared, stopped, tmp_path, data, tensor):
    root = copied(stopped, tmp_path / "project")
    assert train(root, data, tensor) == [0] * 4
    check_as_alone(prepared, root)


def test_a_run_goes_on_in_one_process(prepared, stopped, tmp_path):
    root = copied(stopped, tmp_path / "project")
    pretrain.pretrain(write_params(root), RUN)
    check_as_alone(prepared, root)


def test_a_run_of_one_process_goes_on_on_several(prepared, tmp_path, monkeypatch):
    root = copied(prepared, tmp_path / "project")
    study = write_params(root)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "HeldInterrupt", StopAt)
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain(study, RUN)
    assert (run_of(root) / "checkpoint.pt").is_file()
    assert train(root, 2, 2) == [0] * 4
    check_as_alone(prepared, root)


@pytest.mark.parametrize("damage", ["cut off", "a bit", "gone", "no description", "another step"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(prepared, stopped, tmp_path, capfd, damage):
    root = copied(stopped, tmp_path / "project")
    folder = run_of(root) / "checkpoints"
    newer = folder / "step-00000030"
    shutil.copytree(folder / f"step-{STOP:08d}", newer)
    part = sorted(newer.glob("*.safetensors"))[1]
    data = bytearray(part.read_bytes())
    if damage == "cut off":
        part.write_bytes(data[:-1])
    elif damage == "a bit":
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    elif damage == "gone":
        part.unlink()
    else:
        part = newer / "checkpoint.json"
        text = part.read_text()
        part.write_text(
            text.replace(f'"step": {STOP},', f'"step": {STOP + 1},', 1) if damage == "another step" else "{"
        )
        assert part.read_text() != text
    pretrain.pretrain(write_params(root), RUN)
    said = capfd.readouterr().out
    assert f"{part}: expected" in said
    assert "going back to the checkpoint before" in said
    check_as_alone(prepared, root)


def full_disk(number: int, params: str) -> int:
    """The second rank cannot write its part of the checkpoint of the tenth step from here."""

    def write_data(self, plan, planner):
        raise OSError(errno.ENOSPC, "No space left on device")

    if number == 1:
        HuggingFaceStorageWriter.write_data = write_data
    global STOP
    STOP = 10
    return run_rank(number, params, True)


full_disk.own_group = True


def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoint(prepared, stopped, tmp_path):
    root = copied(stopped, tmp_path / "project")
    run = run_of(root)
    kept = {path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()}
    assert on_ranks(4, full_disk, str(root / "params" / "nano.yaml")) == [1] * 4
    line = (run / "failure").read_text()
    assert line.startswith(f"{run / 'checkpoints'}: a checkpoint could not be written: ")
    assert line.endswith("No space left on device\n")
    assert {path: path.read_bytes() for path in kept} == kept
    (run / "failure").unlink()
    assert train(root, 2, 2) == [0] * 4
    check_as_alone(prepared, root)


def unlike(number: int, params: str) -> int:
    if number == 2:
        other = RunDirectory.__init__

        def init(self, path, values):
            other(self, path, {**values, "threads": 7})

        RunDirectory.__init__ = init
    return run_rank(number, params, False)


unlike.own_group = True


def test_ranks_with_other_params_are_refused(prepared, tmp_path):
    root = copied(prepared, tmp_path / "project")
    write_params(root, gpus_per_node=4, tensor=2)
    assert on_ranks(4, unlike, str(root / "params" / "nano.yaml")) == [1] * 4
    line = (run_of(root) / "failure").read_text()
    assert line == "nano-bio: rank 2 has other params or package versions than rank 0\n"


def test_no_more_than_two_checkpoints_are_kept(tmp_path):
    process = OneProcess(torch.nn.Linear(2, 2))
    assert process.sums(5, True, False) == [5, 1, 0]
    checkpoints = ShardedCheckpoints(tmp_path, None)
    assert checkpoints.newest() == -1
    assert checkpoints.load({}) is None
