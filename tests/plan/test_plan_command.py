"""`biomeg plan`: every run of a params file, named models, and one line for what is wrong."""

import re
from pathlib import Path

import pytest
import yaml

from biomeg_lib import cli
from biomeg_lib.checkpoints import published
from biomeg_lib.model import PRESETS, config_for, count_parameters
from biomeg_lib.plan.machine import find
from biomeg_lib.plan.runs import fine_tuning, pretraining, published_shape
from biomeg_lib.plan.timing import UTILISATION
from biomeg_lib.study import load

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted((ROOT / "params").glob("*.yaml"))


def lines(capsys, *arguments: str) -> list[str]:
    assert cli.main(["plan", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def refused(capsys, *arguments: str) -> str:
    assert cli.main(["plan", *arguments]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    return err.removeprefix("biomeg: ").rstrip()


def rows(found: list[str], head: str) -> dict[str, list[str]]:
    """The lines of a table by their first cell."""
    start = next(place for place, line in enumerate(found) if line.startswith(head))
    table = found[start + 1 :]
    end = next((place for place, line in enumerate(table) if not line), len(table))
    return {cells[0]: cells for cells in (re.split(r"  +", line) for line in table[:end])}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_run_of_a_profile_is_listed(capsys, path):
    study, found = load(path), lines(capsys, str(path))
    assert list(rows(found, "pre-training")) == list(study.pretraining)
    grids = rows(found, "fine-tuning")
    assert list(grids) == list(study.grids)
    runs = {name: sum(len(study.runs(job)) for job in study.jobs() if job.grid == name) for name in study.grids}
    assert {name: int(cells[1]) for name, cells in grids.items()} == runs
    cells = rows(found, "pre-training").values()
    assert all(len(row) == 16 or row[-1] == "taken as it is" for row in cells)


def test_the_paper_with_memory_and_time(capsys):
    found = lines(capsys, str(ROOT / "params" / "paper.yaml"), "--gpus", "16")
    assert "on 16 x h100, 8 a node, bf16: 80 GB" in found[1]
    runs = rows(found, "pre-training")
    cells = runs["1_2b-ft"]
    assert cells[1] == f"{count_parameters(config_for('1.2b', 30_592)):,}"
    assert cells[2] == "8,192,000,000"
    *parts, total = map(float, cells[7:14])
    assert sum(parts) == pytest.approx(total, abs=0.04)
    assert 0.08 * 16 * 1.28 < total < 80  # sharded weights, gradients and moments at least
    hours, unit = cells[14].split()
    assert unit == "h"
    assert float(cells[15]) == pytest.approx(16 * float(hours), rel=0.01)
    # Table 5: as many steps, as long
    assert float(runs["1_2b-1e5"][15]) == pytest.approx(float(cells[15]) / 5, rel=0.01)
    whole = re.search(r"The runs that train and fit, (\d+), take ([\d,.]+) GPU-hours in all", "\n".join(found))
    trained = [cells for cells in runs.values() if cells[-1] != "taken as it is"]
    assert int(whole[1]) == len(trained) == 17
    assert float(whole[2]) == pytest.approx(sum(float(cells[-1]) for cells in trained), rel=0.01)


def test_runs_that_say_how_they_are_spread_are_planned_so(capsys):
    path = ROOT / "params" / "paper.yaml"
    found, study = lines(capsys, str(path)), load(path)
    runs = rows(found, "pre-training")
    for name, spec in study.pretraining.items():
        if spec.steps:
            assert runs[name][4:6] == [
                f"{spec.parallel.data} x {spec.parallel.tensor}",
                f"{32 // spec.parallel.data} x 1",
            ]
    assert {row[4] for row in runs.values() if len(row) == 16} == {"8 x 1", "8 x 2"}
    assert "Runs with `parallel` are spread as that says, over as many GPUs." in found


def test_what_does_not_fit_says_what_it_needs(capsys):
    found = lines(capsys, str(ROOT / "params" / "paper.yaml"), "--machine", "v100", "--gpus", "1", "--memory", "16")
    runs = rows(found, "pre-training")
    assert re.fullmatch(r"it needs GPUs of at least 2\d\.\d GB, found 16 GB", runs["1_2b-ft"][-1])
    assert len(runs["345m-cased"]) == 16
    found = lines(capsys, str(ROOT / "params" / "paper.yaml"), "--gpus", "7")
    assert rows(found, "pre-training")["345m-cased"][-1].startswith(
        "7 GPUs are no data x tensor mesh for batches of 32"
    )


@pytest.mark.parametrize("name", PRESETS)
def test_every_named_model(capsys, name):
    found = lines(capsys, name, "--gpus", "64")
    assert found[0].startswith(f"{name}: {count_parameters(config_for(name, 30_592)):,} parameters")
    assert rows(found, "data  tensor")
    assert re.search(r"GB|MB a GPU \(weights .*, optimiser .*, activations .*\)", found[-2])


def test_a_model_that_fits_nowhere(capsys):
    found = lines(capsys, "8.3b", "--gpus", "1")
    need = re.search(r"None of 22 spreads fits: it needs GPUs of at least ([\d.]+) GB, found 80 GB", "\n".join(found))
    assert float(need[1]) > 16 * 8.27 / 0.9
    assert any("76 spreads fit; the 8 fastest:" in line for line in lines(capsys, "8.3b", "--gpus", "8"))


def test_a_machine_and_a_run_of_ones_own(capsys):
    arguments = ("--machine", "a100", "--gpus", "2", "--memory", "40", "--peak", "100", "--bandwidth", "30,2")
    sizes = ("--tokens", "1024000", "--batch", "8", "--length", "128", "--utilisation", "0.5")
    found = lines(capsys, "110m", *arguments, *sizes)
    assert "1,024,000 tokens in 1,000 steps of 8 x 128" in found[0]
    assert "on 2 x a100, 8 a node, bf16: 40 GB (10% kept free), 100 TFLOP/s of which products reach 50%" in found[1]
    assert "30 GB/s in a node, 2 between nodes" in found[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["345k"], "plan: expected a params file or a model, found '345k'; did you mean '345m'?"),
        (["absent.yaml"], "absent.yaml: expected a params file, found none"),
        (["345m", "--machine", "h200"], "plan: no machine is called 'h200'; did you mean 'h100'?"),
        (["345m", "--gpus", "0"], "plan: gpus must be a number above 0, found 0"),
        (["345m", "--gpus", "7"], "plan: 7 GPUs are no data x tensor mesh"),
        (["345m", "--memory", "-1"], "plan: memory must be a number above 0"),
        (["345m", "--peak", "nan"], "plan: peak must be a number above 0, found nan"),
        (["345m", "--bandwidth", "fast"], "plan: bandwidth must be GB/s within a node[,between nodes], found 'fast'"),
        (["345m", "--bandwidth", "1,2,3"], "plan: bandwidth must be GB/s"),
        (["345m", "--utilisation", "1.5"], "plan: utilisation must be above 0 and at most 1, found 1.5"),
        (["345m", "--tokens", "0"], "plan: tokens must be a whole number above 0, found 0"),
        (["345m", "--tokens", "100"], "plan: tokens must be enough for one step"),
        (["345m", "--length", "1024"], "plan: length must be at most the model's 512 positions, found 1024"),
        ([str(ROOT / "params" / "paper.yaml"), "--batch", "8"], "plan: tokens, batch and length are for a model"),
        ([str(ROOT / "params" / "paper.yaml"), "--utilisation", "0"], "plan: utilisation must be above 0"),
    ],
)
def test_every_mistake_is_one_line(capsys, arguments, says):
    assert refused(capsys, *arguments).startswith(says)


def test_the_default_of_the_command_is_the_planners(capsys):
    assert f"of which products reach {UTILISATION:.0%}" in lines(capsys, "tiny")[1]


@pytest.mark.parametrize("checkpoint", [row for row in published.rows() if row.size], ids=lambda row: row.name)
def test_the_shape_of_a_published_checkpoint_has_its_size(checkpoint):
    number, unit = checkpoint.size.split()
    bytes_ = float(number) * {"MB": 1e6, "GB": 1e9}[unit]
    # fp32 weights, a few heads more or less
    assert 4 * count_parameters(published_shape(checkpoint.name)) == pytest.approx(bytes_, rel=0.06)


def own(tmp_path: Path, **values) -> Path:
    (tmp_path / "params").mkdir()
    params = {
        **{"profile": "own", "title": "Own", "description": "For tests.", "seeds": [1]},
        "corpora": {"a": {"format": "text", "files": ["data/a.txt"]}},
        "vocabularies": {"v": {"kind": "wordpiece", "file": "data/vocab.txt", "lowercase": False}},
        **values,
    }
    path = tmp_path / "params" / "own.yaml"
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return path


def test_shapes_that_only_files_tell(tmp_path, capsys):
    run = {"init_from": "data/checkpoint", "vocabulary": "v", "corpus": "a", "tokens": 10**6, "length": 64}
    scratch = {**run, "model": "tiny", "init_from": None}
    ner = {"g": {"benchmarks": ["b"], "encoders": ["far"]}}
    path = own(tmp_path, pretraining={"far": run, "near": scratch}, benchmarks={"b": {"train": "data/x"}}, ner=ner)
    found = lines(capsys, str(path))
    assert rows(found, "pre-training")["far"][-1].endswith("its shape is known once data/checkpoint is here")
    assert rows(found, "fine-tuning")["g"][-1].endswith("no shape is known before its checkpoints are here")
    machine = find("h100")
    before = pretraining(load(path), machine, 0.35)[1]
    assert before.parameters == count_parameters(config_for("tiny", 30_592))
    assert fine_tuning(load(path), machine)[0].encoder is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vocab.txt").write_text("".join(f"w{number}\n" for number in range(200)))
    assert pretraining(load(path), machine, 0.35)[1].parameters == count_parameters(config_for("tiny", 256))
