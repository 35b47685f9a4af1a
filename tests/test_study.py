"""The study: what its entries may name, how its runs are called, and that a notebook's parameters mean the same."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from biomeg_lib.errors import BiomegError
from biomeg_lib.grids import Search
from biomeg_lib.model import PRESETS
from biomeg_lib.study import Study, find_root, from_notebook, load

ROOT = Path(__file__).resolve().parent.parent
PARAMS = """\
profile: own
title: Own
description: For tests.
seeds: [3, 5]
corpora:
  a: {format: text, files: [a.txt]}
  b: {format: jsonl, files: [b.jsonl]}
vocabularies:
  bert: {kind: wordpiece, file: vocab.txt, lowercase: true}
  bio: {kind: sentencepiece, corpus: a, size: 500, stands_for: BERT-cased}
benchmarks:
  chem: {train: t.tsv, devel: d.tsv, test: e.tsv, stands_for: BC5-chem}
  gene: {train: t.tsv, devel: d.tsv, test: e.tsv}
models:
  micro: {layers: 1, hidden: 8, heads: 2}
pretraining:
  one: {model: micro, vocabulary: bio, corpus: a, tokens: 10_000, length: 32, batch: 4}
  two: {model: micro, vocabulary: bert, corpus: a, tokens: 10_000, length: 32, batch: 4}
  big: {model: 345m, vocabulary: bio, corpus: b, tokens: 10_000, learning_rate: 1e-4}
ner:
  full:
    benchmarks: [chem, gene]
    encoders: [one, two, big]
    starts: [pretrained, random]
    search: {num_fc_layers: [1, 2], fc_hidden: [8, 16]}
  tenth:
    benchmarks: [chem]
    encoders: [one]
    fraction: 0.1
figure1_vocabularies: [bert, bio]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with this one params file; the current folder is its notebooks/."""
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "params" / "own.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


@pytest.fixture
def study(project):
    return load(project / "params" / "own.yaml")


def refused(project, old, new):
    """The message, and its line, about params in which `old` is exchanged for `new`."""
    assert PARAMS.count(old) == 1
    path = project / "params" / "own.yaml"
    path.write_text(PARAMS.replace(old, new))
    with pytest.raises(BiomegError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if new.splitlines()[0] in text)
    start = f"{path}:{line}: "
    assert message.startswith(start)
    return message.removeprefix(start)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("corpus: a, size", "corpus: aa, size", "vocabularies.bio.corpus: no corpus is called 'aa'; did you mean 'a'?"),
        (
            "one: {model: micro",
            "one: {model: mikro",
            "pretraining.one.model: no model is called 'mikro'; did you mean 'micro'?",
        ),
        (
            "vocabulary: bert,",
            "vocabulary: brt,",
            "pretraining.two.vocabulary: no vocabulary is called 'brt'; did you mean 'bert'?",
        ),
        ("corpus: b,", "corpus: zzz,", "pretraining.big.corpus: no corpus is called 'zzz'; there are a, b"),
        ("[chem, gene]", "[chem, genes]", "ner.full.benchmarks[1]: no ner benchmark is called 'genes'; did you mean"),
        ("[one, two, big]", "[one, tow, big]", "ner.full.encoders[1]: no pre-training run is called 'tow'; did"),
        ("[bert, bio]", "[bert, bios]", "figure1_vocabularies[1]: no vocabulary is called 'bios'; did you mean 'bio'?"),
        ("heads: 2", "heads: 3", "models.micro: model: heads must divide hidden, found hidden 8 and heads 3"),
        ("profile: own", "profile: other", "profile: expected the file's own name 'own', found 'other'"),
        ("[3, 5]", "[3, 3]", "seeds: expected each value once, found [3, 3]"),
        ("[3, 5]", "[-3]", "seeds[0]: expected greater than or equal to 0, found -3"),
        ("[3, 5]", "[]", "seeds: expected"),
        ("[one, two, big]", "[one, one]", "ner.full.encoders: expected each value once"),
        ("[chem, gene]", "[chem, chem]", "ner.full.benchmarks: expected each value once"),
        ("[pretrained, random]", "[random, random]", "ner.full.starts: expected each value once"),
        ("[pretrained, random]", "[trained]", "ner.full.starts[0]: expected 'pretrained' or 'random', found 'trained'"),
        ("learning_rate: 1e-4", "learning_rate: .inf", "pretraining.big.learning_rate: expected a finite number"),
        ("learning_rate: 1e-4", "length: 1024", "pretraining.big.length: expected less than or equal to 512"),
        ("fraction: 0.1", "fraction: 1.5", "ner.tenth.fraction: expected less than or equal to 1, found 1.5"),
    ],
)
def test_names_and_values_that_cannot_be(project, old, new, says):
    assert refused(project, old, new).startswith(says)


@pytest.mark.parametrize(
    ("old", "place"),
    [
        ("[a.txt]", "corpora.a.files[0]"),
        ("vocab.txt", "vocabularies.bert.file"),
        ("t.tsv, devel: d.tsv, test: e.tsv, stands_for: BC5-chem", "benchmarks.chem.train"),
    ],
)
@pytest.mark.parametrize("user", ["me:hunter2", "hunter2", "HUNTER2:x@y"])
def test_no_passwords_in_addresses(project, old, place, user):
    address = f'"https://{user}@host.example/x"'
    message = refused(project, old, f"[{address}]" if old[0] == "[" else old.replace(old.split(",")[0], address))
    assert message.startswith(f"{place}: expected an address without user and password: put them into ~/.netrc")
    assert "hunter2" not in message.lower()


def test_other_addresses_are_left_alone(project):
    path = project / "params" / "own.yaml"
    address = "https://host.example/x@y/z.txt?version=3&by=me@host"
    path.write_text(PARAMS.replace("[a.txt]", f'["{address}"]'))
    assert load(path).corpora["a"].files == [address]


def test_every_named_model_can_be_named(project):
    for name in PRESETS:
        text = PARAMS.replace("model: 345m", f"model: {name}")
        (project / "params" / "own.yaml").write_text(text)
        study = load(project / "params" / "own.yaml")
        config = study.model_config_for(name, 1024, 0.25)
        assert (config.layers, config.hidden) == (PRESETS[name].layers, PRESETS[name].hidden)
        assert (config.vocab_size, config.dropout, config.attention_dropout) == (1024, 0.25, 0.25)


def test_a_shape_of_ones_own_comes_before_a_named_one(project):
    (project / "params" / "own.yaml").write_text(PARAMS.replace("micro", "tiny"))
    assert load(project / "params" / "own.yaml").model_config_for("tiny", 128, 0.0).hidden == 8


def test_search_points_are_the_grid_without_repeats():
    search = Search(num_fc_layers=[1, 2], fc_hidden=[512, 1024], learning_rate=[1e-3, 1e-4])
    points = [(p["learning_rate"], p["num_fc_layers"], p["fc_hidden"]) for p in search.points()]
    assert points == [
        *[(1e-3, 1, 512), (1e-3, 2, 512), (1e-3, 2, 1024)],
        *[(1e-4, 1, 512), (1e-4, 2, 512), (1e-4, 2, 1024)],
    ]
    assert Search(num_fc_layers=[1, 1], fc_hidden=[8, 8]).points() == Search(fc_hidden=[8]).points()
    assert Search().points() == [{"learning_rate": 5e-5, "num_fc_layers": 1, "fc_hidden": 512}]


def test_steps_are_what_the_tokens_allow(study):
    assert study.pretraining["one"].steps == 10_000 // (32 * 4)
    assert study.pretraining["one"].model_copy(update={"accumulate": 4}).steps == 10_000 // (32 * 4 * 4)
    assert study.pretraining["one"].model_copy(update={"tokens": 1}).steps == 1


def test_jobs_cells_and_runs_have_names_of_their_own(study):
    jobs = [job.name for job in study.jobs()]
    assert jobs == [
        *["full.chem.one", "full.chem.two", "full.chem.big", "full.gene.one", "full.gene.two", "full.gene.big"],
        "tenth.chem.one",
    ]
    runs = [run for job in study.jobs() for run in study.runs(job)]
    assert len(set(runs)) == len(runs) == 6 * 2 * 2 * 2 + 1 * 1 * 2 * 2
    assert study.runs(study.job("tenth.chem.one")) == [
        "tenth.chem.one.pretrained.piece.seed3",
        "tenth.chem.one.pretrained.piece.seed5",
        "tenth.chem.one.pretrained.word.seed3",
        "tenth.chem.one.pretrained.word.seed5",
    ]
    assert {cell.fraction for cell in study.cells(study.job("tenth.chem.one"))} == {0.1}
    with pytest.raises(BiomegError, match=r"own\.yaml: no fine-tuning job .*did you mean 'tenth\.chem\.one'\?"):
        study.job("tenth.chem.on")


def test_resolved_params_are_json_and_hold_what_decides(study):
    job = study.job("full.chem.one")
    cell, point = study.cells(job)[0], study.ner["full"].search.points()[0]
    resolved = study.resolved_finetuning(cell, point, 3, 30)
    assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved
    assert resolved["cell"]["labelling"] == "piece"
    assert resolved["benchmark"]["train"] == "t.tsv"
    assert resolved["encoder"] == study.resolved_pretraining("one")
    pretraining = study.resolved_pretraining("one")
    assert json.loads(json.dumps(pretraining, allow_nan=False)) == pretraining
    assert pretraining["models"] == {"micro": {"layers": 1, "hidden": 8, "heads": 2, "norm": "pre"}}
    assert pretraining["corpus"]["files"] == ["a.txt"]
    assert study.resolved_pretraining("big")["models"] == {}
    with pytest.raises(BiomegError, match="no pre-training run is called 'on'; did you mean 'one'"):
        study.resolved_pretraining("on")


def test_resolved_params_do_not_change_with_labels_of_the_report(project, study):
    def resolved(study: Study) -> list:
        cells = [cell for job in study.jobs() for cell in study.cells(job)]
        return [study.resolved_finetuning(cell, {}, 3, 30) for cell in cells if cell.grid == "tenth"]

    changed = PARAMS.replace("BERT-cased", "PubMedBERT").replace("BC5-chem", "NCBI").replace("title: Own", "title: X")
    (project / "params" / "own.yaml").write_text(changed.replace("[chem, gene]", "[gene]").replace("[3, 5]", "[3, 4]"))
    assert resolved(load(project / "params" / "own.yaml")) == resolved(study)
    (project / "params" / "own.yaml").write_text(PARAMS.replace("size: 500", "size: 501"))
    assert resolved(load(project / "params" / "own.yaml")) != resolved(study)


def test_encoders_that_differ_in_vocabulary_alone(study):
    assert study.encoders_that_differ_in_vocabulary() == ["one", "two"]
    assert study.model_copy(update={"ner": {}}).encoders_that_differ_in_vocabulary() == []


def test_places_of_the_products(project, study):
    out = project / "outputs" / "own"
    assert study.root == project
    assert study.params_file == Path("params/own.yaml")
    assert study.corpus_directory("a") == out / "corpora" / "a"
    assert study.vocabulary_directory("bio") == out / "vocabularies" / "bio"
    assert study.shards_directory("a", "bio") == out / "shards" / "a.bio"
    assert study.run_directory("search", "r") == out / "runs" / "search" / "r"
    assert study.table("table3") == out / "tables" / "table3.csv"
    assert study.figure("figure1") == out / "figures" / "figure1.svg"
    assert study.miniature == project / "outputs" / "miniature"


def test_generated_data_is_known_as_such(project, study):
    assert not study.generated
    for old in ("a.txt", "train: t.tsv, devel: d.tsv, test: e.tsv}"):
        new = old.replace("a.txt", '"miniature:a.txt"').replace("e.tsv", '"miniature:e.tsv"')
        (project / "params" / "own.yaml").write_text(PARAMS.replace(old, new))
        assert load(project / "params" / "own.yaml").generated


def test_a_study_does_not_change(study):
    with pytest.raises(ValueError, match="frozen"):
        study.title = "Other"


def test_a_notebook_with_only_a_profile(project, study):
    assert from_notebook({"profile": "own", "run": None, "np": object()}) == study
    assert from_notebook({"profile": "own"}).root == project
    with pytest.raises(BiomegError, match=r"other\.yaml: expected a params file, found none; there are own\.yaml"):
        from_notebook({"profile": "other"})
    with pytest.raises(BiomegError, match=r"smoke\.yaml: expected a params file, found none"):
        from_notebook({})


def test_a_notebook_with_the_whole_file(project, study):
    values = yaml.safe_load(PARAMS)
    (project / "params" / "own.yaml").unlink()  # not needed then, as with `papermill -f`
    injected = from_notebook({**copy.deepcopy(values), "In": [], "job": "x"})
    assert injected == study
    assert injected.outputs == project / "outputs" / "own"
    values["corpora"]["a"]["format"] = "pdf"
    with pytest.raises(BiomegError, match=r"^parameters: corpora\.a\.format: expected .*found 'pdf'$"):
        from_notebook(values)


def test_a_notebook_with_one_parameter_changed(study):
    changed = from_notebook({"profile": "own", "seeds": [7]})
    assert changed.seeds == [7]
    assert changed == study.model_copy(update={"seeds": [7]})
    with pytest.raises(BiomegError, match=r"^parameters: seeds: expected"):
        from_notebook({"profile": "own", "seeds": 7})
    with pytest.raises(BiomegError, match=r"^parameters: figure1_vocabularies\[0\]: no vocabulary is called 'x'"):
        from_notebook({"profile": "own", "figure1_vocabularies": ["x"]})


def test_outside_of_a_project_there_is_no_root(tmp_path, monkeypatch, project):
    deep = project / "notebooks" / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert find_root() == project
    monkeypatch.chdir("/")
    with pytest.raises(BiomegError, match="expected to be inside the project"):
        find_root()


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "params").glob("*.yaml")))
def test_the_committed_profiles_are_valid_and_the_same_in_a_notebook(profile, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / "params" / f"{profile}.yaml"
    assert load(path) == from_notebook({"profile": profile}) == from_notebook(yaml.safe_load(path.read_text()))


def test_papermill_injects_what_from_notebook_takes(project, study):
    """A notebook's parameters as papermill writes them (translated to Python) are the same values."""
    from papermill.translators import PythonTranslator

    values = yaml.safe_load(PARAMS)
    namespace: dict = {}
    exec(PythonTranslator.codify(values), namespace)
    assert from_notebook(namespace) == study


def test_names_do_not_depend_on_the_process(project, study):
    code = "import sys, biomeg_lib.study as s; t = s.load(sys.argv[1]); print([t.runs(j) for j in t.jobs()])"
    command = [sys.executable, "-c", code, str(project / "params" / "own.yaml")]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    assert done.stdout.strip() == str([study.runs(job) for job in study.jobs()])
