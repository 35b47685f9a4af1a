"""Fine-tuning jobs: for one encoder on one benchmark, all arms and seeds of a grid (paper section 4, Tables 1 and 2).

Hyper-parameters are chosen for each arm on the development set, by short runs with the first seed; then every seed is
trained in full, its epoch chosen on the development set, and the test set is scored once.
"""

from typing import Any

from biomeg_lib.errors import BiomegError
from biomeg_lib.files import atomic_open
from biomeg_lib.grids import Cell, Job
from biomeg_lib.prepare import ensure_vocabulary
from biomeg_lib.study import Study
from biomeg_lib.tasks.arms import Arm
from biomeg_lib.tasks.classification_arm import ClassificationArm, load_classification
from biomeg_lib.tasks.ner_arm import NerArm, load_ner
from biomeg_lib.tasks.question_arm import QuestionArm, load_questions
from biomeg_lib.training.environment import set_up
from biomeg_lib.training.loop import CHECKPOINT_SECONDS, evaluation_mode
from biomeg_lib.training.pretrain import pretrain
from biomeg_lib.training.rundir import RunDirectory

ITEMS = "items.csv"  # in a run's folder: one row a test item, for resampling

TASKS: dict[str, tuple[Any, type[Arm]]] = {
    "ner": (load_ner, NerArm),
    "classification": (load_classification, ClassificationArm),
    "qa": (load_questions, QuestionArm),
}


def load_benchmark(study: Study, name: str) -> Any:
    """A benchmark, read: `splits` of records, and what its task needs besides."""
    benchmark = study.benchmarks[name]
    return TASKS[benchmark.task][0](study, benchmark)


def run_job(study: Study, job: Job) -> list[dict[str, Any]]:
    """Train what is not trained yet of a job; first what it goes on from, and its encoder, where they are not there.

    Returns:
        The metrics.json of its runs, see `train_run`.
    """
    set_up(study.threads, study.kernels)
    for before in study.earlier_jobs(job):
        run_job(study, before)
    data = load_benchmark(study, job.benchmark)
    encoder = study.pretraining[job.encoder]
    ensure_vocabulary(study, encoder.vocabulary)
    if encoder.init_from or any(cell.start == "pretrained" for cell in study.cells(job)):
        pretrain(study, job.encoder)
    results = []
    for cell in study.cells(job):
        point = choose_point(study, cell, data)
        results += [train_run(study, cell, point, seed, data) for seed in study.seeds_of(job.grid)]
    return results


def require(study: Study, *kinds: str) -> None:
    """Refuse to go on while a run is missing: a notebook that reads results must not start hours of training.

    Args:
        kinds: "pretrain" for all pre-training runs, "ner", "classification" or "qa" for all runs of a task.

    Raises:
        BiomegError: how many runs are missing, and the command that trains them; or a pre-training run was made with
            other params.
    """
    there: list[bool] = []
    for kind in kinds:
        if kind == "pretrain":
            for name in study.pretraining:
                run = RunDirectory(study.run_directory("pretrain", name), study.resolved_pretraining(name))
                there.append(run.complete)
        else:
            runs = [name for job in study.jobs(kind) for name in study.runs(job)]
            there += [(study.run_directory("finetune", name) / "metrics.json").is_file() for name in runs]
    if missing := there.count(False):
        raise BiomegError(
            f"{missing} of the {len(there)} training runs that this chapter reads are missing: "
            f"run `make study PROFILE={study.profile}`, then this notebook again"
        )


def make_arm(study: Study, cell: Cell, point: dict[str, Any], seed: int, epochs: int, data: Any) -> Arm:
    """The arm of the cell's task; `data` is what `load_benchmark` gives."""
    return TASKS[study.grids[cell.grid].task][1](study, cell, point, seed, epochs, data)


def choose_point(study: Study, cell: Cell, data: Any) -> dict[str, Any]:
    """The point of the search grid with the best development score, the first of equals. Runs are in `runs/search`."""
    search = study.grids[cell.grid].search
    points = search.points()
    if len(points) == 1:
        return points[0]
    scores = []
    for number, point in enumerate(points):
        seed = study.seeds_of(cell.grid)[0]
        params = study.resolved_finetuning(cell, point, seed, search.epochs)
        run = RunDirectory(study.run_directory("search", f"{cell.name}.point{number + 1}"), params)
        optimum = TASKS[study.grids[cell.grid].task][1].optimum
        if not run.complete:
            with run.start() as wanted:
                if wanted:
                    trained = make_arm(study, cell, point, seed, search.epochs, data).train(run, label=run.path.name)
                    best = {f"devel_{optimum}": trained.chosen[optimum]}
                    run.finish({"point": point, **best, "seconds": trained.seconds})
        scores.append(run.metrics[f"devel_{optimum}"])
    return points[scores.index(max(scores))]


def train_run(
    study: Study,
    cell: Cell,
    point: dict[str, Any],
    seed: int,
    data: Any,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """One arm with one seed. Weights are kept as `Study.keeps_weights` says.

    Returns:
        The run's metrics.json: `cell`, `seed`, `point`, `devel` and `test` (the figures of the task), `epochs`,
        `steps`, `tokens`, `seconds`, and what the task describes itself by.
    """
    epochs = study.grids[cell.grid].epochs
    params = study.resolved_finetuning(cell, point, seed, epochs)
    run = RunDirectory(study.run_directory("finetune", cell.run(seed)), params)
    if run.complete:
        return run.metrics
    with run.start() as wanted:
        if not wanted:
            return run.metrics
        arm = make_arm(study, cell, point, seed, epochs, data)
        trained = arm.train(run, label=cell.run(seed), checkpoint_seconds=checkpoint_seconds)
        with evaluation_mode(arm.model):
            arm.calibrate(arm.model)
            predictions = arm.predict(arm.model, "test")
        with atomic_open(run.path / ITEMS) as stream:
            arm.items("test", predictions).to_csv(stream, index=False, lineterminator="\n")
        if study.keeps_weights(cell, seed):
            run.save_model(arm.model.state_dict(), arm.model.config)
        run.finish(
            {
                "cell": cell.record(),
                "seed": seed,
                "point": point,
                **arm.description(),
                "devel": {key: value for key, value in trained.chosen.items() if key not in ("step", "tokens")},
                "test": {**arm.figures("test", predictions), **arm.details("test", predictions)},
                "chosen_step": trained.chosen["step"],
                "steps": trained.evaluations[-1]["step"],
                "epochs": epochs,
                "tokens": trained.tokens,
                "seconds": trained.seconds,
            }
        )
    return run.metrics
