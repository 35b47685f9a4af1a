"""The commands `biomeg inspect`, `import` and `export`."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from biomeg_lib.checkpoints import published
from biomeg_lib.checkpoints.checkpoint import PARTS, Checkpoint, check_vocabulary, save
from biomeg_lib.checkpoints.export import export as export_hugging_face
from biomeg_lib.checkpoints.megatron_writer import write_megatron
from biomeg_lib.checkpoints.reading import locate, read
from biomeg_lib.errors import BiomegError
from biomeg_lib.vocab import Vocabulary

_GELU = {"tanh": "GeLU by tanh", "erf": "exact GeLU"}


def inspect(name: str) -> Iterator[str]:
    """Lines about a checkpoint: what it is, how large, what is missing.

    Args:
        name: of a published checkpoint, or a path.
    """
    yield from described(read(locate(name)))


def described(checkpoint: Checkpoint) -> Iterator[str]:
    """Lines about a checkpoint that has been read."""
    config, vocabulary = checkpoint.config, checkpoint.vocabulary
    kind = {"pre": "Megatron BERT (pre-LN)", "post": "BERT (post-LN)"}[config.norm]
    rows = f"{config.vocab_size:,} rows"
    pieces = f"not in the files; {rows}"
    if vocabulary is not None:
        case = "uncased" if vocabulary.lowercase else "cased"
        padding = config.vocab_size - vocabulary.size
        pieces = f"{vocabulary.size:,} pieces ({vocabulary.kind}, {case}), {rows}, {padding:,} of them padding"
    missing = ", ".join(PARTS[part] for part in checkpoint.missing)
    yield f"format        {checkpoint.origin}"
    yield f"architecture  {kind}, {_GELU[config.gelu]}, LayerNorm epsilon {config.norm_eps:g}"
    yield (
        f"shape         {config.layers} layers, hidden size {config.hidden}, {config.heads} heads, "
        f"feed-forward {config.intermediate:,}, {config.max_length} positions, {config.token_types} token types"
    )
    yield f"vocabulary    {pieces}"
    yield f"parameters    {checkpoint.parameters:,}"
    yield f"missing       {missing or 'nothing'}"
    for note in checkpoint.notes:
        yield f"note          {note}"


def import_checkpoint(name: str, to: Path | None, vocabulary: Path | None = None) -> tuple[Path, Checkpoint]:
    """Read a checkpoint and write it as ours.

    Args:
        name: of a published checkpoint, or a path.
        to: the folder; `outputs/checkpoints/<name>` unless given.
        vocabulary: a file for a checkpoint that has none with it, or instead of that one.

    Returns:
        Where it is now, and the checkpoint.
    """
    path = locate(name)
    checkpoint = read(path)
    if vocabulary is not None:
        given = Vocabulary.load(vocabulary)
        check_vocabulary(vocabulary, given, checkpoint.config.vocab_size)
        checkpoint = dataclasses.replace(checkpoint, vocabulary=given)
    to = to or Path(
        "outputs", "checkpoints", name.replace("/", "--") if path.is_dir() and not Path(name).exists() else path.stem
    )
    save(checkpoint, to)
    return to, checkpoint


def listed() -> Iterator[str]:
    """A line for each published checkpoint whose name can stand for it."""
    for row in published.rows():
        what = f"{row.title}; in the paper: {row.paper}" if row.paper else row.title
        address = row.files[0].url.rsplit("/", 1)[0]
        facts = f"{row.format:12} {row.size:>7}  {row.vocabulary:15}  {row.licence:32.32}"
        yield f"{row.name:34} {facts}  {address}  {what}"


def export_run(source: Path, to: Path, layout: str, tensor_parallel: int) -> str:
    """Write a run, or a checkpoint of ours, in another layout; returns a line about what was written.

    Args:
        layout: "huggingface" or "megatron".

    Raises:
        BiomegError: there is none for this run.
    """
    if layout == "megatron":
        write_megatron(read(source), to, tensor_parallel)
        return f"{to}: Megatron-LM, {tensor_parallel} tensor-parallel shard{'s' if tensor_parallel > 1 else ''}"
    if tensor_parallel != 1:
        raise BiomegError("export: expected --tensor-parallel with --format megatron alone")
    return f"{to}: {export_hugging_face(source, to)} of transformers"
