"""The command line: exit codes, one line for every mistake, and a quick start."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from biomeg_lib import cli

ROOT = Path(__file__).resolve().parent.parent
PROFILES = sorted(path.name for path in (ROOT / "params").glob("*.yaml"))
HEAD = "profile: own\ntitle: Own\ndescription: For tests.\nseeds: [1]\n"


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A params file with a corpus of its own, in a project of its own."""
    for folder in ("params", "notebooks", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "a.txt").write_text("\n\n".join(f"Text number {i} is here." for i in range(50)))
    text = HEAD + "corpora: {a: {format: text, files: [data/a.txt], held_out: 0.2}}\n"
    text += "vocabularies: {v: {kind: sentencepiece, corpus: a, size: 64}}\n"
    (tmp_path / "params" / "own.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return "params/own.yaml"


def run(*arguments, code=None):
    """The command in a process of its own."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "biomeg_lib", *arguments])]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def refused(capsys, *arguments):
    """The one line on stderr of a command that fails."""
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert err.startswith("biomeg: ")
    return err


def test_models_are_counted_exactly(capsys):
    assert cli.main(["models"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "334,723,458" in rows["345m"]
    assert "336,297,858" in rows["345m"]
    assert {"tiny", "mini", "small", "110m", "800m", "1.2b", "3.9b", "8.3b"} <= rows.keys()


def test_fetch_lists_every_source(capsys):
    assert cli.main(["fetch", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"bc5cdr-chem/train", "ncbi-disease/test", "bert-base-cased-vocab", "pmc-sample-003"} <= set(listed)


def test_fetch_of_nothing_or_of_what_nobody_knows(capsys):
    assert "expected --list, or the names of sources" in refused(capsys, "fetch")
    assert "expected --list, or the names of sources" in refused(capsys, "fetch", "--list", "general")
    assert "unknown data source 'bc5cdr-chem/trian': did you mean bc5cdr-chem/train" in refused(
        capsys, "fetch", "bc5cdr-chem/trian"
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_the_committed_profiles_pass_the_check(capsys, profile):
    assert cli.main(["check", str(ROOT / "params" / profile)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "pre-training and" in out


def test_stages_of_an_own_corpus(capsys, params):
    stages = [["check", params], ["corpus", params, "a"], ["vocabulary", params, "v"], ["shards", params, "a", "v"]]
    assert [cli.main(stage) for stage in stages] == [0] * 4
    out, err = capsys.readouterr()
    checked, corpus, vocabulary, shards = out.splitlines()
    assert err == ""
    assert checked == "params/own.yaml: 0 pre-training and 0 fine-tuning runs"
    assert corpus == "a: 50 documents, 250 words, dropped 0 empty, 0 duplicate"
    assert vocabulary == "v: 64 pieces"
    assert re.fullmatch(r"a with v: [\d,]+ tokens in train, [\d,]+ tokens in heldout", shards)


def test_a_part_of_a_corpus(capsys, params):
    assert [cli.main(["corpus", params, "a", "--part", which]) for which in ("1", "a.txt")] == [0, 0]
    assert capsys.readouterr().out == "a: read a.txt\n" * 2
    assert cli.main(["corpus", params, "a", "--keep-parts"]) == 0
    assert Path("outputs/own/corpora/a.parts/00001/part.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "params/absent.yaml"], "params/absent.yaml: expected a params file, found none; there are own.yaml"),
        (["check", "params"], "params: expected a readable UTF-8 file"),
        (["corpus", "params/own.yaml", "b"], "params/own.yaml: no corpus is called 'b'; there are a"),
        (
            ["corpus", "params/own.yaml", "a", "--part", "2"],
            "corpora.a: expected a part from 1 to 1, or the name of a file",
        ),
        (["vocabulary", "params/own.yaml", "w"], "no vocabulary is called 'w'"),
        (["vocabulary", "params/own.yaml", "v"], "documents.jsonl.gz"),
        (["shards", "params/own.yaml", "a", "v"], "vocabularies/v: expected a vocabulary"),
        (["pretrain", "params/own.yaml", "p"], "no pre-training run is called 'p'; none is defined"),
        (["finetune", "params/own.yaml", "full.a.b"], "no fine-tuning job is called 'full.a.b'; none is defined"),
        (["predict", "runs/none", "--input", "data/a.txt"], "runs/none: expected the folder of a fine-tuning run"),
        (["score", "data/none.tsv", "data/a.txt"], "data/none.tsv: expected a readable file"),
        (
            ["score", "data/a.txt", "data/a.txt"],
            "data/a.txt: expected a file that tells its task, found 'Text number 0",
        ),
        (["execute", "params/own.yaml", "vocabs", "out.ipynb"], "vocabs.ipynb: expected a notebook, found none"),
        (["render", "params/own.yaml", "absent.ipynb"], "expected report.ipynb among the notebooks"),
    ],
)
def test_every_mistake_is_one_line(capsys, params, arguments, says):
    assert says in refused(capsys, *arguments)


def test_a_mistake_in_a_params_file_names_the_line(capsys, params):
    with open(params, "a") as stream:
        stream.write("sedes: [1]\n")
    assert "params/own.yaml:7: sedes: unknown key; did you mean 'seeds'?" in refused(capsys, "check", params)


def test_in_a_process_of_its_own(tmp_path):
    done = run("check", str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "Traceback" not in done.stderr
    for arguments in ([], ["fly"], ["predict", "run"], ["score", "gold", "own", "--task", "fly"]):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("usage: biomeg")


def test_a_closed_pipe_is_no_mistake():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "biomeg_lib", "fetch", "--list"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_interrupted_command_says_so(capsys, monkeypatch, params):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_check", interrupt)
    assert cli.main(["check", params]) == 130
    assert capsys.readouterr().err == "biomeg: interrupted; run the same command again to go on\n"


@pytest.mark.parametrize("arguments", [["--help"], ["fetch", "--list"]])
def test_a_quick_start(arguments):
    code = (
        "import sys\nfrom biomeg_lib.cli import main\n"
        f"try:\n    code = main({arguments!r})\nexcept SystemExit as stop:\n    code = stop.code\n"
        "slow = {'torch', 'pandas', 'matplotlib', 'papermill'} & set(sys.modules)\n"
        "sys.exit(code or (f'imported {slow}' if slow else 0))"
    )
    done = run(code=code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
