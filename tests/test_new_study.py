"""`biomeg new-study`, as a new user has it: text and entities of an invented domain, harbour logs, in own files."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lxml.html
import pandas as pd
import pytest
import yaml

from biomeg_lib import cli, new_study
from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.errors import BiomegError
from biomeg_lib.study import load

ROOT = Path(__file__).resolve().parent.parent

SHIPS = [f"{first} {second}" for first in ("Black", "Old", "Fair", "Long") for second in ("Heron", "Lantern", "Oar")]
PORTS = [
    stem + end
    for stem in ("Ald", "Bor", "Cast", "Fal", "Grim", "Lorn", "Orm", "Pell")
    for end in ("haven", "mouth", "row")
]
CARGOES = ["salt", "tin", "barley", "rope", "tar", "wool"]
PATTERNS = [
    "The brig {ship} came in from {port} with {cargo} .",
    "At noon the {ship} lay off {port} , waiting for the tide .",
    "No news of the {ship} ; the pilot of {port} saw nothing .",
    "We took {cargo} aboard at {port} and sailed before dark .",
]


def sentence(chance: random.Random) -> tuple[list[str], list[str]]:
    """Words and IOB2 tags of an entry of the log."""
    words, tags = [], []
    for part in chance.choice(PATTERNS).split(" "):
        kind = part.strip("{}")
        names = {"ship": SHIPS, "port": PORTS, "cargo": CARGOES}.get(kind) if part.startswith("{") else None
        found = chance.choice(names).split(" ") if names else [part]
        marked = names is not None and kind != "cargo"
        words += found
        tags += [f"{'I' if i else 'B'}-{kind.upper()}" if marked else "O" for i in range(len(found))]
    return words, tags


def write_logs(folder: Path) -> None:
    """Text files `logs/*.txt` and `train.tsv`, `devel.tsv`, `test.tsv`, with as much as a nano study needs."""
    chance = random.Random("harbour logs")
    (folder / "logs").mkdir(parents=True)
    for number in range(3):
        days = ["\n".join(" ".join(sentence(chance)[0]) for _ in range(6)) for _ in range(60)]
        (folder / "logs" / f"year{number}.txt").write_text("\n\n".join(days) + "\n")
    for split, count in (("train", 120), ("devel", 40), ("test", 40)):
        entries = ["".join(f"{w}\t{t}\n" for w, t in zip(*sentence(chance), strict=True)) for _ in range(count)]
        (folder / f"{split}.tsv").write_text("\n".join(entries))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with files of one's own, the current one."""
    folder = tmp_path / "current"
    write_logs(folder / "files")
    monkeypatch.chdir(folder)
    return folder


def refused(capsys, *arguments):
    """The one line of a command that fails; that it leaves nothing behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert sorted(Path.cwd().rglob("*")) == before
    return err


BENCHMARK = ["files/train.tsv", "files/devel.tsv", "files/test.tsv"]
CORPUS_LINE, TRAIN_LINE = '      - "data/corpus/*.txt"', '    train: "data/benchmark/train.tsv"'


def test_a_new_study_has_what_make_needs_and_passes_the_check(own, capsys):
    command = ["new-study", "log-books", "--corpus", "files/logs/*.txt", "--benchmark", *BENCHMARK]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    assert (err, out.splitlines()[-1]) == ("", "Then: cd log-books && make check && make")
    assert sorted(path.name for path in own.iterdir()) == ["files", "log-books"]
    folder = own / "log-books"
    assert (folder / "Snakefile").read_bytes() == (ROOT / "Snakefile").read_bytes()
    assert {p.name for p in (folder / "notebooks").iterdir()} == {p.name for p in (ROOT / "notebooks").glob("*.ipynb")}
    study = load(folder / "params" / "log-books.yaml")
    assert study.root == folder
    assert study.profile == "log-books"
    assert study.corpora["own"].files == [str(own / "files/logs/*.txt")]
    assert study.benchmarks["entities"].splits == {
        split: str(own / "files" / f"{split}.tsv") for split in ("train", "devel", "test")
    }
    assert study.encoders_that_differ_in_vocabulary() == ["tiny-own", "tiny-general"]
    assert cli.main(["check", "log-books/params/log-books.yaml"]) == 0
    assert "2 pre-training and 24 fine-tuning runs" in capsys.readouterr().out


def test_the_notebooks_speak_of_the_new_profile_and_have_no_outputs(own, monkeypatch):
    checkout = own / "checkout"
    (checkout / "notebooks").mkdir(parents=True)
    (checkout / "Snakefile").write_text("")
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ['profile = "smoke" is the default']},
        {
            "cell_type": "code",
            "execution_count": 3,
            "metadata": {"tags": ["parameters"]},
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["private"]}],
            "source": ['profile = "smoke"  # params/<profile>.yaml\n', "run = None"],
        },
    ]
    (checkout / "notebooks" / "a.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}))
    monkeypatch.setattr(new_study, "CHECKOUT", checkout)
    new_study.new_study("mine")
    made = json.loads((own / "mine" / "notebooks" / "a.ipynb").read_text())["cells"]
    assert made[0] == cells[0]
    assert made[1]["source"] == ['profile = "mine"  # params/<profile>.yaml\n', "run = None"]
    assert (made[1]["outputs"], made[1]["execution_count"]) == ([], None)


def test_without_files_the_check_says_where_they_belong(own, capsys):
    (own / "mine").mkdir()  # an empty folder is as good as none
    params = new_study.new_study("mine")
    assert params == Path("mine/params/mine.yaml")
    lines = params.read_text().splitlines()
    err = refused(capsys, "check", str(params))
    place = f"{params}:{lines.index(CORPUS_LINE) + 1}: corpora.own.files[0]"
    assert err.startswith(f"biomeg: {place}: expected a file or a source, found no file 'data/corpus/*.txt' in {own}")
    shutil.copy("files/logs/year0.txt", "mine/data/corpus")
    place = f"{params}:{lines.index(TRAIN_LINE) + 1}: benchmarks.entities.train"
    assert refused(capsys, "check", str(params)).startswith(f"biomeg: {place}: expected a file or a source, found no")


@pytest.mark.parametrize(
    ("files", "splits", "kind"),
    [
        (BENCHMARK[:1], ["train"], "iob"),
        ([BENCHMARK[0], BENCHMARK[2]], ["train", "test"], "iob"),
        (["files/columns.txt"], ["train"], "conll"),
    ],
)
def test_fewer_files_of_a_benchmark_and_other_columns(own, files, splits, kind):
    rows = (own / "files/train.tsv").read_text().replace("\t", " X ")
    (own / "files/columns.txt").write_text(f"-DOCSTART- -X- O\n\n{rows}")
    benchmark = load(new_study.new_study("mine", benchmark=files)).benchmarks["entities"]
    assert (benchmark.format, list(benchmark.splits)) == (kind, splits)
    assert read_iob(benchmark.train, kind) == read_iob("files/train.tsv")


def test_json_lines_and_names_that_yaml_would_take_otherwise(own):
    names = ['a "quoted" #1.jsonl', "b: c [1]\\n.jsonl.gz", "é{}.jsonl"]
    for name in names:
        (own / name).write_text('{"text": "Some text."}\n')
    corpus = load(new_study.new_study("2nd", corpus=names)).corpora["own"]
    assert corpus.format == "jsonl"
    assert corpus.files == [str(own / name) for name in names]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["files"], "files: expected a new or empty folder, found bad.tsv in it"),
        (["files/train.tsv"], "files/train.tsv: expected a name for the profile"),
        (["taken"], "taken: expected a new or empty folder, found a file"),
        (["../current"], "../current: expected a folder other than the current one"),
        (
            ["_mine"],
            "expected a name for the profile (letters, digits, - and _, a letter or digit first), found '_mine'",
        ),
        (["my study"], "found 'my study'"),
        (["/"], "found ''"),
        (["mine", "--corpus", "files/none*.txt"], "files/none*.txt: expected a file, found none"),
        (["mine", "--corpus", "files"], "files: expected a file, found none"),
        (["mine", "--corpus", "taken", "a.jsonl"], "a.jsonl: expected files of one kind, text or .jsonl, found both"),
        (["mine", "--benchmark", "files/bad.tsv"], "bad.tsv:3: expected a tag O, B-TYPE or I-TYPE"),
        (
            ["mine", "--benchmark", *BENCHMARK, "taken"],
            "benchmark: expected files to train, devel and test on, found 4",
        ),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(own, capsys, arguments, says):
    (own / "files/bad.tsv").write_text("The\tO\nbrig\tO\nHeron\tSHIP\n")
    for name in ("taken", "a.jsonl"):
        (own / name).write_text("{}")
    assert says in refused(capsys, "new-study", *arguments)


def test_a_library_without_its_checkout_says_so(own, capsys, monkeypatch):
    monkeypatch.setattr(new_study, "CHECKOUT", own / "site-packages")
    assert "expected the study's Snakefile and notebooks beside the library" in refused(capsys, "new-study", "mine")


def test_what_fails_on_the_way_leaves_nothing(own, monkeypatch):
    def fail(*arguments):
        raise BiomegError("no more")

    monkeypatch.setattr(new_study, "_notebook", fail)
    with pytest.raises(BiomegError, match="no more"):
        new_study.new_study("mine")
    assert [path.name for path in own.iterdir()] == ["files"]


def test_the_yaml_of_the_walk_through_fits_into_a_new_study(own):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "own-domain.md").read_text(), re.DOTALL)
    params = new_study.new_study("mine")
    values = yaml.safe_load(params.read_text())
    for section, entries in yaml.safe_load(block).items():
        values[section] |= entries
    params.write_text(yaml.safe_dump(values))
    study = load(params)
    assert [job.encoder for job in study.jobs() if job.grid == "transfer"] == ["minilm", "minilm-own", "minilm-own-8k"]


def shrunk(params: Path) -> None:
    """A new study's params file at a size of seconds; without a network, other text is the miniature's."""
    values = yaml.safe_load(params.read_text())
    values["seeds"] = [1, 2]
    values["corpora"]["general"] = {"format": "jsonl", "files": ["miniature:general/*.jsonl.gz"]}
    for vocabulary in values["vocabularies"].values():
        vocabulary["size"] = 300
    values["models"] = {"nano": {"layers": 1, "hidden": 32, "heads": 2}}
    for run in values["pretraining"].values():
        run |= {"model": "nano", "tokens": 40 * 8 * 32, "batch": 8, "length": 32, "evaluations": 2}
        run |= {"held_out_windows": 16, "learning_rate": 0.003}
    grid = values["ner"]["full"]
    grid |= {"epochs": 5, "evaluations": 1, "batch": 4, "fc_dropout": 0.1, "search": {"learning_rate": [0.005]}}
    params.write_text(yaml.safe_dump(values, sort_keys=False))


def make(folder: Path, *targets: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "BIOMEG_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("MAKEFLAGS", None)  # of a `make test PYTHON=...` around this one
    command = ["make", *targets]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture
def logs(own):
    params = new_study.new_study("logs", ["files/logs/*.txt"], BENCHMARK)
    shrunk(params)
    return own / "logs"


def test_single_stages_from_the_new_folder(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    stages = [
        "corpus own",
        "vocabulary own-8k",
        "shards own own-8k",
        "pretrain tiny-own",
        "finetune full.entities.tiny-own",
    ]
    for stage in stages:
        command, *names = stage.split(" ")
        assert cli.main([command, "params/logs.yaml", *names]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "own: 180 documents, " in out
    assert "full.entities.tiny-own.pretrained.piece.seed1: test Prec" in out
    scores = [float(score) for score in re.findall(r"test .*, F1 ([\d.]+)", out)]
    assert len(scores) == len(list((logs / "outputs/logs/runs/finetune").iterdir())) == 2 * 2 * 2
    assert min(scores) > 50  # every name of the test set is in the training set, too


def test_make_knows_every_product_and_names_a_bad_line(logs, own):
    planned = make(logs, "study", f"SNAKEMAKE={sys.executable} -m snakemake --cores 1 --dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "finetune.full.entities.tiny-general" in planned.stdout
    with open(own / "files/devel.tsv", "a") as stream:
        stream.write("\nHeron\tSHIP\n")
    failed = make(logs)
    assert failed.returncode == 2
    lines = [line for line in failed.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    assert "devel.tsv" in lines[0]
    assert "expected a tag O, B-TYPE or I-TYPE" in lines[0]


@pytest.mark.slow
def test_the_whole_study(logs):
    done = make(logs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("The report: outputs/logs/report/index.html\n")
    out = logs / "outputs" / "logs"
    scores = pd.read_csv(out / "tables" / "ner_runs.csv")
    assert len(scores) == 2 * 2 * 2 * 2
    assert scores["F1"].min() > 50
    rates = pd.read_csv(out / "tables" / "table3.csv").set_index("Sub-word vocabulary")["Rate"]
    assert rates["own-8k"] < rates["general-8k"]  # ships and ports are in the text that it was learned on
    index = lxml.html.parse(out / "report" / "index.html").getroot().text_content()
    assert "logs: a study of our own domain" in index
