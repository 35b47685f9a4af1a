"""The chapter's plans: every size on every number of GPUs, by the audit's own arithmetic; and what is drawn of them."""

import audit_counts
import pytest
from audit_ledger import read_csv, same

from biomeg_lib.model import PRESETS
from biomeg_lib.report import scaling_plan, tables


@pytest.fixture(scope="module")
def frame():
    return scaling_plan.table()


def test_every_size_on_1_to_1024_gpus(frame):
    assert list(dict.fromkeys(frame["Model"])) == list(PRESETS)
    assert list(frame["GPUs"]) == [2**power for power in range(11)] * len(PRESETS)
    rows = frame.set_index(["Model", "GPUs"])
    assert (rows.loc["345m"]["Fits"] == "yes").all()
    assert rows.loc["8.3b"]["Fits"].tolist() == ["no"] + ["yes"] * 10
    assert frame["Hours"].isna().equals(frame["Fits"] == "no")
    for name in PRESETS:
        assert rows.loc[name]["Least GB a GPU"].is_monotonic_decreasing
        # what more GPUs spend on waiting for each other
        assert rows.loc[name]["GPU-hours"].dropna().iloc[-1] > rows.loc[name]["GPU-hours"].dropna().iloc[2]


def test_the_audit_explains_every_number(frame, tmp_path):
    tables.save(frame, tmp_path / "scaling_plan.csv")
    for row in read_csv(tmp_path / "scaling_plan.csv").to_dict("records"):
        expected = audit_counts.planned(None, row)
        assert {key for key in row if not isinstance(row[key], str)} <= expected.keys()
        assert {key: row[key] for key in expected if not same(row[key], expected[key])} == {}


def test_another_spread_or_time_is_noticed(frame):
    row = frame[(frame["Model"] == "345m") & (frame["GPUs"] == 64)].iloc[0].to_dict()
    for column, value in (("Micro-batch", 2), ("Tensor", 2), ("Recompute", "yes"), ("Hours", 1.0), ("GPUs", 32)):
        changed = {**row, column: value}
        expected = audit_counts.planned(None, changed)
        assert any(not same(changed[key], expected[key]) for key in expected), column


def test_lines_and_the_limit_are_drawn(frame):
    time, memory = scaling_plan.time_figure(frame).axes[0], scaling_plan.memory_figure(frame).axes[0]
    assert time.get_xscale() == time.get_yscale() == memory.get_yscale() == "log"
    assert [len(line.get_xdata()) for line in time.lines] == [11] * 8 + [10]
    assert memory.lines[-1].get_ydata()[0] == 72


def test_a_page_shows_some_rows_of_the_table(frame):
    shown = scaling_plan.shown(frame)
    assert len(shown) == 3 * len(PRESETS)
    assert set(shown.columns) < set(frame.columns)
