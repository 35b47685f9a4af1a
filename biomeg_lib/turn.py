"""`python -m biomeg_lib.turn PARAMS COMMAND...`: one `make study` of a profile at a time, over files that are sound.

What is notable: this process waits for the study's lock, takes away what is damaged, and then becomes the command,
which so holds the lock until it ends, however it ends. The command makes again what was taken away: stages, tables,
figures and pages are deleted; a damaged training run may have cost days, and is moved to `outputs/<profile>/damaged`.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from biomeg_lib import sums
from biomeg_lib.errors import BiomegError
from biomeg_lib.files import locked, locked_if_free, sweep
from biomeg_lib.made import PARAMS, lock_of
from biomeg_lib.study import Study, load
from biomeg_lib.training.rundir import LOCK as RUN_LOCK
from biomeg_lib.training.rundir import RESULT, state_of, tidy

LOCK, DAMAGED = ".lock", "damaged"
PARTS = ".parts"  # what a corpus or its shards have so far, for the next go
STAGES, PRODUCTS = ("corpora", "vocabularies", "shards"), ("", "tables", "figures", "notebooks", "report")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns an exit code if the command could not be started; else it does not return."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) < 2:
        print(f"turn: expected a params file, then a command, found {' '.join(given) or 'nothing'}", file=sys.stderr)
        return 1
    try:
        study = load(given[0])
        with locked(study.outputs / LOCK, str(study.outputs.relative_to(study.root)), inherited=True):
            for line in mend(study):
                print(f"biomeg: {line}", file=sys.stderr, flush=True)
            os.execvp(given[1], given[1:])
    except BiomegError as error:
        print(f"biomeg: {error}", file=sys.stderr)
    except OSError as error:
        print(f"biomeg: {error.filename or given[1]}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("biomeg: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 1


def mend(study: Study) -> Iterator[str]:
    """Take away what is damaged of a study, or half-made; says for each damage what it was, a line.

    A stage or run that a process is at work on is left alone; that may have been started by a command that was killed
    since. Of tables and pages, such a process finds its half-written file gone, and ends with a line.
    """
    out = study.outputs
    for stage in STAGES:
        for folder in sorted(path for path in (out / stage).glob("[!.]*") if path.is_dir() and path.suffix != PARTS):
            with locked_if_free(lock_of(folder)) as free:
                if free:
                    yield from _mend_stage(study, folder)
    for folder in sorted(path for path in (out / "runs").glob("*/*") if path.is_dir()):
        with locked_if_free(folder / RUN_LOCK) as free:
            if free:
                yield from _mend_run(study, folder)
    # Of results that a job was to change, snakemake keeps copies, and puts them back when the job fails; those that a
    # kill has left are of another job.
    shutil.rmtree(study.root / ".snakemake" / "backups" / out.relative_to(study.root), ignore_errors=True)
    for folder in (out / name for name in PRODUCTS):
        sweep(folder)
        sweep(folder, ".*.ipynb")
        for path, problem in sums.problems_of(folder):
            if path.is_file() and path.parent == folder:
                path.unlink()
                yield f"{_shown(study, path)}: {problem}: it is damaged, and made again"


def _mend_stage(study: Study, folder: Path) -> Iterator[str]:
    if not (folder / PARAMS).is_file():  # it is written last; a kill came before
        shutil.rmtree(folder)
        return
    for path, problem in sums.problems_of(folder):
        shutil.rmtree(folder)
        yield f"{_shown(study, path)}: {problem}: it is damaged, and {folder.name} is made again"
        return


def _mend_run(study: Study, folder: Path) -> Iterator[str]:
    complete = state_of(folder) == "complete"
    for path, problem in sums.problems_of(folder):
        if complete or path.is_file():  # a kill may come between a checkpoint's line and the checkpoint
            aside = _aside(study.outputs, folder)
            yield f"{_shown(study, path)}: {problem}: it is damaged; the run is kept in {aside}, and made again"
            return
    if complete:
        tidy(folder)
    else:
        (folder / RESULT).unlink(missing_ok=True)  # a kill came before the run was sealed


def _aside(out: Path, run: Path) -> Path:
    name, number = f"{run.parent.name}.{run.name}", 1
    while (target := out / DAMAGED / f"{name}.{number}").exists():
        number += 1
    target.parent.mkdir(exist_ok=True)
    os.replace(run, target)
    return target.relative_to(out.parent.parent)


def _shown(study: Study, path: Path) -> str:
    return str(path.relative_to(study.root))


if __name__ == "__main__":
    sys.exit(main())
