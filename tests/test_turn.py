"""One study at a time, and what is damaged is taken away before it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snakemake.persistence import FileBackupMixin

from biomeg_lib import prepare, sums, turn
from biomeg_lib.files import read_json, write_if_changed
from biomeg_lib.made import alone
from biomeg_lib.study import load
from biomeg_lib.training.rundir import RunDirectory

ROOT = Path(__file__).resolve().parent.parent


def turned(folder: Path, *command: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "biomeg_lib.turn", "params/nano.yaml", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_the_second_waits_for_the_first_and_for_a_killed_one_not_at_all(fresh):
    first = turned(fresh.root, "sh", "-c", "echo begun; read line; echo done", stdin=subprocess.PIPE)
    assert first.stdout.readline() == "begun\n"
    second = turned(fresh.root, "echo", "mine")
    said = second.stderr.readline()
    assert said == f"biomeg: outputs/nano: process {first.pid} on {os.uname().nodename} is at work on it; waiting\n"
    time.sleep(0.2)
    assert second.poll() is None
    first.communicate("\n")
    assert second.communicate() == ("mine\n", "")
    killed = turned(fresh.root, "sleep", "600")
    while "sleep" not in Path(f"/proc/{killed.pid}/cmdline").read_text():
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    third = turned(fresh.root, "echo", "mine")
    assert third.communicate() == ("mine\n", "")


@pytest.mark.parametrize("command", [[], ["no-such-program"]])
def test_a_command_that_cannot_be_started(fresh, command):
    process = turned(fresh.root, *command)
    said = process.communicate()[1]
    assert process.returncode == 1
    assert len(said.splitlines()) == 1


def test_damage_is_taken_away_and_a_run_is_kept(nano, tmp_path):
    for name in ("params", "notebooks"):
        shutil.copytree(nano.root / name, tmp_path / name)
    shutil.copytree(nano.outputs, tmp_path / "outputs" / "nano", ignore=shutil.ignore_patterns("runs", "damaged"))
    study = load(tmp_path / "params" / "nano.yaml")
    run = RunDirectory(study.run_directory("pretrain", "nano-bio"), {})
    with run.start():
        run.finish({"loss": 1.0})
    write_if_changed(study.table("table3"), "x\n")
    write_if_changed(study.table("table4"), "y\n")
    assert list(turn.mend(study)) == []

    shards = study.shards_directory("pubmed", "bio")
    for path in (shards / "train.bin", run.path / "metrics.json", study.table("table3")):
        path.write_bytes(path.read_bytes()[:-1])
    (study.table("table4").parent / ".table4.csv.x.part").touch()
    lines = list(turn.mend(study))
    assert [line.split(":")[0] for line in lines] == [
        "outputs/nano/shards/pubmed.bio/train.bin",
        "outputs/nano/runs/pretrain/nano-bio/metrics.json",
        "outputs/nano/tables/table3.csv",
    ]
    assert lines[1].endswith("the run is kept in outputs/nano/damaged/pretrain.nano-bio.1, and made again")
    assert not shards.exists()
    assert not run.path.exists()
    assert (study.outputs / "damaged" / "pretrain.nano-bio.1" / "state").read_text() == "complete\n"
    assert sorted(path.name for path in study.table("table4").parent.iterdir()) == ["sums.txt", "table4.csv"]
    assert list(turn.mend(study)) == []


def test_what_a_kill_left_is_no_damage(fresh):
    run = RunDirectory(fresh.run_directory("pretrain", "nano-bio"), {})
    with pytest.raises(KeyboardInterrupt), run.start():  # noqa: PT012 - it is announced inside
        sums.announce(run.path / "checkpoint.pt", b"never written")
        raise KeyboardInterrupt
    (fresh.outputs / "notebooks").mkdir()
    (fresh.outputs / "notebooks" / ".vocab.abc.ipynb").touch()
    assert list(turn.mend(fresh)) == []
    assert run.state == "failed"
    assert not list((fresh.outputs / "notebooks").iterdir())
    run.save_checkpoint({"step": 1})
    assert list(turn.mend(fresh)) == []
    (run.path / "checkpoint.pt").write_bytes(b"something else")
    (line,) = turn.mend(fresh)
    assert "checkpoint.pt" in line


def test_a_result_that_was_not_sealed_and_its_copies_are_taken_away(fresh, monkeypatch):
    run = RunDirectory(fresh.run_directory("pretrain", "nano-bio"), {})
    with pytest.raises(KeyboardInterrupt), run.start():  # noqa: PT012 - it is finished inside
        run.finish({"loss": 1.0})
        raise KeyboardInterrupt
    result = run.path / "metrics.json"
    monkeypatch.chdir(fresh.root)
    keeper = FileBackupMixin()
    keeper.path = fresh.root / ".snakemake"
    keeper.backup_output(result.relative_to(fresh.root))
    copy = keeper._get_backup_path(result.relative_to(fresh.root))
    assert copy.is_file()
    assert list(turn.mend(fresh)) == []
    assert not result.exists()
    assert not copy.exists()


def test_what_another_process_is_at_work_on_is_left_alone(fresh):
    run = RunDirectory(fresh.run_directory("pretrain", "nano-bio"), {})
    stage = fresh.corpus_directory("half")
    with run.start(), alone(fresh.outputs / "corpora" / "half"):
        run.finish({"loss": 1.0})
        stage.mkdir()
        assert turned(fresh.root, "echo", "mine").communicate() == ("mine\n", "")
        assert (run.path / "metrics.json").exists()
        assert stage.exists()
    assert run.complete
    assert turned(fresh.root, "echo", "mine").communicate() == ("mine\n", "")
    assert run.complete
    assert not stage.exists()


def test_a_stage_that_was_killed_before_its_end_is_made_and_not_called_damaged(fresh, nano, capfd):
    (fresh.outputs / "vocabularies").unlink()
    shutil.copytree(nano.outputs / "vocabularies", fresh.outputs / "vocabularies")
    params = fresh.vocabulary_directory("bio") / "params.json"
    params.unlink()  # its line is there
    assert list(turn.mend(fresh)) == []
    assert not params.parent.exists()  # else its vocab.json would look made
    prepare.ensure_vocabulary(fresh, "bio")
    assert params.is_file()
    assert "damaged" not in capfd.readouterr().err


def test_what_is_asked_for_is_made_again_and_what_is_read_is_refused(fresh, nano, capfd):
    for name in ("corpora", "vocabularies", "shards"):
        (fresh.outputs / name).unlink()
        shutil.copytree(nano.outputs / name, fresh.outputs / name)
    index = fresh.shards_directory("pubmed", "bio") / "train.idx"
    before = index.read_bytes()
    index.write_bytes(before[:-4])
    prepare.ensure_shards(fresh, "pubmed", "bio")
    assert index.read_bytes() == before
    assert (
        f"{index}: expected {len(before):,} bytes, found {len(before) - 4:,}: it is damaged" in capfd.readouterr().err
    )
    documents = fresh.corpus_directory("pubmed") / "documents.jsonl.gz"
    documents.write_bytes(documents.read_bytes()[:-4])
    with pytest.raises(Exception, match=r"documents.jsonl.gz: expected [\d,]+ bytes, found [\d,]+: it is damaged"):
        prepare.prepare_shards(fresh, "pubmed", "bio")
    assert sums.problem_of(fresh.corpus_directory("pubmed") / "counts.json") is None
    assert read_json(fresh.corpus_directory("pubmed") / "counts.json")["documents"] > 0


def test_a_foreign_list_deletes_nothing_elsewhere(fresh):
    victim = fresh.root / "victim"
    victim.write_text("mine")
    tables = fresh.outputs / "tables"
    tables.mkdir()
    (tables / "link").symlink_to(fresh.root)
    names = ("../../../victim", str(victim), "link/victim")
    (tables / "sums.txt").write_text("".join(f"00000000 1 {name}\n" for name in names))
    assert list(turn.mend(fresh)) == []
    assert victim.read_text() == "mine"
