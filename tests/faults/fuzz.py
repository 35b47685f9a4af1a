"""Coverage-guided fuzzing of one reader: `python tests/faults/fuzz.py iob --seconds 60`; `--list` names them all.

libFuzzer (by atheris) changes sound files and keeps what reaches new code of `biomeg_lib`. Anything but a result or an
error of one line ends it, and so do 20 seconds or 2 GB for one input; that input is then kept, in `--found`. The last
line on stdout says how many inputs were read: {"reader": ..., "executions": ..., "sound": ..., "seconds": ...}.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

with atheris.instrument_imports(include=["biomeg_lib"]):
    import readers

LONGEST, HANG, MEMORY = 1 << 14, 20, 2048  # bytes of an input, seconds and MiB for one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("reader", nargs="?")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path("outputs/faults"), help="a folder for inputs that break it")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="biomeg-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    known = readers.all_readers(scratch)
    if options.list:
        print("\n".join(known))
        return
    if options.reader not in known:
        sys.exit(f"fuzz: expected one of {', '.join(known)}, found {options.reader}")
    reader = known[options.reader]
    corpus, place = scratch / "corpus", scratch / "place"
    for folder in (corpus, place):
        folder.mkdir()
    reader.prepare(place)
    (place / reader.file).parent.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    spelled = ("".join(rf"\x{byte:02x}" for byte in word) for word in reader.words if word)
    (scratch / "words").write_text("".join(f'"{word}"\n' for word in spelled))
    options.found.mkdir(parents=True, exist_ok=True)
    chance = random.Random(options.seed)
    began, counts = time.monotonic(), {"executions": 0, "sound": 0}

    def once(data: bytes) -> None:
        counts["executions"] += 1
        counts["sound"] += reader(place, data)
        if time.monotonic() - began > options.seconds:
            spent = round(time.monotonic() - began)
            print(json.dumps({"reader": options.reader, **counts, "seconds": spent}), flush=True)
            os._exit(0)

    arguments = [
        sys.argv[0],
        f"-max_len={LONGEST}",
        f"-timeout={HANG}",
        f"-rss_limit_mb={MEMORY}",
        f"-seed={chance.randint(1, 2**31)}",
        *([f"-dict={scratch / 'words'}"] if reader.words else []),
        f"-artifact_prefix={options.found}/{options.reader}-",
        "-print_final_stats=0",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup(arguments, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
