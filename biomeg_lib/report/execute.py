"""Notebooks, executed headlessly by papermill, and the report made of them."""

import datetime
import logging
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traitlets.config import Config

from biomeg_lib import sums
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import as_usual
from biomeg_lib.study import Study


def execute(study: Study, notebook: str, output: Path, parameters: Mapping[str, Any]) -> None:
    """Execute `notebooks/<notebook>.ipynb` with this study's profile; `output` appears when every cell has run.

    A notebook that fails is kept beside it, as `<output>.failed.ipynb`, with its traceback.

    Args:
        parameters: for the notebook's parameters cell, besides `profile`.

    Raises:
        BiomegError: the notebook is not there or has failed, with the first line of what it raised.
    """
    import papermill  # here, since it takes a second to import

    # What goes wrong is said once, below; these add that a kernel has died, which after Ctrl-C it may at any moment.
    for name in ("papermill", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    source = study.root / "notebooks" / f"{notebook}.ipynb"
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in source.parent.glob("*.ipynb")))
        raise InputError(source, f"expected a notebook, found none; there are {known}")
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    handle, temporary = tempfile.mkstemp(prefix=f".{output.stem}.", suffix=".ipynb", dir=output.parent)
    os.close(handle)
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="biomeg-") as sockets:
            warnings.simplefilter("ignore")  # of nbformat, about cells without ids in papermill's own injected cell
            papermill.execute_notebook(
                source,
                temporary,
                parameters={"profile": study.profile, **parameters},
                cwd=study.root,
                progress_bar=False,
                # ipykernel warns of sockets on this machine that are not encrypted, and of messages that Ctrl-C cut off
                extra_arguments=["--log-level=50"],
                config=_kernel_config(sockets),
            )
    except papermill.PapermillExecutionError as error:
        os.replace(temporary, failed)
        line = str(error.evalue).strip().splitlines()[0] if str(error.evalue).strip() else ""
        kind = "" if error.ename in ("BiomegError", "InputError") else f"{error.ename}: "
        raise BiomegError(f"notebook {notebook}: {kind}{line} (the whole notebook: {_shown(failed)})") from None
    except RuntimeError as error:  # of nbclient: the kernel did not start, or died
        Path(temporary).unlink(missing_ok=True)
        raise BiomegError(f"notebook {notebook}: {str(error).splitlines()[0]}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    as_usual(temporary)
    sums.announce(output, Path(temporary))
    os.replace(temporary, output)
    failed.unlink(missing_ok=True)


def render(study: Study, notebooks: list[Path], folder: Path | None = None) -> Path:
    """The report of executed notebooks and of all runs; returns its index.html.

    Args:
        folder: what has `runs` and gets `report`; `outputs/<profile>` unless given.
    """
    from biomeg_lib.report import runs_page
    from biomeg_lib.report.html import render_site
    from biomeg_lib.training.environment import describe_environment

    folder = folder or study.outputs
    environment = describe_environment(study.root)
    packages = {name: str(version) for name, version in environment.pop("packages").items()}
    now = datetime.datetime.now(datetime.UTC)
    provenance = {
        "profile": study.profile,
        "data": "embedded miniature: generated text, not real" if study.generated else "real text",
        "params": str(study.params_file),
        **{key: str(value) for key, value in environment.items() if key not in ("date", "threads")},
        "rendered": now.isoformat(timespec="minutes"),
        "versions": packages,
    }
    runs = runs_page.runs_page(folder / "runs", {path.stem for path in notebooks})
    pages = render_site(notebooks, folder / "report", provenance=provenance, pages={runs_page.PAGE: runs})
    return pages[0]


def _kernel_config(folder: str) -> Config:
    """A kernel that is spoken to through sockets in `folder`: no TCP port, so no network at all is needed and no other
    user of the machine can connect. Where the folder's name is too long for a socket (about 100 bytes), Jupyter's TCP.

    After Ctrl-C a kernel has a minute to finish a training step and save it, and after two it is killed.
    """
    patient = {"shutdown_wait_time": 120.0}
    if len(os.fsencode(folder)) > 90:
        return Config(KernelManager=patient)
    return Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel", **patient})


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
