"""Stages of a small study under faults: `python tests/faults/stages.py --kills 12 --seed 1` prints what came of it.

    fetch -> corpus -> vocabulary -> shards -> pretrain -> finetune

Each trial is a process forked from one that has all modules, which saves two seconds of imports. It is killed at a
random operation on a file, has no room or no permission from one on, or finds one file truncated or one bit flipped.
After it the same stage is run in peace. What is there then must be what an undisturbed run leaves, byte for byte, but
for times of day and durations; what is refused must be one line that names the file.
"""

import argparse
import dataclasses
import hashlib
import http.server
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

import nano  # noqa: E402
import yaml  # noqa: E402
from injected import Faults, arm_oneself, build, count_oneself, damage  # noqa: E402

from biomeg_lib import catalogue, prepare, sources, sums, turn  # noqa: E402
from biomeg_lib.errors import BiomegError  # noqa: E402
from biomeg_lib.study import Study, load  # noqa: E402
from biomeg_lib.tasks.jobs import run_job  # noqa: E402
from biomeg_lib.training.pretrain import pretrain  # noqa: E402

OFTEN = 0.0  # seconds between checkpoints: one a step
SOURCE, SOURCE_PATH, SOURCE_DATA = "faults/source", "faults/source.tsv", b"aspirin\tB\nworks\tO\n\n" * 20_000
TIMES = ("seconds", "input_wait")
# What may differ: dates, and what is only there while something goes on.
OWN = (sums.LEDGER, "environment.json", "state", "lock", "checksums.json")


def fetch(study: Study) -> None:
    """A file from a server on the loopback address, into the project's cache."""
    sources.locate(SOURCE, quiet=True)


def corpus(study: Study) -> None:
    prepare.ensure_corpus(study, "pubmed")


def vocabulary(study: Study) -> None:
    prepare.ensure_vocabulary(study, "bio")


def shards(study: Study) -> None:
    prepare.ensure_shards(study, "pubmed", "bio")


def pretraining(study: Study) -> None:
    pretrain(study, "nano-bio", OFTEN)


def finetuning(study: Study) -> None:
    for job in study.jobs():
        run_job(study, job)


STAGES: dict[str, Callable[[Study], None]] = {
    "fetch": fetch,
    "corpus": corpus,
    "vocabulary": vocabulary,
    "shards": shards,
    "pretrain": pretraining,
    "finetune": finetuning,
}
# What each leaves, below the project.
PRODUCTS = {
    "fetch": "cache",
    "corpus": "outputs/nano/corpora",
    "vocabulary": "outputs/nano/vocabularies",
    "shards": "outputs/nano/shards",
    "pretrain": "outputs/nano/runs/pretrain",
    "finetune": "outputs/nano/runs",
}


@dataclasses.dataclass
class Outcome:
    """How a process ended: `code` is 0, 1 with a user's line in `said`, 2 with a trace there, or minus a signal."""

    code: int
    said: str
    operations: int


class Wrong(AssertionError):
    """Something was lost, wrong or badly said."""


class Server(http.server.ThreadingHTTPServer):
    """Has the one file, and nothing else."""

    daemon_threads = True

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == f"/{SOURCE_PATH}" else 404)
                self.send_header("Content-Length", str(len(SOURCE_DATA)))
                self.end_headers()
                self.wfile.write(SOURCE_DATA)

            def log_message(self, *arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Trials:
    """An undisturbed study in `folder / "calm"`, and copies of it that are disturbed.

    Args:
        folder: an empty one; `FAULTS_ROOT` of this process.
    """

    def __init__(self, folder: Path, url: str):
        self.folder, self.url, self.numbers = folder, url, itertools.count()
        self.counts: Counter[str] = Counter()
        calm = folder / "calm"
        for name in ("params", "notebooks"):
            (calm / name).mkdir(parents=True)
        (calm / "params" / "nano.yaml").write_text(yaml.safe_dump(self.params(), sort_keys=False))
        self.operations = {}
        for stage in STAGES:
            ended = self.run(calm, [stage])
            if ended.code:
                raise Wrong(f"{stage}, undisturbed: {ended.said}")
            self.operations[stage] = ended.operations
        self.expected = contents(calm)

    @staticmethod
    def params() -> dict:
        values = json.loads(json.dumps(nano.PARAMS))
        values["pretraining"]["nano-bio"] |= {"tokens": 20 * 8 * 32, "evaluations": 2}
        grid = values["ner"]["small"]
        grid |= {"starts": ["pretrained"], "epochs": 2, "fraction": 0.1}
        grid["search"]["num_fc_layers"] = [1]
        return values

    def run(self, project: Path, stages: list[str], how: str = "count", at: int = 0, mend: bool = False) -> Outcome:
        """Do stages in a process of its own, with a fault at operation `at`."""
        said = project / "said"
        said.unlink(missing_ok=True)
        counted = project / "operations"
        child = os.fork()
        if not child:
            os._exit(self._run(project, stages, how, at, mend, said, counted))
        status = os.waitpid(child, 0)[1]
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        text = said.read_text() if said.is_file() else ""
        return Outcome(code, text, int(counted.read_text()) if counted.is_file() else 0)

    def _run(self, project: Path, stages: list[str], how: str, at: int, mend: bool, said: Path, counted: Path) -> int:
        os.chdir(project)
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ |= {"BIOMEG_CACHE": str(project / "cache"), "BIOMEG_MIRROR": self.url, "NO_PROXY": "127.0.0.1"}
        os.environ.pop("BIOMEG_DATA", None)
        sources.CHECKOUT = project / "nowhere"
        digest = hashlib.sha256(SOURCE_DATA).hexdigest()
        catalogue.SOURCES[SOURCE] = catalogue.Source(
            name=SOURCE, path=SOURCE_PATH, bytes=len(SOURCE_DATA), sha256=digest, url=self.url, licence="", what=""
        )
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        code = 0
        message = ""
        try:
            study = load(project / "params" / "nano.yaml")
            if mend:
                message = "".join(f"{line}\n" for line in turn.mend(study))
            arm_oneself(how, at)
            for stage in stages:
                STAGES[stage](study)
        except BiomegError as error:
            code, message = 1, str(error)
        except OSError as error:  # as the command line does
            code, message = 1, f"{error.filename or 'a file'}: {error.strerror or error}"
        except BaseException:
            code, message = 2, traceback.format_exc()
        operations = count_oneself()
        arm_oneself("count", 0)
        said.write_text(message)
        counted.write_text(str(operations))
        return code

    def copy(self, without: str | None = None) -> Path:
        """The calm project once more; without what a stage and those after it leave."""
        project = self.folder / f"trial{next(self.numbers)}"
        shutil.copytree(self.folder / "calm", project, symlinks=True)
        if without is not None:
            for stage in list(STAGES)[list(STAGES).index(without) :]:
                shutil.rmtree(project / PRODUCTS[stage], ignore_errors=True)
        return project

    def kill(self, stage: str, how: str, chance: random.Random) -> None:
        """Kill a stage at one to three operations, one after the other, then let it end."""
        project = self.copy(stage)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randint(1, self.operations[stage])
            ended = self.run(project, [stage], how, at)
            if ended.code > 0:
                raise Wrong(f"{stage}, {how} at {at}: {ended.said}")
            self.counts["kills" if ended.code < 0 else "ended before the kill"] += 1
        self.conclude(project, stage, f"{stage}, {how} at operation {at}")

    def refuse(self, stage: str, how: str, chance: random.Random) -> None:
        """Let every write fail from a random one on, then let the stage do its work."""
        project = self.copy(stage)
        at = chance.randint(1, self.operations[stage])
        ended = self.run(project, [stage], how, at)
        what = f"{stage}, {how} from operation {at} on"
        if ended.code not in (0, 1):
            raise Wrong(f"{what}: {ended.said or ended.code}")
        if ended.code and len(ended.said.strip().splitlines()) != 1:
            raise Wrong(f"{what}: expected one line, found {ended.said!r}")
        self.counts[how if ended.code else f"{how}: did no harm"] += 1
        self.conclude(project, stage, what)

    def conclude(self, project: Path, stage: str, what: str) -> None:
        """Run a stage in peace: what it leaves must be what it leaves in the calm project."""
        ended = self.run(project, [stage], mend=True)
        if ended.code:
            raise Wrong(f"{what}, then in peace: {ended.said or ended.code}")
        self.compare(project, what, [PRODUCTS[name] for name in list(STAGES)[: list(STAGES).index(stage) + 1]])
        shutil.rmtree(project)

    def spoil(self, kind: str, chance: random.Random) -> None:
        """Damage a file of a complete study; what reads it must refuse it or make it again."""
        project = self.copy()
        files = sorted(path for path in (project / "outputs").rglob("*") if path.is_file() and path.stat().st_size)
        path = chance.choice(files)
        name = path.relative_to(project)
        what = f"{name} {damage(path, kind, chance)}"
        ended = self.run(project, list(STAGES))
        if ended.code not in (0, 1):
            raise Wrong(f"{what}: {ended.said or ended.code}")
        if ended.code:
            if str(name.parent) not in ended.said or len(ended.said.strip().splitlines()) != 1:
                raise Wrong(f"{what}: expected one line that names it, found {ended.said!r}")
            self.counts[f"{kind}: refused"] += 1
        else:
            same = contents(project).get(str(name)) == self.expected.get(str(name))
            self.counts[f"{kind}: made again" if same else f"{kind}: not used by these stages"] += 1
            self.compare(project, what, but=str(name))
        ended = self.run(project, list(STAGES), mend=True)
        if ended.code:
            raise Wrong(f"{what}, then mended: {ended.said or ended.code}")
        shutil.rmtree(project / "outputs" / "nano" / turn.DAMAGED, ignore_errors=True)
        self.compare(project, f"{what}, then mended")
        shutil.rmtree(project)

    def jumping_clock(self) -> None:
        """All stages from nothing, in a process whose clocks jump."""
        project = self.copy("fetch")
        ended = self.run(project, list(STAGES))
        if ended.code:
            raise Wrong(f"with clocks that jump: {ended.said or ended.code}")
        self.compare(project, "with clocks that jump")
        self.counts["clocks that jump"] += 1
        shutil.rmtree(project)

    def compare(self, project: Path, what: str, products: list[str] | None = None, but: str = "") -> None:
        """Raise unless the files of a project are those of the calm one."""
        found, expected = contents(project), self.expected
        if products is not None:
            found, expected = (
                {name: value for name, value in files.items() if name.startswith(tuple(products))}
                for files in (found, expected)
            )
            if "outputs/nano/runs" not in products:
                found, expected = (
                    {n: v for n, v in files.items() if not n.startswith("outputs/nano/runs/finetune")}
                    for files in (found, expected)
                )
        for name in sorted({*found, *expected} - {but}):
            if found.get(name) != expected.get(name):
                state = "is lost" if name not in found else "is left over" if name not in expected else "differs"
                raise Wrong(f"{what}: {name} {state}")


def contents(project: Path) -> dict[str, str]:
    """Name -> digest of what each file of a project says, for all that may not differ between two runs."""
    found = {}
    for path in sorted(path for top in ("cache", "outputs") for path in (project / top).rglob("*") if path.is_file()):
        name = str(path.relative_to(project))
        if path.name in OWN or path.name.endswith(".lock") or name.startswith(("cache/kernels", "cache/faults/tmp")):
            continue
        data = path.read_bytes()
        if path.name == "metrics.json":
            values = json.loads(data)
            data = json.dumps({key: value for key, value in values.items() if key not in TIMES}).encode()
        found[str(path.relative_to(project))] = hashlib.sha256(data).hexdigest()
    return found


def trials_of(options: argparse.Namespace, chance: random.Random) -> Iterator[tuple[str, tuple]]:
    """What to do: the name of a method of `Trials`, and its arguments but the last."""
    names = list(STAGES)
    for number in range(options.kills):
        yield "kill", (names[number % len(names)], chance.choice(("kill", "kill", "term")))
    for how, count in (("no space", options.full_disks), ("no access", options.refusals)):
        for number in range(count):
            yield "refuse", (names[number % len(names)], how)
    for kind, count in (("truncated", options.truncations), ("flipped", options.flips)):
        for _ in range(count):
            yield "spoil", (kind,)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("kills", "full-disks", "refusals", "truncations", "flips"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--clock", action="store_true", help="clocks that jump")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="an existing folder for copies")
    options = parser.parse_args()
    if "LD_PRELOAD" not in os.environ:
        return preloaded(options)
    problems = []
    chance = random.Random(options.seed)
    trials = Trials(Path(os.environ["FAULTS_ROOT"]), f"http://127.0.0.1:{Server().server_address[1]}")
    if options.clock:
        trials.jumping_clock()
    for name, arguments in trials_of(options, chance):
        try:
            getattr(trials, name)(*arguments, chance)
        except Wrong as error:
            problems.append(str(error))
            print(f"wrong: {error}", file=sys.stderr, flush=True)
    print(json.dumps({"counts": trials.counts, "operations": trials.operations, "wrong": problems}, indent=2))
    return bool(problems)


def preloaded(options: argparse.Namespace) -> int:
    """This program again, with the library in it."""
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        root = Path(folder) / "projects"
        root.mkdir()
        faults = Faults(build(Path(folder)), root, Path(folder) / "state")
        environment = {**os.environ, **faults.environment, "OMP_NUM_THREADS": "1"}
        if options.clock:
            environment["FAULTS_CLOCK"] = "2"
        return os.spawnve(os.P_WAIT, sys.executable, [sys.executable, *sys.argv], environment)


if __name__ == "__main__":
    sys.exit(main())
