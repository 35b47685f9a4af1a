"""`Checkpoint`: a pre-trained encoder from anywhere, under our names and checked; and the folder we keep one in.

    checkpoint.json     where it came from, what is missing, what to know about it
    model.json          the shape
    model.safetensors   the weights, float32, under the names of `PretrainingModel`
    vocabulary/         as `Vocabulary.save` leaves it, if there is one

Notable: the encoder is always whole; each of the three parts on it (masked-LM head, pooler, sentence-order head) is
there or missing as a whole, since published checkpoints leave out one or the other.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomeg_lib.checkpoints.side_files import read_side_file
from biomeg_lib.checkpoints.weights import WEIGHTS, load_weights, save_weights
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import atomic_directory, write_json
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.vocab import Vocabulary

PARTS = {"mlm": "masked-LM head", "pooler": "pooler", "order": "sentence-order head"}
DESCRIPTION = "checkpoint.json"
_LONGEST_NOTE = 500  # characters
_MOST_SHARED = 16  # times the bytes in the file: half precision takes twice as many, and a tied decoder again
_SHARED_ALLOWANCE = 256 << 20  # bytes that weights may take whatever the file has
_MOST_LAYERS = 1000  # more than any encoder has; a config that claims more is not worth building even without memory
_MOST_PADDING = 8192  # rows without a piece: Megatron pads to a multiple of 128 x tensor-parallel size


@dataclass(frozen=True)
class Checkpoint:
    """An encoder and what came with it. Made by `checked`.

    Attributes:
        config: the shape; `vocab_size` is the number of rows in the file, padding rows included.
        state: our name -> float32 tensor; all of the encoder, and of each of `PARTS` all or nothing.
        vocabulary: None where the files hold none.
        origin: what it was read from, for people: "Hugging Face BertForMaskedLM, safetensors".
        notes: what a user should know: what was left out, what was assumed. One line each, as is `origin`; what is in
            them of names in the file has no control characters.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    vocabulary: Vocabulary | None
    origin: str
    notes: tuple[str, ...] = ()

    @classmethod
    def checked(
        cls,
        path: str | Path,
        config: ModelConfig,
        state: Mapping[str, Tensor],
        vocabulary: Vocabulary | None,
        origin: str,
        notes: Iterable[str] = (),
    ) -> "Checkpoint":
        """A checkpoint whose weights are those of `config`, all of them and nothing else.

        Args:
            path: what it was read from, for errors.
            state: under our names, of any floating-point type; a part of which a tensor is missing is left out, and a
                note says so.

        Raises:
            InputError: a weight of the encoder is missing, one is unknown or of another shape, or the vocabulary has
                more pieces than the embedding has rows, or far fewer.
        """
        wanted = _shapes(path, config)
        unknown = sorted(state.keys() - wanted.keys())
        if unknown:
            raise InputError(path, f"expected the weights of a BERT encoder, found {unknown[0]!r}{_more(unknown)}")
        notes = list(notes)
        kept = dict(state)
        for part, title in PARTS.items():
            absent = [name for name in wanted if _part(name) == part and name not in state]
            if absent and any(_part(name) == part for name in state):
                kept = {name: value for name, value in kept.items() if _part(name) != part}
                notes.append(f"the {title} lacks {absent[0]!r} and is left out")
        missing = [name for name in wanted if _part(name) == "encoder" and name not in state]
        if missing:
            raise InputError(path, f"expected the whole encoder, but {missing[0]!r} is missing{_more(missing)}")
        for name, value in kept.items():
            if value.shape != wanted[name]:
                found, expected = list(value.shape), list(wanted[name])
                raise InputError(path, f"expected {name!r} of shape {expected}, found {found}")
            if not value.is_floating_point():
                raise InputError(path, f"expected {name!r} of floating-point numbers, found {value.dtype}")
        if vocabulary is not None:
            check_vocabulary(path, vocabulary, config.vocab_size)
        try:
            weights = {name: kept[name].to(torch.float32).contiguous() for name in wanted if name in kept}
        except NotImplementedError:  # torch can hold some types and do nothing with them
            kinds = ", ".join(sorted({str(value.dtype) for value in kept.values()}))
            raise InputError(path, f"expected numbers that become float32, found {kinds}") from None
        return cls(config, weights, vocabulary, _visible(origin), tuple(map(_visible, notes)))

    @property
    def missing(self) -> tuple[str, ...]:
        """The keys of `PARTS` that it does not have."""
        return tuple(part for part in PARTS if not any(_part(name) == part for name in self.state))

    @property
    def parameters(self) -> int:
        """How many numbers it holds; the decoder is the word embedding and counts once."""
        return sum(value.numel() for value in self.state.values())


def check_sharing(path: str | Path, *states: Mapping[Any, Any]) -> None:
    """Raise InputError if the tensors of some states would take far more memory, each as its own float32, than the
    storages have that they are views of. Sound files have tied weights in common, a hostile one all of them.
    """
    tensors = [value for state in states for value in state.values() if isinstance(value, Tensor)]
    storages = {(storage := value.untyped_storage()).data_ptr(): storage.nbytes() for value in tensors}
    there, claimed = sum(storages.values()), sum(value.numel() * max(4, value.itemsize) for value in tensors)
    if claimed > _MOST_SHARED * there + _SHARED_ALLOWANCE:
        raise InputError(
            path, f"expected weights of their own, found {claimed:,} bytes of them in {there:,} of the file"
        )


def check_vocabulary(path: str | Path, vocabulary: Vocabulary, rows: int) -> None:
    """Raise InputError unless an embedding of `rows` can belong to the vocabulary: one row a piece, and padding."""
    if not vocabulary.size <= rows <= vocabulary.size + _MOST_PADDING:
        raise InputError(
            path, f"expected an embedding row for each of the vocabulary's {vocabulary.size:,} pieces, found {rows:,}"
        )


def save(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write the folder, whole or not at all. An older checkpoint there is replaced, nothing else is.

    Raises:
        BiomegError: `folder` exists and is no checkpoint of ours.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise BiomegError(f"{folder}: expected a new folder or an older checkpoint, found something else")
    with atomic_directory(folder) as new:
        save_weights(new, checkpoint.config, checkpoint.state)
        if checkpoint.vocabulary is not None:
            checkpoint.vocabulary.save(new / "vocabulary")
        description = {
            "origin": checkpoint.origin,
            "missing": list(checkpoint.missing),
            "notes": list(checkpoint.notes),
            "parameters": checkpoint.parameters,
        }
        write_json(new / DESCRIPTION, description)


def load(folder: str | Path) -> Checkpoint:
    """Read what `save` wrote.

    Raises:
        InputError: a file is absent or damaged.
    """
    folder = Path(folder)
    config, state = load_weights(folder)
    described = read_side_file(folder / DESCRIPTION)
    notes = described.get("notes", []) if isinstance(described, dict) else None
    if not isinstance(notes, list):
        raise InputError(folder / DESCRIPTION, "expected a description of a checkpoint, found something else")
    vocabulary = Vocabulary.load(folder / "vocabulary") if (folder / "vocabulary").is_dir() else None
    origin = str(described.get("origin", "unknown"))
    return Checkpoint.checked(folder / WEIGHTS, config, state, vocabulary, origin, map(str, notes))


def _shapes(path: str | Path, config: ModelConfig) -> dict[str, torch.Size]:
    """The shape of every weight of a model; no memory is taken for them."""
    if config.layers > _MOST_LAYERS:
        raise InputError(path, f"expected at most {_MOST_LAYERS} layers, found {config.layers}")
    one_layer = dataclasses.replace(config, layers=1)
    try:
        with torch.device("meta"):
            model = PretrainingModel(one_layer)
    except (RuntimeError, OverflowError, TypeError):
        raise InputError(path, "expected a model that memory can hold, found absurd sizes in its config") from None
    shapes: dict[str, torch.Size] = {}
    for name, value in model.state_dict().items():
        numbers = range(config.layers) if name.startswith("encoder.blocks.0.") else range(1)
        for number in numbers:
            shapes[name.replace("encoder.blocks.0.", f"encoder.blocks.{number}.")] = value.shape
    return shapes


def _visible(text: str) -> str:
    """Text with names from a file in it, on one line: a control character could forge another, or worse."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_LONGEST_NOTE])


def _part(name: str) -> str:
    return name.split(".", 1)[0]


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
