"""Memory of every command over an input and over one ten times as large: `python tests/faults/memory.py` prints JSON.

In a project of its own with generated text. A row is a command, what of its input grows, the megabytes (10^6 bytes) of
its largest process at either size, and whether memory is promised not to grow with the input. What is promised and
grows by more than `SLACK` is wrong; so is a command that fails.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
SLACK = 1.25  # times the memory of the smaller input, and 50 MB besides for what an allocator keeps
MEGABYTES = 3.0  # of text, of the smaller input


class Row(NamedTuple):
    """A command, what grows, and MB at either size; `bounded`: promised not to grow with that."""

    command: str
    grows: str
    once: float
    tenfold: float
    bounded: bool


class Failed(Exception):
    """A command did not end well."""


def text(size: float, chance: random.Random) -> Iterator[str]:
    """Sentences of made-up words, so many bytes of them."""
    syllables = ["ba", "cor", "din", "el", "fos", "gan", "hi", "kin", "lor", "mab", "nol", "pro", "ri", "sta", "tin"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(5000)]
    done = 0
    while done < size:
        sentence = " ".join(chance.choices(words, k=chance.randint(6, 24))).capitalize() + "."
        done += len(sentence) + 1
        yield sentence


class Project:
    """A folder with a study whose inputs have one of two sizes."""

    def __init__(self, root: Path, times: int):
        self.root, self.times = root, times
        self.size = times * MEGABYTES * 1e6

    def write(self) -> None:
        """Make it."""
        root = self.root
        for name in ("params", "in"):
            (root / name).mkdir(parents=True)
        (root / "notebooks").symlink_to(ROOT / "notebooks")
        self._write()

    def _write(self) -> None:
        chance = random.Random(1)
        sentences = list(text(self.size, chance))
        groups = [sentences[n : n + 12] for n in range(0, len(sentences), 12)]
        with open(self.root / "in" / "corpus.jsonl", "w", encoding="utf-8") as stream:
            for number, group in enumerate(groups):
                print(json.dumps({"id": f"d{number}", "text": " ".join(group)}), file=stream)
        (self.root / "in" / "corpus.txt").write_text("\n\n".join("\n".join(group) for group in groups) + "\n")
        count = 300 * self.times
        for name in ("train", "devel", "test"):
            rows = [sentence[:-1].split() for sentence in chance.sample(sentences, count)]
            lines = ("\n".join(f"{w}\t{'B-X' if w[:2] == 'ba' else 'O'}" for w in row) for row in rows)
            (self.root / "in" / f"{name}.tsv").write_text("\n\n".join(lines) + "\n")
        with open(self.root / "in" / "questions.jsonl", "w", encoding="utf-8") as stream:
            for number in range(count):
                context = " ".join(chance.choices(sentences, k=5))
                print(json.dumps({"id": number, "question": "Who?", "context": context}), file=stream)
        gold = [
            {"context": s, "qas": [{"id": str(n), "question": "Who?", "answers": [{"text": s[:4], "answer_start": 0}]}]}
            for n, s in enumerate(sentences[: 10 * count])
        ]
        (self.root / "in" / "squad.json").write_text(json.dumps({"data": [{"paragraphs": gold}]}))
        (self.root / "in" / "answers.json").write_text(json.dumps({str(n): s[:4] for n, s in enumerate(sentences)}))
        params = {
            "profile": "own",
            "title": "Memory",
            "description": "Of every command.",
            "seeds": [1],
            "corpora": {"own": {"format": "jsonl", "files": ["in/corpus.jsonl"], "held_out": 0.05}},
            "vocabularies": {"own": {"kind": "sentencepiece", "corpus": "own", "size": 1000}},
            "benchmarks": {"own": {split: f"in/{split}.tsv" for split in ("train", "devel", "test")}},
            "models": {
                "own": {"layers": 1, "hidden": 64, "heads": 2},
                # checkpoints ten times as large: of a model, not of a text
                "sized": {"layers": 3 * self.times, "hidden": 512, "heads": 8},
            },
            "pretraining": {
                name: {
                    "model": name, "vocabulary": "own", "corpus": "own", "tokens": steps * 8 * 64, "batch": 8,
                    "length": 64, "learning_rate": 0.001, "evaluations": 1, "held_out_windows": 8,
                }
                for name, steps in (("own", 20), ("sized", 1))
            },
            "ner": {
                "own": {
                    "benchmarks": ["own"], "encoders": ["own"], "starts": ["pretrained"], "labellings": ["piece"],
                    "epochs": 1, "search": {"num_fc_layers": [1], "fc_hidden": [16], "learning_rate": [0.003]},
                }
            },
        }  # fmt: skip
        (self.root / "params" / "own.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def run(self, *arguments: str) -> float:
        """A command's largest process, in MB.

        Raises:
            Failed: it did not end well.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment["XDG_CACHE_HOME"] = str(self.root / "cache")
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "biomeg_lib", *arguments],
                cwd=self.root,
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise Failed(f"biomeg {' '.join(arguments)}: {said.read()[-500:].decode(errors='replace')}")
        return usage.ru_maxrss * 1024 / 1e6


def fetched(project: Project) -> float:
    """Download the text from a server on loopback."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(project.root / "in"))

        def log_message(self, *arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            return project.run("fetch", f"http://127.0.0.1:{server.server_address[1]}/corpus.jsonl")
        finally:
            server.shutdown()


def rendered(project: Project) -> float:
    """Pages of two executed notebooks, one in the place of the overview."""
    folder = project.root / "outputs" / "own" / "notebooks"
    shutil.copy(folder / "vocab.ipynb", folder / "report.ipynb")
    return project.run(
        "render", "params/own.yaml", *(f"outputs/own/notebooks/{name}.ipynb" for name in ("data", "report"))
    )


RUN, SIZED, KEPT = (
    "outputs/own/runs/finetune/own.own.own.pretrained.piece.seed1",
    "outputs/own/runs/pretrain/sized",
    "kept",
)
COMMANDS: dict[str, tuple[str, bool, Callable[[Project], float]]] = {
    # command: what grows, whether memory may not, and how it is run; each needs those before it
    "check": ("text", True, lambda p: p.run("check", "params/own.yaml")),
    "plan": ("text", True, lambda p: p.run("plan", "params/own.yaml")),
    "fetch": ("text", True, fetched),
    "new-study": (
        "text",
        True,
        lambda p: p.run("new-study", "new", "--corpus", "in/corpus.txt", "--benchmark", "in/train.tsv", "in/test.tsv"),
    ),
    "corpus": ("text", True, lambda p: p.run("corpus", "params/own.yaml", "own")),
    "vocabulary": ("text", True, lambda p: p.run("vocabulary", "params/own.yaml", "own")),
    "shards": ("text", True, lambda p: p.run("shards", "params/own.yaml", "own", "own")),
    "pretrain": ("text", True, lambda p: p.run("pretrain", "params/own.yaml", "own")),
    "finetune": ("sentences of a benchmark", False, lambda p: p.run("finetune", "params/own.yaml", "own.own.own")),
    "execute (data)": (
        "text, and sentences",
        False,
        lambda p: p.run("execute", "params/own.yaml", "data", "outputs/own/notebooks/data.ipynb"),
    ),
    "execute (vocab)": (
        "sentences of a benchmark",
        False,
        lambda p: p.run(
            "execute", "params/own.yaml", "vocab", "outputs/own/notebooks/vocab.ipynb", "-p", "scores", "no"
        ),
    ),
    "render": ("text, and sentences", False, rendered),
    "predict (entities)": (
        "text, JSON lines",
        True,
        lambda p: p.run("predict", RUN, "--input", "in/corpus.jsonl", "--output", "predicted.jsonl"),
    ),
    "score (ner)": ("sentences", False, lambda p: p.run("score", "in/test.tsv", "in/test.tsv")),
    "score (squad)": ("questions", False, lambda p: p.run("score", "in/squad.json", "in/answers.json")),
    "pretrain (model)": ("layers of the model", False, lambda p: p.run("pretrain", "params/own.yaml", "sized")),
    "inspect": ("layers of the model", True, lambda p: p.run("inspect", SIZED)),
    "import": ("layers of the model", False, lambda p: p.run("import", SIZED, "--to", KEPT)),
    "export (huggingface)": ("layers of the model", False, lambda p: p.run("export", SIZED, "--to", "hf")),
    "export (megatron)": (
        "layers of the model",
        False,
        lambda p: p.run("export", SIZED, "--to", "mg", "--format", "megatron"),
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, help="an existing folder with a few GB of room")
    parser.add_argument("--write", nargs=2, metavar=("DIR", "TIMES"), help="only write a project")
    options = parser.parse_args()
    if options.write:
        Project(Path(options.write[0]), int(options.write[1])).write()
        return 0
    rows, wrong = [], []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        small, large = (Project(Path(folder) / name, times) for name, times in (("once", 1), ("tenfold", 10)))
        for project in (small, large):  # elsewhere: a process is counted with what its parent held when it began
            subprocess.run([sys.executable, __file__, "--write", str(project.root), str(project.times)], check=True)
        for name, (grows, bounded, command) in COMMANDS.items():
            try:
                row = Row(name, grows, command(small), command(large), bounded)
            except Failed as error:
                wrong.append(str(error))
                print(error, file=sys.stderr, flush=True)
                continue
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
            if bounded and row.tenfold > SLACK * row.once + 50:
                wrong.append(f"{name}: {row.once:.0f} MB, and {row.tenfold:.0f} MB for ten times as much")
    print(json.dumps({"memory": [row._asdict() for row in rows], "wrong": wrong}, indent=2))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
