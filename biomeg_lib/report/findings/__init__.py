"""The paper's twelve claims and what a profile found: `findings.csv` and the report's first screen.

`judging` says what a verdict rests on, `pairs` which runs are compared, `words` and `encoders` have the claims.
"""

import pandas as pd

from biomeg_lib.report.findings import encoders, words
from biomeg_lib.report.findings.evidence import Evidence
from biomeg_lib.report.findings.judging import Finding, judge
from biomeg_lib.study import Study

CLAIMS = (
    words.vocabulary_is_critical,
    words.domain_vocabularies_break_less,
    words.labelling_matters,
    words.vocabulary_matters_for_relations,
    encoders.larger_is_more_precise,
    encoders.size_and_vocabulary_in_questions,
    encoders.size_without_squad,
    encoders.steps_catch_up,
    encoders.larger_general_models,
    encoders.domain_models_generalise,
    words.imbalance,
    encoders.large_batches_help,
)


def findings(study: Study) -> list[Finding]:
    """All claims, judged together.

    Raises:
        InputError: a run is not complete.
    """
    evidence = Evidence(study)
    return judge([claim(evidence) for claim in CLAIMS])


def table(found: list[Finding]) -> pd.DataFrame:
    """findings.csv: one row a claim.

    Columns: `claim`, `section`, `statement`, `evidence`, `effect`, `ci_low`, `ci_high` (95 %), `unit`, `comparison`
    (whose effect that is), `p` (of its threshold), `p_holm` (corrected for all parts of all claims), `n` (paired
    differences, or sentences for C2), `verdict` (supported, contradicted, inconclusive), `published` (the paper's own
    effect), `link` (the cell that shows it).
    """
    return pd.DataFrame([finding.record() for finding in found])
