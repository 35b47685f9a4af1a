"""A run's folder: reused, resumed or refused; files that are whole; a lock that dies with its holder."""

import io
import json
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from biomeg_lib.checkpoints.weights import load_weights
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import locked
from biomeg_lib.model import PretrainingModel, config_for
from biomeg_lib.training.rundir import RunDirectory, read_log


def test_states_over_the_life_of_a_run(tmp_path):
    run = RunDirectory(tmp_path / "run", {"a": 1})
    assert (run.state, run.complete) == ("absent", False)
    with pytest.raises(KeyboardInterrupt), run.start():  # noqa: PT012 - the state is asked inside
        assert run.state == "running"
        run.save_checkpoint({"step": 3})
        raise KeyboardInterrupt
    assert (run.state, run.complete) == ("failed", False)
    assert run.load_checkpoint() == {"step": 3}
    with run.start():
        run.finish({"f1": 0.5})
    assert (run.state, run.complete, run.metrics) == ("complete", True, {"f1": 0.5})
    assert run.load_checkpoint() is None
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__


def test_other_params_are_refused_and_the_difference_is_shown(tmp_path):
    run = RunDirectory(tmp_path, {"rate": 0.1, "model": {"layers": 2}, "seed": 1})
    with run.start():
        run.finish({})
    other = RunDirectory(tmp_path, {"rate": 0.1, "model": {"layers": 4, "heads": 2}, "seed": 1})
    for use in (lambda: other.complete, lambda: other.start().__enter__()):
        with pytest.raises(BiomegError) as error:
            use()
        assert "model.layers: 2 there, 4 here" in str(error.value)
        assert "model.heads: null there, 2 here" in str(error.value)
        assert "rate" not in str(error.value)
        assert "\n" not in str(error.value)
    assert RunDirectory(tmp_path, {"rate": 0.1, "model": {"layers": 2}, "seed": 1}).complete


def test_a_run_without_a_result_is_no_complete_run(tmp_path):
    run = RunDirectory(tmp_path, {})
    with pytest.raises(RuntimeError), run.start():
        pass
    assert not run.complete


def test_who_comes_second_waits_and_has_nothing_left_to_do(tmp_path, monkeypatch):
    first, second = RunDirectory(tmp_path, {}), RunDirectory(tmp_path, {})
    wanted, said = [], io.StringIO()
    monkeypatch.setattr("sys.stderr", said)  # pytest's own capture may lose what comes while it is read

    def wait():
        with second.start() as left_to_do:
            wanted.append(left_to_do)

    waiting = threading.Thread(target=wait)
    with first.start() as left_to_do:
        assert left_to_do
        waiting.start()
        while not said.getvalue().endswith("\n"):
            assert waiting.is_alive()
            time.sleep(0.01)
        assert (
            said.getvalue()
            == f"biomeg: {tmp_path}: process {os.getpid()} on {os.uname().nodename} is at work on it; waiting\n"
        )
        first.finish({"f1": 0.5})
    waiting.join()
    assert wanted == [False]
    assert second.metrics == {"f1": 0.5}


def test_a_run_that_was_moved_away_by_its_holder_is_held_where_it_was(tmp_path, monkeypatch):
    """`turn` keeps damaged runs aside: who has waited must not go on in that folder."""
    monkeypatch.setattr("sys.stderr", said := io.StringIO())
    place, held = tmp_path / "run", []

    def wait():
        with RunDirectory(place, {}).start() as left_to_do:
            assert left_to_do
            held.append(RunDirectory(place, {}).at_work)
            RunDirectory(place, {}).finish({"f1": 0.5})

    waiting = threading.Thread(target=wait)
    place.mkdir()
    with locked(place / "lock", "a run"):
        waiting.start()
        while not said.getvalue():
            time.sleep(0.01)
        os.replace(place, tmp_path / "aside")
    waiting.join()
    assert held == [True]
    assert RunDirectory(place, {}).metrics == {"f1": 0.5}
    assert sorted(path.name for path in (tmp_path / "aside").iterdir()) == ["lock"]


def test_a_run_is_complete_even_if_its_state_was_never_written(tmp_path):
    run = RunDirectory(tmp_path, {})
    with run.start():
        run.save_checkpoint({"step": 1})
        run.finish({"f1": 0.5})
    (tmp_path / "state").write_text("rvnning\n")
    assert run.complete
    (tmp_path / "state").unlink()
    assert run.complete


@pytest.mark.parametrize("name", ["metrics.json", "metrics.jsonl", "model.safetensors", "model.json"])
def test_what_is_damaged_is_refused_by_name(tmp_path, name):
    run = RunDirectory(tmp_path, {})
    model = PretrainingModel(config_for("tiny", 128))
    with run.start():
        run.log({"step": 1, "loss": 2.0})
        run.save_model(model.state_dict(), model.config)
        run.finish({"f1": 0.5})
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: expected CRC-32 \w{{8}}, found \w{{8}}: it is damaged"):
        _ = run.metrics, read_log(tmp_path), load_weights(tmp_path)


def test_a_checkpoint_knows_the_log(tmp_path):
    run = RunDirectory(tmp_path, {})
    run.rewind(0)
    for step in (10, 20):
        run.log({"step": step, "loss": 1.25})
    known = run.logged
    run.log({"step": 30, "loss": 1.0})
    again = RunDirectory(tmp_path, {})
    again.rewind(20, known)
    assert again.logged == known
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace("1.25", "1.26", 1))
    with pytest.raises(InputError, match="expected what was logged up to step 20"):
        RunDirectory(tmp_path, {}).rewind(20, known)
    path.write_text('{"step": 10}\n[]\n')
    with pytest.raises(InputError, match=r"metrics.jsonl:2: expected JSON with a step"):
        RunDirectory(tmp_path, {}).rewind(20)


def test_what_a_kill_left_goes_with_the_next_start(tmp_path):
    run = RunDirectory(tmp_path, {})
    (tmp_path / ".checkpoint.pt.abc.part").write_text("half")
    (tmp_path / ".tmpXYZ").write_text("of safetensors")
    with run.start():
        run.finish({})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("environment.json", "lock", "metrics.json", "params.json", "state", "sums.txt")
    ]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os, sys; from biomeg_lib.training.rundir import RunDirectory\n"
        "with RunDirectory(sys.argv[1], {}).start(): print('locked', flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("locked\n", -9)
    run = RunDirectory(tmp_path, {})
    assert run.state == "running"
    with run.start():
        run.finish({})
    assert run.complete


def test_rewinding_forgets_later_lines_and_a_line_cut_short(tmp_path):
    run = RunDirectory(tmp_path, {})
    for step in (10, 20, 30):
        run.log({"step": step})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 4')
    assert [record["step"] for record in read_log(tmp_path)] == [10, 20, 30]
    run.rewind(20)
    run.log({"step": 21})
    assert [record["step"] for record in read_log(tmp_path)] == [10, 20, 21]


class Exploit:
    def __reduce__(self):
        return (threading.Event, ())


@pytest.mark.parametrize("damage", ["code", "truncated", "empty"])
def test_a_damaged_checkpoint_is_one_line_and_runs_nothing(tmp_path, damage):
    run = RunDirectory(tmp_path, {})
    run.save_checkpoint({"step": 1, "weights": torch.zeros(1000)})
    path = tmp_path / "checkpoint.pt"
    if damage == "code":
        torch.save({"step": Exploit()}, path)
    else:
        path.write_bytes(path.read_bytes()[: 500 if damage == "truncated" else 0])
    with pytest.raises(InputError, match="expected a checkpoint of this run") as error:
        run.load_checkpoint()
    assert "\n" not in str(error.value)
    assert "delete it to start over" in str(error.value)


def test_weights_come_back_as_they_were(tmp_path):
    model = PretrainingModel(config_for("tiny", 256))
    run = RunDirectory(tmp_path, {})
    run.save_model(model.state_dict(), model.config)
    config, weights = load_weights(tmp_path)
    assert config == model.config
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="expected safetensors"):
        load_weights(tmp_path)


def test_tensorboard_gets_what_is_logged(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("BIOMEG_TENSORBOARD", "1")
    run = RunDirectory(tmp_path, {})
    with run.start():
        run.log({"step": 5, "loss": 2.5})
        run.log({"step": 10, "loss": 1.5})
        run.finish({})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 2.5), (10, 1.5)]


def test_tensorboard_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOMEG_TENSORBOARD", "1")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = RunDirectory(tmp_path, {})
    with pytest.raises(BiomegError, match="pip install"), run.start():
        pass
    assert run.state == "failed"
