"""Many processes: the same results in the same order, the same errors, and no process left over or waited for."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from biomeg_lib.corpus import parallel
from biomeg_lib.errors import BiomegError, InputError


def repeat(number):
    """`number` results, a fault for 7, the end of the process for 8."""
    if number == 7:
        raise InputError("some/file.xml", "expected seven, found less", 3)
    if number == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    for part in range(number):
        yield number, part, os.getpid()


def run(items, processes, folder, found=None):
    """All results; `found` gets what comes before an error."""
    found = [] if found is None else found
    for result in parallel.flat_map(repeat, items, processes, folder):
        found.append(result)
    return found


def failing(*items):
    yield from items
    raise InputError("other.xml", "expected more")


def test_results_are_in_order_and_come_from_other_processes(tmp_path):
    numbers = [5, 0, 1, 6, 2] * 4
    alone, shared = run(numbers, 1, tmp_path), run(numbers, 2, tmp_path)
    assert [result[:2] for result in shared] == [result[:2] for result in alone]
    assert {result[2] for result in alone} == {os.getpid()}
    assert os.getpid() not in {result[2] for result in shared}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_error_in_order_is_raised_after_what_comes_before_it(tmp_path, processes):
    found = []
    with pytest.raises(InputError) as caught:
        run(failing(1, 7, 2), processes, tmp_path, found)
    assert [result[:2] for result in found] == [(1, 0)]
    assert str(caught.value) == "some/file.xml:3: expected seven, found less"
    assert (caught.value.path, caught.value.line) == ("some/file.xml", 3)

    found = []
    with pytest.raises(InputError, match=r"other\.xml: expected more"):
        run(failing(1, 2), processes, tmp_path, found)
    assert [result[:2] for result in found] == [(1, 0), (2, 0), (2, 1)]
    assert not list(tmp_path.iterdir())


def test_a_process_that_dies_is_an_error(tmp_path):
    with pytest.raises(BiomegError, match="a worker process was killed"):
        run([1, 8, 2, 3], 2, tmp_path)
    assert not list(tmp_path.iterdir())


def test_items_are_taken_as_they_are_needed(tmp_path):
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield 1

    with closing(parallel.flat_map(repeat, items(), 2, tmp_path)) as results:
        next(results)
        assert len(taken) <= 5
    assert not list(tmp_path.iterdir())


def test_little_input_is_left_to_one_process():
    assert parallel.process_count(100_000) == 1
    assert parallel.process_count(1 << 40) == len(os.sched_getaffinity(0))


SLOW = """
import sys, time
from pathlib import Path
from biomeg_lib.corpus import parallel
from biomeg_lib.corpus.sentences import split_sentences
print("once", flush=True)
text = "Some words. " * 20_000
for number, _ in enumerate(parallel.flat_map(split_sentences, [text] * 5000, 2, Path(sys.argv[1]))):
    if number == 0:
        print("busy", flush=True)
"""


def children(parent):
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in found]


def gone(process):
    try:
        with open(f"/proc/{process}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_script_without_a_guard_and_nothing_is_left_of_it_when_it_ends(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(SLOW)
    started = subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert started.stdout.readline() == b"once\n"
        assert started.stdout.readline() == b"busy\n"
        workers = children(started.pid)
        assert len(workers) >= 2
        started.send_signal(how)
        output, _ = started.communicate(timeout=90)
        assert b"once" not in output  # the processes did not run the script
        assert started.returncode != 0
        deadline = time.monotonic() + 60
        while not all(map(gone, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(map(gone, workers))
    finally:
        started.kill()
