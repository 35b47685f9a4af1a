"""Claims about vocabularies, labels and label imbalance: C1 to C4 and C11 (paper sections 5.1, 5.2 and 5.5)."""

import pandas as pd

from biomeg_lib.report import data_tables
from biomeg_lib.report.findings import pairs
from biomeg_lib.report.findings.evidence import Evidence
from biomeg_lib.report.findings.judging import Claim, resampled
from biomeg_lib.study import Study

_REMEDIES = ("weighted", "oversampled")


def vocabulary_is_critical(evidence: Evidence) -> Claim:
    """C1: two parts, since "most critical" says more than "matters": it has to exceed what a larger model gives."""
    claim = Claim(
        "C1",
        "vocab",
        "The sub-word vocabulary is the most critical factor for named entities",
        "BC5CDR-chem at 110m: PubMedBERT's vocabulary 92.6, BERT's 91.7 (+0.9); 1.2b with BERT's 91.3 (Table 1)",
        "vocab.html#vocab_f1",
    )
    study, runs = evidence.study, _pieces(pairs.usual(evidence.ner))
    couples = pairs.vocabulary_pairs(study)
    claim.compare("domain minus general vocabulary, F1", "above", pairs.between(runs, "encoder", couples, "F1"))
    larger = {general: _largest(study, general) for _, general in couples}
    rivals = [(domain, larger[general]) for domain, general in couples if larger[general]]
    times = max(
        (pairs.weights(study, large) / pairs.weights(study, b) for b, large in larger.items() if large), default=1
    )
    model = f"a model with {times:.1f} x the weights in its layers"
    claim.compare(
        f"domain vocabulary minus the general one in {model}, F1", "above", pairs.between(runs, "encoder", rivals, "F1")
    )
    return claim


def _largest(study: Study, smaller: str) -> str | None:
    """The largest encoder that differs from this one in its shape alone, if there is a larger one."""
    larger = [a for a, b in pairs.size_pairs(study) if b == smaller]
    return max(larger, key=lambda name: pairs.weights(study, name), default=None)


def domain_vocabularies_break_less(evidence: Evidence) -> Claim:
    """C2: counted on the training sentences; the interval is over sentences that might have been drawn instead."""
    claim = Claim(
        "C2",
        "vocab",
        "Domain vocabularies break entities into fewer pieces, and one of 50k into fewer than one of 30k",
        "BC5-chem: BERT-cased 3.012, 30k 1.753, 50k 1.478 (Table 3)",
        "vocab.html#table3",
    )
    names = {spec.stands_for: name for name, spec in evidence.study.vocabularies.items() if spec.stands_for}
    general, small, large = (
        names.get(row) for row in ("BERT-cased", "BioMegatron-bio-30k-cased", "BioMegatron-bio-50k-cased")
    )
    if not evidence.entities:
        return claim
    for first, second in ((general, small), (small, large)):
        if first and second:
            estimate, draws, sentences = evidence.rate_difference(first, second)
            name = f"{first} minus {second}, pieces a word inside entities"
            claim.parts.append(resampled(name, "above", draws, estimate, "pieces a word", sentences))
    return claim


def labelling_matters(evidence: Evidence) -> Claim:
    """C3: no direction is claimed."""
    claim = Claim(
        "C3",
        "labeling",
        "The labelling scheme alone moves the F1 of named entities, by up to about 2 points",
        "about 2 points (section 5.1)",
        "labeling.html#labeling",
    )
    runs = pairs.usual(evidence.ner)
    if runs.empty or runs["labelling"].nunique() < 2:
        return claim
    strata = pairs.strata(runs, "labelling", "piece", "word", "F1")
    means = [sum(values) / len(values) for values in strata] or [0.0]
    said = f"Over {len(means)} settings the means go from {min(means):+.1f} to {max(means):+.1f} points."
    claim.compare("labels by piece minus by word, F1", "differs", strata, said)
    return claim


def vocabulary_matters_for_relations(evidence: Evidence) -> Claim:
    """C4: "a notable effect", so no direction is claimed."""
    claim = Claim(
        "C4",
        "relation",
        "The choice of sub-word vocabulary has a notable effect on relation extraction",
        "ChemProt at 345m: 50k 77.0, 30k 75.1 (+1.9); at 110m PubMedBERT's 75.6, BERT's 74.8 (+0.8) (Table 1)",
        "relation.html#relation",
    )
    couples = pairs.vocabulary_pairs(evidence.study)
    strata = pairs.between(pairs.usual(evidence.relations), "encoder", couples, "F1")
    claim.compare("domain minus general vocabulary, micro F1", "differs", strata)
    return claim


def imbalance(evidence: Evidence) -> Claim:
    """C11: Table 8 is counted; that remedies help little is a gain below the margin, each remedy for itself."""
    claim = Claim(
        "C11",
        "imbalance",
        "Biomedical sets are smaller and more biased than general ones; oversampling and class weights help little",
        "bias 0.08 against 0.18, 0.27 against 0.48, 0.02 against 0.4 (Table 8); remedies: minor effects (section 5.5)",
        "imbalance.html#imbalance",
    )
    frames = [frame for frame in (evidence.ner, evidence.relations) if not frame.empty and "remedy" in frame]
    for remedy in _REMEDIES:
        strata = [s for frame in frames for s in pairs.strata(frame, "remedy", remedy, "none", "F1")]
        claim.compare(f"{remedy} minus plain cross-entropy, F1", "under", strata)
    if claim.parts:
        claim.headline = max(range(len(claim.parts)), key=lambda i: claim.parts[i].difference.mean)
        claim.fixed, unlike = _more_biased(evidence)
        claim.remarks = unlike
    return claim


def _more_biased(evidence: Evidence) -> tuple[tuple[str, bool] | None, str]:
    """Whether each biomedical training set is more biased than the general one of its task, and what was left out."""
    table = data_tables.label_bias_table(data_tables.count_benchmarks(evidence.study))
    table = table[(table["Split"] == "train") & table["published"].notna() & table["Bias %"].notna()]
    said, met, left_out = [], True, []
    for task, general, domain in (
        ("NER", "CONLL-2003", ("BC5CDR",)),
        ("CLS", "MRPC", ("ChemProt",)),
        ("QA", "SQuAD-v1.0", ("BioASQ-7b",)),
    ):
        theirs = table[table["Stands for"] == general]["Bias %"]
        ours = table[table["Stands for"].isin(domain)]
        if theirs.empty or ours.empty:
            continue
        if task == "CLS" and ours["note"].str.contains("no negatives").any():
            left_out.append("ChemProt's file has no negatives, so its bias is not that of the paper and is left out")
            continue
        if task == "QA" and any(evidence.study.benchmarks[name].factoids for name in ours["Dataset"]):
            left_out.append("the questions that stand for BioASQ are asked once each, so their repeats say nothing")
            continue
        highest = float(ours["Bias %"].max())
        met = met and highest < float(theirs.iloc[0])
        said.append(f"{task} {highest:.3f} against {float(theirs.iloc[0]):.3f}")
    if not said:
        return None, ""
    text = f"Counted: bias of the biomedical training set against the general one: {', '.join(said)}."
    return (text, met), f"{'; '.join(left_out).capitalize()}." if left_out else ""


def _pieces(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs labelled by piece, as the paper's tables are, where a benchmark has them; else by word."""
    if runs.empty:
        return runs
    by_piece = set(runs.loc[runs["labelling"] == "piece", "benchmark"])
    return runs[(runs["labelling"] == "piece") | ~runs["benchmark"].isin(by_piece)]
