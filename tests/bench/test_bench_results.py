"""bench.csv: what replaces what, what is refused, and what the page makes of it."""

import dataclasses

import pandas as pd
import pytest

from biomeg_lib.bench import results, show
from biomeg_lib.bench.cases import CASES, PLANS
from biomeg_lib.bench.results import Point, Row
from biomeg_lib.bench.targets import TARGETS, Target
from biomeg_lib.errors import InputError

ROW = Row("predict", "sentences/s", 400.0, 100.0, "a pipeline", 4.0, 3.5, 4.5, 7, "2 x CPU", "2026-01-02")
BARE = dataclasses.replace(ROW, ours=None, peer=None, ratio_median=None, ratio_min=None, ratio_max=None, runs=0)


@pytest.fixture
def path(tmp_path, monkeypatch):
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path / "outputs" / "bench" / "bench.csv"


def test_the_file_has_exactly_the_columns_and_empty_cells_for_no_number(path):
    results.add_rows(path, [ROW, dataclasses.replace(BARE, case="gpu-step-345m")])
    head, first, second = path.read_text().splitlines()
    assert head == "case,unit,ours,peer,peer_name,ratio_median,ratio_min,ratio_max,runs,hardware,date"
    assert first == "predict,sentences/s,400,100,a pipeline,4,3.5,4.5,7,2 x CPU,2026-01-02"
    assert second == "gpu-step-345m,sentences/s,,,a pipeline,,,,0,2 x CPU,2026-01-02"


def test_a_new_measurement_replaces_that_of_its_case_and_machine_alone(path):
    other = dataclasses.replace(ROW, hardware="1 x GPU", ours=900.0)
    results.add_rows(path, [ROW, other, dataclasses.replace(ROW, case="tokenise")])
    results.add_rows(path, [dataclasses.replace(ROW, ours=500.0, ratio_median=5.0)])
    frame = results.read(path)
    found = {(row.case, row.hardware): row.ours for row in frame.itertuples()}
    assert found == {("predict", "2 x CPU"): 500, ("predict", "1 x GPU"): 900, ("tokenise", "2 x CPU"): 400}


def test_what_could_not_be_measured_never_replaces_a_measurement(path):
    results.add_rows(path, [ROW])
    results.add_rows(path, [BARE])
    assert results.read(path)["ours"].tolist() == [400.0]
    results.add_rows(path, [dataclasses.replace(BARE, case="tokenise")])
    results.add_rows(path, [dataclasses.replace(ROW, case="tokenise")])
    assert results.read(path)["ours"].tolist() == [400.0, 400.0]


def test_a_curve_is_replaced_whole(path):
    points = [Point("vocabulary", x, "pieces", 1e6 / x, "tokens/s", "2 x CPU", "2026-01-02") for x in (8000, 16000)]
    results.add_points(path, points)
    results.add_points(path, points[:1])
    assert results.read(path, results.CURVE_COLUMNS)["x"].tolist() == [8000]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("case,ours\na,1\n", "expected the columns case, unit"),
        (f"{','.join(results.COLUMNS)}\na,b,fast,1,c,1,1,1,1,d,e\n", ":2: expected a number as ours, found 'fast'"),
        ("", "expected results as `make bench` writes them"),
    ],
)
def test_another_file_is_refused(path, text, says):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match=r"bench\.csv") as raised:
        results.read(path)
    assert says in str(raised.value)


def test_every_case_has_a_target_and_a_case_of_the_contract_is_there():
    assert set(TARGETS) == set(CASES)
    assert len(CASES) == len(set(CASES)) == sum(len(plan.cases) for plan in PLANS)
    contract = (
        "pretrain-mini pretrain-768 peak-share-mini peak-share-768 memory-mini finetune-pad128 finetune-dynamic "
        "predict pmc-read tokenise input-wait ranks"
    )
    assert set(contract.split()) == {name for name in CASES if not name.startswith("gpu-")}


def test_a_target_is_met_from_the_right_side():
    assert Target(4.0).met(4.0)
    assert not Target(4.0).met(3.99)
    assert Target(0.4, at_least=False).met(0.4)
    assert not Target(0.4, at_least=False).met(0.41)


def test_the_page_says_met_missed_and_not_measured(path):
    missed = dataclasses.replace(ROW, case="memory-mini", ours=50.0, ratio_median=0.5, ratio_min=0.45, ratio_max=0.55)
    results.add_rows(path, [dataclasses.replace(BARE, case="gpu-step-345m"), missed, ROW])
    read = show.read("bench")
    shown = show.shown(read.cases).set_index("case")
    assert shown["verdict"].to_dict() == {"memory-mini": "missed", "predict": "met", "gpu-step-345m": "not measured"}
    assert shown.loc["memory-mini", "at least"] == "\N{LESS-THAN OR EQUAL TO} 0.4"
    assert shown.loc["gpu-step-345m", "ours"] == ""
    assert read.machines == ["2 x CPU"]
    assert "gpu-step-345m" in read.unmeasured
    assert "predict" not in read.unmeasured
    assert "<b>" not in read.table("2 x CPU").data


def test_records_of_other_machines_stand_beside_and_never_hide_what_is_newer(path, tmp_path):
    records = tmp_path / "docs" / "results" / "bench"
    old = dataclasses.replace(ROW, ours=1.0, date="2025-01-01")
    gpu = dataclasses.replace(ROW, case="gpu-step-345m", hardware="1 x GPU")
    results.add_rows(records / "2025-01-01.csv", [old, gpu])
    point = Point("vocabulary", 8000, "pieces", 5.0, "tokens/s", "1 x GPU", "2025-01-01")
    results.add_points(records / "2025-01-01-curves.csv", [point])
    results.add_rows(path, [ROW, dataclasses.replace(BARE, case="gpu-step-345m")])
    read = show.read("bench")
    assert read.machines == ["2 x CPU", "1 x GPU"]
    predict = read.cases[(read.cases["case"] == "predict")]
    assert predict["ours"].tolist() == [400.0]
    assert "gpu-step-345m" not in read.unmeasured
    assert "<img" in read.margins().data
    assert "<img" in read.curve("vocabulary", "tokens/s", "By vocabulary.").data
    assert "not measured" in read.curve("model size", "tokens/s", "By size.").data


def test_without_any_results_nothing_is_measured(path):
    read = show.read("bench")
    assert read.machines == []
    assert read.unmeasured == list(CASES)


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (6.1234, "6.12"), (0.01344, "0.0134"), (0.0, "0"), (99.95, "100.0")]
)
def test_numbers_have_three_digits(value, text):
    assert show.number(value) == text


def test_the_margin_of_a_bound_from_above_is_turned_round(path):
    less = dataclasses.replace(ROW, case="memory-mini", ratio_median=0.2, ratio_min=0.1, ratio_max=0.4)
    rows = pd.DataFrame([dataclasses.asdict(less)])
    (axes,) = show.draw_margins(rows).axes
    assert [list(line.get_xdata()) for line in axes.lines[:2]] == [[4.0, 1.0], [2.0]]
