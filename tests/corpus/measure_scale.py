"""Not a test: how corpus and token shards grow, on PMC packages repeated under changed ids.

    .venv/bin/python tests/corpus/measure_scale.py DATA/corpora/pmc --repeats 10 --vocabulary DATA/.../vocab.txt

Builds the packages once and repeated, with one and with two processes; kills a build at random moments, lets it go on,
and compares what it leaves with that of a build in peace. Prints a line a build, then what the project promises beside
what was found. Needs room for about three times the repeated packages. Nothing else should run on the machine.
"""

import argparse
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ID = re.compile(rb'(<article-id[^>]*pub-id-type="pm(?:c|cid|id)"[^>]*>\s*(?:PMC)?)(?=\d)')
BUILD = """
import json, sys
from pathlib import Path
from biomeg_lib.corpus import shards
from biomeg_lib.corpus.documents import build_corpus
from biomeg_lib.vocab import Vocabulary
job = json.loads(sys.argv[1])
if job["vocabulary"]:
    shards.SHARD = job["shard"]
    vocabulary = Vocabulary.load(Path(job["vocabulary"]), lowercase=False)
    shards.build_shards(Path(job["corpus"]), vocabulary, Path(job["to"]), 0.1, job["processes"])
else:
    build_corpus(job["files"], "jats", job["to"], job["processes"])
"""


class Build(NamedTuple):
    """What a build took: seconds, those of all CPUs, MiB of all its processes at once and of the largest."""

    seconds: float
    cpu: float
    together: float
    largest: float


def repeat_packages(packages: list[Path], repeats: int, folder: Path) -> list[list[Path]]:
    """Copies of the packages, one list a repeat, in which every article has another id."""
    folder.mkdir()
    copies = []
    for number in range(repeats):
        copies.append([folder / f"{number:03}-{package.name}" for package in packages])
        for package, copy in zip(packages, copies[-1], strict=True):
            with tarfile.open(package) as source, tarfile.open(copy, "w:gz", compresslevel=6) as target:
                for member in source:
                    if member.isfile():
                        data = ID.sub(rb"\g<1>9%03d" % number, source.extractfile(member).read())
                        member.size = len(data)
                        member.name = f"{number:03}/{member.name}"
                        target.addfile(member, io.BytesIO(data))
    return copies


def start(job: dict, errors: int | None = None) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BUILD, json.dumps(job)]
    return subprocess.Popen(command, env=environment, stderr=errors)


def tree(process: int) -> list[int]:
    """A process and those it has started, and theirs."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(found for child in children for found in tree(int(child)))]


def memory(process: int) -> tuple[int, int]:
    """Resident bytes of a process in KiB, now and at most."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0, 0
    found = [re.search(rf"{name}:\s+(\d+) kB", text) for name in ("VmRSS", "VmHWM")]
    return tuple(int(match[1]) if match else 0 for match in found)


def measured(job: dict) -> Build:
    """Run a build to its end, and watch it."""
    began, process = time.monotonic(), start(job)
    together = largest = 0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        found = [memory(one) for one in tree(process.pid)]
        together = max(together, sum(now for now, _ in found))
        largest = max([largest, *(highest for _, highest in found)])
        time.sleep(0.02)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    if process.returncode:
        sys.exit(f"a build failed: {job['to']}")
    return Build(seconds, ended[2].ru_utime + ended[2].ru_stime, together / 1024, largest / 1024)


def content(folder: Path) -> dict[str, bytes]:
    """Hashes would do, but equal bytes are what is promised."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def disturbed(job: dict, seconds: float, kills: int, chance: random.Random) -> list[str]:
    """Build with kills at random moments of the time it takes in peace; says what was there after each."""
    said, done = [], 0.0
    for moment in sorted(chance.uniform(0, seconds) for _ in range(kills)):
        process = start(job, subprocess.DEVNULL)
        time.sleep(max(0.5, moment - done))
        done = moment
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        parts = len(list(Path(f"{job['to']}.parts").glob("0*")))
        said.append(f"{moment:.1f} s: {'it had ended' if ended else f'{parts} parts complete'}")
    measured(job)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("packages", type=Path, nargs="+", help="*.tar.gz of JATS, or a folder of them")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--vocabulary", type=Path, help="a WordPiece vocab.txt: measure token shards, too")
    parser.add_argument("--work", type=Path, help="an existing folder for the copies, on a disk with room")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    packages = [
        found for path in options.packages for found in (sorted(path.glob("*.tar.gz")) if path.is_dir() else [path])
    ]
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        copies = repeat_packages(packages, options.repeats, Path(folder) / "raw")
        few, many = copies[0], [path for copy in copies for path in copy]
        print(f"{len(few)} packages, {sum(p.stat().st_size for p in few) / 1e6:.1f} MB; {options.repeats} times")
        jobs = [
            {"files": [str(path) for path in files], "to": f"{folder}/corpus-{name}", "processes": processes}
            | {"vocabulary": None}
            for name, files, processes in (("1x-1", few, 1), ("10x-1", many, 1), ("10x-2", many, 2))
        ]
        stage("corpus", jobs, options)
        if options.vocabulary:
            table = np.load(f"{folder}/corpus-10x-1/blocks.npy")
            shard = int(table["text"].sum(dtype=np.int64)) // (2 * options.repeats) + 1
            jobs = [
                {"corpus": f"{folder}/corpus-{name}", "to": f"{folder}/shards-{name}", "processes": processes}
                | {"vocabulary": str(options.vocabulary), "shard": shard}
                for name, processes in (("1x-1", 1), ("10x-1", 1), ("10x-2", 2))
            ]
            stage("shards", jobs, options)


def stage(name: str, jobs: list[dict], options: argparse.Namespace) -> None:
    """Measure the builds of a stage: once with one process, repeated with one, repeated with two."""
    builds = []
    for job in jobs:
        builds.append(build := measured(job))
        print(
            f"{Path(job['to']).name:14} {build.seconds:8.1f} s, CPU {build.cpu:8.1f} s, "
            f"memory together {build.together:6.0f} MiB, largest {build.largest:6.0f} MiB",
            flush=True,
        )
    few, one, two = builds
    expected = content(Path(jobs[1]["to"]))
    counts = [
        json.loads((Path(job["to"]) / ("counts.json" if name == "corpus" else "shards.json")).read_text())
        for job in jobs
    ]
    documents = [
        c["documents"] if name == "corpus" else c["train"]["documents"] + c["heldout"]["documents"] for c in counts
    ]
    job = {**jobs[2], "to": f"{jobs[2]['to']}-killed"}
    kills = disturbed(job, two.seconds, options.kills, random.Random(options.seed))
    for said in kills:
        print(f"  killed at {said}")
    print(f"{name}: documents {documents[0]:,} and {documents[1]:,}, expected {options.repeats} times as many")
    print(f"{name}: memory {one.largest / few.largest:.3f} of that of 1x (at most 1.1)")
    print(
        f"{name}: time {one.seconds / few.seconds / options.repeats:.3f} "
        f"of {options.repeats} times that of 1x (0.9 to 1.1)"
    )
    print(f"{name}: two processes {one.seconds / two.seconds:.2f} times as fast as one (at least 1.8)")
    print(f"{name}: the same bytes from two processes: {content(Path(jobs[2]['to'])) == expected}")
    print(f"{name}: the same bytes after {options.kills} kills: {content(Path(job['to'])) == expected}", flush=True)
    shutil.rmtree(job["to"])


if __name__ == "__main__":
    main()
