"""The page of runs: time and energy by hand, all text escaped, anchors for all, and small for hundreds of runs."""

import json
from urllib.parse import unquote

import lxml.html
import pytest

from biomeg_lib.errors import InputError
from biomeg_lib.files import write_json
from biomeg_lib.report import html as pages
from biomeg_lib.report.runs_page import read_runs, run_href, runs_page

CPU = {"hardware": "2 x Some CPU", "threads": 2, "commit": "88c5b003aab5+", "date": "2026-11-26T11:29:31+00:00"}
ENCODER = {"vocabulary": "bio-8k", "corpus": {"files": ["pmc-sample"] * 40}}


def write_run(folder, kind, name, metrics, environment=CPU, params=None, state="complete"):
    path = folder / kind / name
    path.mkdir(parents=True)
    write_json(path / "params.json", params or {"seed": 1, "encoder": ENCODER})
    write_json(path / "environment.json", {"packages": {"torch": "2.13.0"}, **environment})
    if metrics is not None:
        write_json(path / "metrics.json", metrics)
    (path / "state").write_text(f"{state}\n")
    return path


def parsed(folder, stems=()):
    return lxml.html.fragment_fromstring(runs_page(folder, stems), create_parent=True)


def texts(element, path):
    return [" ".join(found.text_content().split()) for found in element.xpath(path)]


def rows(page, figure):
    cells = page.xpath(f"//figure[@id='{figure}']//tbody/tr")
    return [[cell.text_content() for cell in row] for row in cells]


def test_one_row_a_run_with_its_main_score(tmp_path):
    write_run(tmp_path, "pretrain", "tiny", {"seconds": 10, "tokens": 5_000_000, "heldout_mlm": 4.9})
    write_run(tmp_path, "search", "g.b.tiny.point1", {"seconds": 1.5, "devel_f1": 0.5})
    write_run(tmp_path, "finetune", "g.b.tiny.seed2", {"seconds": 3, "tokens": 7, "test": {"f1": 0.25, "exact": 0.1}})
    scores = {"strict_accuracy": 0.2, "mean_reciprocal_rank": 0.375, "f1": 0.9}
    write_run(tmp_path, "finetune", "g.b.tiny.seed1", {"seconds": 3, "tokens": 7, "test": scores})
    when = ["2026-11-26 11:29", "88c5b00+"]
    assert rows(parsed(tmp_path), "runs") == [
        ["pretrain", "tiny", "4.9", "loss, nats", "10.0", "5,000,000", *when],
        ["search", "g.b.tiny.point1", "50.0", "devel. F1, %", "1.5", "\N{EN DASH}", *when],
        ["finetune", "g.b.tiny.seed1", "37.5", "MRR, %", "3.0", "7", *when],
        ["finetune", "g.b.tiny.seed2", "25.0", "F1, %", "3.0", "7", *when],
    ]


def test_time_and_energy_by_hand(tmp_path):
    card = {"hardware": "1 x NVIDIA H100 80GB HBM3", "threads": 8}
    write_run(tmp_path, "pretrain", "a", {"seconds": 7200})  # 2 h of 2 threads of 5 W: 20 Wh
    write_run(tmp_path, "pretrain", "b", {"seconds": 1800}, card)  # half an hour of 700 W: 350 Wh
    write_run(tmp_path, "finetune", "c", {"seconds": 3600}, {"hardware": "4 x NVIDIA Unheard-of", "threads": 8})
    page = parsed(tmp_path)
    assert rows(page, "totals") == [
        ["pretrain", "2", "2.5", "\N{EN DASH}", "370"],
        ["finetune", "1", "1.0", "\N{EN DASH}", "\N{EN DASH}"],
    ]
    (first, *_) = texts(page, "//p")
    assert "3 training runs took 3.50 hours" in first
    assert "about 370 Wh" in first
    assert "5 W for a core" in first
    assert "1 run on hardware whose power is unknown here (NVIDIA Unheard-of)" in first


def test_unknown_threads_and_hardware_are_not_guessed(tmp_path):
    write_run(tmp_path, "pretrain", "a", {"seconds": 3600}, {"hardware": "2 x Some CPU"})
    write_run(tmp_path, "pretrain", "b", {"seconds": 3600}, {"threads": 1})
    assert [run.watts for run in read_runs(tmp_path)[0]] == [None, 5.0]


def test_every_run_has_an_anchor_params_versions_and_its_page(tmp_path):
    path = write_run(tmp_path, "finetune", "g.b.tiny.random.seed1", {"seconds": 1})
    write_run(tmp_path, "finetune", "g.b.tiny.random.seed2", {"seconds": 1}, params={"seed": 2, "encoder": ENCODER})
    page = parsed(tmp_path, {"finetune.g.b.tiny", "finetune.g.b"})
    href = run_href(path.name)
    assert href == "runs.html#run-g.b.tiny.random.seed1"
    (details,) = page.xpath(f"//details[@id='{unquote(href.split('#')[1])}']")
    (own,) = details.xpath("./pre/text()")
    assert own.splitlines() == ["seed: 1", f'date: "{CPU["date"]}"', f'commit: "{CPU["commit"]}"']
    links = {link.text: link.get("href") for link in details.iter("a")}
    assert list(links) == ["encoder 1", "environment 1", "its page"]
    assert links["its page"] == "finetune.g.b.tiny.html"
    (encoder,), (environment,) = (page.xpath(f"//details[@id='{links[n][1:]}']/pre/text()") for n in list(links)[:2])
    assert json.loads(encoder) == ENCODER
    assert json.loads(environment) == {"packages": {"torch": "2.13.0"}, "hardware": "2 x Some CPU", "threads": 2}
    assert len(page.xpath("//details")) == 2 + 2, "what both runs have is there once"


def test_runs_without_a_result_are_named(tmp_path):
    write_run(tmp_path, "pretrain", "a", None, state="running")
    write_run(tmp_path, "pretrain", "b", {"seconds": 3}, state="failed")
    (tmp_path / "pretrain" / "no-run").mkdir()
    page = parsed(tmp_path)
    expected = "Without a result, and not counted: pretrain a (running), pretrain b (failed)."
    assert texts(page, "//p") == ["No run of this profile is complete yet.", expected]
    assert texts(parsed(tmp_path / "nothing"), "//p") == ["No run of this profile is complete yet."]


def test_all_text_is_escaped(tmp_path):
    bad = "<script>alert(1)</script>\" onclick='x' & &lt; {{ 1 }}"
    name = "a b<img src=x onerror=alert(1)>\"'&"
    environment = {key: bad for key in ("hardware", "commit", "date", bad)}
    params = {bad: bad, "long": bad * 9}
    write_run(tmp_path, "pretrain", name, {"seconds": 1, "tokens": 1}, environment, params)
    page = parsed(tmp_path)
    assert not page.xpath("//script | //img | //@onclick | //@onerror")
    (details,) = page.xpath("//h2[.='One by one']/following-sibling::details[1]")
    assert f"runs.html#{details.get('id')}" == unquote(run_href(name))
    assert unquote(page.xpath("//figure[@id='runs']//td/a/@href")[0]) == f"#{details.get('id')}"
    assert json.dumps(bad) in details.find("pre").text
    assert not lxml.html.fragment_fromstring(pages.sanitise(runs_page(tmp_path)), create_parent=True).xpath("//script")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("metrics.json", "{", "expected JSON"),
        ("metrics.json", "[]", "expected a JSON object, found list"),
        ("metrics.json", "{}", "expected a number of seconds, found None"),
        ("metrics.json", '{"seconds": NaN}', "expected a number of seconds, found nan"),
        ("params.json", "3", "expected a JSON object, found int"),
        ("environment.json", None, "expected this file, found none"),
    ],
)
def test_damaged_runs_are_one_line_with_the_file(tmp_path, file, text, message):
    path = write_run(tmp_path, "pretrain", "a", {"seconds": 1})
    (path / file).unlink()
    if text is not None:
        (path / file).write_text(text)
    with pytest.raises(InputError, match=f"{file}: {message}") as caught:
        runs_page(tmp_path)
    assert "\n" not in str(caught.value)


def test_hundreds_of_runs_make_a_small_page(tmp_path):
    for number in range(300):
        name = f"full.bc5cdr-chem.tiny-bio8k.pretrained.piece.arm{number // 3}.seed{number % 3}"
        cell = {"grid": "full", "benchmark": "bc5cdr-chem", "encoder": "tiny-bio8k", "start": f"arm{number // 3}"}
        params = {"cell": cell, "seed": number % 3, "recipe": {"batch": 32}, "encoder": {**ENCODER, "n": number // 30}}
        metrics = {"seconds": 100 + number, "tokens": 10**6, "test": {"f1": 0.5}}
        write_run(tmp_path / "runs", "finetune", name, metrics, params=params)
    page = {"runs": runs_page(tmp_path / "runs")}
    notebook = tmp_path / "report.ipynb"
    notebook.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    *_, written = pages.render_site([notebook], tmp_path / "report", provenance={}, pages=page)
    assert written.name == "runs.html"
    assert written.stat().st_size < 600_000
    assert written.read_text(encoding="utf-8").count("<details") == 1 + 300 + 10 + 1
