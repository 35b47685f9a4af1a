"""What a reader tries in a notebook: a sentence under every vocabulary, a masked word before two models, text to mark.

Each try is a plain function from text to a table or HTML, and a function that puts controls before it. What is notable
is `Live`: one output with two faces, so that a notebook executed without a front end shows the first result as it is.
"""

import functools
import html
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import pandas as pd
from IPython.display import HTML

from biomeg_lib.errors import BiomegError
from biomeg_lib.model import PretrainingModel
from biomeg_lib.predict import Recogniser, load_run
from biomeg_lib.predict.entities import Entity
from biomeg_lib.report.show import Show
from biomeg_lib.study import Study
from biomeg_lib.tasks.fill_in import fill_in
from biomeg_lib.tasks.jobs import load_benchmark
from biomeg_lib.training.pretrain import load_pretrained
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.vocab import Vocabulary

LONGEST = 10_000  # characters of a text: what a model reads while somebody types
_LOADED = 4  # models that are kept in memory


class Live:
    """Controls above what they show: in JupyterLab a widget that follows them, elsewhere the HTML of their values.

    Args:
        controls: widgets with a value.
        render: their values -> HTML; a BiomegError that it raises is shown as its one line.
    """

    def __init__(self, controls: Sequence[Any], render: Callable[..., str]):
        self.controls, self._render = tuple(controls), render
        self.result = ipywidgets.HTML(self._rendered())
        self.result.add_class("jp-RenderedHTMLCommon")  # JupyterLab's look of tables
        self.box = ipywidgets.VBox([*controls, self.result])
        for control in controls:
            control.observe(self._follow, "value")

    def _rendered(self) -> str:
        try:
            return self._render(*(control.value for control in self.controls))
        except BiomegError as error:
            return _line(str(error))

    def _follow(self, change: Any) -> None:
        self.result.value = self._rendered()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        # A front end takes the richest form it knows; the widget's own plain form is its constructor call.
        plain = "Controls and their result; they need a running kernel."
        return {**self.box._repr_mimebundle_(**kwargs), "text/html": self.result.value, "text/plain": plain}


def pieces_table(vocabularies: Mapping[str, Vocabulary], text: str) -> pd.DataFrame:
    """A text under each vocabulary: `Vocabulary`, `#pieces`, `Pieces` (with blanks between them).

    Raises:
        BiomegError: the text has more than `LONGEST` characters.
    """
    _check_length(text)
    rows = []
    for name, vocabulary in vocabularies.items():
        ids = vocabulary.encode(text).ids
        rows.append({"Vocabulary": name, "#pieces": len(ids), "Pieces": " ".join(vocabulary.pieces[i] for i in ids)})
    return pd.DataFrame(rows)


def guesses_table(models: Mapping[str, tuple[PretrainingModel, Vocabulary]], text: str, count: int = 5) -> pd.DataFrame:
    """What models put in place of [MASK], the likeliest first.

    Args:
        models: by name, each in evaluation mode and with its vocabulary.
        text: has one [MASK], in whatever case.
        count: how many guesses of each.

    Returns:
        `count` rows; for each model a column of its name, the pieces, and one of their probabilities (per cent).

    Raises:
        BiomegError: there is no [MASK] or more than one, or the text is too long for a model.
    """
    _check_length(text)
    parts = re.split(r"\[mask\]", text, flags=re.IGNORECASE)
    if len(parts) != 2:
        raise BiomegError(f"expected one [MASK] in place of a word, found {len(parts) - 1 or 'none'}")
    before, after = (part.split() for part in parts)
    columns: dict[str, list[Any]] = {}
    for name, (model, vocabulary) in models.items():
        pieces = len(vocabulary.encode_words([*before, *after]).ids)
        room = model.config.max_length - 3  # beside [CLS], [MASK] and [SEP]
        if pieces > room:
            raise BiomegError(f"expected at most {room} pieces around [MASK], found {pieces} under {name}")
        found = fill_in(model, vocabulary, [*before, "[MASK]", *after], len(before), count)
        columns[name] = [piece for piece, _ in found]
        columns[f"{name}, %"] = [round(100 * chance, 1) for _, chance in found]
    return pd.DataFrame(columns)


def marked_text(text: str, entities: Sequence[Entity]) -> str:
    """A text with its entities marked, and how many there are of each type, as HTML; all text is escaped.

    Args:
        entities: of this text, in order, none inside another.
    """
    parts, position = [], 0
    for entity in entities:
        parts.append(html.escape(text[position : entity.start]))
        parts.append(f'<mark title="{html.escape(entity.kind)}">{html.escape(text[entity.start : entity.end])}</mark>')
        position = entity.end
    parts.append(html.escape(text[position:]))
    kinds = Counter(entity.kind for entity in entities)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    found = f"Found: {counts}." if counts else "No entity found."
    return f'<p style="white-space: pre-wrap">{"".join(parts)}</p>\n{_line(found)}'


def complete_pretraining(study: Study) -> list[str]:
    """The pre-training runs that are complete, in the order of the params file; runs with other params are left out."""

    def complete(name: str) -> bool:
        try:
            return RunDirectory(study.run_directory("pretrain", name), study.resolved_pretraining(name)).complete
        except BiomegError:
            return False

    return [name for name in study.pretraining if complete(name)]


def recognisers(study: Study) -> list[str]:
    """The named-entity runs that are complete and kept their weights, in the order of the params file."""
    runs = [name for job in study.jobs("ner") for name in study.runs(job)]
    folders = {name: study.run_directory("finetune", name) for name in runs}
    needed = ("metrics.json", "model.safetensors")
    return [name for name, folder in folders.items() if all((folder / file).is_file() for file in needed)]


def own_sentence(show: Show, vocabularies: Mapping[str, Vocabulary], sentence: str) -> Live:
    """A sentence to change, and its pieces under every vocabulary."""

    def render(text: str) -> str:
        return show.frame(pieces_table(vocabularies, text), f"“{text}” under each vocabulary.").data

    return Live([ipywidgets.Text(sentence, description="Sentence", **_wide())], render)


def two_models(show: Show, run: str, sentence: str) -> Live | HTML:
    """A sentence with a [MASK] to change, and what two pre-training runs put there.

    Args:
        run: the first of the two. The second is the run that it started from, if it is one of this study, or else the
            first other one that is complete.
        sentence: to begin with.
    """
    study = show.study
    names = complete_pretraining(study)
    if run not in names:
        return _nothing_yet(study, "pre-training")
    origin = study.pretraining[run].init_from
    other = origin if origin in names else next((name for name in names if name != run), run)

    @functools.lru_cache(_LOADED)
    def load(name: str) -> tuple[PretrainingModel, Vocabulary]:
        vocabulary = Vocabulary.load(study.vocabulary_directory(study.pretraining[name].vocabulary))
        return load_pretrained(study, name), vocabulary

    def render(first: str, second: str, text: str) -> str:
        guesses = guesses_table({name: load(name) for name in (first, second)}, text)
        return show.frame(guesses, f"“{text}”: the likeliest pieces in place of [MASK], and their probabilities.").data

    controls = [
        ipywidgets.Dropdown(options=names, value=run, description="One model", **_wide()),
        ipywidgets.Dropdown(options=names, value=other, description="Another", **_wide()),
        # A word half typed is no question to two models: this one waits for the Enter key.
        ipywidgets.Text(sentence, description="Sentence", continuous_update=False, **_wide()),
    ]
    return Live(controls, render)


def mark_entities(show: Show, text: str | None = None) -> Live | HTML:
    """A text to paste, and the entities that a fine-tuned run finds in it.

    Args:
        text: to begin with; None takes two test sentences of the first run's benchmark that have an entity.
    """
    study = show.study
    names = recognisers(study)
    if not names:
        return _nothing_yet(study, "named-entity")

    @functools.lru_cache(_LOADED)
    def load(name: str) -> Recogniser:
        return load_run(study.run_directory("finetune", name))

    def render(name: str, text: str) -> str:
        _check_length(text)
        return marked_text(text, load(name).entities(text))

    if text is None:
        test = load_benchmark(study, load(names[0]).params["cell"]["benchmark"]).splits["test"]
        text = "\n".join(" ".join(s.words) for s in [s for s in test if set(s.tags) != {"O"}][:2])
    controls = [
        ipywidgets.Dropdown(options=names, description="Model", **_wide()),
        ipywidgets.Textarea(text, description="Text", rows=6, **_wide()),
    ]
    return Live(controls, render)


def _check_length(text: str) -> None:
    if len(text) > LONGEST:
        raise BiomegError(
            f"expected at most {LONGEST:,} characters, found {len(text):,}; `biomeg predict` reads files of any size"
        )


def _nothing_yet(study: Study, kind: str) -> HTML:
    line = f"No {kind} run of profile {study.profile} is complete yet: run `make study PROFILE={study.profile}` first."
    return HTML(_line(line))


def _line(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _wide() -> dict[str, Any]:
    return {"layout": ipywidgets.Layout(width="auto"), "style": {"description_width": "6em"}}
