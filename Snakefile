# Which stage or notebook makes which file. `make` runs it: `make study PROFILE=laptop`, or any single product by name.
import shlex
import sys
from pathlib import Path

from biomeg_lib.errors import BiomegError
from biomeg_lib.inputs import count_files
from biomeg_lib.schema import SentencePieceModel
from biomeg_lib.study import load

PROFILE = config["profile"]
PARAMS = f"params/{PROFILE}.yaml"
try:
    STUDY = load(PARAMS)
except BiomegError as error:
    sys.exit(f"biomeg: {error}")
if not STUDY.ner:
    sys.exit(f"biomeg: {PARAMS}: ner: expected a grid to report on; for single stages use `biomeg corpus`, `pretrain`, ...")

OUT = f"outputs/{PROFILE}"
BIOMEG = f"{shlex.quote(sys.executable)} -m biomeg_lib"
JOBS = {job.name: job for job in STUDY.jobs()}
VOCABULARIES = expand(OUT + "/vocabularies/{name}/vocab.json", name=STUDY.vocabularies)
PRETRAINED = expand(OUT + "/runs/pretrain/{run}/metrics.json", run=STUDY.pretraining)


def results(*tasks):
    """The results of all runs of these tasks."""
    return [f"{OUT}/runs/finetune/{run}/metrics.json" for t in tasks for job in STUDY.jobs(t) for run in STUDY.runs(job)]


FINETUNED = results("ner", "classification", "qa")
REMEDIED = any(cell.remedy for job in JOBS.values() for cell in STUDY.cells(job))
TRANSFERRED = any(
    job.encoder in STUDY.encoders_of_series() and cell.start == "pretrained" and not cell.remedy
    for task in ("ner", "classification")
    for job in STUDY.jobs(task)
    for cell in STUDY.cells(job)
)
SECTIONS = ["data", "vocab", "labeling"]
SECTIONS += ["relation"] if STUDY.classification else []
SECTIONS += ["questions"] if STUDY.benchmarks_of("qa") else []
SECTIONS += ["size", "domain_transfer"]
SECTIONS += ["imbalance"] if REMEDIED else []
SECTIONS += ["scaling", "benchmark"]
CHAPTERS = {*SECTIONS, "vocabularies", "overview", "report"}  # rules
NOTEBOOKS = expand(OUT + "/notebooks/{section}.ipynb", section=SECTIONS)
NOTEBOOKS += expand(OUT + "/notebooks/pretrain.{run}.ipynb", run=STUDY.pretraining) + expand(
    OUT + "/notebooks/finetune.{job}.ipynb", job=JOBS
)


wildcard_constraints:
    name=r"[A-Za-z0-9_-]+",
    part=r"\d+",
    corpus=r"[A-Za-z0-9_-]+",
    vocabulary=r"[A-Za-z0-9_-]+",
    run=r"[A-Za-z0-9_-]+",


# A corpus of many files is read by a job a file; what such a job leaves is gone once the corpus is there.
PARTS = {name: count for name in STUDY.corpora if (count := count_files(STUDY, name)) >= 16}


def parts_of(wildcards):
    return [f"{OUT}/corpora/{wildcards.name}.parts/{n:05}/part.json" for n in range(1, PARTS.get(wildcards.name, 0) + 1)]


rule corpus_part:
    output:
        temp(OUT + "/corpora/{name}.parts/{part}/part.json"),
    shell:
        "{BIOMEG} corpus {PARAMS} {wildcards.name} --part {wildcards.part}"


rule corpus:
    input:
        parts_of,
    output:
        OUT + "/corpora/{name}/documents.jsonl.gz",
        OUT + "/corpora/{name}/counts.json",
    priority: 20  # what much hangs on goes first
    shell:
        "{BIOMEG} corpus {PARAMS} {wildcards.name}"


def text_of(wildcards):
    spec = STUDY.vocabularies.get(wildcards.name)
    learned = isinstance(spec, SentencePieceModel)
    return f"{OUT}/corpora/{spec.corpus}/documents.jsonl.gz" if learned else []


rule vocabulary:
    input:
        text_of,
    output:
        OUT + "/vocabularies/{name}/vocab.json",
    priority: 20
    shell:
        "{BIOMEG} vocabulary {PARAMS} {wildcards.name}"


rule shards:
    input:
        OUT + "/corpora/{corpus}/documents.jsonl.gz",
        OUT + "/vocabularies/{vocabulary}/vocab.json",
    output:
        OUT + "/shards/{corpus}.{vocabulary}/shards.json",
    priority: 20
    shell:
        "{BIOMEG} shards {PARAMS} {wildcards.corpus} {wildcards.vocabulary}"


def start_of(wildcards):
    spec = STUDY.pretraining[wildcards.run]
    before = [f"{OUT}/runs/pretrain/{spec.init_from}/metrics.json"] if spec.init_from in STUDY.pretraining else []
    return [f"{OUT}/shards/{spec.corpus}.{spec.vocabulary}/shards.json", *before]


# A run's folder belongs to the library: it decides what is reused, resumed or refused. `update` keeps snakemake from
# deleting results before a job starts, so a job that lacks one run does that run alone.
def ranks_of(wildcards):
    return STUDY.pretraining[wildcards.run].parallel


rule pretrain:
    input:
        start_of,
    output:
        update(OUT + "/runs/pretrain/{run}/metrics.json"),
        notebook=OUT + "/notebooks/pretrain.{run}.ipynb",
    priority: 10
    # of one node; the launcher that the notebook starts takes the others
    threads: lambda wildcards: STUDY.threads * ranks_of(wildcards).gpus_per_node if ranks_of(wildcards).ranks > 1 else 1
    resources:
        nodes=lambda wildcards: ranks_of(wildcards).nodes,
        gpu=lambda wildcards: ranks_of(wildcards).gpus_per_node,
    shell:
        "{BIOMEG} execute {PARAMS} pretrain {output.notebook} -p run {wildcards.run}"


for _name, _job in JOBS.items():

    rule:
        name:
            f"finetune.{_name}"
        input:
            f"{OUT}/runs/pretrain/{_job.encoder}/metrics.json",
            [f"{OUT}/runs/finetune/{run}/metrics.json" for j in STUDY.earlier_jobs(_job) for run in STUDY.runs(j)],
        output:
            [update(f"{OUT}/runs/finetune/{run}/metrics.json") for run in STUDY.runs(_job)],
            notebook=f"{OUT}/notebooks/finetune.{_name}.ipynb",
        params:
            job=_name,
        shell:
            "{BIOMEG} execute {PARAMS} finetune {output.notebook} -p job {params.job}"


rule data:
    input:
        expand(OUT + "/corpora/{name}/counts.json", name=STUDY.corpora),
    output:
        OUT + "/tables/corpora.csv",
        OUT + "/tables/benchmarks.csv",
        OUT + "/tables/table8.csv",
        OUT + "/tables/table9.csv",
        OUT + "/tables/repeats.csv",
        OUT + "/figures/benchmarks.svg",
        notebook=OUT + "/notebooks/data.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} data {output.notebook}"


# The same notebook twice: Table 3 and Figure 1 need no training; its last section, vocabulary against F1, does.
rule vocabularies:
    input:
        VOCABULARIES,
    output:
        OUT + "/tables/table3.csv",
        OUT + "/figures/figure1.svg",
        notebook=OUT + "/notebooks/untrained/vocab.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} vocab {output.notebook} -p scores no"


rule vocab:
    input:
        OUT + "/tables/table3.csv",
        OUT + "/figures/figure1.svg",
        results("ner"),
    output:
        OUT + "/tables/vocab_f1.csv",
        OUT + "/figures/vocab_f1.svg",
        notebook=OUT + "/notebooks/vocab.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} vocab {output.notebook} -p scores yes"


rule labeling:
    input:
        VOCABULARIES,
        results("ner"),
    output:
        OUT + "/tables/ner_runs.csv",
        OUT + "/tables/ner.csv",
        OUT + "/tables/labeling.csv",
        OUT + "/figures/labeling.svg",
        notebook=OUT + "/notebooks/labeling.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} labeling {output.notebook}"


rule relation:
    input:
        results("classification"),
    output:
        OUT + "/tables/relation_runs.csv",
        OUT + "/tables/relation.csv",
        OUT + "/tables/relation_intervals.csv",
        OUT + "/tables/relation_start.csv",
        OUT + "/tables/relation_categories.csv",
        OUT + "/figures/relation.svg",
        notebook=OUT + "/notebooks/relation.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} relation {output.notebook}"


rule questions:
    input:
        VOCABULARIES[:1],
        results("qa"),
    output:
        OUT + "/tables/questions_runs.csv",
        OUT + "/tables/decoding.csv",
        notebook=OUT + "/notebooks/questions.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} questions {output.notebook}"


rule size:
    input:
        PRETRAINED,
        FINETUNED,
    output:
        OUT + "/tables/table1.csv",
        OUT + "/tables/table2.csv",
        OUT + "/tables/table4.csv",
        OUT + "/tables/size_effects.csv",
        notebook=OUT + "/notebooks/size.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} size {output.notebook}"


rule domain_transfer:
    input:
        PRETRAINED,
        FINETUNED,
    output:
        OUT + "/tables/table5.csv",
        OUT + "/tables/table6.csv",
        OUT + "/tables/table7.csv",
        OUT + "/tables/transfer_runs.csv",
        OUT + "/tables/transfer_effects.csv",
        [OUT + "/figures/transfer.svg"] if TRANSFERRED else [],
        notebook=OUT + "/notebooks/domain_transfer.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} domain_transfer {output.notebook}"


rule imbalance:
    input:
        results("ner", "classification"),
    output:
        OUT + "/tables/imbalance.csv",
        OUT + "/figures/imbalance.svg",
        notebook=OUT + "/notebooks/imbalance.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} imbalance {output.notebook}"


rule scaling:
    input:
        PRETRAINED,
        results("ner"),
    output:
        OUT + "/tables/scaling.csv",
        OUT + "/tables/scaling_curves.csv",
        OUT + "/tables/scaling_paper.csv",
        OUT + "/tables/scaling_plan.csv",
        OUT + "/figures/loss_tokens.svg",
        OUT + "/figures/loss_compute.svg",
        OUT + "/figures/scaling_plan_time.svg",
        OUT + "/figures/scaling_plan_memory.svg",
        notebook=OUT + "/notebooks/scaling.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} scaling {output.notebook}"


# Speed is measured by `make bench`, not by a study: the chapter shows what was measured last, or the records kept here.
rule benchmark:
    input:
        [str(path) for folder in ("outputs/bench", "docs/results/bench") for path in sorted(Path(folder).glob("*.csv"))],
    output:
        notebook=OUT + "/notebooks/benchmark.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} benchmark {output.notebook} -p profile bench -p chapter {PROFILE}"


rule overview:
    input:
        PRETRAINED,
        FINETUNED,
        NOTEBOOKS,
    output:
        OUT + "/findings.csv",
        OUT + "/tables/pretraining.csv",
        OUT + "/tables/start.csv",
        OUT + "/figures/findings.svg",
        OUT + "/figures/start.svg",
        notebook=OUT + "/notebooks/report.ipynb",
    shell:
        "{BIOMEG} execute {PARAMS} report {output.notebook}"


rule report:
    input:
        notebooks=NOTEBOOKS,
        index=OUT + "/notebooks/report.ipynb",
    output:
        OUT + "/report/index.html",
    shell:
        "{BIOMEG} render {PARAMS} {input.notebooks} {input.index}"


# Every product is asked for by itself: snakemake does not miss a deleted file whose followers are newer than its causes.
rule study:
    default_target: True
    input:
        PRETRAINED,
        FINETUNED,
        NOTEBOOKS,
        [file for made in workflow.rules if made.name in CHAPTERS for file in made.output],
