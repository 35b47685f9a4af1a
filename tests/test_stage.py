"""A command for so long and no longer, by itself and in the Makefile, where a fake stands for snakemake."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Has a child of its own; both say when they are ready, and that they were interrupted. In sh, which starts at once.
WORK = """
trap 'touch $1.saved; exit $2' INT
touch $1.ready
if [ $1 = parent ]; then sh "$0" child 0; else for i in $(seq 300); do sleep 0.1; done; fi
"""


@pytest.fixture
def work(tmp_path) -> list[str]:
    (tmp_path / "work.sh").write_text(WORK)
    return ["sh", str(tmp_path / "work.sh"), "parent"]


def stage(folder: Path, *arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "biomeg_lib.stage", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, **options)


def saved(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.saved"))


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def test_when_the_time_is_up_all_of_it_is_interrupted(tmp_path, work):
    done = stage(tmp_path, "0.05", *work, "1")
    errors = done.communicate(timeout=60)[1]
    assert done.returncode == 75
    assert errors.splitlines()[0] == "stage: 0.05 minutes are over, what runs is being saved"
    assert errors.splitlines()[-1] == "stage: there is more to do; the same command goes on from here"
    assert saved(tmp_path) == ["child", "parent"]


def test_what_ends_well_when_interrupted_is_done(tmp_path, work):
    done = stage(tmp_path, "0.05", *work, "0")
    done.communicate(timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("code", [0, 3])
def test_what_ends_in_time_has_its_own_exit_code(tmp_path, code):
    done = stage(tmp_path, "1", sys.executable, "-c", f"raise SystemExit({code})")
    assert done.communicate(timeout=60)[1] == ""
    assert done.returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(tmp_path, work, number):
    """As by Ctrl-C in a terminal, whose SIGINT reaches this process, but not the command."""
    running = stage(tmp_path, "5", *work, "1")
    wait_for(tmp_path / "parent.ready")
    wait_for(tmp_path / "child.ready")
    running.send_signal(number)
    assert running.communicate(timeout=60)[1] == ""
    assert running.returncode == 128 + number
    assert saved(tmp_path) == ["child", "parent"]


def test_in_the_background_of_a_script_where_ctrl_c_is_ignored(tmp_path, work):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a new process takes over
    try:
        running = stage(tmp_path, "5", *work, "1")
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(tmp_path / "child.ready")
    wait_for(tmp_path / "parent.ready")
    running.terminate()
    running.communicate(timeout=60)
    assert saved(tmp_path) == ["child", "parent"]


@pytest.mark.parametrize("arguments", [(), ("9",), ("nine", "true"), ("0", "true"), ("-1", "true"), ("inf", "true")])
def test_mistakes(tmp_path, arguments):
    done = stage(tmp_path, *arguments)
    found = " ".join(arguments) or "nothing"
    expected = f"stage: expected a number of minutes above 0, then a command, found {found}"
    assert done.communicate(timeout=60)[1].splitlines() == [expected]
    assert done.returncode == 1


def test_a_command_that_is_not_there(tmp_path):
    done = stage(tmp_path, "1", "no-such-command")
    assert done.communicate(timeout=60)[1] == "stage: no-such-command: No such file or directory\n"
    assert done.returncode == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_study_in_stages(tmp_path, work):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    scripts = {"biomeg": "#!/bin/sh\n", "python": f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n'}
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "installed").touch()
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "any.yaml").write_text("profile: any\ntitle: Any\ndescription: For tests.\nseeds: [1]\n")

    def study(snakemake: str, *arguments: str) -> tuple[int, str]:
        for name, text in {**scripts, "snakemake": f"#!/bin/sh\n{snakemake}\n"}.items():
            (tmp_path / ".venv" / "bin" / name).write_text(text)
            (tmp_path / ".venv" / "bin" / name).chmod(0o755)
        command = ["make", "study", "PROFILE=any", *arguments]
        # As from a shell: under `make test`, make would say more, and share that one's jobs.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    code, said = study(f"exec {' '.join(work)} 1", "MINUTES=0.05")
    assert code == 2
    assert "there is more to do; the same command goes on from here" in said
    assert "Error 75" in said
    assert saved(tmp_path) == ["child", "parent"]
    assert study("exit 0", "MINUTES=1") == (0, "The report: outputs/any/report/index.html\n")
    code, said = study("exit 1", "MINUTES=1")
    assert (code, "more to do" in said, "Error 1" in said) == (2, False, True)
    assert study("exit 0") == (0, "The report: outputs/any/report/index.html\n")
