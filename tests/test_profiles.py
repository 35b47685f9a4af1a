"""The committed profiles: that they can be run as they are, name the paper's rows, and have what its claims compare.

Nothing is fetched or trained: what runs a profile plans stands in its params file.
"""

import shutil
import zlib
from pathlib import Path

import pandas as pd
import pytest

from biomeg_lib import cli, sources
from biomeg_lib.grids import Search
from biomeg_lib.model.flops import useful_flops
from biomeg_lib.report import findings, published, tables
from biomeg_lib.report.findings import words
from biomeg_lib.report.findings.evidence import Evidence
from biomeg_lib.study import Study, load

ROOT = Path(__file__).resolve().parent.parent
PAPER = ("laptop", "gpu", "paper")  # these stand for the paper's tables
ALL = ("smoke", *PAPER, "example-own-domain")
# As Tables 1, 2, 4, 6 and 7 print them.
ROWS = {
    *("BioBERT-110m, BERT-cased", "PubMedBERT-110m, PubMedBERT-uncased (30k)"),
    *("BioMegatron-345m, Bio-vocab-30k", "BioMegatron-345m, Bio-vocab-50k"),
    *("BioMegatron-800m, BERT-cased", "BioMegatron-1.2b, BERT-uncased"),
    *("BioBERT-Base-110m, BERT-cased", "BioBERT-Large-345m, BERT-cased"),
    *("BioMegatron-345m, BERT-uncased", "BioMegatron-800m, BERT-uncased"),
    *("BioMegatron-345m", "BioMegatron-800m", "BioMegatron-1.2b"),
    *("Megatron-345m (general LM)", "Megatron-1.2b (general LM)"),
    *("BioMegatron-345m-ft", "BioMegatron-1.2b-ft", "BERTLARGE", "RoBERTa", "Megatron-3.9b"),
}
BENCHMARKS = {
    *("BC5CDR-chem", "BC5CDR-disease", "NCBI-disease", "ChemProt", "BioASQ-7b-factoid"),
    *("SQuAD-v1.1", "SQuAD-v2.0", "CONLL-2003", "MRPC"),
}


def profile(name: str) -> Study:
    return load(ROOT / "params" / f"{name}.yaml")


def stood_for(study: Study) -> list[str]:
    return [row for run in study.pretraining.values() for row in run.stands_for]


@pytest.mark.parametrize("name", ALL)
def test_it_passes_the_check_with_no_data_at_hand(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources, "_local_folders", lambda: [])
    monkeypatch.setenv("BIOMEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources.pooch, "create", lambda *_, **__: pytest.fail("nothing is to be fetched"))
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "params" / f"{name}.yaml", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", f"params/{name}.yaml"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", ALL)
def test_names_are_the_papers(name):
    study = profile(name)
    assert set(stood_for(study)) <= ROWS
    assert set(study.not_run) <= ROWS | BENCHMARKS
    benchmarks = {published.canonical_benchmark(spec.stands_for or "MRPC") for spec in study.benchmarks.values()}
    assert benchmarks <= BENCHMARKS


@pytest.mark.parametrize("name", PAPER)
def test_every_row_of_the_paper_is_represented_or_said_not_to_be(name):
    study = profile(name)
    assert set(stood_for(study)) | (set(study.not_run) & ROWS) == ROWS
    assert not set(stood_for(study)) & set(study.not_run)
    here = {published.canonical_benchmark(spec.stands_for) for spec in study.benchmarks.values() if spec.stands_for}
    assert here | (set(study.not_run) & BENCHMARKS) == BENCHMARKS
    assert {"BERT-cased", "BioMegatron-bio-30k-cased", "BioMegatron-bio-50k-cased", "PubMedBERT-uncased (30k)"} == {
        spec.stands_for for spec in study.vocabularies.values() if spec.stands_for
    }


@pytest.mark.parametrize("name", ["gpu", "paper"])
def test_what_stands_for_a_row_is_fine_tuned_for_its_table(name):
    """Table 1: entities and relations; 2: questions after SQuAD; 4: without; 6: BioASQ; 7: SQuAD."""
    study = profile(name)
    asked = {
        1: [("BC5CDR-chem", None)],
        2: [("BioASQ-7b-factoid", "squad")],
        4: [("BioASQ-7b-factoid", "direct")],
        6: [("BioASQ-7b-factoid", "direct")],
        7: [("SQuAD-v1.1", "direct")],
    }
    fine_tuned = set()
    for job in study.jobs():
        benchmark = published.canonical_benchmark(study.benchmarks[job.benchmark].stands_for or "")
        for cell in study.cells(job):
            if cell.start == "pretrained":
                route = "squad" if cell.route not in (None, "direct") else cell.route
                fine_tuned |= {(row, benchmark, route) for row in study.pretraining[job.encoder].stands_for}
    for number, settings in asked.items():
        for row in published.models(number):
            if row in stood_for(study):
                assert {(row, *setting) for setting in settings} <= fine_tuned, (number, row)


@pytest.mark.parametrize("name", PAPER)
def test_encoders_from_scratch_that_stand_for_rows_have_one_budget(name):
    study = profile(name)
    budgets = {
        (run.tokens, run.batch * run.accumulate, run.length, run.dropout, run.weight_decay)
        for run in study.pretraining.values()
        if run.model and run.stands_for
    }
    assert len(budgets) == 1


@pytest.mark.parametrize("name", PAPER)
def test_three_seeds_at_least(name):
    study = profile(name)
    assert min(len(study.seeds_of(grid)) for grid in study.grids) >= 3


def planned(study: Study, task: str, jobs: list[str] | None = None) -> pd.DataFrame:
    """What `tables.runs` would return of finished runs; scores are a function of a run's name."""
    rows = []
    for job in study.jobs(task):
        for cell in study.cells(job):
            for seed in study.seeds_of(job.grid):
                factors = {factor: getattr(cell, factor) or "none" for factor in study.grids[job.grid].factors()}
                heads = ("Prec", "Rec", "F1", "MRR") if task == "qa" else ("Prec", "Rec", "F1")
                scores = {head: 50 + zlib.crc32(f"{head} {cell.run(seed)}".encode()) / 2**32 for head in heads}
                rows.append({**job.model_dump(), **factors, "fraction": cell.fraction, "seed": seed, **scores})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", PAPER)
def test_every_claim_has_the_runs_that_it_compares(name, monkeypatch):
    monkeypatch.setattr(tables, "runs", planned)
    monkeypatch.setattr(words, "_more_biased", lambda evidence: (None, ""))  # which reads the benchmarks
    evidence = Evidence(profile(name))
    claims = {}
    for claim in findings.CLAIMS:
        if claim is not words.domain_vocabularies_break_less:  # is counted, with the vocabularies asked for above
            judged = claim(evidence)
            claims[judged.number] = judged
    assert all(claim.parts for claim in claims.values())
    assert all(len(values) >= 3 for claim in claims.values() for part in claim.parts for values in part.strata)
    whole = {"C1": 2, "C5": 2, "C6": 2, "C8": 2, "C11": 2}
    assert {number: len(claims[number].parts) for number in whole} == whole


def test_gpu_takes_about_as_long_as_its_header_says():
    text, study = (ROOT / "params" / "gpu.yaml").read_text(), profile("gpu")
    shapes = {"megatron-bert-345m-uncased": "345m"}
    seconds = 0.0
    for run in study.pretraining.values():
        if run.tokens:
            origin = study.pretraining.get(run.init_from, run)
            config = study.model_config_for(origin.model or shapes[origin.init_from], 30592, 0.0)
            masked = round(0.15 * run.batch * run.length)
            a_token = useful_flops(config, run.batch, run.length, masked) / (run.batch * run.length)
            seconds += run.tokens * a_token / (0.35 * 990e12)
    assert f"{seconds / 3600:.1f} h\n" in text
    counted = {task: sum(len(study.runs(job)) for job in study.jobs(task)) for task in ("ner", "classification")}
    asked = {job.name: len(study.runs(job)) for job in study.jobs("qa")}
    bioasq = sum(count for job, count in asked.items() if ".bioasq." in job)
    for line in (
        f"entities                                      {counted['ner']} runs of 10 epochs, ",
        f"relations                                     {counted['classification']} runs, ",
        f"SQuAD 1.1 and 2.0                             {sum(asked.values()) - bioasq} runs of 2 epochs",
        f"BioASQ                                        {bioasq} runs of 10 epochs",
    ):
        assert line in text


def test_paper_has_the_papers_recipes_and_steps():
    """By the captions of Tables 1 and 2, section 5.3, and Table 5."""
    study = profile("paper")
    search = Search(num_fc_layers=[1, 2], fc_hidden=[512, 1024], learning_rate=[5e-5], epochs=5)
    for grid in (*study.ner.values(), *study.classification.values()):
        assert (grid.epochs, grid.fc_dropout, grid.length, grid.search) == (30, 0.5, 128, search)
    for name, grid in study.qa.items():
        assert (grid.epochs, grid.fc_dropout, grid.length) == (10 if "squad" in name else 30, 0.1, 512)
        assert grid.search == Search(num_fc_layers=[2], fc_hidden=[2048], learning_rate=[3e-5])
    assert study.qa["bioasq"].batch == 64 * 16
    steps = {run.steps for run in study.pretraining.values() if run.init_from == "1_2b-general"}
    assert steps == set(published.table(5)["Fine-tuning steps"])
    models = {(run.model, run.vocabulary) for run in study.pretraining.values() if run.model and run.corpus == "pubmed"}
    assert models >= {
        *(("345m", vocabulary) for vocabulary in ("bert-cased", "bert-uncased", "bio-30k", "bio-50k")),
        *(("800m", vocabulary) for vocabulary in ("bert-cased", "bert-uncased")),
    }
