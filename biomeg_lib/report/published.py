"""The numbers of the paper's nine tables (Shin et al. 2020), as plain data, each row citing its table and row.

`table(1)` is Table 1 as printed, one row a printed row; `measurements(1)` is the same in tidy form, one row a number,
to be merged with what a run measured. Group labels that the paper prints once beside several rows (task, benchmark)
are repeated in every row.

Two columns need a note. Table 5 prints its steps as powers of ten; they are integers here. Table 8 heads a column
"Bias %", but its caption defines a ratio of label counts, and so the numbers are ratios, not percentages.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from biomeg_lib.errors import BiomegError

PAPER = "Shin et al. 2020, BioMegatron: Larger Biomedical Domain Language Model"


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table: what it shows, the columns that say what a row is, the columns that were measured, and the rows."""

    caption: str
    keys: tuple[str, ...]
    measures: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


_SIX_MODELS = ("BioBERT", "PubMedBERT", "BioMegatron", "BioMegatron", "BioMegatron", "BioMegatron")
_SIX_SIZES = ("110m", "110m", "345m", "345m", "800m", "1.2b")


def _six(task: str, benchmark: str, pubmedbert: str, *scores: tuple[float, float, float]) -> tuple[tuple, ...]:
    """The six rows that Table 1 prints for a benchmark; `pubmedbert` is how it names PubMedBERT's vocabulary there."""
    vocabularies = ("BERT-cased", pubmedbert, "Bio-vocab-30k", "Bio-vocab-50k", "BERT-cased", "BERT-uncased")
    described = zip(_SIX_MODELS, _SIX_SIZES, vocabularies, scores, strict=True)
    return tuple((task, benchmark, model, size, vocabulary, *score) for model, size, vocabulary, score in described)


TABLES: dict[int, PublishedTable] = {
    1: PublishedTable(
        "Evaluation results on NER and RE after fine-tuning for 30 epochs (precision, recall and F1 in per cent)",
        ("Task", "Benchmark", "Model", "#Parameters", "Vocabulary"),
        ("Prec", "Rec", "F1"),
        (
            *_six(
                "NER",
                "BC5CDR-chem",
                "PubMedBERT-vocab (30k)",
                (90.0, 93.4, 91.7),
                (92.1, 93.2, 92.6),
                (92.1, 93.6, 92.9),
                (92.9, 92.0, 92.5),
                (91.3, 92.9, 92.1),
                (92.0, 90.5, 91.3),
            ),
            *_six(
                "NER",
                "BC5CDR-disease",
                "PubMedBERT-uncased (30k)",
                (85.0, 89.4, 87.2),
                (86.2, 88.4, 87.3),
                (85.2, 88.8, 87.0),
                (86.1, 91.0, 88.5),
                (85.8, 90.1, 87.9),
                (83.8, 89.2, 86.4),
            ),
            *_six(
                "NER",
                "NCBI-disease",
                "PubMedBERT-uncased (30k)",
                (85.0, 90.0, 87.5),
                (85.9, 87.7, 86.8),
                (85.6, 88.6, 87.1),
                (83.7, 90.4, 87.0),
                (87.0, 88.8, 87.8),
                (83.5, 90.1, 86.7),
            ),
            *_six(
                "RE",
                "ChemProt",
                "PubMedBERT-uncased (30k)",
                (76.5, 73.3, 74.8),
                (73.6, 77.7, 75.6),
                (77.8, 72.5, 75.1),
                (74.5, 79.7, 77.0),
                (80.4, 68.9, 74.3),
                (82.0, 65.6, 72.9),
            ),
        ),
    ),
    2: PublishedTable(
        "Evaluation results on QA after fine-tuning for 30 epochs on checkpoints fine-tuned on SQuAD (per cent)",
        ("Task", "Benchmark", "Model", "#Parameters", "Vocabulary"),
        ("SAcc", "LAcc", "MRR"),
        (
            ("QA", "BioASQ-7b-factoid", "BioBERT-Base", "110m", "BERT-cased", 30.8, 64.1, 41.1),
            ("QA", "BioASQ-7b-factoid", "BioBERT-Large", "345m", "BERT-cased", 42.8, 62.8, 50.1),
            ("QA", "BioASQ-7b-factoid", "BioMegatron", "345m", "BERT-uncased", 46.2, 62.6, 52.5),
            ("QA", "BioASQ-7b-factoid", "BioMegatron", "800m", "BERT-uncased", 45.2, 58.6, 50.4),
            ("QA", "BioASQ-7b-factoid", "BioMegatron", "1.2b", "BERT-uncased", 47.4, 60.9, 52.4),
        ),
    ),
    3: PublishedTable(
        "The rate of named entities breaking into sub-tokens (#tokens/#words) in NER training sets",
        ("Sub-word vocabulary",),
        ("BC5-chem", "BC5-disease"),
        (
            ("BERT-cased", 3.012, 2.42),
            ("PubMedBERT-uncased (30k)", 1.654, 1.236),
            ("BioMegatron-bio-30k-cased", 1.753, 1.272),
            ("BioMegatron-bio-50k-cased", 1.478, 1.116),
        ),
    ),
    4: PublishedTable(
        "Results on BioASQ-7b factoid without fine-tuning on SQuAD first (per cent)",
        ("Model",),
        ("SAcc", "LAcc", "MRR"),
        (
            ("BioMegatron-345m", 33.1, 50.4, 39.8),
            ("BioMegatron-800m", 37.7, 56.3, 45.1),
            ("BioMegatron-1.2b", 40.6, 53.7, 45.6),
        ),
    ),
    5: PublishedTable(
        "Steps of further pre-training on PubMed of the general-domain Megatron-1.2b, against F1 (per cent)",
        ("Task", "Benchmark", "Fine-tuning steps"),
        ("F1",),
        (
            ("NER", "BC5CDR-chem", 1_000, 63.2),
            ("NER", "BC5CDR-chem", 10_000, 74.3),
            ("NER", "BC5CDR-chem", 100_000, 89.7),
            ("NER", "BC5CDR-chem", 200_000, 89.37),
            ("NER", "BC5CDR-chem", 300_000, 91.8),
            ("NER", "BC5CDR-chem", 400_000, 92.1),
            ("NER", "BC5CDR-chem", 500_000, 91.2),
            ("NER", "BC5CDR-disease", 1_000, 39.4),
            ("NER", "BC5CDR-disease", 10_000, 63.6),
            ("NER", "BC5CDR-disease", 100_000, 79.8),
            ("NER", "BC5CDR-disease", 200_000, 81.2),
            ("NER", "BC5CDR-disease", 300_000, 79.2),
            ("NER", "BC5CDR-disease", 400_000, 81.9),
            ("NER", "BC5CDR-disease", 500_000, 81.8),
            ("RE", "ChemProt", 1_000, 0.0),
            ("RE", "ChemProt", 10_000, 34.1),
            ("RE", "ChemProt", 100_000, 63.4),
            ("RE", "ChemProt", 200_000, 71.1),
            ("RE", "ChemProt", 300_000, 70.4),
            ("RE", "ChemProt", 400_000, 69.7),
            ("RE", "ChemProt", 500_000, 68.3),
        ),
    ),
    6: PublishedTable(
        "BioASQ-7b with general-domain models that were not trained on PubMed (per cent)",
        ("Model",),
        ("SAcc", "LAcc", "MRR"),
        (
            ("Megatron-345m (general LM)", 38.5, 52.6, 43.7),
            ("Megatron-1.2b (general LM)", 29.3, 39.7, 32.7),
        ),
    ),
    7: PublishedTable(
        "Fine-tuning on SQuAD v1.1 and v2.0, F1 on the development set (per cent); '-ft' started from general domain",
        ("Model",),
        ("SQuAD-v1.1", "SQuAD-v2.0"),
        (
            ("BioMegatron-345m", 90.4, 84.2),
            ("BioMegatron-345m-ft", 86.5, 77.9),
            ("BioMegatron-800m", 91.6, 86.1),
            ("BioMegatron-1.2b-ft", 91.8, 86.4),
            ("BERTLARGE", 90.9, 81.8),
            ("RoBERTa", 94.6, 89.4),
            ("Megatron-3.9b", 95.8, 91.2),
        ),
    ),
    8: PublishedTable(
        "Label bias in general and biomedical benchmarks (ratio of minority to majority label counts)",
        ("Task", "Dataset"),
        ("# Samples", "Bias %"),
        (
            ("NER", "CONLL-2003", 14_987, 0.18),
            ("NER", "BC5CDR", 5_235, 0.08),
            ("CLS", "MRPC", 3_668, 0.48),
            ("CLS", "ChemProt", 19_461, 0.27),
            ("QA", "SQuAD-v1.0", 87_599, 0.4),
            ("QA", "BioASQ-7b", 5_537, 0.02),
        ),
    ),
    9: PublishedTable(
        "Pre-training text corpus of each biomedical language model (words)",
        ("Model", "PubMed Corpus"),
        ("#Words",),
        (
            ("BioBERT", "abstracts", 4_500_000_000),
            ("PubMedBERT", "abstracts + full-text", 16_800_000_000),
            ("BioMegatron", "abstracts + full-text-CC", 6_100_000_000),
        ),
    ),
}


MODEL_TABLES = (1, 2, 4, 6, 7)  # whose rows are models
# The paper calls some benchmarks by several names: the one here -> the one that `canonical_benchmark` gives.
_OTHER_NAMES = {
    "BC5-chem": "BC5CDR-chem",
    "BC5-disease": "BC5CDR-disease",
    "SQuAD-v1.0": "SQuAD-v1.1",
    "BioASQ-7b": "BioASQ-7b-factoid",
}


def _published(number: int) -> PublishedTable:
    if number not in TABLES:
        raise BiomegError(
            f"the paper has tables 1 to {max(TABLES)}, there is no table {number!r}: ask for one of these"
        )
    return TABLES[number]


def table(number: int) -> pd.DataFrame:
    """One table of the paper.

    Returns:
        One row a printed row, columns named as in the paper, and `source` ("Table 3, row 1"; rows counted from 1 at
        the first row below the heading).

    Raises:
        BiomegError: there is no table of that number.
    """
    published = _published(number)
    frame = pd.DataFrame(list(published.rows), columns=[*published.keys, *published.measures])
    frame["source"] = [f"Table {number}, row {row}" for row in range(1, len(frame) + 1)]
    return frame


def models(number: int) -> pd.Series:
    """Which model each printed row of a table is of, by the name that `stands_for` of a pre-training run has:
    "BioMegatron-345m, Bio-vocab-30k" where the table has sizes and vocabularies in columns of their own, else as
    printed.
    """
    frame = table(number)
    if "#Parameters" not in frame:
        return frame["Model"]
    # Table 1 prints PubMedBERT's vocabulary in two ways
    vocabulary = frame["Vocabulary"].replace("PubMedBERT-vocab (30k)", "PubMedBERT-uncased (30k)")
    return frame["Model"] + "-" + frame["#Parameters"] + ", " + vocabulary


def known_models() -> list[str]:
    """All names that `models` gives, of Tables 1, 2, 4, 6 and 7, each once."""
    return list(dict.fromkeys(name for number in MODEL_TABLES for name in models(number)))


def canonical_benchmark(name: str) -> str:
    """One name of a benchmark for all those that the paper's tables have of it: "BC5CDR-chem" for "BC5-chem", too. Any
    other name is its own."""
    return _OTHER_NAMES.get(name, name)


def known_benchmarks() -> list[str]:
    """All names of benchmarks in the paper's tables, each once: what `stands_for` of a benchmark can be."""
    rows = [name for number in (1, 2, 5) for name in table(number)["Benchmark"]]
    return list(dict.fromkeys([*rows, *TABLES[3].measures, *TABLES[7].measures, *table(8)["Dataset"]]))


def known_vocabularies() -> list[str]:
    """The rows of Table 3: what `stands_for` of a vocabulary can be."""
    return table(3)["Sub-word vocabulary"].tolist()


def reason(not_run: Mapping[str, str], name: str, otherwise: str) -> str:
    """Why nothing represents a model, benchmark or vocabulary of the paper: what a study's `not_run` says of it, under
    any name that the paper has for it, else `otherwise`."""
    return {canonical_benchmark(key): why for key, why in not_run.items()}.get(canonical_benchmark(name), otherwise)


def measurements(number: int) -> pd.DataFrame:
    """One table of the paper, tidy: its key columns, `measure` (the column's name there), `published`, `source`.

    Returns:
        One row a number, in reading order.

    Raises:
        BiomegError: there is no table of that number.
    """
    keys = [*_published(number).keys, "source"]
    frame = table(number).melt(id_vars=keys, var_name="measure", value_name="published", ignore_index=False)
    frame = frame.sort_index(kind="stable").reset_index(drop=True)
    return frame[[*(key for key in keys if key != "source"), "measure", "published", "source"]]
