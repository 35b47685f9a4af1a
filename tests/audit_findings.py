"""Rules of the number audit for findings.csv: the effect of each of the twelve claims, recomputed from runs.

What is notable: which encoders and benchmarks a claim is about comes from `findings.pairs`, as names; which runs meet,
and every number, is found here. Two runs are a pair if all is equal but what is compared. The power behind "N seeds a
setting" is the library's (`statistics.seeds_needed`), and so are the draws behind C2 (`Evidence.rate_difference`).
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from audit_ledger import FACTORS, Ledger, Unexplained, estimate, read_csv, same
from audit_runs import Row, break_out, numbers_of_note
from scipy import stats

from biomeg_lib.metrics.statistics import seeds_needed
from biomeg_lib.report import published
from biomeg_lib.report.findings import pairs
from biomeg_lib.report.findings.evidence import BIOMEDICAL, Evidence

MARGIN = 1.0
_KEYS = ["benchmark", "encoder", *FACTORS, "fraction", "conditions", "batch"]
Strata = dict[tuple, list[float]]


@dataclass
class Part:
    """One comparison: its effect, the p value of its threshold, and the strata that it is a mean over."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    strata: list[list[float]] = field(default_factory=list)
    threshold: float = 0.0


@dataclass
class Claim:
    """All parts of a claim, which one stands in the table, and what other numbers its evidence may have."""

    parts: list[Part] = field(default_factory=list)
    headline: int = 0
    said: list[str] = field(default_factory=list)


def mean_over_settings(strata: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean of means, its standard error, and degrees of freedom after Welch and Satterthwaite (0, 0 for no spread)."""
    arrays = [np.asarray(values) for values in strata]
    shares = [stats.sem(array) ** 2 / len(arrays) ** 2 for array in arrays]
    mean = float(np.mean([array.mean() for array in arrays]))
    if not sum(shares):
        return mean, 0.0, 0.0
    freedom = sum(shares) ** 2 / sum(s**2 / (len(a) - 1) for s, a in zip(shares, arrays, strict=True))
    return mean, float(np.sqrt(sum(shares))), float(freedom)


def part(strata: Strata, threshold: float = 0.0) -> list[Part]:
    """The part that has these strata; none without strata."""
    values = list(strata.values())
    if not values:
        return []
    n = sum(map(len, values))
    if min(map(len, values)) < 2:
        return [Part(float(np.mean([np.mean(v) for v in values])), None, None, None, n, values, threshold)]
    if len(values) == 1:
        found = estimate(values[0])
        p = estimate([value - threshold for value in values[0]])["p"]
        return [Part(found["mean"], found["low"], found["high"], p, n, values, threshold)]
    mean, error, freedom = mean_over_settings(values)
    if not error:
        return [Part(mean, mean, mean, float(mean == threshold), n, values, threshold)]
    low, high = stats.t.interval(0.95, freedom, loc=mean, scale=error)
    p = 2 * stats.t.sf(abs(mean - threshold) / error, freedom)
    return [Part(mean, float(low), float(high), float(p), n, values, threshold)]


class Recomputed:
    """The twelve claims of a study, from its ledger."""

    def __init__(self, ledger: Ledger):
        self.ledger, self.study = ledger, ledger.study
        frame = ledger.runs.copy()
        frame[list(FACTORS)] = frame[list(FACTORS)].astype(object).fillna("")
        self.ner = frame[frame["task"] == "ner"]
        self.relations = self._on(frame[frame["task"] == "classification"], "ChemProt")
        asked = frame[frame["task"] == "qa"]
        self.squad = self._on(asked, "SQuAD-v1.1", "SQuAD-v2.0")
        factoids = self._on(asked, "BioASQ-7b")
        # whatever grid was trained before: it is the step over SQuAD
        self.factoids = factoids.assign(route=factoids["route"].where(factoids["route"] == "direct", "squad"))
        self.vocabularies, self.sizes = pairs.vocabulary_pairs(self.study), pairs.size_pairs(self.study)
        domain = pairs.standing_for(self.study, "BioMegatron-345m", "BioMegatron-800m", "BioMegatron-1.2b")
        self.named = [(a, b) for a, b in self.sizes if a in domain and b in domain] or self.sizes

    def _on(self, frame: pd.DataFrame, *names: str) -> pd.DataFrame:
        return frame[frame["benchmark"].isin(pairs.benchmarks_for(self.study, *names))]

    def between(
        self, frame: pd.DataFrame, column: str, first: Any, second: Any, score: str, ignored: Sequence[str] = ()
    ) -> Strata:
        """Differences by seed of each setting that has both."""
        keys = [key for key in _KEYS if key != column and key not in ignored]
        found: Strata = {}
        for key, group in frame.groupby(keys, sort=False):
            sides = [group[group[column] == value].drop_duplicates("seed") for value in (first, second)]
            ours, theirs = (side.set_index("seed")[score] for side in sides)
            shared = [seed for seed in ours.index if seed in theirs.index]
            if shared:
                found[(first, second, *key)] = [float(ours[seed] - theirs[seed]) for seed in shared]
        return found

    def over(self, frame: pd.DataFrame, couples: Sequence[tuple[str, str]], score: str, *ignored: str) -> Strata:
        """The same for several pairs of encoders."""
        merged: Strata = {}
        for a, b in couples:
            merged |= self.between(frame, "encoder", a, b, score, ignored)
        return merged

    @staticmethod
    def usual(frame: pd.DataFrame) -> pd.DataFrame:
        """Pre-trained, without a remedy, and of each benchmark its largest share of the training set."""
        frame = frame[(frame["start"] == "pretrained") & frame["remedy"].isin(["none", ""])]
        return frame[frame["fraction"] == frame.groupby("benchmark")["fraction"].transform("max")]

    def claims(self) -> dict[str, Claim]:
        """Claim number -> what it comes to."""
        return {f"C{number}": getattr(self, f"c{number}")() for number in range(1, 13)}

    def c1(self) -> Claim:
        frame = self.usual(self.ner)
        by_piece = frame.groupby("benchmark")["labelling"].transform(lambda column: (column == "piece").any())
        frame = frame[(frame["labelling"] == "piece") | ~by_piece.astype(bool)]
        largest = {}
        for larger, smaller in self.sizes:
            known = largest.get(smaller)
            if known is None or pairs.weights(self.study, larger) > pairs.weights(self.study, known):
                largest[smaller] = larger
        against = [(a, largest[b]) for a, b in self.vocabularies if b in largest]
        parts = part(self.over(frame, self.vocabularies, "F1")) + part(self.over(frame, against, "F1"))
        times = [pairs.weights(self.study, largest[b]) / pairs.weights(self.study, b) for b in largest]
        return Claim(parts, said=[f"{one:.1f}" for one in times])

    def c2(self) -> Claim:
        names = {spec.stands_for: name for name, spec in self.study.vocabularies.items()}
        ladder = [names.get(n) for n in ("BERT-cased", "BioMegatron-bio-30k-cased", "BioMegatron-bio-50k-cased")]
        entities = [n for n in pairs.benchmarks_for(self.study, *BIOMEDICAL) if (n, "train") in self.ledger.words]
        parts, evidence = [], Evidence(self.study)
        for first, second in itertools.pairwise(ladder):
            if first and second and entities:
                rates = [[break_out(self.ledger, one, name)[2] for name in entities] for one in (first, second)]
                _, draws, _ = evidence.rate_difference(first, second)
                low, high = np.quantile(draws, [0.025, 0.975])
                beyond = min((draws <= 0).sum(), (draws >= 0).sum())
                n = sum(any(t != "O" for _, t in s) for name in entities for s in self.ledger.words[name, "train"])
                p = min(1.0, 2 * (1 + beyond) / (len(draws) + 1))
                parts.append(Part(float(np.mean(rates[0]) - np.mean(rates[1])), low, high, float(p), n))
        return Claim(parts)

    def c3(self) -> Claim:
        strata = self.between(self.usual(self.ner), "labelling", "piece", "word", "F1")
        means = [float(np.mean(values)) for values in strata.values()] or [0.0]
        return Claim(part(strata), said=[str(len(means)), f"{min(means):+.1f}", f"{max(means):+.1f}"])

    def c4(self) -> Claim:
        return Claim(part(self.over(self.usual(self.relations), self.vocabularies, "F1")))

    def c5(self) -> Claim:
        frame = pd.concat([self.usual(self.ner), self.usual(self.relations)])
        apart = (frame["Prec"] - frame["Rec"]).abs().groupby(frame["benchmark"]).transform("max") > 1e-9
        scores = [self.over(frame[apart], self.named, score) for score in ("Prec", "Rec")]
        return Claim([one for strata in scores for one in part(strata)], headline=1)

    def c6(self) -> Claim:
        frame = self.usual(self.factoids)
        frame = frame[frame["route"] != "direct"]
        return Claim(part(self.over(frame, self.named, "MRR")) + part(self.over(frame, self.vocabularies, "MRR")))

    def c7(self) -> Claim:
        frame = self.usual(self.factoids)
        sides = [self.over(frame[frame["route"] == route], self.named, "MRR", "route") for route in ("direct", "squad")]
        shared = [key for key in sides[0] if key in sides[1] and len(sides[0][key]) == len(sides[1][key])]
        return Claim(part({k: [a - b for a, b in zip(sides[0][k], sides[1][k], strict=True)] for k in shared}))

    def c8(self) -> Claim:
        frame = pd.concat([self.ner, self.relations])
        frame = frame[(frame["start"] == "pretrained") & frame["remedy"].isin(["none", ""])]
        gains, gaps, others = [], [], []
        known = self.study.pretraining
        for start, vocabulary, corpus in dict.fromkeys(
            (spec.init_from, spec.vocabulary, spec.corpus) for spec in known.values() if spec.init_from
        ):
            wanted = (start, vocabulary, corpus)
            series = [n for n, spec in known.items() if (spec.init_from, spec.vocabulary, spec.corpus) == wanted]
            further = [name for name in series if known[name].tokens]
            first = start if start in known else next((name for name in series if not known[name].tokens), None)
            if first is None or not further or known[first].vocabulary != vocabulary:
                continue
            last = max(further, key=lambda name: known[name].tokens)
            if known[first].model is None:
                others.append((last, first))
                continue
            gains.append((last, first))
            like = (known[first].model, known[last].vocabulary, known[last].corpus)
            gaps += [
                (last, name)
                for name, spec in known.items()
                if spec.init_from is None and (spec.model, spec.vocabulary, spec.corpus) == like
            ]
        beside = part(self.over(frame, others, "F1"))
        said = [f"{value:+.2f}" for one in beside for value in (one.mean, one.low, one.high) if value is not None]
        return Claim(part(self.over(frame, gains, "F1")) + part(self.over(frame, gaps, "F1"), -MARGIN), said=said)

    def c9(self) -> Claim:
        frame = self.usual(self.factoids)
        large, small = (pairs.standing_for(self.study, f"Megatron-{n} (general LM)") for n in ("1.2b", "345m"))
        couples = [(a, b) for a in large for b in small]
        frame = frame[frame["route"] == "direct"]
        return Claim(part(self.over(frame, couples, "MRR", "conditions", "batch"), MARGIN))

    def c10(self) -> Claim:
        domain, general = (pairs.standing_for(self.study, name) for name in ("BioMegatron-800m", "BERTLARGE"))
        return Claim(part(self.over(self.usual(self.squad), [(a, b) for a in domain for b in general], "F1")))

    def c11(self) -> Claim:
        frame = pd.concat([self.ner, self.relations])
        found = [part(self.between(frame, "remedy", r, "none", "F1"), MARGIN) for r in ("weighted", "oversampled")]
        parts = [one for some in found for one in some]
        path = self.study.table("table8")
        counted = read_csv(path)["Bias %"].dropna() if path.is_file() else []
        headline = int(np.argmax([one.mean for one in parts])) if parts else 0
        return Claim(parts, headline, [f"{one:.3f}" for one in counted])

    def c12(self) -> Claim:
        frame = self.usual(self.factoids)
        if frame.empty or frame["batch"].nunique() < 2:
            return Claim()
        large, small = int(frame["batch"].max()), int(frame["batch"].min())
        return Claim(part(self.between(frame, "batch", large, small, "MRR")), said=[str(large), str(small)])


def audit(ledger: Ledger) -> list[str]:
    """Complaints about findings.csv."""
    path = ledger.study.outputs / "findings.csv"
    if not path.is_file():
        return ["it is not there"]
    frame = read_csv(path)
    try:
        claims = Recomputed(ledger).claims()
    except (Unexplained, KeyError, ValueError) as error:
        return [f"its claims cannot be recomputed: {error}"]
    if frame["claim"].tolist() != list(claims):
        return [f"expected the claims {', '.join(claims)}, found {', '.join(map(str, frame['claim']))}"]
    adjusted = _holm([one.p for claim in claims.values() for one in claim.parts])
    tests = sum(one.p is not None for claim in claims.values() for one in claim.parts)
    complaints = []
    for row in frame.to_dict("records"):
        claim = claims[row["claim"]]
        mine = [next(adjusted) for _ in claim.parts]
        complaints += [f"{row['claim']}, {complaint}" for complaint in _row(claim, mine, row, tests)]
    return complaints


def _holm(p_values: list[float | None]) -> Iterator[float | None]:
    """Holm's step-down correction, in the order given."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        found[place] = least
    return iter(found)


def _row(claim: Claim, adjusted: list[float | None], row: Row, tests: int) -> list[str]:
    names = ("effect", "ci_low", "ci_high", "p", "p_holm", "n")
    expected: Row = dict.fromkeys(names) | {"n": 0}
    if claim.parts:
        one = claim.parts[claim.headline]
        expected = dict(zip(names, (one.mean, one.low, one.high, one.p, adjusted[claim.headline], one.n), strict=True))
    complaints = [f"{k}: {row[k]}, but it is {expected[k]}" for k in names if not same(row[k], expected[k])]
    text = str(row["evidence"])
    for one in claim.parts:
        said = f"{one.mean:+.2f}" + (f" ({one.low:+.2f} to {one.high:+.2f})" if one.low is not None else "")
        complaints += [] if said in text else [f"evidence: it does not say {said}"]
        text = text.replace(said, "")
    known = set(claim.said) | {"10,000"}
    for one in claim.parts:
        needed = seeds_needed(one.strata, one.mean - one.threshold, significance=0.05 / max(tests, 1))
        known |= {f"{needed:,}"} if needed else set()
    # "batches of 32 minus of 8" is in the name of a comparison and of its part of the evidence
    complaints += [
        f"{column}: {number} is explained by nothing"
        for column, words in (("evidence", text), ("comparison", row["comparison"]))
        for number in numbers_of_note("" if pd.isna(words) else str(words))
        if number not in known
    ]
    return complaints + [f"published: {number} is not in the tables that it cites" for number in _uncited(row)]


def _uncited(row: Row) -> list[str]:
    """Numbers of the paper's own effect that are neither in the tables cited nor the difference of two that are."""
    text = str(row["published"])
    cited = [int(number) for listed in re.findall(r"Tables? (\d)", text) for number in listed]
    numbers = [
        round(float(value), 3)
        for number in cited
        for measure in published.TABLES[number].measures
        for value in published.table(number)[measure]
    ]
    differences = {round(a - b, 3) for a in numbers for b in numbers}
    # what has a decimal: scores, rates and biases
    said = re.findall(r"(?<![\w.])(?<!SQuAD )(?<!section )[+-]?\d+\.\d+(?!\w)", text)
    return [n for n in said if float(n) not in numbers and float(n) not in differences] if cited else []
