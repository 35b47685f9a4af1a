"""What all tests share: where the real data is, and one thread, so that results repeat."""

import os
import signal
from pathlib import Path

import pytest

from biomeg_lib.corpus import miniature

pytest_plugins = ["nano", "ranked_run", "source_server", "workflow_project"]

ROOT = Path(__file__).resolve().parent.parent

# A shell starts a background job with SIGINT ignored, and all that it starts inherit that; tests of Ctrl-C are of the
# foreground.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Minutes each: they begin first, so that no core is left alone with one of them at the end.
LONGEST = ("test_workflow", "test_number_audit", "test_launch", "test_disturbed", "test_jupyter_server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real benchmarks and corpora; the test is skipped where there is none."""
    folder = Path(os.environ.get("BIOMEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data needed: set BIOMEG_DATA, or put it into {folder}")
    return folder


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's files, made once for all tests."""
    return miniature.build(tmp_path_factory.mktemp("miniature") / "made")
