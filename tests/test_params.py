"""Params files: whatever is wrong with one is said in one line, with the line where it stands."""

import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.params import Injected, ParamsFile, dotted, suggestion, validate
from biomeg_lib.study import load

HEAD = "profile: own\ntitle: Own\ndescription: For tests.\nseeds: [1, 2]\n"  # four lines
WHOLE = {
    "profile": "own",
    "title": "Own: a study",
    "description": "For tests.",
    "seeds": [1, 2],
    "corpora": {"pmc": {"format": "jats", "files": ["a.xml", "b.xml"]}, "web": {"format": "text", "files": ["c"]}},
    "vocabularies": {
        "bert": {"kind": "wordpiece", "file": "vocab.txt", "lowercase": False},
        "wordpiece": {"kind": "sentencepiece", "corpus": "pmc", "size": 500},
        "bio": {"kind": "sentencepiece", "corpus": "pmc", "size": 500},
    },
    "benchmarks": {"chem": {"train": "t", "devel": "d", "test": "e"}},
    "models": {"micro": {"layers": 1, "hidden": 8, "heads": 2}},
    "pretraining": {"p": {"model": "micro", "vocabulary": "bio", "corpus": "web", "tokens": 100}},
    "ner": {"g": {"benchmarks": ["chem"], "encoders": ["p"], "search": {"epochs": 2, "fc_hidden": [8, 16]}}},
    "figure1_vocabularies": ["bert", "bio"],
}
STRICT = [  # the mappings whose keys are given; those of the others are names
    (),
    ("corpora", "pmc"),
    ("vocabularies", "bert"),
    ("vocabularies", "wordpiece"),
    ("vocabularies", "bio"),
    ("benchmarks", "chem"),
    ("models", "micro"),
    ("pretraining", "p"),
    ("ner", "g"),
    ("ner", "g", "search"),
]


def write(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(tmp_path, text):
    """The error that a params file causes, its folder taken away."""
    with pytest.raises(InputError) as caught:
        load(write(tmp_path, text))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.replace(f"{tmp_path}/", "")


def render(value, draw, indent=0):
    """Block YAML with comments, blank lines and both ways to write a list."""
    lines = []
    for key, item in value.items():
        lines += draw(st.lists(st.sampled_from(["", "# ghost: 1", "      # far right"]), max_size=1))
        start = " " * indent + json.dumps(key) if draw(st.booleans()) else " " * indent + key
        if isinstance(item, dict):
            lines += [f"{start}:", *render(item, draw, indent + 2)]
        elif isinstance(item, list) and draw(st.booleans()):
            lines += [f"{start}:", *(" " * indent + f"- {json.dumps(entry)}" for entry in item)]
        else:
            lines.append(f"{start}: {json.dumps(item)}")
    return lines


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_an_unknown_key_anywhere_is_reported_in_its_line(tmp_path_factory, data):
    params = json.loads(json.dumps(WHOLE))
    place = data.draw(st.sampled_from(STRICT))
    parent = params
    for part in place:
        parent = parent[part]
    items = list(parent.items())
    items.insert(data.draw(st.integers(0, len(items))), ("ghost_key", data.draw(st.sampled_from([1, "x", None, [1]]))))
    parent.clear()
    parent.update(items)
    lines = render(params, data.draw)
    number = next(i for i, line in enumerate(lines, 1) if "ghost_key" in line)
    separator = data.draw(st.sampled_from(["\n", "\r\n"]))
    path = tmp_path_factory.mktemp("line") / "own.yaml"
    path.write_bytes(separator.join([*lines, ""]).encode())
    with pytest.raises(InputError) as caught:
        load(path)
    assert caught.value.line == number
    assert f"own.yaml:{number}: {'.'.join([*place, 'ghost_key'])}: unknown key" in str(caught.value)


def test_the_whole_of_these_tests_is_valid(tmp_path):
    assert load(write(tmp_path, yaml.safe_dump(WHOLE))).profile == "own"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("sedes: [1]\n", 5, "sedes: unknown key; did you mean 'seeds'?"),
        ("threads: many\n", 5, "threads: expected a valid integer"),
        ("threads: 0\n", 5, "threads: expected greater than 0, found 0"),
        ("threads: 1\nner:\n", 6, "ner: expected a valid dictionary, found None"),
        ("corpora:\n  a:\n    format: text\n", 6, "corpora.a.files: expected this key, found none"),
        ("corpora:\n  a:\n    format: pdf\n    files: [x]\n", 7, "corpora.a.format: expected 'jats', "),
        ("corpora:\n  a b: {format: text, files: [x]}\n", 6, "corpora.a b: expected a name that matches"),
        ("corpora:\n  a: {format: text, files: [x]}\n  a: {format: text, files: [y]}\n", 7, "found 'a' also in line 6"),
        ("title: again\n", 5, "expected each key once, found 'title' also in line 2"),
        ("vocabularies:\n  v: {file: x, lowercase: true}\n", 6, "vocabularies.v.kind: expected this key, found none"),
        ("vocabularies:\n  v:\n    kind: wordpice\n", 7, "expected 'wordpiece' or 'sentencepiece', found 'wordpice'"),
        ("vocabularies:\n  v:\n    kind: wordpiece\n    file: x\n", 6, "vocabularies.v.lowercase: expected this key"),
        (
            "vocabularies:\n  v:\n    kind: wordpiece\n    file: x\n    lowercse: true\n",
            9,
            "vocabularies.v.lowercse: unknown key; did you mean 'lowercase'? (and 1 more)",
        ),
        ("on: 1\n", 5, "expected text as a key, found 'on'; put it in quotes"),
        ("corpora:\n  2020: {format: text, files: [x]}\n", 6, "expected text as a key, found '2020'"),
        ('"two\\nlines": 1\n', 5, "unknown key"),
        ("threads: 2020-13-45\n", 5, "expected YAML: month must be in 1..12"),
        ('threads: 1\ntitles: !!int ""\n', 6, "expected YAML: a value of the type int, found ''"),
        ("threads: !!bool x\n", 5, "expected YAML: a value of the type bool, found 'x'"),
        ("threads: !!timestamp x\n", 5, "expected YAML: a value of the type timestamp, found 'x'"),
        (f"threads: 1{':0' * 200}.5\n", 5, "expected YAML: a value of the type float, found '1:0"),
        ("threads: [1\nmodels: {}\n", 6, "expected YAML: "),
        ("threads: 'open\n", 6, "expected YAML: found unexpected end of stream"),
        ("\tthreads: 1\n", 5, "expected YAML: found character '\\t'"),
        ("threads: !!python/name:os.system\n", 5, "expected YAML: could not determine a constructor"),
        ("---\nthreads: 1\n", 5, "expected YAML: "),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path, text, line, says):
    message = refused(tmp_path, HEAD + text)
    assert message.startswith(f"own.yaml:{line}: ")
    assert says in message


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just text\n"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    assert refused(tmp_path, text) == "own.yaml: expected a mapping of keys to values"


def test_bytes_that_are_no_utf8_are_refused(tmp_path):
    assert "expected a readable UTF-8 file" in refused(tmp_path, HEAD.encode("utf-16"))
    assert "expected YAML: not readable" in refused(tmp_path, HEAD + "threads: \x01\n")


def test_a_byte_order_mark_and_windows_line_ends_do_not_count(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())
    assert load(path).seeds == [1, 2]
    message = refused(tmp_path, b"\xef\xbb\xbf" + (HEAD + "thread: 1\n").replace("\n", "\r\n").encode())
    assert message.startswith("own.yaml:5: thread: unknown key; did you mean 'threads'?")


def test_an_absent_file_names_those_there_are(tmp_path):
    write(tmp_path, HEAD)
    (tmp_path / "laptop.yaml").touch()
    with pytest.raises(InputError, match=r"absent\.yaml: .*found none; there are laptop\.yaml, own\.yaml$"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match=r"found none$"):
        load(tmp_path / "no folder" / "absent.yaml")
    with pytest.raises(InputError, match="expected a readable"):
        load(tmp_path)


def test_nesting_without_end_ends_in_one_line(tmp_path):
    assert "anchor that contains itself" in refused(tmp_path, HEAD + "models: &m\n  a: *m\n")
    assert "nested too deeply" in refused(tmp_path, HEAD + "models: " + "[" * 500 + "]" * 500)
    laughs = "a: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "a: unknown key" in refused(tmp_path, HEAD + laughs)
    nested = laughs.replace("\n", "\n  ").rstrip()
    assert "threads: expected" in refused(tmp_path, HEAD + f"threads:\n  {nested}\n")


def test_anchors_and_merged_keys_are_understood(tmp_path):
    text = HEAD + (
        "corpora:\n  a: &base {format: text, files: [x], held_out: 0.1}\n  b:\n    <<: *base\n    held_out: 0.2\n"
    )
    study = load(write(tmp_path, text))
    assert (study.corpora["b"].files, study.corpora["b"].held_out) == (["x"], 0.2)
    assert refused(tmp_path, text.replace("0.2", "0.9")).startswith("own.yaml:9: corpora.b.held_out: expected less")
    assert refused(tmp_path, text + "    form: text\n").startswith("own.yaml:10: corpora.b.form: unknown key")


def test_merged_keys_come_to_an_end(tmp_path):
    lines = "a0: &a0 {k: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 30)
    )
    assert refused(tmp_path, HEAD + lines).startswith("own.yaml:9: expected YAML: at most 10,000 keys that are merged")
    itself = refused(tmp_path, HEAD + "models: &m\n  <<: *m\n")
    assert "anchor that contains itself" in itself


def test_long_values_are_cut_short(tmp_path):
    message = refused(tmp_path, HEAD + f"threads: [{', '.join(['many'] * 500)}]\n")
    assert len(message) < 200


def test_line_of_a_path_and_of_its_nearest_ancestor(tmp_path):
    file = ParamsFile(write(tmp_path, "a:\n  b:\n  - 1\n\n  - c: 2\nd: 3\n"))
    places = {("a",): 1, ("a", "b"): 2, ("a", "b", 0): 3, ("a", "b", 1): 5, ("a", "b", 1, "c"): 5, ("d",): 6}
    assert {place: file.line(place) for place in places} == places
    assert file.line(("a", "absent", "d")) == 1  # not the `d` further down
    assert file.line(("a", "b", 7)) == 2
    assert file.line(()) == 1


def test_dotted_and_suggestion():
    assert dotted(("seeds", 0)) == "seeds[0]"
    assert dotted(("ner", "full", "encoders", 2)) == "ner.full.encoders[2]"
    assert len(dotted(("a\nb", "c\u2028d")).splitlines()) == 1
    assert suggestion("lap", ["laptop", "smoke"]) == "did you mean 'laptop'?"
    assert suggestion("xyz", ["smoke", "laptop"]) == "there are laptop, smoke"
    assert suggestion("xyz", []) == "none is defined"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Inner] = []
    named: dict[str, Inner] = {}


def test_injected_values_are_named_without_a_line():
    assert validate(Outer, Injected({"parts": [{"size": 1}]})).parts[0].size == 1
    with pytest.raises(BiomegError, match=re.escape("parameters: parts[1].sise: unknown key; did you mean 'size'?")):
        validate(Outer, Injected({"parts": [{"size": 1}, {"size": 2, "sise": 3}]}))
    with pytest.raises(BiomegError, match=r"parameters: named\.a\.size: expected a valid integer"):
        validate(Outer, Injected({"named": {"a": {"size": "big"}}}))
