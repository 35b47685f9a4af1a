"""What makes a claim supported, contradicted or inconclusive: parts with a threshold, intervals, and Holm's correction.

What is notable: a claim is decided by rules that stand here before any run, and by nothing else. It has one or more
parts, each a mean difference over settings and seeds that is held against a threshold:

| kind | the claim says that the effect is | the threshold |
| --- | --- | --- |
| `above`, `below` | above, below none | 0 |
| `differs` | not none | 0 |
| `under` | less than the margin, if any | +margin |
| `over` | no loss of the margin or more | -margin |

A part holds if its 95 % interval lies on the claimed side of the threshold and its p value, corrected for the number of
all parts of all claims (Holm), is below 0.05. It fails if both are so for the other side, or, for a claimed effect, if
the interval lies within the margin of zero: then there may be an effect, but not one worth the claim. A claim is
supported if all its parts hold, contradicted if one fails, and inconclusive otherwise; how many seeds would probably
decide an open part is computed from the spread seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from biomeg_lib.metrics.statistics import PairedDifference, holm, seeds_needed, stratified_difference

Kind = Literal["above", "below", "differs", "under", "over"]
Verdict = Literal["supported", "contradicted", "inconclusive"]
Outcome = Literal["holds", "fails", "open"]

MARGIN = 1.0  # points of F1 or of the mean reciprocal rank: about what the paper's own comparisons differ by
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Part:
    """One comparison of a claim.

    Attributes:
        name: what is compared, for the reader ("domain minus general vocabulary, F1").
        kind: see the module.
        difference: the effect, its 95 % interval and the p value of its threshold (None where there are too few seeds).
        strata: the paired differences of each setting, by which the power is told; empty where an effect does not come
            from seeds.
        unit: of the effect.
        margin: in the same unit.
    """

    name: str
    kind: Kind
    difference: PairedDifference
    strata: tuple[tuple[float, ...], ...] = ()
    unit: str = "points"
    margin: float = MARGIN

    @property
    def threshold(self) -> float:
        """What the effect is held against."""
        return {"under": self.margin, "over": -self.margin}.get(self.kind, 0.0)

    def outcome(self, p_value: float | None) -> Outcome:
        """Whether the part holds, with its corrected p value."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or p_value is None:
            return "open"
        certain = p_value < SIGNIFICANCE
        above, below = low > self.threshold and certain, high < self.threshold and certain
        if above if self.kind in ("above", "over") else below if self.kind in ("below", "under") else above or below:
            return "holds"
        small = self.kind in ("above", "below", "differs") and -self.margin < low and high < self.margin
        return "fails" if small or (self.kind != "differs" and (above or below)) else "open"

    def needed(self, tests: int) -> int | None:
        """Seeds a setting that would tell an effect as large as the one seen from the threshold, with a power of 80 %
        and as many tests as there are; None where the spread is not known or no number would do."""
        level = SIGNIFICANCE / max(tests, 1)
        return seeds_needed(self.strata, self.difference.mean - self.threshold, significance=level)

    def said(self) -> str:
        """The effect and its interval, in words."""
        effect = f"{self.name}: {self.difference.mean:+.2f}"
        if self.difference.low is not None:
            effect += f" ({self.difference.low:+.2f} to {self.difference.high:+.2f})"
        return f"{effect} {self.unit}"


def part(name: str, kind: Kind, strata: Sequence[Sequence[float]], margin: float = MARGIN) -> Part:
    """A part whose effect is the mean over settings of paired differences over seeds."""
    frozen = tuple(tuple(float(value) for value in values) for values in strata)
    plain = Part(name, kind, stratified_difference(frozen), frozen, margin=margin)
    shifted = stratified_difference([[value - plain.threshold for value in values] for values in frozen])
    difference = plain.difference
    return Part(
        name,
        kind,
        PairedDifference(difference.mean, difference.low, difference.high, difference.n, shifted.p_value),
        frozen,
        margin=margin,
    )


def resampled(name: str, kind: Kind, draws: Sequence[float], estimate: float, unit: str, items: int) -> Part:
    """A part whose effect is counted, and whose interval and p value come from resampling the items that were counted:
    percentiles, and twice the share of draws beyond zero."""
    array = np.asarray(draws, dtype=np.float64)
    low, high = np.quantile(array, [0.025, 0.975])
    p_value = min(1.0, 2 * (1 + min((array <= 0).sum(), (array >= 0).sum())) / (len(array) + 1))
    return Part(name, kind, PairedDifference(estimate, float(low), float(high), items, float(p_value)), unit=unit)


@dataclass
class Claim:
    """A claim of the paper, and what a profile found.

    Attributes:
        number, section, statement: "C1", the chapter of the report, and the claim in one sentence.
        parts: the comparisons that decide it; none where the profile has no runs for it.
        headline: the index of the part whose effect stands in the table.
        remarks: what else a reader has to know (what stands in for what, what is confounded).
        published: the paper's own effect, in words.
        link: page and anchor of the cell that shows the evidence, if there is any.
        fixed: a condition that is counted, not estimated, and whether it is met; a claim whose condition is not met is
            contradicted.
    """

    number: str
    section: str
    statement: str
    published: str
    link: str
    parts: list[Part] = field(default_factory=list)
    headline: int = 0
    remarks: str = ""
    fixed: tuple[str, bool] | None = None

    def compare(self, name: str, kind: Kind, strata: Sequence[Sequence[float]], remarks: str = "") -> None:
        """Add the part with these paired differences, and what a reader has to know of it; nothing without any."""
        if strata:
            self.parts.append(part(name, kind, strata))
            self.remarks = " ".join(filter(None, [self.remarks, remarks]))


@dataclass(frozen=True)
class Finding:
    """A claim, judged."""

    claim: Claim
    verdict: Verdict
    p_values: tuple[float | None, ...]
    evidence: str

    def record(self) -> dict[str, Any]:
        """A row of findings.csv."""
        claim = self.claim
        shown = claim.parts[claim.headline] if claim.parts else None
        difference = shown.difference if shown else None
        return {
            "claim": claim.number,
            "section": claim.section,
            "statement": claim.statement,
            "evidence": self.evidence,
            "effect": difference.mean if difference else None,
            "ci_low": difference.low if difference else None,
            "ci_high": difference.high if difference else None,
            "unit": shown.unit if shown else None,
            "comparison": shown.name if shown else None,
            "p": difference.p_value if difference else None,
            "p_holm": self.p_values[claim.headline] if claim.parts else None,
            "n": difference.n if difference else 0,
            "verdict": self.verdict,
            "published": claim.published,
            "link": claim.link if claim.parts else None,
        }


def judge(claims: Sequence[Claim]) -> list[Finding]:
    """Decide claims together: p values are corrected over all their parts."""
    parts = [(claim, one) for claim in claims for one in claim.parts]
    tested = [one.difference.p_value for _, one in parts if one.difference.p_value is not None]
    corrected = iter(holm(tested))
    adjusted = [None if one.difference.p_value is None else next(corrected) for _, one in parts]
    findings, position = [], 0
    for claim in claims:
        mine = tuple(adjusted[position : position + len(claim.parts)])
        position += len(claim.parts)
        findings.append(Finding(claim, _verdict(claim, mine), mine, _evidence(claim, mine, len(tested))))
    return findings


def _verdict(claim: Claim, p_values: Sequence[float | None]) -> Verdict:
    if not claim.parts:
        return "inconclusive"
    outcomes = [one.outcome(p_value) for one, p_value in zip(claim.parts, p_values, strict=True)]
    if "fails" in outcomes or (claim.fixed is not None and not claim.fixed[1]):
        return "contradicted"
    return "supported" if set(outcomes) == {"holds"} else "inconclusive"


def _evidence(claim: Claim, p_values: Sequence[float | None], tests: int) -> str:
    if not claim.parts:
        return " ".join(filter(None, ["This profile has no runs that test it.", claim.remarks]))
    words = {"holds": "holds", "fails": "does not hold", "open": "open"}
    sentences = [claim.fixed[0]] if claim.fixed else []
    for one, p_value in zip(claim.parts, p_values, strict=True):
        outcome = one.outcome(p_value)
        text = f"{one.said()}: {words[outcome]}"
        if outcome == "open":
            needed = one.needed(tests)
            if needed is not None:
                text += f"; {needed:,} seeds a setting would probably decide an effect of this size"
            elif one.strata and one.difference.low is not None:
                text += "; no number of seeds up to 10,000 would decide an effect of this size"
        sentences.append(text + ".")
    return " ".join([*sentences, claim.remarks]).strip()
