"""What a reader tries in a notebook: tables and marks by hand, two faces of one output, mistakes as one line."""

from pathlib import Path

import lxml.html
import pytest
import torch
import yaml

from biomeg_lib.errors import BiomegError
from biomeg_lib.model import ModelConfig, PretrainingModel
from biomeg_lib.predict import load_run
from biomeg_lib.predict.entities import Entity
from biomeg_lib.report import explore
from biomeg_lib.report.show import Show
from biomeg_lib.study import Study, load
from biomeg_lib.tasks.jobs import load_benchmark, train_run
from biomeg_lib.training.rundir import RunDirectory
from biomeg_lib.vocab import SPECIALS, Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WIDGET = "application/vnd.jupyter.widget-view+json"
BAD = "<script>alert('x')</script>"


def vocabulary_of(path: Path, *words: str) -> Vocabulary:
    path.write_text("\n".join([*SPECIALS, *LETTERS, *(f"##{letter}" for letter in LETTERS), *words]))
    return Vocabulary.load(path, lowercase=True)


@pytest.fixture
def vocabularies(tmp_path: Path) -> dict[str, Vocabulary]:
    return {
        "letters": vocabulary_of(tmp_path / "letters.txt", "pain"),
        "words": vocabulary_of(tmp_path / "words.txt", "fever", "fe"),
    }


def model_for(vocabulary: Vocabulary, **certain: float) -> PretrainingModel:
    """A model that looks at nothing: each piece has the score given here, or zero."""
    config = ModelConfig(layers=1, hidden=16, heads=2, vocab_size=vocabulary.padded_size(), max_length=12)
    model = PretrainingModel(config).eval()
    with torch.no_grad():
        model.encoder.embeddings.word.weight.zero_()
        model.mlm.bias.zero_()
        for piece, score in certain.items():
            model.mlm.bias[vocabulary.pieces.index(piece)] = score
    return model


def tree(html: str) -> lxml.html.HtmlElement:
    return lxml.html.fragment_fromstring(html, create_parent=True)


def cells(html: str) -> list[list[str]]:
    return [[cell.text_content() for cell in row] for row in tree(html).iter("tr")]


# --- the functions ---


def test_pieces_under_every_vocabulary(vocabularies):
    table = explore.pieces_table(vocabularies, "No fever")
    assert table.to_dict("records") == [
        {"Vocabulary": "letters", "#pieces": 7, "Pieces": "n ##o f ##e ##v ##e ##r"},
        {"Vocabulary": "words", "#pieces": 3, "Pieces": "n ##o fever"},
    ]
    assert list(explore.pieces_table(vocabularies, "")["#pieces"]) == [0, 0]


def test_guesses_of_two_models_stand_side_by_side(vocabularies):
    models = {
        "one": (model_for(vocabularies["letters"], pain=9.0, a=8.0), vocabularies["letters"]),
        "two": (model_for(vocabularies["words"], fever=7.0), vocabularies["words"]),
    }
    for mask in ("[MASK]", "[mask]"):
        table = explore.guesses_table(models, f"a b {mask}.", count=2)
        assert list(table) == ["one", "one, %", "two", "two, %"]
        assert list(table["one"]) == ["pain", "a"]
        assert table["two"][0] == "fever"
    rest = vocabularies["letters"].size - 2
    chances = torch.tensor([9.0, 8.0, *[0.0] * rest]).softmax(0) * 100
    assert list(table["one, %"]) == pytest.approx(chances[:2].tolist(), abs=0.051)


def test_what_is_not_one_mask_is_one_line(vocabularies):
    models = {"one": (model_for(vocabularies["words"]), vocabularies["words"])}
    for text, message in {
        "no fever": r"expected one \[MASK\] in place of a word, found none",
        "[MASK] and [mask]": "found 2",
        "[MASK] " + "fever " * 10: "expected at most 9 pieces around .MASK., found 10 under one",
        "[MASK] " + " " * explore.LONGEST: "expected at most 10,000 characters, found 10,007",
    }.items():
        with pytest.raises(BiomegError, match=message):
            explore.guesses_table(models, text)
    assert len(explore.guesses_table(models, "[MASK] " + "fever " * 9)) == 5


def test_entities_are_marked_where_they_stand_and_counted():
    text = "acute  renal failure,\nno cough & aspirin"
    failure, aspirin = text.index("renal"), text.index("aspirin")
    entities = [
        Entity("D", failure, failure + 13, "renal failure"),
        Entity("C", aspirin, len(text), "aspirin"),
    ]
    shown, counted = tree(explore.marked_text(text, entities)).findall("p")
    assert shown.text_content() == text
    assert [(mark.text, mark.get("title")) for mark in shown.iter("mark")] == [("renal failure", "D"), ("aspirin", "C")]
    assert counted.text == "Found: 1 C, 1 D."
    assert tree(explore.marked_text("none", [])).findall("p")[1].text == "No entity found."


def test_all_text_is_escaped():
    kind = f'X">{BAD}'
    shown = tree(explore.marked_text(BAD + BAD, [Entity(kind, len(BAD), 2 * len(BAD), BAD)]))
    assert [element.tag for element in shown.iter()] == ["div", "p", "mark", "p"]
    assert shown.findall("p")[0].text_content() == BAD + BAD
    assert shown.find(".//mark").get("title") == kind


# --- controls and what they show ---


@pytest.fixture
def study(fresh: Study) -> Study:
    """The nano study with three pre-training runs and one arm that learns something, none of them done."""
    path = fresh.root / fresh.params_file
    params = yaml.safe_load(path.read_text())
    runs = params["pretraining"]
    runs["other"] = {**runs["nano-bio"], "seed": 7}
    runs["further"] = {**runs["nano-bio"], "init_from": "other"}
    del runs["further"]["model"]
    params["ner"]["small"] |= {"starts": ["random"], "fraction": 1.0, "batch": 8, "dropout": 0.0, "fc_dropout": 0.0}
    params["ner"]["small"] |= {"epochs": 4, "search": {"learning_rate": [0.01]}}
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return load(path)


def finish(study: Study, name: str, **certain: float) -> None:
    """A complete pre-training run, without training."""
    vocabulary = Vocabulary.load(study.vocabulary_directory("bio"))
    run = RunDirectory(study.run_directory("pretrain", name), study.resolved_pretraining(name))
    with run.start():
        model = model_for(vocabulary, **certain)
        run.save_model(model.state_dict(), model.config)
        run.finish({})


def test_one_output_has_a_widget_and_its_html(study, vocabularies):
    live = explore.own_sentence(Show(study, "vocab"), vocabularies, "No fever")
    bundle = live._repr_mimebundle_()
    assert bundle[WIDGET]["model_id"] == live.box.model_id
    assert cells(bundle["text/html"])[1:] == [
        ["letters", "7", "n ##o f ##e ##v ##e ##r"],
        ["words", "3", "n ##o fever"],
    ]
    assert "VBox(" not in bundle["text/plain"]
    live.controls[0].value = f"no {BAD}"
    assert "<script" not in live.result.value
    assert cells(live.result.value)[2][2].startswith("n ##o [UNK] s ##c")
    live.controls[0].value = "a" * (explore.LONGEST + 1)
    assert live.result.value.startswith("<p>expected at most 10,000 characters, found 10,001; ")


def test_two_models_answer_what_is_asked(study):
    finish(study, "nano-bio", a=9.0)
    finish(study, "other", b=9.0)
    live = explore.two_models(Show(study, "pretrain"), "nano-bio", "a [MASK] b")
    one, another, sentence = live.controls
    assert one.options == another.options == ("nano-bio", "other")
    assert cells(live.result.value)[0] == ["nano-bio", "nano-bio, %", "other", "other, %"]
    assert cells(live.result.value)[1][::2] == ["a", "b"]
    one.value = "other"
    assert cells(live.result.value)[0] == ["other", "other, %"]
    sentence.value = "a b"
    assert live.result.value == "<p>expected one [MASK] in place of a word, found none</p>"
    sentence.value = "[MASK]"
    assert cells(live.result.value)[1][0] == "b"


def test_the_second_model_is_what_the_first_started_from(study):
    show = Show(study, "pretrain")
    shown = explore.two_models(show, "further", "[MASK]").data
    assert shown == "<p>No pre-training run of profile nano is complete yet: run `make study PROFILE=nano` first.</p>"
    finish(study, "further")
    assert explore.two_models(show, "further", "[MASK]").controls[1].value == "further"
    finish(study, "nano-bio")
    assert explore.two_models(show, "further", "[MASK]").controls[1].value == "nano-bio"
    finish(study, "other")
    assert explore.two_models(show, "further", "[MASK]").controls[1].value == "other"


def test_runs_that_are_cut_short_or_made_otherwise_are_no_choice(study):
    for name in study.pretraining:
        finish(study, name)
    (study.run_directory("pretrain", "nano-bio") / "state").write_text("running\n")
    (study.run_directory("pretrain", "nano-bio") / "sums.txt").unlink()
    params = study.run_directory("pretrain", "other") / "params.json"
    params.write_text(params.read_text().replace('"seed": 7', '"seed": 8'))
    assert explore.complete_pretraining(study) == ["further"]


def test_a_fine_tuned_run_marks_text(study):
    show = Show(study, "labeling")
    shown = explore.mark_entities(show).data
    assert shown == "<p>No named-entity run of profile nano is complete yet: run `make study PROFILE=nano` first.</p>"
    (cell,) = study.cells(study.jobs("ner")[0])
    data = load_benchmark(study, cell.benchmark)
    for seed in study.seeds:
        train_run(study, cell, study.grids[cell.grid].search.points()[0], seed, data)
    assert explore.recognisers(study) == [cell.run(1)]  # those of the first seed keep their weights

    live = explore.mark_entities(show)
    run, text = live.controls
    assert run.value == cell.run(1)
    lines = text.value.split("\n")
    tested = [sentence for sentence in data.splits["test"] if "B-" in "".join(sentence.tags)]
    assert lines == [" ".join(sentence.words) for sentence in tested[:2]]

    text.value = " & ".join(" ".join(sentence.words) for sentence in tested[:50])
    found = load_run(study.run_directory("finetune", cell.run(1))).entities(text.value)
    marks = [mark.text for mark in tree(live.result.value).iter("mark")]
    assert marks == [entity.text for entity in found]
    assert len(marks) > 3
    text.value = BAD
    assert tree(live.result.value).find("p").text_content() == BAD
    assert explore.mark_entities(show, "Of one's own").controls[1].value == "Of one's own"
