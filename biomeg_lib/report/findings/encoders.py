"""Claims about the size of models, questions and domain transfer: C5 to C10 and C12 (paper sections 5.2 to 5.5)."""

import itertools

import pandas as pd

from biomeg_lib.metrics.statistics import stratified_difference
from biomeg_lib.report.findings import pairs
from biomeg_lib.report.findings.evidence import Evidence
from biomeg_lib.report.findings.judging import Claim
from biomeg_lib.study import Study

_DOMAIN = ("BioMegatron-345m", "BioMegatron-800m", "BioMegatron-1.2b")


def _size_pairs(study: Study) -> list[tuple[str, str]]:
    """(larger, smaller) of those that stand for sizes of the paper and differ in nothing else; all such pairs if none
    stands for any."""
    couples = pairs.size_pairs(study)
    named = set(pairs.standing_for(study, *_DOMAIN))
    return [(a, b) for a, b in couples if {a, b} <= named] or couples


def larger_is_more_precise(evidence: Evidence) -> Claim:
    """C5: both halves have to hold. Sets without negatives, whose precision is their recall, do not count."""
    claim = Claim(
        "C5",
        "size",
        "Larger models trade recall for precision, on named entities and relations",
        "ChemProt, 1.2b against 345m (30k): precision +4.2, recall -6.9; BC5CDR-chem: -0.1, -3.1 (Table 1)",
        "size.html#table1",
        headline=1,
    )
    frames = [_with_negatives(pairs.usual(runs)) for runs in (evidence.ner, evidence.relations)]
    for score, head, kind in (("Prec", "precision", "above"), ("Rec", "recall", "below")):
        strata = [s for runs in frames for s in pairs.between(runs, "encoder", _size_pairs(evidence.study), score)]
        claim.compare(f"larger minus smaller model, {head}", kind, strata)
    return claim


def _with_negatives(runs: pd.DataFrame) -> pd.DataFrame:
    if runs.empty:
        return runs
    differ = (runs["Prec"] - runs["Rec"]).abs().groupby(runs["benchmark"]).transform("max") > 1e-9
    return runs[differ]


def size_and_vocabulary_in_questions(evidence: Evidence) -> Claim:
    """C6: that it levels off is not tested, which takes three sizes that all learn the task."""
    claim = Claim(
        "C6",
        "size",
        "Question answering improves with size, and domain vocabularies hurt it after SQuAD",
        "MRR after SQuAD: 345m 52.5, 800m 50.4, 1.2b 52.4 (Table 2); domain vocabularies: much worse, no number",
        "size.html#table2",
        remarks="That it levels off is not tested.",
    )
    runs = pairs.usual(evidence.factoids)
    after = runs if runs.empty else runs[runs["route"] == "squad"]
    strata = pairs.between(after, "encoder", _size_pairs(evidence.study), "MRR")
    claim.compare("larger minus smaller model after SQuAD, MRR", "above", strata)
    strata = pairs.between(after, "encoder", pairs.vocabulary_pairs(evidence.study), "MRR")
    claim.compare("domain minus general vocabulary after SQuAD, MRR", "below", strata)
    return claim


def size_without_squad(evidence: Evidence) -> Claim:
    """C7: a difference of differences, paired by seed and benchmark."""
    claim = Claim(
        "C7",
        "size",
        "Without the SQuAD step the effect of size on question answering is larger",
        "1.2b minus 345m, MRR: 45.6 - 39.8 = +5.8 without (Table 4), 52.4 - 52.5 = -0.1 with (Table 2)",
        "size.html#table4",
    )
    runs = pairs.usual(evidence.factoids)
    if runs.empty:
        return claim
    strata = []
    for larger, smaller in _size_pairs(evidence.study):
        sides = [
            pairs.strata(runs[runs["route"] == route], "encoder", larger, smaller, "MRR")
            for route in ("direct", "squad")
        ]
        for direct, after in zip(*sides, strict=False):
            if len(direct) == len(after):
                strata.append([a - b for a, b in zip(direct, after, strict=True)])
    claim.compare("effect of size without SQuAD minus with it, MRR", "above", strata)
    return claim


def steps_catch_up(evidence: Evidence) -> Claim:
    """C8: steps have to gain something, and the last must not be behind the model of domain text by the margin."""
    claim = Claim(
        "C8",
        "domain_transfer",
        "A general model needs enough steps on domain text, and then does as well as a domain model",
        "BC5CDR-chem: 63.2 after 1,000 steps, 74.3 after 10,000, 91.2 to 92.1 from 300,000; domain models 91.3 to 92.9",
        "domain_transfer.html#table5",
    )
    study = evidence.study
    gains, gaps, others = [], [], []
    for runs in (evidence.ner, evidence.relations):
        if runs.empty:
            continue
        runs = runs[(runs["start"] == "pretrained") & (runs["remedy"] == "none")]
        for origin, last in _series(study):
            gained = pairs.strata(runs, "encoder", last, origin, "F1")
            if origin not in study.pretraining or study.pretraining[origin].model is None:
                others += gained
                continue
            gains += gained
            for domain in _same_from_scratch(study, last, origin):
                gaps += pairs.strata(runs, "encoder", last, domain, "F1")
    claim.compare("most steps minus none, F1", "above", gains)
    claim.compare("most steps minus domain text from the start, F1", "over", gaps)
    if others:
        beside = stratified_difference(others)
        bounds = "" if beside.low is None else f" ({beside.low:+.2f} to {beside.high:+.2f})"
        claim.remarks = f"Beside it, steps from a published checkpoint: {beside.mean:+.2f}{bounds} points."
    return claim


def _series(study: Study) -> list[tuple[str, str]]:
    """(the encoder without further steps, the one with most) of each start and vocabulary."""
    series: dict[tuple[str, str, str], list[str]] = {}
    for name, spec in study.pretraining.items():
        if spec.init_from is not None:
            series.setdefault((spec.init_from, spec.vocabulary, spec.corpus), []).append(name)
    found = []
    for (start, vocabulary, _), names in series.items():
        untouched = [n for n in names if not study.pretraining[n].tokens]
        origin = start if start in study.pretraining else next(iter(untouched), None)
        further = [n for n in names if study.pretraining[n].tokens]
        if origin is None or not further or study.pretraining[origin].vocabulary != vocabulary:
            continue
        found.append((origin, max(further, key=lambda n: study.pretraining[n].tokens)))
    return found


def _same_from_scratch(study: Study, last: str, origin: str) -> list[str]:
    """Encoders of the same shape and vocabulary that read the domain text from the start."""
    spec, first = study.pretraining[last], study.pretraining[origin]
    return [
        name
        for name, other in study.pretraining.items()
        if other.init_from is None
        and (other.model, other.vocabulary, other.corpus) == (first.model, spec.vocabulary, spec.corpus)
    ]


def larger_general_models(evidence: Evidence) -> Claim:
    """C9: a larger general model is not better, by the margin or more, at factoids."""
    claim = Claim(
        "C9",
        "domain_transfer",
        "Larger general-domain models do not do better on BioASQ",
        "MRR: 1.2b 32.7, 345m 43.7 (Table 6)",
        "domain_transfer.html#table6",
    )
    study, runs = evidence.study, pairs.usual(evidence.factoids)
    large = pairs.standing_for(study, "Megatron-1.2b (general LM)")
    small = pairs.standing_for(study, "Megatron-345m (general LM)")
    if runs.empty:
        return claim
    runs = runs[runs["route"] == "direct"]
    couples = itertools.product(large, small)
    confounded = (
        "Confounded: the larger one is a published checkpoint, which read far more text, and has a recipe of its own."
        if any(study.pretraining[name].init_from for name in large)
        else ""
    )
    strata = pairs.between(runs, "encoder", couples, "MRR", ("conditions", "batch"))
    claim.compare("larger minus smaller general model, MRR", "under", strata, confounded)
    return claim


def domain_models_generalise(evidence: Evidence) -> Claim:
    """C10: the largest domain model against the smaller general one."""
    claim = Claim(
        "C10",
        "domain_transfer",
        "A large domain model still generalises: on SQuAD it is better than a smaller general one",
        "SQuAD 1.1, F1: BioMegatron-800m 91.6, 1.2b-ft 91.8, BERT-large 90.9 (Table 7)",
        "domain_transfer.html#table7",
    )
    study, runs = evidence.study, pairs.usual(evidence.squad)
    domain = pairs.standing_for(study, "BioMegatron-800m")
    general = pairs.standing_for(study, "BERTLARGE")
    strata = pairs.between(runs, "encoder", itertools.product(domain, general), "F1")
    claim.compare("larger domain minus smaller general model, F1", "above", strata)
    return claim


def large_batches_help(evidence: Evidence) -> Claim:
    """C12: the same runs in batches of another size."""
    claim = Claim(
        "C12",
        "questions",
        "A large batch helps on BioASQ, whose pairs repeat",
        "no number (section 5.3: 64 a GPU on 16 GPUs)",
        "questions.html#questions_batch",
    )
    runs = pairs.usual(evidence.factoids)
    if runs.empty or runs["batch"].nunique() < 2:
        return claim
    large, small = int(runs["batch"].max()), int(runs["batch"].min())
    claim.compare(
        f"batches of {large} minus of {small}, MRR",
        "above",
        pairs.strata(runs, "batch", large, small, "MRR"),
        "As many epochs with either, so the larger batch has fewer steps.",
    )
    return claim
