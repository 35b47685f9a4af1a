"""The twelve claims on the profile `smoke`, with runs written by hand: each effect is put in, and has to come out."""

import json
import shutil
import zlib
from pathlib import Path

import pandas as pd
import pytest

from biomeg_lib import prepare
from biomeg_lib.report import findings, overview
from biomeg_lib.report.findings import pairs
from biomeg_lib.report.findings.evidence import Evidence
from biomeg_lib.report.findings.judging import judge
from biomeg_lib.study import Study, load

ROOT = Path(__file__).resolve().parents[2]

# Points that a run scores above 50: by what it is, so that differences are known.
VOCABULARY, SIZE, LABELLING, STEPS = 6.0, 2.0, -3.0, 5.0
REMEDIES = {"weighted": -2.0, "oversampled": 0.1, "dice": -9.0}


def noise(name: str) -> float:
    """Between -0.2 and 0.2 points, the same for the same name."""
    return (zlib.crc32(name.encode()) / 2**32 - 0.5) * 0.4


def score(cell, seed: int, measure: str = "f1") -> float:
    """A score in per cent."""
    points = 50.0 + noise(f"{cell.name} {seed} {measure}") + 3 * noise(f"{cell.benchmark} {seed}")
    points += {"micro-bio": VOCABULARY, "larger-general": SIZE, "micro-world": -STEPS}.get(cell.encoder, 0.0)
    points += {"micro-world-30": -STEPS}.get(cell.encoder, 0.0)
    points += LABELLING if cell.labelling == "word" else 0.0
    points += REMEDIES.get(cell.remedy, 0.0)
    points -= 10.0 if cell.start == "random" else 0.0
    if cell.encoder == "larger-general":
        points += {"precision": 3.0, "recall": -3.0}.get(measure, 0.0)
        if cell.grid == "bioasq" and cell.route == "direct":
            points += 4.0
    if cell.encoder == "micro-bio" and cell.grid == "bioasq":
        points -= 2 * VOCABULARY
    if cell.grid == "bioasq-large-batch":
        points += 2.0
    return points


@pytest.fixture(scope="module")
def study(tmp_path_factory, mini) -> Study:
    """The profile `smoke` with all its runs done by `score`, and its vocabularies learned."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("params", "notebooks"):
        (folder / name).mkdir()
    shutil.copy(ROOT / "params" / "smoke.yaml", folder / "params")
    (folder / "outputs").mkdir()
    (folder / "outputs" / "miniature").symlink_to(mini)
    made = load(folder / "params" / "smoke.yaml")
    prepare.prepare_corpus(made, "pubmed")
    for name in made.vocabularies:
        prepare.prepare_vocabulary(made, name)
    for job in made.jobs():
        for cell in made.cells(job):
            for seed in made.seeds_of(job.grid):
                write_run(made, cell, seed)
    return made


def write_run(study: Study, cell, seed: int) -> None:
    keys = ("precision", "recall", "f1", "exact", "strict_accuracy", "lenient_accuracy", "mean_reciprocal_rank")
    kind = study.benchmarks[cell.benchmark].format
    keys = keys[:3] if study.benchmarks[cell.benchmark].task != "qa" else keys[2:4] if kind == "squad" else keys[4:]
    folder = study.run_directory("finetune", cell.run(seed))
    folder.mkdir(parents=True)
    metrics = {
        "cell": cell.record(),
        "seed": seed,
        "point": {"learning_rate": 0.003, "num_fc_layers": 1, "fc_hidden": 16},
        "test": {key: score(cell, seed, key) / 100 for key in keys},
        "devel": {"f1": 0.5},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture(scope="module")
def found(study):
    return {one.claim.number: one for one in findings.findings(study)}


def effect(finding, index: int = 0) -> float:
    return finding.claim.parts[index].difference.mean


def test_every_claim_has_a_row_in_the_papers_order(found, study):
    assert list(found) == [f"C{number}" for number in range(1, 13)]
    table = findings.table(list(found.values()))
    assert {"claim", "section", "evidence", "effect", "ci_low", "ci_high", "verdict"} <= set(table.columns)
    assert set(table["verdict"]) <= {"supported", "contradicted", "inconclusive"}
    assert table["published"].notna().all()
    shown = table[table["effect"].notna()]
    assert shown["link"].str.fullmatch(r"\w+\.html#\w+").all()
    assert table[table["effect"].isna()]["link"].isna().all()


def test_the_vocabulary_is_compared_with_another_and_with_a_larger_model(found):
    one = found["C1"]
    assert one.verdict == "supported"
    assert effect(one) == pytest.approx(VOCABULARY, abs=0.3)
    assert effect(one, 1) == pytest.approx(VOCABULARY - SIZE, abs=0.5)
    assert "1.0 x" not in one.claim.parts[1].name


def test_rates_are_those_of_table_3(found, study):
    from biomeg_lib.report import tables

    rates = tables.break_out(study).query("Benchmark in ('chem', 'disease')")
    means = rates.groupby("Sub-word vocabulary")["Rate"].mean()
    assert effect(found["C2"]) == pytest.approx(means["general-cased"] - means["bio-500"])
    assert effect(found["C2"], 1) == pytest.approx(means["bio-500"] - means["bio-1k"])
    for part in found["C2"].claim.parts:
        assert part.difference.low <= part.difference.mean <= part.difference.high


def test_labelling_and_relations(found):
    assert found["C3"].verdict == "supported"
    assert effect(found["C3"]) == pytest.approx(-LABELLING, abs=0.3)
    assert found["C4"].verdict == "supported"
    assert effect(found["C4"]) == pytest.approx(VOCABULARY, abs=0.3)


def test_size_precision_and_recall(found):
    precision, recall = (part.difference.mean for part in found["C5"].claim.parts)
    assert precision == pytest.approx(SIZE + 3, abs=0.4)
    assert recall == pytest.approx(SIZE - 3, abs=0.4)
    assert found["C5"].verdict == "supported"


def test_questions(found):
    assert effect(found["C6"]) == pytest.approx(SIZE, abs=0.4)
    assert effect(found["C6"], 1) == pytest.approx(-VOCABULARY, abs=0.4)
    assert found["C6"].verdict == "supported"
    assert effect(found["C7"]) == pytest.approx(4.0, abs=0.6)
    assert effect(found["C12"]) == pytest.approx(2.0, abs=0.4)


def test_transfer(found):
    assert effect(found["C8"]) == pytest.approx(STEPS, abs=0.3)
    assert effect(found["C8"], 1) == pytest.approx(0.0, abs=0.3)
    assert found["C8"].verdict == "supported"
    assert found["C9"].verdict == "inconclusive"
    assert "no runs that test it" in found["C9"].evidence
    assert effect(found["C10"]) == pytest.approx(SIZE + STEPS, abs=0.4)


def test_imbalance_takes_the_remedy_that_gains_most(found):
    one = found["C11"]
    assert [part.name.split()[0] for part in one.claim.parts] == ["weighted", "oversampled"]
    assert one.record()["effect"] == pytest.approx(REMEDIES["oversampled"], abs=0.3)
    assert one.evidence.startswith("Counted: bias of the biomedical training set")


def test_pairs_are_found_by_what_they_are(study):
    assert pairs.vocabulary_pairs(study) == [("micro-bio", "micro-general")]
    assert pairs.size_pairs(study) == [("larger-general", "micro-general")]
    assert pairs.standing_for(study, "BERTLARGE") == ["micro-world"]
    assert pairs.benchmarks_for(study, "BC5CDR-chem", "SQuAD-v1.1") == ["chem", "squad"]


def test_runs_pair_over_grids_of_one_recipe_and_never_over_two(study):
    runs = Evidence(study).ner
    across = pairs.strata(runs, "encoder", "micro-world-500", "micro-general", "F1")  # grids transfer and full
    assert [len(values) for values in across] == [3]
    other = runs.assign(conditions=runs["conditions"].where(runs["grid"] != "transfer", "another recipe"))
    assert pairs.strata(other, "encoder", "micro-world-500", "micro-general", "F1") == []
    assert pairs.strata(other, "encoder", "micro-world-500", "micro-general", "F1", ("conditions",)) == across


def test_a_profile_without_questions_or_relations_is_judged(study):
    bare = study.model_copy(update={"qa": {}, "classification": {}})
    verdicts = {one.claim.number: one for one in findings.findings(bare)}
    assert verdicts["C1"].verdict == "supported"
    for number in ("C4", "C6", "C7", "C9", "C10", "C12"):
        assert (verdicts[number].verdict, verdicts[number].claim.parts) == ("inconclusive", [])


def test_the_first_screen(found):
    all_of_them = list(found.values())
    shown = overview.as_shown(findings.table(all_of_them))
    assert len(shown) == 12
    assert "(" in shown["effect here (95 % interval)"].iloc[0]
    assert overview.in_short(all_of_them).startswith("Of 12 claims of the paper")
    words = overview.in_words(all_of_them)
    assert words.count("<li>") == 12
    (axes,) = overview.forest(all_of_them).axes
    points = [part for one in all_of_them for part in one.claim.parts if part.unit == "points"]
    assert len(axes.get_yticklabels()) == len(points)
    assert overview.forest(judge([]))  # a profile that tests nothing still has a figure


def test_text_of_a_claim_is_escaped(found):
    one = found["C1"]
    one.claim.remarks, before = "", one.claim.statement
    try:
        one.claim.statement = "<script>"
        assert "<script>" not in overview.in_words([one])
    finally:
        one.claim.statement = before


def test_frames_without_rows():
    assert pairs.strata(pd.DataFrame(), "encoder", "a", "b", "F1") == []
    assert pairs.usual(pd.DataFrame()).empty
