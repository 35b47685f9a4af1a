"""Grids of the three tasks in one params file: names, arms, what goes on from what, and grids that cannot be."""

import json

import pytest
import yaml

from biomeg_lib.errors import BiomegError
from biomeg_lib.grids import Cell, QuestionGrid
from biomeg_lib.study import from_notebook, load

PARAMS = """\
profile: own
title: Own
description: For tests.
seeds: [3, 5]
corpora:
  a: {format: text, files: [a.txt]}
vocabularies:
  bio: {kind: sentencepiece, corpus: a, size: 500}
benchmarks:
  chem: {train: t.tsv, devel: d.tsv, test: e.tsv, stands_for: BC5-chem}
  prot: {format: chemprot, train: "t_*.tsv", devel: "d_*.tsv", test: "e_*.tsv"}
  pairs: {format: mrpc, train: t.txt, test: e.txt}
  squad: {format: squad, train: t.json, test: e.json}
  asq: {format: bioasq, train: t.json, test: e.json, skip_bad: true}
models:
  micro: {layers: 1, hidden: 8, heads: 2}
pretraining:
  one: {model: micro, vocabulary: bio, corpus: a, tokens: 10_000, length: 32, batch: 4}
  two: {model: micro, vocabulary: bio, corpus: a, tokens: 20_000, length: 32, batch: 4}
ner:
  tags:
    benchmarks: [chem]
    encoders: [one]
    labellings: [piece]
  remedied:
    benchmarks: [chem]
    encoders: [one]
    starts: [pretrained, random]
    labellings: [piece, word]
    remedies: [none, dice]
classification:
  kinds:
    benchmarks: [prot, pairs]
    encoders: [two]
    markings: [markers, anonymised]
    remedies: [none, weighted, oversampled, dice]
qa:
  first:
    benchmarks: [squad]
    encoders: [one, two]
    starts: [pretrained, random]
    fraction: 0.5
    search: {learning_rate: [0.001]}
  then:
    benchmarks: [asq]
    encoders: [two]
    starts: [random]
    routes: [direct, first]
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "params").mkdir()
    return tmp_path


def loaded(project, text=PARAMS):
    path = project / "params" / "own.yaml"
    path.write_text(text)
    return load(path)


@pytest.fixture
def study(project):
    return loaded(project)


def the_cell(study, name):
    cells = {cell.name: cell for job in study.jobs() for cell in study.cells(job)}
    return cells[name]


def test_jobs_of_all_tasks_in_order(study):
    jobs = {task: [job.name for job in study.jobs(task)] for task in ("ner", "classification", "qa")}
    assert jobs == {
        "ner": ["tags.chem.one", "remedied.chem.one"],
        "classification": ["kinds.prot.two", "kinds.pairs.two"],
        "qa": ["first.squad.one", "first.squad.two", "then.asq.two"],
    }
    assert [job.name for job in study.jobs()] == [name for names in jobs.values() for name in names]
    assert list(study.grids) == ["tags", "remedied", "kinds", "first", "then"]
    assert {name: grid.task for name, grid in study.grids.items()}["kinds"] == "classification"
    assert study.job("kinds.pairs.two").benchmark == "pairs"
    with pytest.raises(BiomegError, match=r"no fine-tuning job is called 'then\.asq\.one'; did you mean"):
        study.job("then.asq.one")


def test_benchmarks_belong_to_the_task_of_their_format(study):
    found = {task: list(study.benchmarks_of(task)) for task in ("ner", "classification", "qa")}
    assert found == {"ner": ["chem"], "classification": ["prot", "pairs"], "qa": ["squad", "asq"]}


def test_names_have_the_factors_of_the_task_in_order(study):
    names = {job.name: [cell.name.removeprefix(job.name + ".") for cell in study.cells(job)] for job in study.jobs()}
    assert names == {
        "tags.chem.one": ["pretrained.piece"],
        "remedied.chem.one": [
            f"{start}.{labelling}{remedy}"
            for start in ("pretrained", "random")
            for labelling in ("piece", "word")
            for remedy in ("", ".dice")
        ],
        "kinds.prot.two": [
            f"pretrained.{marking}{remedy}"
            for marking in ("markers", "anonymised")
            for remedy in ("", ".weighted", ".oversampled", ".dice")
        ],
        "kinds.pairs.two": ["pretrained", "pretrained.weighted", "pretrained.oversampled", "pretrained.dice"],
        "first.squad.one": ["pretrained.direct", "random.direct"],
        "first.squad.two": ["pretrained.direct", "random.direct"],
        "then.asq.two": ["random.direct", "random.first"],
    }
    runs = [run for job in study.jobs() for run in study.runs(job)]
    assert len(set(runs)) == len(runs) == 2 * (1 + 8 + 8 + 4 + 2 + 2 + 2)
    assert study.runs(study.job("then.asq.two")) == [
        *["then.asq.two.random.direct.seed3", "then.asq.two.random.direct.seed5"],
        *["then.asq.two.random.first.seed3", "then.asq.two.random.first.seed5"],
    ]


def test_an_arm_records_the_factors_that_it_has(study):
    base = {"fraction": 1.0}
    assert the_cell(study, "kinds.prot.two.pretrained.anonymised.dice").record() == base | {
        **{"grid": "kinds", "benchmark": "prot", "encoder": "two", "start": "pretrained"},
        **{"marking": "anonymised", "remedy": "dice"},
    }
    assert the_cell(study, "kinds.pairs.two.pretrained").record() == base | {
        **{"grid": "kinds", "benchmark": "pairs", "encoder": "two", "start": "pretrained"}
    }
    assert the_cell(study, "first.squad.one.random.direct").record() == {
        **{"grid": "first", "benchmark": "squad", "encoder": "one", "start": "random"},
        **{"route": "direct", "fraction": 0.5},
    }
    for job in study.jobs():
        for cell in study.cells(job):
            assert Cell(**json.loads(json.dumps(cell.record()))) == cell


def test_what_an_arm_goes_on_from(study):
    gone_on = the_cell(study, "then.asq.two.random.first")
    assert study.earlier(gone_on) == the_cell(study, "first.squad.two.random.direct")
    others = [cell for job in study.jobs() for cell in study.cells(job) if cell != gone_on]
    assert [study.earlier(cell) for cell in others] == [None] * len(others)
    earlier = {job.name: [first.name for first in study.earlier_jobs(job)] for job in study.jobs()}
    assert earlier.pop("then.asq.two") == ["first.squad.two"]
    assert not any(earlier.values())


def test_an_earlier_arm_is_one_of_its_own_grid_and_each_job_is_named_once(project):
    text = PARAMS.replace(
        "starts: [random]\n    routes: [direct, first]", "starts: [random, pretrained]\n    routes: [first]"
    )
    study = loaded(project, text)
    job = study.job("then.asq.two")
    cells = study.cells(study.job("first.squad.two"))
    assert [study.earlier(cell) for cell in study.cells(job)] == [cells[1], cells[0]]
    assert [first.name for first in study.earlier_jobs(job)] == ["first.squad.two"]


def test_the_weights_that_stay(study):
    kept = {
        cell.name: [seed for seed in (3, 5) if study.keeps_weights(cell, seed)]
        for job in study.jobs()
        for cell in study.cells(job)
    }
    assert kept.pop("first.squad.two.random.direct") == [3, 5]
    assert all(3 in seeds for seeds in kept.values())
    assert {seeds[-1] for name, seeds in kept.items() if not name.startswith("first.")} == {3}


def test_params_of_a_run_without_remedies_are_what_they_were_before_there_were_any(study):
    """Runs of older versions of this program are taken up again, not refused or made anew."""
    expected = {
        "cell": {
            **{"grid": "tags", "benchmark": "chem", "encoder": "one"},
            **{"start": "pretrained", "labelling": "piece", "fraction": 1.0},
        },
        "point": {"learning_rate": 5e-5, "num_fc_layers": 1, "fc_hidden": 512},
        "seed": 3,
        "epochs": 30,
        "recipe": {
            **{"batch": 32, "length": 128, "warmup": 0.1, "weight_decay": 0.01},
            **{"dropout": 0.1, "fc_dropout": 0.5, "evaluations": 10},
        },
        "benchmark": {"format": "iob", "train": "t.tsv", "devel": "d.tsv", "test": "e.tsv"},
        "encoder": {
            "pretraining": {
                **{"model": "micro", "vocabulary": "bio", "corpus": "a", "tokens": 10000, "batch": 4, "length": 32},
                **{"learning_rate": 0.001, "warmup": 0.05, "weight_decay": 0.01, "accumulate": 1, "dropout": 0.1},
                **{"whole_word": False, "seed": 1, "evaluations": 20, "held_out_windows": 512},
            },
            "models": {"micro": {"layers": 1, "hidden": 8, "heads": 2, "norm": "pre"}},
            "vocabulary": {
                **{"kind": "sentencepiece", "corpus": "a", "size": 500, "algorithm": "bpe", "lowercase": False}
            },
            "corpus": {"format": "text", "files": ["a.txt"], "held_out": 0.02},
            "threads": 1,
        },
    }
    cell = the_cell(study, "tags.chem.one.pretrained.piece")
    point = study.ner["tags"].search.points()[0]
    assert study.resolved_finetuning(cell, point, 3, 30) == expected
    plain = the_cell(study, "remedied.chem.one.pretrained.piece")
    beside = study.resolved_finetuning(plain, point, 3, 30)
    assert beside == expected | {"cell": expected["cell"] | {"grid": "remedied"}}
    remedied = study.resolved_finetuning(the_cell(study, "remedied.chem.one.pretrained.piece.dice"), point, 3, 30)
    assert remedied == beside | {"cell": beside["cell"] | {"remedy": "dice"}}


def test_params_say_what_a_run_goes_on_from_and_what_was_read(study):
    direct, gone_on = (
        study.resolved_finetuning(the_cell(study, f"then.asq.two.random.{route}"), {}, 3, 30)
        for route in ("direct", "first")
    )
    assert "earlier" not in direct
    assert direct["benchmark"]["skip_bad"] is True
    earlier = gone_on.pop("earlier")
    assert gone_on == direct | {"cell": direct["cell"] | {"route": "first"}}
    assert earlier["cell"] == the_cell(study, "first.squad.two.random.direct").record()
    assert earlier["benchmark"] == {"format": "squad", "train": "t.json", "devel": None, "test": "e.json"}
    assert json.loads(json.dumps(earlier)) == earlier
    assert direct["recipe"].keys() >= {"stride", "max_question", "max_answer", "n_best", "length"}
    assert not direct["recipe"].keys() & {"routes", "remedies", "search", "epochs", "starts"}


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("fraction: 0.5", "fraction: 0.25", True),
        ("learning_rate: [0.001]", "learning_rate: [0.002]", True),
        ("squad: {format: squad, train: t", "squad: {format: squad, train: u", True),
        ("fraction: 0.5", "fraction: 0.5\n    epochs: 9", True),
        ("fraction: 0.5", "fraction: 0.5\n    stride: 9", True),
        ("encoders: [one, two]\n", "encoders: [two]\n", False),
        ("test: e.json}\n  asq", "test: e.json, stands_for: SQuAD-v1.0}\n  asq", False),
    ],
)
def test_a_run_depends_on_how_the_earlier_one_is_made(project, study, old, new, changes):
    def resolved(study):
        return study.resolved_finetuning(the_cell(study, "then.asq.two.random.first"), {}, 3, 30)

    before = resolved(study)
    assert PARAMS.count(old) == 1
    assert (resolved(loaded(project, PARAMS.replace(old, new))) != before) is changes


@pytest.mark.parametrize(
    ("old", "new", "at", "says"),
    [
        ("[prot, pairs]", "[prot, squad]", "[prot, squad]",
         "classification.kinds.benchmarks[1]: no classification benchmark is called 'squad'; there are pairs, prot"),
        ("[asq]", "[chem]", "benchmarks: [chem]\n    encoders: [two]",
         "qa.then.benchmarks[0]: no qa benchmark is called 'chem'; there are asq, squad"),
        ("labellings: [piece]\n", "labellings: [word]\n    routes: [direct]\n", "routes: [direct]\n",
         "ner.tags.routes: unknown key; did you mean"),
        ("[direct, first]", "[direct, frist]", "[direct, frist]",
         "qa.then.routes[1]: no qa grid is called 'frist'; did you mean 'first'?"),
        ("[direct, first]", "[direct, then]", "[direct, then]",
         "qa.then.routes[1]: no qa grid is called 'then'; there are direct, first"),
        ("[direct, first]", "[direct, tags]", "[direct, tags]",
         "qa.then.routes[1]: no qa grid is called 'tags'; there are direct, first"),
        ("[direct, first]", "[first, first]", "[first, first]", "qa.then.routes: expected each value once"),
        ("  kinds:", "  tags:", "  tags:\n    benchmarks: [prot",
         "classification.tags: expected a name that no other grid has; ner has it too"),
        ("  then:", "  kinds:", "  kinds:\n    benchmarks: [asq",
         "qa.kinds: expected a name that no other grid has; classification has it too"),
        ("benchmarks: [squad]", "benchmarks: [squad, asq]", "[direct, first]",
         "qa.then.routes[1]: expected first to have one benchmark and the route direct"),
        ("fraction: 0.5", "routes: [third]", "[direct, first]",
         "qa.then.routes[1]: expected first to have one benchmark and the route direct"),
        ("encoders: [one, two]", "encoders: [one]", "[direct, first]",
         "qa.then.routes[1]: expected first to have two too"),
        ("starts: [pretrained, random]\n    fraction", "fraction", "[direct, first]",
         "qa.then.routes[1]: expected first to have random too"),
        ("[none, dice]", "[none, focal]", "[none, focal]", "ner.remedied.remedies[1]: expected 'none', 'weighted', "),
        ("[markers, anonymised]", "[marked]", "[marked]", "classification.kinds.markings[0]: expected 'markers' or "),
        ("format: mrpc", "format: msrp", "format: msrp", "benchmarks.pairs.format: expected 'iob', 'conll', "),
        ("{train: t.tsv, devel: d.tsv, test: e.tsv, s", "{skip_bad: true, train: t.tsv, s", "chem: {skip_bad",
         "benchmarks.chem: expected no skip_bad for iob: a bad line would take its sentence apart"),
        ("prot: {format: chemprot,", "prot: {format: chemprot-jsonl,", "[prot, pairs]",
         "classification.kinds.benchmarks[0]: expected chemprot for anonymised names: prot does not say which name is"),
        ("fraction: 0.5", "length: 67", "first:\n    benchmarks: [squad]",
         "qa.first: expected a length of at least 68: max_question, three special tokens and one of the text"),
        ("  first:", "  direct:", "  direct:\n    benchmarks: [squad]", "qa.direct: expected another name: direct is "),
    ],
)  # fmt: skip
def test_grids_that_cannot_be(project, old, new, at, says):
    assert PARAMS.count(old) == 1
    text = PARAMS.replace(old, new)
    if "third" in text:
        text += "  third: {benchmarks: [squad], encoders: [one, two], starts: [pretrained, random]}\n"
    if "  direct:" in new:
        text = text.replace("[direct, first]", "[direct]")
    assert text.count(at) == 1
    line = text[: text.index(at)].count("\n") + 1
    with pytest.raises(BiomegError) as caught:
        loaded(project, text)
    path = project / "params" / "own.yaml"
    assert str(caught.value).startswith(f"{path}:{line}: {says}")
    assert "\n" not in str(caught.value)


def test_the_same_mistake_in_a_notebook(project, monkeypatch):
    (project / "notebooks").mkdir()
    monkeypatch.chdir(project / "notebooks")
    values = yaml.safe_load(PARAMS.replace("[direct, first]", "[direct, then]"))
    with pytest.raises(BiomegError, match=r"^parameters: qa\.then\.routes\[1\]: no qa grid is called 'then'"):
        from_notebook(values)


def test_splits_that_are_not_named_are_not_read(study):
    assert study.benchmarks["squad"].splits == {"train": "t.json", "test": "e.json"}
    assert list(study.benchmarks["chem"].splits) == ["train", "devel", "test"]


def test_encoders_of_all_tasks_are_looked_at_for_vocabularies(project):
    text = PARAMS.replace("encoders: [one]", "encoders: [two]").replace("20_000", "10_000")
    assert loaded(project, text).encoders_that_differ_in_vocabulary() == ["two", "one"]


def test_factors_are_those_of_names():
    grid = QuestionGrid(benchmarks=["a"], encoders=["b"])
    assert grid.factors() == {"start": ["pretrained"], "route": ["direct"]}
