"""Whole studies under faults: `python tests/faults/studies.py nano --kills 20 --seed 1` prints what came of it.

What `make study` runs is run in a project of its own: first undisturbed, then killed at random operations on files
until it has been killed often enough, with a full disk, over files that were damaged, and twice at the same time. After
each fault the same command is run again. At the end every table must be that of the undisturbed study, but for columns
of times.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

from injected import Faults, build, damage  # noqa: E402
from workflow_project import new_project, options_of_make, tables_of  # noqa: E402

PATIENCE = 3600  # seconds
MOST = 40  # commands that a study may take


class Wrong(AssertionError):
    """Something was lost, wrong or badly said."""


@dataclasses.dataclass
class Ended:
    """A command's exit code and what it said, both streams."""

    code: int
    said: str

    @property
    def lines(self) -> str:
        """What is meant for a user."""
        return "\n".join(line for line in self.said.splitlines() if line.startswith("biomeg:"))


class Studies:
    """A finished, undisturbed study in `folder / "calm"`, and others that are disturbed."""

    def __init__(self, folder: Path, profile: str):
        self.folder, self.profile = folder, profile
        self.library = build(folder)
        self.counts: Counter[str] = Counter()
        self.faults: dict[Path, Faults] = {}
        self.calm = self.new("calm")
        began = time.monotonic()
        self.in_peace(self.calm, "undisturbed")
        self.operations, self.seconds = self.faults[self.calm].count, time.monotonic() - began
        self.expected = tables_of(self.calm / "outputs" / profile)

    def new(self, name: str) -> Path:
        """A project with nothing done yet."""
        project = self.folder / name
        new_project(project)
        if self.profile != "nano":
            shutil.copy(ROOT / "params" / f"{self.profile}.yaml", project / "params")
        self.faults[project] = Faults(self.library, project, self.folder / f"{name}.state")
        return project

    def start(self, project: Path) -> subprocess.Popen:
        """What `make study` starts."""
        snakemake = [sys.executable, "-m", "snakemake", "--cores", "2", *options_of_make()]
        command = [sys.executable, "-m", "biomeg_lib.turn", f"params/{self.profile}.yaml", *snakemake]
        environment = {
            **os.environ,
            **self.faults[project].environment,
            "OMP_NUM_THREADS": "1",
            "BIOMEG_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.Popen(
            [*command, "--config", f"profile={self.profile}"],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def run(self, project: Path) -> Ended:
        """Start, and wait."""
        process = self.start(project)
        said = process.communicate(timeout=PATIENCE)[0]
        return Ended(process.returncode, said)

    def in_peace(self, project: Path, what: str) -> Ended:
        """Run without a fault, to the end."""
        self.faults[project].arm("count", 0)
        ended = self.run(project)
        if ended.code:
            raise Wrong(f"{what}: {ended.said[-3000:]}")
        return ended

    def disturb(self, hows: list[str], wanted: int, chance: random.Random) -> None:
        """A study from nothing that is killed, or has no room, every now and then, until it has been `wanted` times."""
        project = self.new(f"disturbed-{hows[0].replace(' ', '-')}")
        faults, done = self.faults[project], 0
        span = max(10, 3 * self.operations // (2 * max(wanted, 1)))
        for _ in range(10 * wanted):
            if done == wanted:
                break
            how, at = chance.choice(hows), chance.randint(1, span)
            faults.arm(how, at)
            ended = self.run(project)
            if not faults.struck:
                if ended.code:
                    raise Wrong(f"{how} at {at}, which did not come: {ended.said[-3000:]}")
                shutil.rmtree(project / "outputs" / self.profile / "runs")  # it has ended; there is more to disturb
                continue
            if how in ("no space", "no access") and ended.code and not ended.said.strip():
                raise Wrong(f"{how} at {at}: nothing was said")
            if "it is damaged" in ended.lines:
                raise Wrong(f"{how} at {at}: what a fault left is called damaged: {ended.lines}")
            done += 1
            self.counts[how] += 1
            print(f"{how} at {at}: exit {ended.code} {ended.lines[:300]}", file=sys.stderr, flush=True)
        self.in_peace(project, f"after {done} faults ({', '.join(hows)})")
        self.compare(project, f"after {done} faults ({', '.join(hows)})")
        shutil.rmtree(project)

    def spoil(self, kind: str, chance: random.Random) -> None:
        """Damage a file of the finished study, and run again."""
        top = [self.calm / "outputs", self.calm / ".snakemake"]
        files = sorted(p for folder in top for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
        path = chance.choice(files)
        name = path.relative_to(self.calm)
        what = f"{name} {damage(path, kind, chance)}"
        self.faults[self.calm].arm("count", 0)
        ended = self.run(self.calm)
        named = path.name in ended.lines
        if ended.code:
            if not named:
                raise Wrong(f"{what}: expected a line that names it, found {ended.said[-2000:]}")
            self.counts[f"{kind}: refused"] += 1
            path.unlink()
            ended = self.in_peace(self.calm, f"{what}, then deleted")
        else:
            self.counts[f"{kind}: {'made again' if named else 'not used'}"] += 1
        print(f"{what}: {ended.lines[:300]}", file=sys.stderr, flush=True)
        self.compare(self.calm, what)

    def two_at_once(self) -> None:
        """Two commands at the same time: both end well, and no run is started twice."""
        project = self.new("twice")
        processes = [self.start(project) for _ in range(2)]
        said: list[str] = ["", ""]
        threads = [threading.Thread(target=self._read, args=(p, said, n)) for n, p in enumerate(processes)]
        for thread in threads:
            thread.start()
        while all(process.poll() is None for process in processes):
            time.sleep(0.1)
        begun = self._begun(project)
        for thread in threads:
            thread.join()
        codes = [process.wait() for process in processes]
        if any(codes):
            raise Wrong(f"two at once: {codes}: {said}")
        if self._begun(project) != begun:
            raise Wrong("two at once: a run was started twice")
        if not any("waiting" in text for text in said):
            raise Wrong(f"two at once: none waited: {said}")
        self.compare(project, "two at once")
        self.counts["two at once"] += 1
        shutil.rmtree(project)

    @staticmethod
    def _read(process: subprocess.Popen, said: list[str], number: int) -> None:
        said[number] = process.communicate(timeout=PATIENCE)[0]

    def _begun(self, project: Path) -> dict[str, int]:
        runs = (project / "outputs" / self.profile / "runs").glob("*/*/environment.json")
        return {str(path): path.stat().st_mtime_ns for path in runs}

    def compare(self, project: Path, what: str) -> None:
        """Raise unless a project has the tables of the undisturbed study."""
        found = tables_of(project / "outputs" / self.profile)
        if found.keys() != self.expected.keys():
            raise Wrong(f"{what}: the tables are {sorted(found)}, expected {sorted(self.expected)}")
        for name, frame in self.expected.items():
            if not frame.equals(found[name]):
                raise Wrong(f"{what}: {name} differs")


def trials_of(options: argparse.Namespace) -> Iterator[tuple[str, tuple]]:
    """What to do: the name of a method of `Studies`, and its arguments."""
    chance = random.Random(options.seed)
    if options.twice:
        yield "two_at_once", ()
    if options.kills:
        yield "disturb", (["kill", "kill group", "term"], options.kills, chance)
    if options.full_disks:
        yield "disturb", (["no space"], options.full_disks, chance)
    for kind, count in (("truncated", options.truncations), ("flipped", options.flips)):
        for _ in range(count):
            yield "spoil", (kind, chance)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("profile", help="nano, or one of params/")
    for name in ("kills", "full-disks", "truncations", "flips"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--twice", action="store_true", help="two at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="an existing folder for the projects")
    options = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        studies = Studies(Path(folder), options.profile)
        for name, arguments in trials_of(options):
            try:
                getattr(studies, name)(*arguments)
            except Wrong as error:
                problems.append(str(error))
                print(f"wrong: {error}", file=sys.stderr, flush=True)
        found = {"counts": studies.counts, "operations": studies.operations, "seconds": round(studies.seconds)}
        print(json.dumps({**found, "wrong": problems}, indent=2))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
