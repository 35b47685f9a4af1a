"""Rules of the number audit for what was counted, and for pre-training.

Counted here, from the files: words, sentences and entities of named-entity benchmarks; labels of MRPC. By the library's
own readers and counters, which tests of their own hold against hand counts: pieces (`Vocabulary.encode_words`),
relations and questions (`data_tables.count_benchmarks`), decoding (`decoding.gold_decoding`), memory and seconds of a
planned step (`plan`).
"""

import functools
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from audit_ledger import Ledger, Unexplained, printed, read_json
from audit_runs import Row, break_out

from biomeg_lib.inputs import benchmark_files
from biomeg_lib.model import config_for
from biomeg_lib.plan.machine import MACHINES
from biomeg_lib.plan.memory import step_memory
from biomeg_lib.plan.spread import Run, Spread
from biomeg_lib.plan.timing import step_time
from biomeg_lib.report.decoding import gold_decoding
from biomeg_lib.vocab import Vocabulary


def corpus(ledger: Ledger, row: Row) -> Row:
    """A corpus: its counts.json."""
    counts, later = _counts(ledger, row["Corpus"]), ("revised", "deleted")
    return {
        "Files": len(counts["files"]),
        "Documents": counts["documents"],
        "#Words": counts["words"],
        "Characters": counts["characters"],
        "Dropped, empty": counts["dropped"]["empty"],
        "Dropped, repeated": counts["dropped"]["duplicate"],
        **{f"Dropped, {kind}": counts["dropped"].get(kind, 0) for kind in later if f"Dropped, {kind}" in row},
    }


def _counts(ledger: Ledger, name: str) -> dict[str, Any]:
    return read_json(ledger.study.corpus_directory(name) / "counts.json")


def corpus_words(ledger: Ledger, row: Row) -> Row:
    """Table 9: a corpus here, or a row of the paper."""
    cited = printed(row["source"])
    if cited is not None:
        keys = {key: cited[key] for key in ("Model", "PubMed Corpus")}
        return {**keys, "#Words": None, "published": cited["#Words"]}
    return {"#Words": _counts(ledger, row["PubMed Corpus"])["words"], "published": None}


def benchmark(ledger: Ledger, row: Row) -> Row:
    """A split of a named-entity benchmark."""
    sentences = ledger.words[row["Benchmark"], row["Split"]]
    entities = inside = 0
    for sentence in sentences:
        before = "O"
        for _, tag in sentence:
            inside += tag != "O"
            # as conlleval has it: B- opens, and so does I- after nothing or another type
            entities += tag.startswith("B-") or (tag != "O" and before[2:] != tag[2:])
            before = tag
    words = sum(map(len, sentences))
    return {
        "Sentences": len(sentences),
        "Words": words,
        "Entities": entities,
        "Words inside entities (%)": 100 * inside / words,
        "Words an entity": inside / entities if entities else None,
    }


def rate(ledger: Ledger, row: Row) -> Row:
    """Table 3: pieces and words of a training set, and the paper's number for what both stand for."""
    cited = printed(row["source"])
    number = None if cited is None else cited[row["Stands for column"]]
    if cited is not None and cited["Sub-word vocabulary"] != row["Stands for"]:
        raise Unexplained(f"{row['source']} is of {cited['Sub-word vocabulary']}")
    if pd.isna(row["Benchmark"]):
        return {"published": number, **dict.fromkeys(("Size", "#tokens", "#words", "Rate"))}
    tokens, words, ratio = break_out(ledger, row["Sub-word vocabulary"], row["Benchmark"])
    folder = ledger.study.vocabulary_directory(row["Sub-word vocabulary"])
    return {"Size": _size(folder), "#tokens": tokens, "#words": words, "Rate": ratio, "published": number}


@functools.cache
def _size(folder: Path) -> int:
    return Vocabulary.load(folder).size


def bias(ledger: Ledger, row: Row) -> Row:
    """Table 8: a split of a benchmark, and the paper's row that it stands for."""
    cited = printed(row["source"])
    theirs = {"published # Samples": None, "published": None}
    if cited is not None:
        theirs = {"published # Samples": cited["# Samples"], "published": cited["Bias %"]}
        theirs |= {"Stands for": cited["Dataset"]}
    if pd.isna(row["Dataset"]):
        return theirs | dict.fromkeys(("# Samples", "Minority count", "Majority count", "Bias %"))
    counted = ledger.counted[row["Dataset"], row["Split"]]
    spec = ledger.study.benchmarks[row["Dataset"]]
    samples, counts = counted.samples, Counter(counted.counts)
    if spec.task == "ner":
        sentences = ledger.words[row["Dataset"], row["Split"]]
        (path,) = benchmark_files(ledger.study, spec)[row["Split"]]
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        starts = sum(line.startswith("-DOCSTART-") for line in lines) if spec.format == "conll" else 0
        samples = len(sentences) + starts
        counts = Counter("O" if tag == "O" else "I" for sentence in sentences for _, tag in sentence)
    elif spec.format == "mrpc" and not spec.skip_bad:
        (path,) = benchmark_files(ledger.study, spec)[row["Split"]]
        lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n")[1:] if line.strip()]
        samples, counts = len(lines), Counter(line.split("\t")[0] for line in lines)
    most = counts["O"] if spec.task == "ner" else max(counts.values(), default=0)
    majority = min((label for label, n in counts.items() if n == most), default=None)
    least = min(counts.values(), default=0) if spec.task == "qa" else counts.total() - most
    return {
        "# Samples": samples,
        "Minority count": least,
        "Majority count": most,
        "Bias %": least / most if most else None,
        "Majority label": {"ner": "O", "qa": None}.get(spec.task, majority),
        "note": counted.note or None,
        **theirs,
    }


def repeat(ledger: Ledger, row: Row) -> Row:
    """How many question-answer pairs are there so often."""
    counts = ledger.counted[row["Benchmark"], row["Split"]].counts
    return {"Repeats": row["Repeats"], "Pairs": sum(times == row["Repeats"] for times in counts.values())}


def decoding(ledger: Ledger, row: Row) -> Row:
    """Gold answers decoded again, by the library."""
    frame = _decoded(ledger, row["Vocabulary"])
    for key in ("Benchmark", "Length", "Reason"):
        frame = frame[frame[key] == row[key]]
    if len(frame) != 1:
        raise Unexplained("decoding has no such row")
    found = frame.iloc[0]
    known = {key: found[key] for key in ("Questions", "Length", "Stride", "EM", "F1", "Lost")}
    return known | {"Ids": found["Ids"] or None}


@functools.lru_cache(maxsize=4)
def _decoded(ledger: Ledger, vocabulary: str) -> pd.DataFrame:
    return gold_decoding(ledger.study, vocabulary)


def pretraining(ledger: Ledger, row: Row) -> Row:
    """A pre-training run: its metrics.json."""
    metrics = ledger.pretrained(row["Run"])
    return {
        "#Parameters": metrics["parameters"],
        "Tokens": metrics["tokens"],
        "Epochs": metrics["epochs"],
        "Masked-LM loss": metrics["heldout_mlm"],
        "Masked-LM loss, untrained": metrics["untrained"]["heldout_mlm"],
        "Masked-LM accuracy (%)": 100 * metrics["heldout_accuracy"],
        "Sentence-order loss": metrics["heldout_order"],
    }


def _operations(shape: dict[str, Any], batch: int, length: int) -> float:
    """Operations a token of a step, three times those of forward, a multiply-add being two: keys and values of every
    layer for every token; queries, scores and the MLP but for the last layer's tokens that nobody reads, which is all
    without [MASK] or [CLS]; the head for masked tokens, 15 % of all."""
    hidden, tokens = shape["hidden"], batch * length
    masked = round(0.15 * tokens)
    read = (shape["layers"] - 1) * tokens + masked + batch
    forward = 2 * 2 * hidden * hidden * tokens * shape["layers"]
    forward += read * 2 * (2 * hidden * hidden + 2 * length * hidden + 2 * hidden * shape["intermediate"])
    forward += masked * 2 * (hidden * hidden + hidden * shape["vocab_size"])
    return 3 * forward / tokens


def _operations_of(ledger: Ledger, name: str) -> float:
    folder = ledger.study.run_directory("pretrain", name)
    recipe = read_json(folder / "params.json")["pretraining"]
    return _operations(read_json(folder / "model.json"), recipe["batch"], recipe["length"])


def _parameters(shape: dict[str, Any]) -> int:
    """Weights and biases of embeddings, layers, pooler and both heads; the decoder's weights are the embeddings."""
    hidden, inner = shape["hidden"], shape["intermediate"]
    square, norm = hidden * hidden + hidden, 2 * hidden
    layer = 4 * square + 2 * hidden * inner + inner + hidden + 2 * norm
    embeddings = (shape["vocab_size"] + shape["max_length"] + shape["token_types"]) * hidden
    heads = square + norm + shape["vocab_size"] + 2 * hidden + 2
    return embeddings + shape["layers"] * layer + norm + square + heads


def cost(ledger: Ledger, row: Row) -> Row:
    """What a pre-training run cost: model.json for operations, metrics.json for the rest."""
    metrics = ledger.pretrained(row["Run"])
    operations = metrics["tokens"] * _operations_of(ledger, row["Run"])
    return {
        "#Parameters": metrics["parameters"],
        "Tokens": metrics["tokens"],
        "TFLOP": operations / 1e12,
        "Seconds": metrics["seconds"],
        "Tokens/s": metrics["tokens"] / metrics["seconds"],
        "GFLOP/s": operations / metrics["seconds"] / 1e9,
        "Masked-LM loss": metrics["heldout_mlm"],
    }


def curve(ledger: Ledger, row: Row) -> Row:
    """A point of a loss curve: a line of metrics.jsonl."""
    path = ledger.study.run_directory("pretrain", row["Run"]) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    losses = {one["tokens"]: one["eval_heldout_mlm"] for one in records if "eval_heldout_mlm" in one}
    if row["Tokens"] not in losses:
        raise Unexplained(f"{row['Run']} was not evaluated after {row['Tokens']} tokens")
    tera = row["Tokens"] * _operations_of(ledger, row["Run"]) / 1e12
    return {"Tokens": row["Tokens"], "TFLOP": tera, "Loss": losses[row["Tokens"]]}


def beside_paper(ledger: Ledger, row: Row) -> Row:
    """The dearest run from scratch, or one of the paper's sizes over its 6.1 billion words."""
    scratch = [name for name, spec in ledger.study.pretraining.items() if spec.init_from is None]
    spent = {name: ledger.pretrained(name)["tokens"] * _operations_of(ledger, name) for name in scratch}
    if row["Model"] in spent:
        metrics, operations = ledger.pretrained(row["Model"]), spent[row["Model"]]
        parameters, tokens = metrics["parameters"], metrics["tokens"]
    else:
        shape = asdict(config_for(row["Model"].removeprefix("BioMegatron-").removesuffix(" (paper)"), 29_056))
        parameters, tokens = _parameters(shape), 6_100_000_000
        operations = tokens * _operations(shape, 64, 512)
    times = operations / max(spent.values())
    return {"#Parameters": parameters, "Tokens": tokens, "EFLOP": operations / 1e18, "times": times}


def planned(ledger: Ledger, row: Row) -> Row:
    """A size on some GPUs, in a run of 8,192 million tokens in batches of 1,024 x 512: a mesh of them, micro-batches
    that make the batch, memory and seconds of that spread; and that no other one, dividing alike, needs less."""
    config, machine = config_for(row["Model"], 29_056), replace(MACHINES["h100"], gpus=row["GPUs"])
    run, shape = Run(8_192_000_000, 1024, 512), asdict(config)
    data, micro_batch = row["GPUs"] // row["Tensor"], row["Micro-batch"]
    accumulate = 1024 // data // micro_batch
    spread = Spread(data, row["Tensor"], micro_batch, accumulate, row["Recompute"] == "yes")
    memory = step_memory(config, run, spread, machine)
    least = min(
        step_memory(config, run, Spread(row["GPUs"] // tensor, tensor, size, many // size, again), machine).total
        for tensor in (1, 2, 4, 8)
        if row["GPUs"] % tensor == 0 and config.heads % tensor == 0
        for many in [1024 * tensor // row["GPUs"]]
        for size in (2**power for power in range(11))
        if size <= many
        for again in (False, True)
    )
    fits = least <= 0.9 * 80e9
    steps = 8_192_000_000 // (1024 * 512)
    hours = steps * step_time(config, run, spread, machine).total / 3600 if fits else None
    return {
        "#Parameters": _parameters(shape),
        "EFLOP": steps * 1024 * 512 * _operations(shape, 1024, 512) / 1e18,
        "GPUs": data * row["Tensor"],
        "Fits": "yes" if fits else "no",
        "Data": data,
        "Tensor": row["Tensor"],
        "Micro-batch": 1024 // data // accumulate,
        "Accumulate": accumulate,
        "GB a GPU": memory.total / 1e9,
        "Least GB a GPU": least / 1e9,
        "Hours": hours,
        "GPU-hours": None if hours is None else hours * row["GPUs"],
    }
