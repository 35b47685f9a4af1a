"""Every reader of files that come from anywhere, as `read(folder)` over one file's bytes, for fuzzing.

What each promises: it returns, or it raises a `BiomegError` whose text is one line. Nothing else is raised, nothing is
run, time and memory stay bounded.
"""

import dataclasses
import gzip
import io
import json
import tarfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import nano
import nbformat
import numpy as np
import torch
import yaml
from nbformat import v4
from safetensors.torch import save_file

from biomeg_lib import study, sums
from biomeg_lib.benchmarks.bioasq import read_bioasq, read_submission
from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.benchmarks.pairs import read_mrpc
from biomeg_lib.benchmarks.questions import read_squad
from biomeg_lib.benchmarks.relations import read_chemprot, read_chemprot_jsonl
from biomeg_lib.checkpoints import reading
from biomeg_lib.corpus import miniature
from biomeg_lib.corpus.indexed import IndexedReader, IndexedWriter
from biomeg_lib.corpus.readers import read_documents
from biomeg_lib.errors import BiomegError
from biomeg_lib.model import PretrainingModel
from biomeg_lib.model.config import ModelConfig
from biomeg_lib.predict.records import asked, pair, read_lines, relation_maker
from biomeg_lib.predict.runs import load_run
from biomeg_lib.predict.score import score
from biomeg_lib.predict.texts import read_texts
from biomeg_lib.report import html
from biomeg_lib.vocab import Vocabulary

LENGTH = 100  # characters of a text that a vocabulary is tried on


@dataclasses.dataclass(frozen=True)
class Reader:
    """One of them.

    Args:
        file: the name of the file whose bytes are fuzzed.
        read: reads it, in a folder that has it.
        seeds: bytes of sound files, small ones first.
        beside: files that lie beside it.
        words: what a mutation may put in.
    """

    file: str
    read: Callable[[Path], object]
    seeds: tuple[bytes, ...]
    beside: dict[str, bytes] = dataclasses.field(default_factory=dict)
    words: tuple[bytes, ...] = ()

    def prepare(self, folder: Path) -> None:
        """Write what lies beside the file."""
        for name, data in self.beside.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def __call__(self, folder: Path, data: bytes) -> bool:
        """Whether the bytes are what was expected.

        Raises:
            AssertionError: they are not, and that is not said in one line.
        """
        (folder / self.file).write_bytes(data)
        try:
            self.read(folder)
        except BiomegError as error:
            said = str(error)
        else:
            return True
        assert len(said.splitlines()) == 1, f"not one line: {said!r}"
        return False


def all_readers(folder: Path) -> dict[str, Reader]:
    """The readers by name.

    Args:
        folder: an empty one, for sound files that seeds are taken from.
    """
    mini = miniature.build(folder / "mini")
    pubmed = gzip.decompress((mini / miniature.PUBMED_FILES[0]).read_bytes())
    with tarfile.open(mini / miniature.PMC_FILE) as archive:
        articles = [archive.extractfile(member).read() for member in archive if member.isfile()][:2]
    tokens = b"&#945; &lt; <!DOCTYPE <![CDATA[ ]]> <?x ?> xmlns= <sec> </sec> <xref/> <sub> <pmid> 99999999999999999999"

    def documents(name: str, format: str) -> Callable[[Path], object]:
        return lambda place: deque(read_documents(place / name, format), 0)

    found = {
        "jats": Reader(
            "a.xml", documents("a.xml", "jats"), (_article(), *(a[:6000] for a in articles)), words=_words(tokens)
        ),
        "jats-package": Reader("a.tar.gz", documents("a.tar.gz", "jats"), (_package({"a/b.xml": _article()}),)),
        "pubmed": Reader(
            "a.xml", documents("a.xml", "pubmed"), (_citations(), _deletions(), pubmed[:6000]), words=_words(tokens)
        ),
        "json-lines": Reader("a.jsonl", documents("a.jsonl", "jsonl"), _lines(), words=_json_words()),
        "text": Reader("a.txt", documents("a.txt", "text"), (b"One.\nTwo.\n\nThree.\n", "\ufeffa\r\nb".encode())),
        "texts-to-predict": Reader("a.jsonl", lambda place: deque(read_texts(place / "a.jsonl"), 0), _lines()),
        "iob": Reader(
            "a.tsv", lambda place: read_iob(place / "a.tsv"), _iob(mini), words=_words(b"B-X I-X O \t\n -DOCSTART-")
        ),
        "chemprot": _chemprot(mini),
        "chemprot-lines": Reader(
            "a.jsonl",
            lambda place: read_chemprot_jsonl(place / "a.jsonl"),
            (b'{"text": "<< a >> inhibits [[ b ]] .", "label": "INHIBITOR"}\n',),
            words=_json_words(),
        ),
        "mrpc": Reader("a.txt", lambda place: read_mrpc(place / "a.txt"), (_head(mini / "mrpc/test.txt", 5),)),
        "squad": Reader(
            "a.json", lambda place: read_squad(place / "a.json"), (_squad(), _squad(False)), words=_json_words()
        ),
        "bioasq": Reader("a.json", lambda place: read_bioasq(place / "a.json"), (_bioasq(),), words=_json_words()),
        "bioasq-answers": Reader(
            "a.json", lambda place: read_submission(place / "a.json"), (_submission(),), words=_json_words()
        ),
        "params": _params(),
        "vocab.txt": Reader(
            "vocab.txt",
            lambda place: _tried(Vocabulary.load(place / "vocab.txt")),
            (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\nthe\n##s\n",),
            words=_words(b"[PAD] [UNK] [CLS] [SEP] [MASK] ## \n\n"),
        ),
        "spm.model": Reader("spm.model", lambda place: _tried(Vocabulary.load(place / "spm.model")), _models()),
        "vocab.json": Reader(
            "vocab.json",
            lambda place: _tried(Vocabulary.load(place)),
            (b'{"kind": "wordpiece", "lowercase": false}\n',),
            {"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n"},
            _json_words(),
        ),
        "idx": _index(folder),
        **_checkpoints(folder),
        **_to_predict_and_score(),
        "sums.txt": Reader(
            "sums.txt",
            lambda place: list(sums.problems_of(place)),
            (b"8c736521 3 a\n00000000 1 b/c\n",),
            {"a": b"foo"},
            _words(b"../ / \x00 a"),
        ),
        "notebook": _notebook(),
    }
    return found


def _to_predict_and_score() -> dict[str, Reader]:
    relation = b'{"id": "1", "text": "A stops B.", "first": [0, 1], "second": [8, 9]}\n'
    marked = b'{"id": 2, "text": "<< A >> stops [[ B ]]"}\n'
    chemical = b'{"text": "A stops B.", "chemical": [0, 1], "gene": [8, 9]}\n'
    question = (
        b'{"id": "1", "question": "Who?", "context": "Bob."}\n{"question": "Who?", "snippets": ["Al.", "Bob."]}\n'
    )

    def lines(make: Callable[..., object]) -> Callable[[Path], object]:
        return lambda place: deque(read_lines(place / "a.jsonl", make), 0)

    return {
        "relations-to-predict": Reader(
            "a.jsonl", lines(relation_maker(False)), (relation + marked, chemical), {}, _json_words()
        ),
        "pairs-to-predict": Reader(
            "a.jsonl", lines(pair), (b'{"id": "1", "first": "a", "second": "b"}\n',), {}, _json_words()
        ),
        "questions-to-predict": Reader("a.jsonl", lines(asked), (question,), {}, _json_words()),
        "squad-answers": Reader(
            "a.json",
            lambda place: score(place / "gold.json", place / "a.json", skip_bad=True),
            (b'{"q1": "Bob"}',),
            {"gold.json": _squad()},
            _json_words(),
        ),
    }


def _notebook() -> Reader:
    outputs = [v4.new_output("stream", text="one"), v4.new_output("display_data", {"text/html": "<b>x</b>"})]
    cells = [v4.new_markdown_cell("# A *b*\n![x](y.png)"), v4.new_code_cell("1", outputs=outputs)]
    seed = nbformat.writes(v4.new_notebook(cells=cells)).encode()
    words = _words(b'<script> <svg/onload=x> <table> </div> "text/html" "image/png" "cells" javascript: $$ ``` [[[[')
    return Reader("a.ipynb", lambda place: html._render_cells(place / "a.ipynb"), (seed,), {}, words)


def _words(text: bytes) -> tuple[bytes, ...]:
    return tuple(text.split(b" "))


def _json_words() -> tuple[bytes, ...]:
    return _words(
        rb'null true -1 1e999 NaN {} [] "" "\ud800" "\u0000" "id" "text" "title" [[[[[[[[ 1234567890123456789012345'
    )


def _head(path: Path, lines: int) -> bytes:
    return b"".join(path.read_bytes().splitlines(keepends=True)[:lines])


def _article() -> bytes:
    return (
        b'<?xml version="1.0"?><article xmlns:xlink="x"><front><article-meta><article-id pub-id-type="pmcid">PMC1'
        b"</article-id><title-group><article-title>On <italic>a</italic></article-title></title-group><abstract><p>An "
        b"&#945; abstract.</p></abstract></article-meta></front><body><sec><title>One</title><p>Text <xref>1</xref>."
        b"</p><table-wrap><p>no</p></table-wrap></sec></body></article>"
    )


def _citations() -> bytes:
    return (
        b'<?xml version="1.0"?><PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version="1">12</PMID><Article>'
        b'<ArticleTitle>A title.</ArticleTitle><Abstract><AbstractText Label="AIM">Some text.</AbstractText></Abstract>'
        b"</Article></MedlineCitation></PubmedArticle></PubmedArticleSet>"
    )


def _deletions() -> bytes:
    return b"<PubmedArticleSet><DeleteCitation><PMID Version='1'>12</PMID></DeleteCitation></PubmedArticleSet>"


def _lines() -> tuple[bytes, ...]:
    return (
        b'{"id": "1", "title": "A", "paragraphs": ["One two.", "Three."]}\n{"id": "2", "text": "Four."}\n',
        b'{"id": "1", "text": "caf\xc3\xa9 \\ud83d\\ude00"}\n\n',
    )


def _iob(mini: Path) -> tuple[bytes, ...]:
    return (b"aspirin\tB\nworks\tO\n\nno\tO\n", _head(mini / "ner/chem/test.tsv", 40), b"a B-X\nb I-X\n")


def _package(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def _chemprot(mini: Path) -> Reader:
    """The fuzzed file has all three tables, each behind a line `---`."""
    names = ("abstracts", "entities", "relations")

    def read(place: Path) -> object:
        parts = (place / "all.tsv").read_bytes().split(b"---\n")
        for name, part in zip(names, [*parts, b"", b"", b""][:3], strict=True):
            (place / f"x_{name}.tsv").write_bytes(part)
        return read_chemprot([place / f"x_{name}.tsv" for name in names])

    abstracts = _head(mini / "chemprot/test_abstracts.tsv", 2)
    ids = {line.split(b"\t")[0] for line in abstracts.splitlines()}
    rows = [
        b"".join(
            line
            for line in (mini / f"chemprot/test_{name}.tsv").read_bytes().splitlines(keepends=True)
            if line.split(b"\t")[0] in ids
        )
        for name in names[1:]
    ]
    whole = b"---\n".join([abstracts, *rows])
    return Reader(
        "all.tsv", read, (whole,), words=_words(b"CHEMICAL GENE-Y GENE-N CPR:3 Arg1:T1 Arg2:T2 \t\t -1 ---\n")
    )


def _squad(answered: bool = True) -> bytes:
    question = {"id": "q1", "question": "Who?", "answers": [{"text": "Bob", "answer_start": 0}]}
    if not answered:
        question |= {"is_impossible": True, "answers": []}
    data = [{"title": "t", "paragraphs": [{"context": "Bob did it.", "qas": [question]}]}]
    return json.dumps({"version": "1.1", "data": data}).encode()


def _bioasq() -> bytes:
    snippet = {"text": "Bob did it.", "document": "http://x/1", "offsetInBeginSection": 0, "offsetInEndSection": 11}
    question = {
        "id": "55", "type": "factoid", "body": "Who?", "exact_answer": [["Bob"]], "snippets": [snippet],
        "documents": ["http://x/1"], "ideal_answer": ["Bob."],
    }  # fmt: skip
    return json.dumps({"questions": [question]}).encode()


def _submission() -> bytes:
    return json.dumps({"questions": [{"id": "55", "exact_answer": [["Bob"], ["Al"]]}]}).encode()


def _params() -> Reader:
    def read(place: Path) -> object:
        return study.load(place / "params" / "nano.yaml")

    seed = yaml.safe_dump(nano.PARAMS, sort_keys=False).encode()
    words = _words(
        b"profile: seeds: corpora: pretraining: &a *a <<: !!python/object:os.system {} [] null 1e999 .nan -1 \t"
    )
    return Reader("params/nano.yaml", read, (seed,), {"notebooks/none": b""}, words)


def _tried(vocabulary: Vocabulary) -> object:
    text = "The \u03b1-study's  caf\u00e9s, 12 \U0001f600 ab" * 2
    ids = vocabulary.encode(text[:LENGTH]).ids
    vocabulary.encode_ids([text])
    return vocabulary.decode(ids)


def _models() -> tuple[bytes, ...]:
    texts = ["the study of the cat", "a cat studied the act", "tea tests at the east"] * 3
    return tuple(Vocabulary.train(texts, 28, algorithm)._model.source for algorithm in ("bpe", "unigram"))


def _index(folder: Path) -> Reader:
    with IndexedWriter(folder / "seed", np.uint16) as writer:
        writer.add_document([np.array([1, 2, 3]), np.array([4])])
        writer.add_document([np.array([5, 6])])

    def read(place: Path) -> object:
        reader = IndexedReader(place / "seed")
        return [reader[number].sum() for number in range(len(reader))], reader.document_sizes()

    return Reader(
        "seed.idx", read, ((folder / "seed.idx").read_bytes(),), {"seed.bin": (folder / "seed.bin").read_bytes()}
    )


def _checkpoints(folder: Path) -> dict[str, Reader]:
    config = ModelConfig(1, 8, 1, 16, max_length=8, norm="post")
    shape = {
        "model_type": "bert", "vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 32, "max_position_embeddings": 8, "type_vocab_size": 2, "hidden_act": "gelu",
    }  # fmt: skip
    state = {name: value.detach() for name, value in PretrainingModel(config).state_dict().items()}
    save_file(state, folder / "seed.safetensors")
    seeds = {}
    for name, new in (("zip", True), ("legacy", False)):
        torch.save({"a.weight": torch.ones(2, 3), "b": [1, "x"]}, folder / name, _use_new_zipfile_serialization=new)
        seeds[name] = (folder / name).read_bytes()
    description = json.dumps(shape).encode()
    weights = (folder / "seed.safetensors").read_bytes()
    index = json.dumps({"weight_map": dict.fromkeys(state, "model.safetensors")}).encode()
    table = {piece: n for n, piece in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"))}
    tokenizer = json.dumps({"model": {"type": "WordPiece", "vocab": table}, "normalizer": {"lowercase": True}}).encode()
    run = json.dumps(
        {"cell": {}, "benchmark": {"format": "iob"}, "recipe": {}, "encoder": {"pretraining": {"vocabulary": "a"}}}
    )
    run_files = {"metrics.json": b'{"labels": ["X"], "point": {"num_fc_layers": 1}}', "model.safetensors": weights}
    run_files["model.json"] = json.dumps(dataclasses.asdict(config)).encode()

    def read(name: str) -> Callable[[Path], object]:
        return lambda place: reading.read(place / name if name else place)

    return {
        "safetensors": Reader("a.safetensors", read("a.safetensors"), ((folder / "seed.safetensors").read_bytes(),)),
        "pickle": Reader("a.pt", read("a.pt"), (seeds["legacy"], seeds["zip"])),
        "config.json": Reader(
            "config.json",
            read(""),
            (description,),
            {"model.safetensors": (folder / "seed.safetensors").read_bytes(), "vocab.txt": b"[PAD]\n"},
            _json_words(),
        ),
        "index.json": Reader(
            "model.safetensors.index.json",
            read(""),
            (index,),
            {"config.json": description, "model.safetensors": weights},
            _json_words(),
        ),
        "tokenizer.json": Reader(
            "tokenizer.json",
            read(""),
            (tokenizer,),
            {"config.json": description, "model.safetensors": weights},
            _json_words(),
        ),
        "run": Reader("params.json", load_run, (run.encode(),), run_files, _json_words()),
        "nemo": Reader(
            "a.nemo", read("a.nemo"), (_package({"model_config.yaml": b"a: 1", "model_weights.ckpt": seeds["zip"]}),)
        ),
    }
