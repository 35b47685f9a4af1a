"""The harness on sides of a few lines: alternation, parity, variants, environments, and workers that fail."""

import os
import time
from pathlib import Path

import pytest

from biomeg_lib.bench import harness
from biomeg_lib.bench.command import bench
from biomeg_lib.bench.harness import Figures, Plan, Rounds, Worker, measure
from biomeg_lib.bench.side import Side
from biomeg_lib.errors import BiomegError

MAKER = "bench_sides:make"
PLAN = Plan(MAKER, case="predict", peers=("slow", "quick"), share="peak-share-mini")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return {"log": str(tmp_path / "log")}


def run(plan, settings, wanted=("predict", "peak-share-mini"), rounds=3):
    told = []
    found = measure(plan, settings, Rounds(rounds, 0.001), set(wanted), told.append)
    return found, told, Path(settings["log"]).read_text().split()


def test_rounds_alternate_and_the_quicker_variant_is_the_peer(settings):
    found, told, log = run(PLAN, settings)
    assert told == []
    assert log[-9:] == ["ours:0", "quick:0", "share", "ours:1", "quick:1", "share", "ours:2", "quick:2", "share"]
    figures = found["predict"]
    assert (figures.ours, figures.peer, figures.peer_name) == ([12.0, 13.0, 14.0], [4.0, 5.0, 6.0], "the quick one")
    assert figures.ratios == [3.0, 13 / 5, 14 / 6]
    assert figures.ratio == 13 / 5
    assert (found["peak-share-mini"].ours, found["peak-share-mini"].peer) == ([1.2, 1.3, 1.4], [2.0, 2.0, 2.0])


def test_the_ratio_is_that_of_the_medians():
    figures = Figures([1.0, 10.0, 100.0], [1.0, 50.0, 10.0], "", False)
    assert figures.ratio == 1.0
    assert figures.ratios == [1.0, 0.2, 10.0]


def test_a_share_alone_needs_no_peer(settings):
    found, _, log = run(PLAN, settings, wanted=["peak-share-mini"])
    assert list(found) == ["peak-share-mini"]
    assert not [entry for entry in log if entry.startswith(("slow", "quick"))]


def test_a_variant_that_cannot_be_made_is_left_out_and_said(settings):
    plan = Plan(MAKER, case="predict", peers=("broken", "slow"))
    found, told, _ = run(plan, settings)
    assert found["predict"].peer_name == "the slow one"
    assert told == ["predict: left out: broken: ValueError: does not support an attention"]
    with pytest.raises(BiomegError, match="no peer could be run: broken: ValueError: does not support"):
        run(Plan(MAKER, case="predict", peers=("broken",)), settings)


def test_sides_that_compute_something_else_are_not_timed(settings):
    with pytest.raises(BiomegError, match=r"the other one: it does not compute the same as ours: loss is 2\.5"):
        run(Plan(MAKER, case="predict", peers=("other",)), settings)
    assert "other:0" not in Path(settings["log"]).read_text()


@pytest.mark.parametrize(("value", "same"), [(1.00009, True), (1.0002, False)])
def test_parity_is_relative(value, same):
    if same:
        harness.check_parity("x", {"loss": 1.0, "more": 2.0}, {"loss": value})
    else:
        with pytest.raises(BiomegError, match=r"loss is 1\.0002, expected 1"):
            harness.check_parity("x", {"loss": 1.0}, {"loss": value})


def test_nothing_to_compare_is_an_error():
    with pytest.raises(BiomegError, match="expected figures out of loss to compare"):
        harness.check_parity("x", {"loss": 1.0}, {})


def test_a_worker_that_dies_is_one_line(settings):
    with Worker(PLAN, "dying", settings) as worker, pytest.raises(BiomegError) as raised:
        worker.value(0)
    assert str(raised.value) == "dying: the worker ended with 3: last words"


def test_what_libraries_print_does_not_disturb(settings):
    with Worker(PLAN, "loud", settings) as worker:
        assert worker.value(1) == 5.0


def test_a_fresh_plan_has_a_process_a_round(settings):
    found, _, log = run(Plan(MAKER, case="predict", peers=("slow",), fresh=True), settings, rounds=2)
    assert len(found["predict"].ours) == 2
    assert log.count("made-ours") == 1 + 2  # one is for parity
    assert log.count("made-slow") == 1 + 2


def test_ours_keeps_the_settings_of_make_and_a_peer_has_defaults(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    ours, peer = (harness.environment(side, 2, cuda=False) for side in ("ours", "eager"))
    assert (ours["MALLOC_TOP_PAD_"], ours["OMP_NUM_THREADS"], ours["OMP_WAIT_POLICY"]) == ("1", "2", "active")
    assert peer["OMP_NUM_THREADS"] == "2"
    assert not {"MALLOC_TOP_PAD_", "OMP_WAIT_POLICY"} & peer.keys()
    assert ours["CUDA_VISIBLE_DEVICES"] == peer["CUDA_VISIBLE_DEVICES"] == ""


def test_an_idle_worker_uses_no_core(settings):
    with Worker(PLAN, "matrix", settings) as worker:
        worker.value(0)
        time.sleep(0.3)  # OpenMP's threads look around for a moment
        before = _ticks(worker.pid)
        time.sleep(0.5)
        assert _ticks(worker.pid) - before <= 1


def _ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_warming_up_chooses_repeats_for_the_time_of_a_round():
    class Sleeper(Side):
        def check(self):
            return {}

        def work(self, number):
            time.sleep(0.01)
            return 2.0

    side = Sleeper()
    side.warm_up(0.1)
    assert 5 <= side.repeats <= 10
    assert 100 < side.value(0) < 200
    side.repeatable, side.repeats = False, 1
    side.warm_up(0.1)
    assert side.repeats == 1


def test_unknown_cases_and_no_rounds_are_refused():
    with pytest.raises(BiomegError, match="no case is called 'pretrian-mini'; did you mean 'pretrain-mini'"):
        bench(["pretrian-mini"])
    with pytest.raises(BiomegError, match="expected at least one round"):
        bench(["predict"], rounds=0)


def test_the_first_cores_are_kept():
    before = os.sched_getaffinity(0)
    plan = Plan("bench_sides:make", cores=1)
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    try:
        with Worker(plan, "cores", {"log": os.devnull}) as worker:
            assert worker.value(0) == 1.0
    finally:
        del os.environ["PYTHONPATH"]
    assert os.sched_getaffinity(0) == before
