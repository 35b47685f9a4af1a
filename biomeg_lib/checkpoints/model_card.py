"""README.md of an export: what the model is, how to use it so that it says what `biomeg predict` says, how it was made.

Notable: names and values come from files, so they are escaped: JSON in the front matter (which is YAML) and in fenced
blocks, where no line can begin with a fence; Markdown's signs with a backslash elsewhere.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from biomeg_lib import __version__
from biomeg_lib.checkpoints.hf_tokenizer import differences
from biomeg_lib.checkpoints.hf_writer import MODEL_TYPES, Exportable, scale_of_pooler
from biomeg_lib.vocab import Vocabulary

_PIPELINES = {
    "encoder": "feature-extraction",
    "masked words": "fill-mask",
    "ner": "token-classification",
    "classification": "text-classification",
    "qa": "question-answering",
}
_NOT_SCORES = ("cell", "point", "seed", "labels", "evaluations", "untrained", "threshold")

_USE = {
    "encoder": """\
```python
from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained(FOLDER), AutoModel.from_pretrained(FOLDER)
hidden = model(**tokenizer("Aspirin helps.", return_tensors="pt")).last_hidden_state
```""",
    "masked words": """\
```python
from transformers import pipeline

fill = pipeline("fill-mask", model=FOLDER)
words = fill(f"Patients with {fill.tokenizer.mask_token} were treated.")
```""",
    "ner": """\
The run cuts words at every sign and labels a word as its first piece. So give the pipeline words, and let it keep all
labels:

```python
import bisect
import re

from transformers import pipeline

tagger = pipeline("token-classification", model=FOLDER, aggregation_strategy="none", ignore_labels=[])


def entities(sentence):
    words = [match.span() for match in re.finditer(r"[^\\W_]+|[^\\w\\s]|_", sentence)]
    begins = [0]  # of the words, joined by blanks
    for start, end in words:
        begins.append(begins[-1] + end - start + 1)
    labels = {}
    for piece in tagger([[sentence[start:end] for start, end in words]], is_split_into_words=True)[0] if words else []:
        labels.setdefault(bisect.bisect(begins, piece["start"]) - 1, piece["entity"])
    found, before = [], "O"
    for number, (start, end) in enumerate(words):
        label = labels.get(number, "O")
        if label[0] == "I" and before[2:] == label[2:]:
            found[-1] = (label[2:], found[-1][1], end)
        elif label != "O":
            found.append((label[2:], start, end))
        before = label
    return found
```""",
    "classification": """\
```python
from transformers import pipeline

classifier = pipeline("text-classification", model=FOLDER)
label = classifier($example, truncation=True)
```""",
    "qa": """\
```python
from transformers import pipeline  # of transformers 4: 5 has no such pipeline

answerer = pipeline("question-answering", model=FOLDER)
answer = answerer(
    question="What helps?",
    context="Aspirin helps.",
    max_seq_len=$length,
    doc_stride=$overlap,
    max_question_len=$question,
    max_answer_len=$answer,
    align_to_words=False,
    handle_impossible_answer=$impossible,
)
```""",
}


@dataclass(frozen=True)
class Card:
    """What a card tells of.

    Attributes:
        name: of the run or checkpoint.
        origin, notes: as in `Checkpoint`.
        model: what is exported.
        length: tokens of the longest text.
        params, metrics, environment: the run's files; empty for a checkpoint.
    """

    name: str
    origin: str
    model: Exportable
    vocabulary: Vocabulary | None
    length: int
    notes: Sequence[str]
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    environment: Mapping[str, Any]


def model_card(card: Card) -> str:
    """The card's text, Markdown with YAML front matter."""
    front = {
        "library_name": "transformers",
        "pipeline_tag": _PIPELINES[card.model.purpose],
        "tags": ["biomeg-lib", MODEL_TYPES[card.model.config.norm]],
    }
    parts = [
        "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in front.items()), "---"]),
        f"# {escaped(card.name)}",
        f"A `{card.model.class_name}`, exported by biomeg-lib {__version__} from: {escaped(card.origin)}.",
        "## Use",
        "`FOLDER` is where this file is.",
        _use(card),
        "## What differs from `biomeg predict`" if card.model.head is not None else "## To know",
        "\n".join(f"- {line}" for line in _differences(card)),
    ]
    if rows := list(_scores(card.metrics)):
        table = [
            "| score | value |",
            "| --- | ---: |",
            *(f"| {escaped(name)} | {value:,.6g} |" for name, value in rows),
        ]
        parts += ["## Scores", "\n".join(table)]
    if card.params:
        parts += ["## Data", _data(card.params), "## How it was made", "The run's params:", fenced(card.params)]
        if card.environment:
            parts += ["Versions, commit, machine and date:", fenced(card.environment)]
    return "\n\n".join(parts) + "\n"


def escaped(text: Any) -> str:
    """Text on one line that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~$!])", r"\\\1", " ".join(str(text).split()))


def fenced(values: Any) -> str:
    """Values as a block of JSON."""
    return f"```json\n{json.dumps(values, indent=2, ensure_ascii=False)}\n```"


def _use(card: Card) -> str:
    template = Template(_USE[card.model.purpose])
    recipe = card.params.get("recipe", {})
    question = recipe.get("max_question", 64)
    marking = card.params.get("cell", {}).get("marking")
    examples = {
        None: '{"text": "Aspirin helps.", "text_pair": "It is aspirin that helps."}',
        "markers": '"<< Aspirin >> inhibits [[ COX-1 ]]."',
        "anonymised": '"@CHEMICAL$ inhibits @GENE$."',
    }
    return template.safe_substitute(
        example=examples.get(marking, examples[None]),
        length=card.length,
        overlap=max(0, card.length - question - 3 - recipe.get("stride", 0)),
        question=question,
        answer=recipe.get("max_answer", 30),
        impossible=card.metrics.get("threshold") is not None,
    )


def _differences(card: Card) -> Iterator[str]:
    yield from (escaped(note) for note in card.notes)
    yield f"Texts have at most {card.length} tokens, as in training. {_longer(card.model.purpose)}"
    if card.model.purpose == "ner":
        yield (
            "The lines above take a text for one sentence; `biomeg predict` cuts it into sentences first. Their "
            "pattern is for text without combining marks and invisible characters, which "
            "`biomeg_lib.predict.texts.words` knows."
        )
        yield (
            'With `aggregation_strategy="first"` the pipeline takes some pieces for words of their own: each Chinese '
            "character, and with a SentencePiece vocabulary an unknown piece and what follows the mark of a word where "
            "that is a piece by itself. Given a text and not words, it also merges words that no blank parts."
        )
    if card.model.purpose == "classification":
        k = scale_of_pooler(card.model.config, card.model.state)
        yield (
            f"The class has a pooler, tanh(dense), that the run had not. Here it is 2^-{k} times the identity, and the "
            f"classifier's weights are 2^{k} times those of the run, so that logits agree to the last digits of "
            "float32. Use float32 or bfloat16: float16 has no room for such numbers."
        )
    if card.model.purpose == "qa":
        threshold = card.metrics.get("threshold")
        if threshold is not None:
            yield (
                f"The run answers unless no answer scores {threshold:.6g} more than the best span, in logits; the "
                "pipeline's bound is 0."
            )
        yield (
            "In a context of several windows the pipeline compares probabilities within each window, and its windows "
            "overlap a little otherwise; `biomeg predict` compares logits."
        )
    if card.vocabulary is None:
        yield "The checkpoint came without a vocabulary, so there are no tokenizer files."
    else:
        yield from differences(card.vocabulary)
        if card.model.config.vocab_size > card.vocabulary.size:
            yield (
                f"The embedding has {card.model.config.vocab_size:,} rows for {card.vocabulary.size:,} pieces; the "
                "rest is padding."
            )


def _longer(purpose: str) -> str:
    return {
        "ner": "The pipeline leaves out what is beyond; `biomeg predict` goes on in another part.",
        "classification": "The pipeline cuts off what is beyond; `biomeg predict` keeps the mentions of a relation.",
        "qa": "Longer contexts are read in windows.",
    }.get(purpose, "Positions beyond have learnt nothing.")


def _scores(metrics: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping) and name not in _NOT_SCORES:
            yield from _scores(value, f"{before}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool) and name not in _NOT_SCORES:
            yield f"{before}{name}", value


def _data(params: Mapping[str, Any]) -> str:
    """What the run learnt from, in bullet points."""
    rows: list[str] = []
    encoder = params.get("encoder", params)
    if "benchmark" in params:
        rows += [f"{name}: {escaped(value)}" for name, value in params["benchmark"].items()]
        cell = params.get("cell", {})
        rows += [f"{name}: {escaped(cell[name])}" for name in ("benchmark", "fraction", "start") if name in cell]
    for name in ("corpus", "vocabulary"):
        if name in encoder:
            rows.append(f"{name}: {escaped(json.dumps(encoder[name], ensure_ascii=False))}")
    return "\n".join(f"- {row}" for row in rows)
