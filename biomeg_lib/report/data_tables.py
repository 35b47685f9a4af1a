"""Tables 8 and 9 of the paper, from what is in the study's own files: sizes, label bias, repeats and words.

What is notable: every number is counted, and the published one stands beside it where a benchmark stands for one of the
paper's. They do not all agree. `explain` says where and, as far as the paper lets one see it, why; nothing is scaled or
chosen so that they would. The published numbers are about training sets, so the other splits have none beside them.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from biomeg_lib.benchmarks.bioasq import read_bioasq, to_questions
from biomeg_lib.benchmarks.iob import Sentence, read_iob
from biomeg_lib.benchmarks.lines import numbered_lines
from biomeg_lib.benchmarks.pairs import SentencePair, read_mrpc
from biomeg_lib.benchmarks.questions import Question, read_squad, repeats
from biomeg_lib.benchmarks.relations import CATEGORIES, Relation, read_chemprot, read_chemprot_jsonl
from biomeg_lib.corpus.documents import COUNTS
from biomeg_lib.files import read_json
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.metrics.bias import (
    OUTSIDE,
    answer_bias,
    distribution,
    label_bias,
    majority_label,
    tag_counts,
)
from biomeg_lib.report import published
from biomeg_lib.schema import Benchmark
from biomeg_lib.study import Study

Task = Literal["ner", "classification", "qa"]
Records = Sequence[Sentence] | Sequence[Relation] | Sequence[SentencePair] | Sequence[Question]

_PRINTED_TASK = {"ner": "NER", "classification": "CLS", "qa": "QA"}
_PARTS_OF = {"BC5CDR-chem": "BC5CDR", "BC5CDR-disease": "BC5CDR"}  # what other tables have apart, Table 8 in one row
_COLUMNS = [
    *["Task", "Dataset", "Stands for", "Split", "# Samples", "Majority label", "Minority count", "Majority count"],
    *["Bias %", "published # Samples", "published", "note"],
]


@dataclass(frozen=True, slots=True)
class CountedSplit:
    """A split of a benchmark, counted.

    Attributes:
        benchmark, split: their names.
        task: "ner", "classification" or "qa".
        stands_for: the benchmark's name in the paper.
        samples: sentences and document starts, relations, sentence pairs, or questions.
        counts: words inside and outside entities, samples of each label, or repeats of each question-answer pair.
        note: how they were counted, where that is not plain.
    """

    benchmark: str
    split: str
    task: Task
    stands_for: str | None
    samples: int
    counts: Mapping[Hashable, int]
    note: str = ""


def count_benchmarks(study: Study) -> list[CountedSplit]:
    """Count all benchmarks of a study in their files as they are, before anything is held out of a training set.

    Of BioASQ, factoid questions are counted, as in the paper, each once for each of its snippets.

    Raises:
        InputError: what the readers raise.
        BiomegError: a file is not there.
    """
    counted = []
    for name, benchmark in study.benchmarks.items():
        for split, files in benchmark_files(study, benchmark).items():
            bad: list[str] | None = [] if benchmark.skip_bad else None
            records = _read(benchmark, files, bad)
            documents = document_starts(files[0]) if benchmark.format == "conll" else 0
            counted.append(
                count_split(name, split, benchmark.task, records, benchmark.stands_for, documents, len(bad or ()))
            )
    return counted


def _read(benchmark: Benchmark, files: Sequence[Path], bad: list[str] | None) -> Records:
    match benchmark.format:
        case "chemprot":
            return read_chemprot(files, bad)
        case "chemprot-jsonl":
            return read_chemprot_jsonl(files[0], bad)
        case "mrpc":
            return read_mrpc(files[0], bad)
        case "squad":
            return read_squad(files[0], bad)
        case "bioasq":
            factoids = (question for question in read_bioasq(files[0], bad) if question.kind == "factoid")
            return [one for question in factoids for one in to_questions(question)]
        case format:
            return read_iob(files[0], format)


def document_starts(path: str | Path) -> int:
    """The `-DOCSTART-` lines of a CoNLL file, which `read_iob` leaves out.

    Raises:
        InputError: the file cannot be read or is not UTF-8.
    """
    return sum(line.replace("\t", " ").split(" ")[0] == "-DOCSTART-" for _, line in numbered_lines(path))


def count_split(
    benchmark: str,
    split: str,
    task: Task,
    records: Records,
    stands_for: str | None = None,
    documents: int = 0,
    skipped: int = 0,
) -> CountedSplit:
    """Count one split that has been read.

    A question without an answer is a sample if it is marked as impossible; otherwise (a snippet that does not hold the
    answer, a test set without gold answers) it is none. Neither makes a pair.

    Args:
        records: IOB sentences ("ner"), relations or sentence pairs ("classification"), questions ("qa"; those of BioASQ
            with one of its snippets each).
        documents: document starts in the file, which count as samples, as CoNLL-2003's 14,987 includes them.
        skipped: bad records that the reader left out, for the note.
    """
    samples, notes = len(records) + documents, []
    if task == "ner":
        counts: Mapping[Hashable, int] = tag_counts(sentence.tags for sentence in records)
        notes += [f"{len(records):,} sentences and {documents:,} -DOCSTART- lines"] if documents else []
    elif task == "classification":
        counts = Counter(record.label for record in records)
        notes += ["pairs with an evaluated relation alone, no negatives"] if counts.keys() <= set(CATEGORIES) else []
    else:
        counts = repeats(records)
        impossible = sum(record.impossible for record in records)
        samples = sum(record.impossible or bool(record.answers) for record in records)
        notes += [f"{impossible:,} of them impossible to answer"] if impossible else []
        notes += [f"{len(records) - samples:,} without an answer left out"] if samples < len(records) else []
    notes += [f"{skipped:,} bad records left out"] if skipped else []
    return CountedSplit(benchmark, split, task, stands_for, samples, counts, "; ".join(notes))


def label_bias_table(splits: Iterable[CountedSplit]) -> pd.DataFrame:
    """Table 8: size and label bias, one row a split of a benchmark.

    Columns: `Task`, `Dataset`, `Stands for` (the paper's row), `Split`, `# Samples`, `Majority label`, `Minority count`
    and `Majority count` (words for NER, samples for classification, fewest and most repeats of a pair for QA), `Bias %`
    (their ratio; none where there is no answer), `published # Samples`, `published` (the bias), `note`.
    """
    printed = published.table(8).set_index("Dataset")
    rows_of = {published.canonical_benchmark(dataset): dataset for dataset in printed.index} | _PARTS_OF
    rows = []
    for split in splits:
        row_of = rows_of.get(published.canonical_benchmark(split.stands_for or ""), split.stands_for)
        known = row_of in printed.index and split.split == "train"
        majority, minority_count, majority_count, bias = _ratio(split)
        values = (
            *(_PRINTED_TASK[split.task], split.benchmark, row_of, split.split, split.samples),
            *(majority, minority_count, majority_count, bias),
            *(printed.loc[row_of, measure] if known else None for measure in ("# Samples", "Bias %")),
            split.note,
        )
        rows.append(dict(zip(_COLUMNS, values, strict=True)))
    return pd.DataFrame(rows, columns=_COLUMNS).astype(
        {"Bias %": float, "published # Samples": float, "published": float}
    )


def table8(study: Study, splits: Iterable[CountedSplit]) -> pd.DataFrame:
    """Table 8 with every row of the paper: what `label_bias_table` returns, with `source` beside `published`, and after
    it the paper's rows that no benchmark of the study stands for, with a note that says why."""
    frame = label_bias_table(splits)
    printed = published.table(8).set_index("Dataset")
    sources = printed["source"].to_dict()
    frame.insert(len(_COLUMNS) - 1, "source", frame["Stands for"].map(sources).where(frame["published"].notna(), None))
    stood_for = set(frame.loc[frame["published"].notna(), "Stands for"])
    missing = [
        {
            "Task": row["Task"],
            "Stands for": name,
            "Split": "train",
            "published # Samples": row["# Samples"],
            "published": row["Bias %"],
            "source": row["source"],
            "note": published.reason(study.not_run, name, "no benchmark of this profile stands for it"),
        }
        for name, row in printed.iterrows()
        if name not in stood_for
    ]
    rows = [*frame.to_dict("records"), *missing]
    counts = dict.fromkeys(("# Samples", "Minority count", "Majority count"), "Int64")
    return pd.DataFrame(rows, columns=frame.columns).astype(counts)


def _ratio(split: CountedSplit) -> tuple[str | None, int, int, float | None]:
    """The majority label, what is divided, by what, and the ratio."""
    counts = split.counts
    if split.task == "qa":
        if not counts:
            return None, 0, 0, None
        return None, min(counts.values()), max(counts.values()), answer_bias(counts)
    majority = OUTSIDE if split.task == "ner" else majority_label(counts)
    return majority, sum(counts.values()) - counts[majority], counts[majority], label_bias(counts, majority)


def repeats_table(splits: Iterable[CountedSplit]) -> pd.DataFrame:
    """How often question-answer pairs repeat (section 5.5: at most twice in SQuAD, up to 88 times in BioASQ).

    Columns: `Benchmark`, `Split`, `Repeats`, `Pairs` (those that are there so many times). Splits of other tasks have
    no rows.
    """
    rows = [
        {"Benchmark": split.benchmark, "Split": split.split, "Repeats": times, "Pairs": pairs}
        for split in splits
        if split.task == "qa"
        for times, pairs in distribution(split.counts).items()
    ]
    return pd.DataFrame(rows, columns=["Benchmark", "Split", "Repeats", "Pairs"])


def corpus_words(study: Study) -> pd.DataFrame:
    """Table 9: words of the pre-training corpora, as counted while they were read, and below them the paper's.

    Columns: `Model` (the runs that read the corpus), `PubMed Corpus` (its name in the params file), `#Words`,
    `published`, `source`, `note`. Both numbers are words, the paper's printed in billions.

    Raises:
        InputError: a corpus is not made yet.
    """
    rows = []
    for name in study.corpora:
        readers = [run for run, spec in study.pretraining.items() if spec.corpus == name]
        words = read_json(study.corpus_directory(name) / COUNTS)["words"]
        rows.append(
            {"Model": ", ".join(readers), "PubMed Corpus": name, "#Words": words, "published": None, "note": ""}
        )
    for row in published.table(9).to_dict("records"):
        keys = {key: row[key] for key in ("Model", "PubMed Corpus")}
        note = published.reason(study.not_run, row["Model"], "the paper's; what this profile reads is above")
        rows.append({**keys, "#Words": None, "published": row["#Words"], "source": row["source"], "note": note})
    frame = pd.DataFrame(rows, columns=["Model", "PubMed Corpus", "#Words", "published", "source", "note"])
    return frame.astype({"#Words": "Int64", "published": "Int64"})


def explain_words(frame: pd.DataFrame) -> str:
    """One sentence about a table of `corpus_words`."""
    counted, printed = frame["#Words"].dropna(), frame["published"].dropna()
    if counted.empty:
        return (
            f"No corpus was counted; the paper's have {_billions(printed.min())} to {_billions(printed.max())} words."
        )
    largest = int(counted.max())
    return (
        f"The largest corpus here has {largest:,} words; the paper's have {_billions(printed.min())} to "
        f"{_billions(printed.max())}, {printed.min() / largest:,.0f} to {printed.max() / largest:,.0f} times as many."
    )


def _billions(words: int) -> str:
    return f"{words / 1e9:g} billion"


# What the published numbers can be, as far as the paper and the files tell; each is about the paper's number alone, so
# it holds for a stand-in, too.
_WHY_SAMPLES = {
    "CONLL-2003": "14,987 counts 14,041 sentences and 946 -DOCSTART- lines",
    "BC5CDR": "the paper does not say how it cuts the text into 5,235 samples",
    "MRPC": "3,668 pairs are GLUE's training set, which leaves 408 of the corpus's 4,076 for development",
    "ChemProt": "19,461 at a bias of 0.27 are about 4,100 pairs with an evaluated relation and 15,300 without",
    "SQuAD-v1.0": "87,599 are the questions of the whole training set",
    "BioASQ-7b": "5,537 counts a question for each snippet that holds its answer, as the repeats of section 5.5 do",
}
_WHY_BIAS = {
    "CONLL-2003": "0.18 lies between words inside entities over all words (0.17) and over words outside (0.20)",
    "BC5CDR": "0.08 lies between the ratio for chemicals or diseases (0.06 each) and that for both together (0.14)",
    "ChemProt": "the published ratio is of pairs with an evaluated relation to pairs without",
    "SQuAD-v1.0": "section 5.5 has pairs at most twice, which would be 1/2 = 0.50",
    "BioASQ-7b": "section 5.5 has pairs up to 88 times, which would be 1/88 = 0.01; 2/88 is 0.02",
}


def explain(frame: pd.DataFrame, generated: bool = False) -> str:
    """Where a table of `label_bias_table` and the paper agree, where they do not, and why: Markdown, an item a row.

    Args:
        generated: whether the data are generated (`Study.generated`), so that nothing is to be compared.
    """
    compared = frame[frame["published # Samples"].notna() & frame["# Samples"].notna()]
    if compared.empty:
        return "No training set here stands for one of Table 8."
    if generated:
        return "The data are generated: they have the form of the paper's benchmarks, not their sizes or their bias."
    return "\n".join(_explained(row) for row in compared.to_dict("records"))


def _explained(row: dict) -> str:
    name, printed = row["Stands for"], row["published"]
    reasons = []
    if row["# Samples"] != row["published # Samples"]:
        reasons.append(_WHY_SAMPLES.get(name))
    if not _agrees(row["Bias %"], printed):
        reasons.append(_WHY_BIAS.get(name))
    if row["note"]:
        reasons.append(f"here: {row['note']}")
    bias = "none" if pd.isna(row["Bias %"]) else f"{row['Bias %']:.3f}"
    said = "; ".join(reason for reason in reasons if reason)
    return (
        f"- {row['Dataset']}, for {name}: {row['# Samples']:,} samples (published {row['published # Samples']:,.0f}), "
        f"bias {bias} (published {printed:g}){': ' + said if said else ''}."
    )


def _agrees(value: float, printed: float) -> bool:
    """Whether `value` rounds to what is printed, at the number of decimals printed."""
    return round(value, len(f"{printed:g}".partition(".")[2])) == printed
