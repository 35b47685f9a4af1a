"""From a name or a path to a `Checkpoint`: what kind of file it is, is found out here; how it is read, readers know."""

import os
from collections.abc import Iterator
from pathlib import Path

from biomeg_lib import sources
from biomeg_lib.checkpoints import checkpoint as ours
from biomeg_lib.checkpoints import hugging_face, megatron, nemo, published
from biomeg_lib.checkpoints.archives import is_archive, unpacked
from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.checkpoints.side_files import read_side_file
from biomeg_lib.checkpoints.tensors import read_state
from biomeg_lib.checkpoints.vocabularies import vocabulary_of_run
from biomeg_lib.checkpoints.weights import WEIGHTS, load_weights
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.params import suggestion

_DEEPEST = 4  # folders within an archive: a wheel has package/model/, NVIDIA's zip release/mp_rank_00/


def locate(name: str, root: Path | None = None) -> Path:
    """Where a checkpoint is: a path of one's own, else a published one, downloaded if need be.

    Args:
        name: a path, absolute or relative to `root` (or the current folder), the name of a published checkpoint, one
            of Hugging Face's hub (OWNER/MODEL), or an http(s) address of a single file.

    Raises:
        InputError: none of them.
    """
    path = (root or Path()) / os.path.expanduser(name)
    if path.exists():
        return path
    if name in published.names() or published.on_the_hub(name):
        return published.fetch(name)
    if name.startswith(("http://", "https://")):
        return sources.locate(name)
    near = suggestion(name, published.names())
    raise InputError(name, f"expected a checkpoint, found no such path, nor a published one of that name; {near}")


def read(path: str | Path) -> Checkpoint:
    """The checkpoint at a path, of any format.

    Raises:
        InputError: nothing is there, or nothing that holds a BERT encoder.
    """
    path = Path(path)
    try:
        return _read(path)
    except (BiomegError, OSError, MemoryError):
        raise
    except Exception as error:  # a mistake in a reader, which a hostile file may find before us
        kind = type(error).__name__
        raise InputError(path, f"expected a checkpoint, found what its reader cannot handle ({kind})") from error


def _read(path: Path) -> Checkpoint:
    if not path.exists():
        raise InputError(path, "expected a checkpoint, found nothing there")
    if path.is_dir():
        if (found := _read_folder(path)) is not None:
            return found
        raise InputError(path, "expected a checkpoint, found none of the formats that are read: " + _FORMATS)
    if is_archive(path):
        return _read_archive(path)
    if megatron.is_megatron(path):
        return megatron.read_megatron(path)
    state = read_state(path)
    if isinstance(state, dict) and "state_dict" in state:  # of PyTorch Lightning, and so of NeMo's training
        raise InputError(path, "expected weights alone, found a checkpoint of a training: export a .nemo of it")
    return hugging_face.read_file(path, state)


_FORMATS = "Hugging Face (config.json, model.safetensors or pytorch_model.bin), Megatron-LM (mp_rank_00/), NeMo"


def _read_folder(folder: Path, within: Path | None = None) -> Checkpoint | None:
    """The checkpoint in a folder; None if there is no sign of one. `within` as for `vocabulary_of_run`."""
    if (folder / ours.DESCRIPTION).is_file():
        return ours.load(folder)
    if (folder / "params.json").is_file():
        return _read_run(folder, within)
    if nemo.is_nemo(folder):
        return nemo.read_nemo(folder)
    if hugging_face.is_hugging_face(folder):
        return hugging_face.read_folder(folder)
    if megatron.is_megatron(folder):
        return megatron.read_megatron(folder)
    return None


def _read_run(folder: Path, within: Path | None) -> Checkpoint:
    """The encoder of a complete run of a study, pre-trained or fine-tuned."""
    params = read_side_file(folder / "params.json")
    if not (folder / "metrics.json").is_file() or not (folder / WEIGHTS).is_file():
        raise InputError(folder, "expected a complete run with its weights")
    try:
        name = params.get("encoder", params)["pretraining"]["vocabulary"]
    except (AttributeError, KeyError, TypeError):
        raise InputError(folder / "params.json", "expected the params of a run of a study") from None
    vocabulary = vocabulary_of_run(folder, name, within)
    config, weights = load_weights(folder)
    state = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
    notes = ["the head of its task is left out"] if len(state) < len(weights) else []
    return Checkpoint.checked(folder / WEIGHTS, config, state, vocabulary, f"run {folder.name} of a study", notes)


def _read_archive(path: Path) -> Checkpoint:
    """The checkpoint in a zip, wheel, tar or `.nemo`; errors name the member, not where it was unpacked."""
    with unpacked(path) as folder:
        try:
            for inner in _folders(folder):
                if (found := _read_folder(inner, folder)) is not None:
                    return found
        except InputError as error:
            inside = str(error).replace(f"{folder}/", f"{path}:").replace(str(folder), str(path))
            raise _Inside(error, inside) from None
    raise InputError(path, f"expected a checkpoint in the archive, found none of the formats that are read: {_FORMATS}")


class _Inside(InputError):
    """An error about a member of an archive, with its text as it is to be shown."""

    def __init__(self, error: InputError, text: str):
        Exception.__init__(self, text)
        self.path, self.line = error.path, error.line


def _folders(root: Path) -> Iterator[Path]:
    """The folder and those within it, the higher ones first."""
    level = [root]
    for _ in range(_DEEPEST):
        yield from level
        level = sorted(inner for folder in level for inner in folder.iterdir() if inner.is_dir())
