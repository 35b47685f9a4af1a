"""What SECURITY.md says of the library's own code: no shell, no eval, no pickle that could run anything."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from biomeg_lib import params
from biomeg_lib.checkpoints import side_files

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "biomeg_lib").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICKLES = {"corpus/parallel.py"}  # between processes of one command, in a folder of their own
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
SHELLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
}
PROCESSES = {"run", "Popen", "call", "check_call", "check_output"}
PICKLED = {"pickle.load", "pickle.loads", "pickle.Unpickler", "pandas.read_pickle", "pd.read_pickle", "joblib.load"}
YAML = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"}


def problems(source: str, pickles: bool = False) -> Iterator[str]:
    """Calls that are not allowed, as "line: name"."""
    tree = ast.parse(source)
    origins = {}  # name here -> its full name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            origins |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom):
            origins |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        name = origins.get(first, first) + dot + rest
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        refused = name in RUNS_TEXT | SHELLS or (name in PICKLED and not pickles)
        refused |= given.get("shell", "False") != "False"
        if name.split(".")[-1] in PROCESSES and name.startswith("subprocess."):
            refused |= bool(node.args) and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
        refused |= name == "torch.load" and given.get("weights_only") != "True"
        refused |= name in YAML and not {*given.values(), *map(ast.unparse, node.args)} & {"yaml.SafeLoader", "_Loader"}
        refused |= name.endswith(("np.load", "numpy.load")) and given.get("allow_pickle", "False") != "False"
        if refused:
            yield f"{node.lineno}: {name}"


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "subprocess.run('ls', check=True)",
        "subprocess.run(f'ls {a}')",
        "subprocess.Popen(a, shell=True)",
        "os.system(a)",
        "pickle.loads(a)",
        "from os import system; system(a)",
        "from pickle import loads as read; read(a)",
        "import pickle as p; p.loads(a)",
        "from torch import load; load(a)",
        "asyncio.create_subprocess_shell(a)",
        "torch.load(a)",
        "torch.load(a, weights_only=False)",
        "yaml.load(a)",
        "yaml.load(a, yaml.Loader)",
        "np.load(a, allow_pickle=True)",
    ],
)
def test_what_is_not_allowed_is_found(source):
    assert [*problems(source)]


def test_what_is_allowed_is_not():
    assert not [*problems("torch.load(a, weights_only=True); subprocess.run(['ls', a]); yaml.safe_load(a)")]


def test_modules():
    found = {}
    for path in MODULES:
        name = path.relative_to(ROOT / "biomeg_lib").as_posix()
        found[name] = [*problems(path.read_text(encoding="utf-8"), pickles=name in PICKLES)]
    assert len(found) > 150
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("module", [params, side_files])
def test_own_loaders_make_plain_values(module):
    assert issubclass(module._Loader, yaml.SafeLoader)


def test_notebooks():
    assert len(NOTEBOOKS) > 8
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert not [*problems("".join(cell["source"]))], path.name
