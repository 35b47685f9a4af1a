"""Question answering as an arm: figures, test items, thresholds, routes, and that it learns."""

import json
import math
from collections import Counter

import pytest
import torch
from arm_cases import FACTOID, GRIDS, SEARCH, arm_of, cell_of, check_run, make_project, read_items, trained_run
from safetensors.torch import load_file

from biomeg_lib.benchmarks.questions import Answer, Question
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.metrics.squad import squad_scores
from biomeg_lib.predict import load_run
from biomeg_lib.study import Study
from biomeg_lib.tasks.jobs import load_benchmark, run_job
from biomeg_lib.tasks.question_arm import no_answer_score
from biomeg_lib.tasks.spans import Prediction, Span, best_answer


@pytest.fixture(scope="module")
def study(nano: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_project(nano, tmp_path_factory.mktemp("arms") / "project")


@pytest.fixture(scope="module")
def own(study):
    return trained_run(study, "own.own.nano-bio.random.direct")


@pytest.fixture(scope="module")
def open_questions(study):
    return trained_run(study, "open.open.nano-bio.random.direct")


@pytest.fixture(scope="module")
def routes(study):
    """The metrics of the four runs of the grid `then`, which trains those of `first`."""
    return run_job(study, study.job("then.asq.nano-bio"))


def test_a_run_of_questions_and_that_they_are_learnt(study, own):
    metrics, items = own
    check_run(study, metrics, {"questions", "windows", "threshold"})
    questions = load_benchmark(study, "own").splits["test"]
    assert metrics["questions"] == len(questions) <= metrics["windows"]
    assert metrics["threshold"] is None
    assert metrics["devel"].keys() == metrics["test"].keys() == {"exact", "f1", "optimum"}
    assert metrics["devel"] == metrics["test"]  # the same questions
    assert items.columns.tolist() == ["id", "exact", "f1"]
    assert items["id"].tolist() == [question.id for question in questions]
    for name in ("exact", "f1"):
        assert metrics["test"][name] == sum(items[name].tolist()) / len(questions)
    assert metrics["test"]["f1"] == metrics["test"]["optimum"] > 0.8


def test_a_run_of_questions_some_of_which_have_no_answer(study, open_questions):
    metrics, items = open_questions
    check_run(study, metrics, {"questions", "windows", "threshold"})
    data = load_benchmark(study, "open")
    assert data.version == "2.0"
    assert metrics["test"].keys() == {"exact", "f1", "optimum", "answerable", "unanswerable"}
    parts = [metrics["test"][name] for name in ("answerable", "unanswerable")]
    totals = Counter(question.impossible for question in data.splits["test"])
    assert [part["total"] for part in parts] == [totals[False], totals[True]]
    for name in ("exact", "f1"):
        assert metrics["test"][name] == sum(items[name].tolist()) / len(items)
        assert metrics["test"][name] * len(items) == pytest.approx(sum(part[name] * part["total"] for part in parts))


def test_the_threshold_is_the_best_on_development_and_is_used_on_test(study, open_questions):
    metrics, _ = open_questions
    data = load_benchmark(study, "open")
    run = load_run(study.run_directory("finetune", "open.open.nano-bio.random.direct.seed1"))

    def f1(split, answers):
        gold = {question.id: [answer.text for answer in question.answers] for question in data.splits[split]}
        return squad_scores(gold, dict(zip(gold, answers, strict=True)), "2.0").f1

    predictions = run.spans(data.splits["devel"])
    tried = [-math.inf, *map(no_answer_score, predictions)]
    reached = [f1("devel", [best_answer(prediction, t) for prediction in predictions]) for t in tried]
    chosen = f1("devel", [best_answer(prediction, metrics["threshold"]) for prediction in predictions])
    assert chosen == pytest.approx(max(reached)) == pytest.approx(metrics["devel"]["optimum"])
    assert metrics["test"]["f1"] == f1("test", run.answers(data.splits["test"]))
    assert metrics["test"]["optimum"] == metrics["test"]["f1"]


@pytest.mark.parametrize(
    ("scores", "answerable", "withheld"),
    [
        ([0.0, 1.0, 2.0, 3.0], [True, True, False, False], [False, False, True, True]),
        ([-9.0, -8.0, -7.0, -6.0], [True, False, False, False], [False, True, True, True]),
        ([3.0, 4.0, 5.0, 6.0], [False, False, False, True], [True] * 4),  # answering nothing is best, 3 of 4
        ([-3.0, -4.0, 5.0, 6.0], [True] * 4, [False] * 4),
        ([-3.0, -2.0, -1.0, 0.0], [False] * 4, [True] * 4),
    ],
)
def test_the_threshold_of_known_predictions(study, monkeypatch, scores, answerable, withheld):
    """No answer less the best one is `scores`; every answer that there is has been found."""
    arm = arm_of(study, "open.open.nano-bio.random.direct")
    answers = (Answer("Pell Park", 0),)
    questions = [
        Question(f"q{number}", "Where?", "Pell Park was full.", answers if there else (), not there)
        for number, there in enumerate(answerable)
    ]
    predictions = [Prediction((Span("Pell Park", 0, 9, 10.0),), 10.0 + score) for score in scores]
    arm.data.splits["devel"] = questions
    monkeypatch.setattr(arm, "predict", lambda model, split: predictions)
    before = arm.figures("devel", predictions)["optimum"]
    arm.calibrate(arm.model)
    assert [best_answer(prediction, arm.threshold) == "" for prediction in predictions] == withheld
    after = arm.figures("devel", predictions)
    assert after["optimum"] == after["f1"] == before == 1 - 0.25 * (withheld == [True] * 4 and any(answerable))


def test_runs_of_factoid_questions(study, routes):
    data = load_benchmark(study, "asq")
    for metrics in routes[::2]:
        check_run(study, metrics, {"questions", "windows", "threshold"})
        assert metrics["devel"].keys() == metrics["test"].keys() == {*FACTOID, "optimum"}
        name = cell_of(study, f"then.asq.nano-bio.random.{metrics['cell']['route']}").run(1)
        items = read_items(study.run_directory("finetune", name))
        assert items.columns.tolist() == ["id", *FACTOID]
        assert items["id"].tolist() == list(data.factoids["test"])
        for figure in FACTOID:
            assert metrics["test"][figure] == sum(items[figure].tolist()) / len(items)
        assert metrics["test"]["optimum"] == metrics["test"]["mean_reciprocal_rank"]
        trained_on = [question for question in data.splits["train"] if question.answers]
        assert metrics["questions"] == len(trained_on) < len(data.splits["train"])
    asked = {question.id.rpartition("_")[0] for question in data.splits["test"]}
    assert asked == set(data.factoids["test"])
    assert [len(data.factoids[split]) for split in ("train", "devel", "test")] == [11, 1, 12]


def test_a_route_starts_from_the_weights_of_the_earlier_run_with_the_same_seed(study, routes):
    assert [(metrics["cell"]["route"], metrics["seed"]) for metrics in routes] == [
        *[("direct", 1), ("direct", 2)],
        *[("first", 1), ("first", 2)],
    ]
    for seed in (1, 2):
        folder = study.run_directory("finetune", f"first.own.nano-bio.random.direct.seed{seed}")
        earlier = load_file(folder / "model.safetensors")
        weights = arm_of(study, "then.asq.nano-bio.random.first", seed).model.state_dict()
        assert weights.keys() == earlier.keys()
        assert all(torch.equal(weights[name], earlier[name]) for name in weights)
        direct = arm_of(study, "then.asq.nano-bio.random.direct", seed).model.state_dict()
        assert not any(torch.equal(direct[name], earlier[name]) for name in direct if direct[name].dim() > 1)


def test_a_route_needs_the_same_head(nano, study, routes, tmp_path):
    other = make_project(
        nano, tmp_path / "project", qa={"then": {**GRIDS["qa"]["then"], "search": {**SEARCH, "num_fc_layers": [2]}}}
    )
    (other.outputs / "runs").symlink_to(study.outputs / "runs")
    with pytest.raises(BiomegError, match="expected a head like that of then: search one head in both") as caught:
        arm_of(other, "then.asq.nano-bio.random.first")
    assert "\n" not in str(caught.value)
    assert arm_of(other, "then.asq.nano-bio.random.direct").model.classifier.layers[1].weight.shape == (2, 16)


def test_a_route_to_a_run_whose_weights_were_not_kept(nano, study, tmp_path):
    """As of a later seed that was trained before the params file had the route."""
    other = make_project(nano, tmp_path / "project")
    folder = other.run_directory("finetune", "first.own.nano-bio.random.direct.seed2")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(BiomegError, match=r"seed2: expected a run with its weights, found none; delete the folder to"):
        arm_of(other, "then.asq.nano-bio.random.first", seed=2)
    with pytest.raises(BiomegError, match=r"seed1/model\.json: expected this file, found none; run what makes it"):
        arm_of(other, "then.asq.nano-bio.random.first", seed=1)


def test_the_same_run_again_is_the_same(nano, open_questions, tmp_path):
    again, items = trained_run(make_project(nano, tmp_path / "project"), "open.open.nano-bio.random.direct")
    assert {**again, "seconds": 0} == {**open_questions[0], "seconds": 0}
    assert items.equals(open_questions[1])


def test_factoid_questions_without_an_answer_are_not_scored_as_wrong(nano, tmp_path):
    study = make_project(nano, tmp_path / "project")
    path = study.root / "data" / "asq-test.json"
    bioasq = json.loads(path.read_text())
    for question in bioasq["questions"]:
        question.pop("exact_answer", None)
    path.write_text(json.dumps(bioasq))
    with pytest.raises(
        InputError, match=r"asq-test\.json: expected factoid questions with an exact answer, found none"
    ):
        load_benchmark(study, "asq")
