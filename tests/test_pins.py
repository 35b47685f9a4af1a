"""The versions of constraints.txt and the hashes of requirements/ say the same, of all that the project needs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HASHED = sorted((ROOT / "requirements").glob("*.txt"))


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE)
    assert len(found) == len(dict(found)), path
    return {plain(name): version for name, version in found}


def test_every_package_has_a_hash_and_one_version():
    versions, hashed = pins(ROOT / "constraints.txt"), {}
    for path in HASHED:
        entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", path.read_text()).strip())
        for entry in entries:
            assert re.search(r"\\\n    --hash=sha256:[0-9a-f]{64}$", entry), entry.splitlines()[0]
        hashed |= pins(path)
    assert versions.keys() <= hashed.keys()
    for name in versions:
        assert hashed[name] == versions[name], name


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    wanted += [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    names = {plain(re.match(r"[A-Za-z0-9_.-]+", one)[0]) for one in wanted} - {"biomeg-lib"}
    assert len(names) > 20
    assert names <= pins(ROOT / "constraints.txt").keys()
