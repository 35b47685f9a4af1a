"""`biomeg new-study`: a folder of one's own, with all that `make` needs for a study of one's own text and entities.

What is notable: notebooks and Snakefile are copied from the checkout that this library is installed from, and speak of
the new profile; all else comes from `templates/`. The folder appears whole or not at all, and never replaces anything.
"""

import glob
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from biomeg_lib import __version__
from biomeg_lib.benchmarks.iob import Format, read_iob
from biomeg_lib.benchmarks.lines import numbered_lines
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_directory, read_json, write_json
from biomeg_lib.schema import Name

CHECKOUT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).parent / "templates"
SPLITS = {1: ("train",), 2: ("train", "test"), 3: ("train", "devel", "test")}


def new_study(folder: str | Path, corpus: Sequence[str] = (), benchmark: Sequence[str] = ()) -> Path:
    """Make the folder of a new study, whose profile is called like it.

    Args:
        folder: what to make; it must not be there, or be empty.
        corpus: text or JSON-lines files, or patterns of such, to name in the params file; none: `data/corpus/*.txt`.
        benchmark: IOB files, read before anything is made: train; train and test; or train, devel and test. None:
            `data/benchmark/train.tsv` and so on.

    Returns:
        The new params file.

    Raises:
        BiomegError: the folder's name is none for a profile; or the checkout's notebooks are not there.
        InputError: the folder has something in it; a file is not there, or is not what it should be.
    """
    folder = Path(folder)
    target = folder.resolve()
    name = _profile(folder, target.name)
    if target == Path.cwd():
        raise InputError(folder, "expected a folder other than the current one, which is to be replaced")
    if target.exists() and not target.is_dir():
        raise InputError(folder, "expected a new or empty folder, found a file")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(folder, f"expected a new or empty folder, found {min(target.iterdir()).name} in it")
    values = {"NAME": name, "VERSION": __version__, "PYTHON": sys.executable} | _corpus(corpus) | _benchmark(benchmark)
    if not (CHECKOUT / "Snakefile").is_file():
        raise BiomegError(
            f"{CHECKOUT}: expected the study's Snakefile and notebooks beside the library, found none; install it "
            "from a checkout, as `make` and `pip install --editable` do"
        )
    with atomic_directory(target) as made:
        for place in ("data/corpus", "data/benchmark", "notebooks", "params"):
            (made / place).mkdir(parents=True)
        for notebook in sorted((CHECKOUT / "notebooks").glob("*.ipynb")):
            write_json(made / "notebooks" / notebook.name, _notebook(notebook, name))
        shutil.copyfile(CHECKOUT / "Snakefile", made / "Snakefile")
        for template, path in {
            "study.yaml": f"params/{name}.yaml",
            "Makefile": "Makefile",
            "README.md": "README.md",
            "data.md": "data/README.md",
        }.items():
            text = (TEMPLATES / template).read_text(encoding="utf-8")
            for key, value in values.items():
                text = text.replace(f"@{key}@", value)
            (made / path).write_text(text, encoding="utf-8", newline="")
        if target.exists():
            target.rmdir()  # it was empty; an error if something is in it by now
    return folder / "params" / f"{name}.yaml"


def _profile(folder: Path, name: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError:
        wanted = "letters, digits, - and _, a letter or digit first"
        raise BiomegError(f"{folder}: expected a name for the profile ({wanted}), found {name!r}") from None


def _corpus(files: Sequence[str]) -> dict[str, str]:
    """Format and files of the corpus, as YAML."""
    found = [_absolute(file) for file in files] or ["data/corpus/*.txt"]
    lines = [file.removesuffix(".gz").endswith(".jsonl") for file in found]
    if len(set(lines)) > 1:
        raise InputError(files[lines.index(not lines[0])], "expected files of one kind, text or .jsonl, found both")
    listed = "\n".join(f"      - {_quoted(file)}" for file in found)
    return {"CORPUS_FORMAT": "jsonl" if lines[0] else "text", "CORPUS_FILES": listed}


def _benchmark(files: Sequence[str]) -> dict[str, str]:
    """Format and files of the benchmark, as YAML. The format is that of the training set's first line."""
    if len(files) > 3:
        raise BiomegError(f"benchmark: expected files to train, devel and test on, found {len(files)} files")
    found, kind = [f"data/benchmark/{split}.tsv" for split in SPLITS[3]], "iob"
    if files:
        found = [_absolute(file) for file in files]
        kind = _format(found[0])
        for file in found:
            read_iob(file, kind)
    listed = zip(SPLITS[len(found)], found, strict=True)
    return {"BENCHMARK_FORMAT": kind, "BENCHMARK_FILES": "\n".join(f"    {s}: {_quoted(file)}" for s, file in listed)}


def _absolute(file: str) -> str:
    """A path, or a pattern of paths, that does not depend on the current folder.

    Raises:
        InputError: no file is there.
    """
    path = os.path.abspath(os.path.expanduser(file))
    if not any(map(os.path.isfile, glob.iglob(path.replace("[", "[[]")))):
        raise InputError(file, "expected a file, found none")
    return path


def _format(file: str) -> Format:
    first = next((line for _, line in numbered_lines(file) if line.strip()), "")
    return "iob" if first.count("\t") == 1 else "conll"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # which YAML reads, too


def _notebook(path: Path, profile: str) -> dict:
    """A notebook without outputs, its parameters cell on the profile."""
    notebook = read_json(path)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        if "parameters" in cell["metadata"].get("tags", ()):
            cell["source"] = [line.replace('profile = "smoke"', f'profile = "{profile}"') for line in cell["source"]]
    return notebook
