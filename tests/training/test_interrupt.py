"""Ctrl-C in the middle of a step: the step is finished and saved, and a run that goes on ends with the same bits."""

import signal
import threading
from dataclasses import replace

import pytest
import torch
from test_loop import RECIPE, Points, Regression, batch_of, error_of, run_in

from biomeg_lib.errors import BiomegError
from biomeg_lib.training import loop
from biomeg_lib.training.interrupt import HeldInterrupt
from biomeg_lib.training.loop import train
from biomeg_lib.training.rundir import read_log

TWICE = replace(RECIPE, accumulate=2, evaluate_at=frozenset({3, 9}), keep_best="score")


class Pressed(Regression):
    """Somebody presses Ctrl-C while the loss of batch number `at` is computed, `times` times."""

    def __init__(self, at: int, times: int = 1):
        super().__init__()
        self.at, self.times, self.batches = at, times, 0

    def loss(self, batch: Points):
        self.batches += 1
        if self.batches == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return super().loss(batch)


def finished(folder):
    """A run in this folder to its end: weights, evaluations and tokens, and the log."""
    model = Regression()
    trained = train(model, batch_of, TWICE, run_in(folder), error_of, label="test")
    return model.linear.weight.tolist(), trained.evaluations, trained.tokens, read_log(folder)


@pytest.mark.parametrize(("at", "step"), [(1, 1), (6, 3), (11, 6), (24, 12)])
def test_a_run_goes_on_from_the_step_that_was_under_way(tmp_path, at, step):
    run = run_in(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        train(Pressed(at), batch_of, TWICE, run, error_of, label="test")
    assert run.load_checkpoint()["tally"]["step"] == step
    assert finished(tmp_path / "stopped") == finished(tmp_path / "whole")


@pytest.mark.parametrize("step", [3, 12])
def test_during_an_evaluation_too(tmp_path, step):
    def evaluate(model: torch.nn.Module) -> dict[str, float]:
        if len(read_log(tmp_path / "stopped")) == step - 1:
            signal.raise_signal(signal.SIGINT)
        return error_of(model)

    run = run_in(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        train(Regression(), batch_of, TWICE, run, evaluate, label="test")
    assert run.load_checkpoint()["tally"]["step"] == step
    assert finished(tmp_path / "stopped") == finished(tmp_path / "whole")


def test_pressed_again_it_ends_at_once(tmp_path):
    run = run_in(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(Pressed(5, times=2), batch_of, TWICE, run, error_of, label="test")
    assert run.load_checkpoint() is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_no_checkpoint_of_a_bad_loss(tmp_path, monkeypatch):
    """With figures that are read as on a GPU, where the loss of the step is not known yet."""
    monkeypatch.setattr(loop, "_reading_interval", lambda device, recipe: 50)

    def poisoned(step: int, micro: int) -> Points:
        batch = batch_of(step, micro)
        return replace(batch, target=batch.target * float("nan")) if step == 1 else batch

    run = run_in(tmp_path / "run")
    with pytest.raises(BiomegError, match=r"^step 2: the loss is nan"):
        train(Pressed(5), poisoned, replace(TWICE, log_every=50, evaluate_at=frozenset()), run, error_of, label="test")
    assert run.load_checkpoint() is None


def test_one_that_nobody_heeds_comes_at_the_end():
    def pressed() -> None:
        with HeldInterrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
            assert interrupt.asked

    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_meaning_of_ctrl_c_stays(monkeypatch):
    pressed = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        with HeldInterrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (pressed, interrupt.asked) == ([signal.SIGINT], False)


def test_training_in_another_thread(tmp_path):
    """There Python sets no signals; the run is as any other."""
    results = []
    thread = threading.Thread(target=lambda: results.append(finished(tmp_path / "thread")))
    thread.start()
    thread.join()
    assert results == [finished(tmp_path / "whole")]
