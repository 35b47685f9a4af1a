"""`make faults`: everything in this folder, for long, and docs/reliability.md with what came of it.

    python tests/faults/reliability.py [--share 0.1] [--fuzz-minutes 66] [--only stages,fuzz,memory]

Each part leaves its counts in outputs/faults/<part>.json, and the page is made of all that are there: a part can be run
by itself, and again. Fuzzing adds to what earlier goes did.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE, RESULTS, PAGE = ROOT / "tests" / "faults", ROOT / "outputs" / "faults", ROOT / "docs" / "reliability.md"
STAGES = {"kills": 160, "full-disks": 72, "refusals": 24, "truncations": 48, "flips": 48}
STUDIES = {"kills": 24, "full-disks": 8, "truncations": 10, "flips": 10}
SMOKE = {"kills": 16}
PARTS = ("stages", "studies", "smoke", "fuzz", "memory")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--share", type=float, default=1.0, metavar="F", help="of the kills and the rest (1)")
    parser.add_argument(
        "--fuzz-minutes", type=float, default=66.0, metavar="M", help="of fuzzing, over all readers (66)"
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="A,B", help=f"parts out of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = False
    for part in options.only.split(","):
        if part == "fuzz":
            found = fuzz(options)
        elif part == "memory":
            found = run(part, [sys.executable, str(HERE / "memory.py")])
        else:
            found = disturbed(part, options)
        failed |= bool(found["wrong"])
        found |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "command": command_of(options)}
        (RESULTS / f"{part}.json").write_text(json.dumps(found, indent=2) + "\n")
    results = {part: json.loads(path.read_text()) for part in PARTS if (path := RESULTS / f"{part}.json").is_file()}
    PAGE.write_text(page(results), encoding="utf-8")
    print(f"The page: {PAGE.relative_to(ROOT)}")
    return failed


def command_of(options: argparse.Namespace) -> str:
    """What was said on the command line."""
    return f"tests/faults/reliability.py --share {options.share:g} --only {options.only} --seed {options.seed}"


def disturbed(part: str, options: argparse.Namespace) -> dict:
    """Run stages.py or studies.py."""
    script, wanted = {
        "stages": (["stages.py", "--clock"], STAGES),
        "studies": (["studies.py", "nano", "--twice"], STUDIES),
        "smoke": (["studies.py", "smoke"], SMOKE),
    }[part]
    command = [sys.executable, str(HERE / script[0]), *script[1:], "--seed", str(options.seed)]
    for name, count in wanted.items():
        command += [f"--{name}", str(max(1, round(options.share * count)))]
    return run(part, command)


def run(part: str, command: list[str]) -> dict:
    """A program that prints JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(RESULTS / f"{part}.log", "w", encoding="utf-8") as log:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"counts": {}, "wrong": [f"{part} ended with {done.returncode}; see {log.name}"]}


def fuzz(options: argparse.Namespace) -> dict:
    """Run fuzz.py for each reader; what earlier goes did is added to."""
    before = {one["reader"]: one for one in _earlier("fuzz").get("readers", ())}
    program = [sys.executable, str(HERE / "fuzz.py")]
    said = subprocess.run([*program, "--list"], capture_output=True, text=True, check=True).stdout
    names = said.split()
    seconds = max(1, round(60 * options.fuzz_minutes / len(names)))
    readers, wrong = [], []
    for name in names:
        command = [*program, name, "--seconds", str(seconds), "--seed", str(options.seed), "--found", str(RESULTS)]
        with open(RESULTS / f"fuzz-{name}.log", "w", encoding="utf-8") as log:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
        if done.returncode:
            wrong.append(f"{name}: see {log.name}")
        else:
            counted = json.loads(done.stdout.splitlines()[-1])
            earlier = before.pop(name, {})
            readers.append({key: n + earlier.get(key, 0) if key != "reader" else n for key, n in counted.items()})
    return {"readers": [*readers, *before.values()], "wrong": wrong, "goes": _earlier("fuzz").get("goes", 0) + 1}


def _earlier(part: str) -> dict:
    path = RESULTS / f"{part}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def page(results: dict[str, dict]) -> str:
    """The page, of all parts that have been run."""
    counts: Counter[str] = Counter()
    for part in ("stages", "studies", "smoke"):
        counts.update(results.get(part, {}).get("counts", {}))
    kills = counts["kills"] + counts["kill"] + counts["kill group"] + counts["term"]
    wrong = [f"{part}: {line}" for part, found in results.items() for line in found["wrong"]]
    rows = [("Kills (SIGKILL, SIGTERM), gone on with", kills), ("Full disks (ENOSPC)", counts["no space"])]
    rows += [("Folders that nobody may write to (EACCES)", counts["no access"])]
    for kind in ("truncated", "flipped"):
        for key, count in sorted(counts.items()):
            if key.startswith(f"{kind}: "):
                rows.append(
                    (f"Files {kind if kind == 'truncated' else 'with a flipped bit'}: {key[len(kind) + 2 :]}", count)
                )
    rows += [("Two studies at once: both right, no run trained twice", counts["two at once"])]
    rows += [
        ("All stages with clocks that jump", counts["clocks that jump"]),
        ("**Lost, wrong or badly said**", len(wrong)),
    ]
    rows = [row for row in rows if row[1] or row[0].startswith("**")]
    lines = ["# Reliability", "", INTRODUCTION, "| What was tried | times |", "| --- | ---: |"]
    lines += [f"| {name} | {count:,} |" for name, count in rows]
    if fuzzed := results.get("fuzz", {}).get("readers"):
        total = sum(one["seconds"] for one in fuzzed) / 60
        lines += [
            "",
            f"## Fuzzing, {total:.0f} minutes in {results['fuzz'].get('goes', 1)} goes",
            "",
            FUZZING,
            "| Reader | inputs | sound ones |",
            "| --- | ---: | ---: |",
        ]
        lines += [
            f"| {one['reader']} | {one['executions']:,} | {one['sound']:,} |"
            for one in sorted(fuzzed, key=lambda one: one["reader"])
        ]
    if memory := results.get("memory", {}).get("memory"):
        lines += ["", "## Memory of every command", "", MEMORY]
        lines += [
            "| `biomeg` | what grows | once, MB | ten times, MB | ratio | promised |",
            "| --- | --- " + "| ---: " * 3 + "| --- |",
        ]
        lines += [
            f"| {one['command']} | {one['grows']} | {one['once']:,.0f} | {one['tenfold']:,.0f} "
            f"| {one['tenfold'] / one['once']:.2f} | {'bounded' if one['bounded'] else 'grows'} |"
            for one in memory
        ]
    if wrong:
        lines += ["", "## Open findings", "", *(f"- {line.splitlines()[0]}" for line in wrong)]
    lines += [
        "",
        "## How",
        "",
        *(f"- {part}: {found['date']}, `{found['command']}`" for part, found in results.items()),
    ]
    return "\n".join(
        [*lines, f"- on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", ""]
    )


INTRODUCTION = """What was done to the project's processes and files, and what came of it, written by `make faults`.

Faults come at a random operation on a file (opening, writing, renaming, ...), by a library that is preloaded into the
processes. After each the same command is run again. *Stages* are those of a small study, compared file by file with an
undisturbed one, byte for byte but for times; *studies* are what `make study` runs, compared by all their tables. "Made
again" is what was damaged, named and made anew; "refused" ended with a line that names it; "not used" is damage to a
file that the stages which ran do not read, found by `make study` when it next looks.
"""
FUZZING = """Coverage-guided (atheris, libFuzzer). Promised is a result or an error of one line, in at most 20 seconds
and 2 GB; inputs that once broke a reader are tests (`tests/faults/test_fuzzed.py`).
"""

MEMORY = """Largest process, resident (10^6 bytes), over an input and over one ten times as large: 3 and 30 MB of text,
300 and 3,000 sentences of a benchmark, or 3 and 30 layers of width 512. "Bounded" is promised and checked: no more than
a quarter and 50 MB above. A step of training that cannot fit is refused, with the bytes it needs, pre-training before
its corpus is read (`plan/room.py`). `models` and `bench` read no input, `reference` only small files.
"""

if __name__ == "__main__":
    sys.exit(main())
