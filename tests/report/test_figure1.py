"""Figure 1: which entities it shows, and that pieces and labels are those of training."""

import pytest
import yaml
from matplotlib.figure import Figure

from biomeg_lib.benchmarks.iob import Sentence
from biomeg_lib.errors import BiomegError
from biomeg_lib.report import figure1
from biomeg_lib.study import load
from biomeg_lib.vocab import SPECIALS, Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABET = [*SPECIALS, "-", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


@pytest.fixture
def letters(tmp_path):
    """Every word in letters."""
    (tmp_path / "letters.txt").write_text("\n".join(ALPHABET))
    return Vocabulary.load(tmp_path / "letters.txt", lowercase=False)


@pytest.fixture
def domain(tmp_path):
    """The same, and two words whole."""
    (tmp_path / "domain.txt").write_text("\n".join([*ALPHABET, "aspirin", "renal"]))
    return Vocabulary.load(tmp_path / "domain.txt", lowercase=False)


def sentence(text):
    """`of aspirin/B-X`: words and their tags."""
    pairs = [word.split("/") for word in text.split()]
    return Sentence(tuple(pair[0] for pair in pairs), tuple(pair[1] if len(pair) > 1 else "O" for pair in pairs))


def chosen(sentences, vocabularies, count=3):
    examples = figure1.choose([sentence(text) for text in sentences], vocabularies, count)
    return [" ".join(example.words) for example in examples]


def test_what_the_vocabularies_treat_most_differently_is_chosen(letters, domain):
    sentences = [
        "of ibuprofen/B-X",  # nine letters under both
        "with aspirin/B-X and aspirin/B-X",
        "of renal/B-X failure/I-X",
        "of acute/B-X failure/I-X",
    ]
    assert chosen(sentences, [letters, domain]) == ["with aspirin", "of renal failure"]
    assert chosen(sentences, [letters, domain], count=1) == ["with aspirin"]
    assert chosen(sentences[::-1], [letters, domain]) == chosen(sentences, [letters, domain])
    assert chosen(sentences, [domain, letters])[0] == "of ibuprofen"  # no difference is more than a negative one


def test_examples_are_plain_words_that_fit_a_line(letters, domain):
    long = "x" * figure1.LONGEST
    sentences = [f"of {long}/B-X", "of alpha-x/B-X", "a/B-X b/I-X c/I-X d/I-X", "plain words"]
    assert chosen(sentences, [letters, domain]) == []
    assert chosen([*sentences, "fever/B-X"], [letters, domain]) == ["fever"]  # nothing stands before it
    anything = figure1.choose([sentence(text) for text in sentences[1:]], [letters, domain], 3, plain=False)
    assert [" ".join(example.words) for example in anything] == ["of alpha-x", "a b c d"]


def test_tags_go_with_the_words(letters, domain):
    (example,) = figure1.choose([sentence("a/B-Y renal/B-X failure/I-X now")], [letters, domain], 3)[1:]
    assert example == sentence("a/B-Y renal/B-X failure/I-X")


def test_a_row_has_pieces_and_both_kinds_of_labels(letters, domain):
    row = figure1.row("v", domain, sentence("no aspirin/B-X bad/I-X"))
    assert row == {
        "vocabulary": "v",
        "pieces": ["n", "##o", "aspirin", "b", "##a", "##d"],
        "word_labels": ["O", None, "B-X", "I-X", None, None],
        "piece_labels": ["O", "O", "B-X", "I-X", "I-X", "I-X"],
    }
    row = figure1.row("v", letters, sentence("of/B-X"))
    assert (row["word_labels"], row["piece_labels"]) == (["B-X", None], ["B-X", "I-X"])


def test_the_space_mark_of_sentencepiece_is_not_shown():
    vocabulary = Vocabulary.train(["pain and fever and pain", "a fever"] * 5, 24)
    row = figure1.row("v", vocabulary, sentence("and fever/B-X"))
    assert "".join(row["pieces"]).replace("\N{LOWER ONE EIGHTH BLOCK}", "") == "andfever"
    assert "" not in row["pieces"]  # the mark is shown where it is all there is
    assert [label for label in row["word_labels"] if label] == ["O", "B-X"]


@pytest.fixture
def study(tmp_path, letters, domain):
    params = {
        "profile": "own",
        "title": "Own",
        "description": "For tests.",
        "seeds": [1],
        "vocabularies": {
            name: {"kind": "wordpiece", "file": f"{name}.txt", "lowercase": False} for name in ("letters", "domain")
        },
        "benchmarks": {"chem": dict.fromkeys(("train", "devel", "test"), "chem.tsv")},
        "figure1_vocabularies": ["letters", "domain"],
    }
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "chem.tsv").write_text("of\tO\naspirin\tB-X\n\nrenal\tB-X\nfailure\tI-X\n")
    (tmp_path / "params" / "own.yaml").write_text(yaml.safe_dump(params))
    study = load(tmp_path / "params" / "own.yaml")
    letters.save(study.vocabulary_directory("letters"))
    domain.save(study.vocabulary_directory("domain"))
    return study


def test_the_figure_shows_every_vocabulary_for_every_example(study):
    figure = figure1.draw(study)
    assert isinstance(figure, Figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert (texts.count("letters"), texts.count("domain")) == (2, 2)
    assert texts.count("aspirin") == 2  # the heading and one box
    assert "##spirin" not in texts
    assert texts.count("##p") == 1


def test_without_names_all_vocabularies_are_drawn(study):
    figure = figure1.draw(study.model_copy(update={"figure1_vocabularies": []}))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert (texts.count("letters"), texts.count("domain")) == (2, 2)


def test_a_vocabulary_that_is_not_made_is_one_line(study):
    (study.vocabulary_directory("domain") / "vocab.json").unlink()
    with pytest.raises(BiomegError, match="vocabularies/domain"):
        figure1.draw(study)
