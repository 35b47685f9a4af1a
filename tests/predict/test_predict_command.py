"""`biomeg predict` from file to file: offsets hold in every format, and scores of what it writes are the run's own."""

import json
import random
import re

import pytest

from biomeg_lib.benchmarks.bioasq import read_bioasq
from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.benchmarks.pairs import read_mrpc
from biomeg_lib.benchmarks.questions import read_squad
from biomeg_lib.cli import main
from biomeg_lib.files import write_if_changed
from biomeg_lib.predict import command
from biomeg_lib.predict.score import score
from biomeg_lib.tasks.jobs import load_benchmark

SENTENCES = 2100  # more than are tagged at a time


@pytest.fixture(scope="module")
def awkward(study, tmp_path_factory):
    """A text of sentences about chemicals, with all that moves offsets."""
    source = random.Random(5)
    sentences = read_iob(study.miniature / "ner" / "chem" / "test.tsv")
    blanks = [" "] * 12 + ["\t", "  ", "\u00a0", " \u200b", "\u2009", " \u200d ", " 👩🏽\u200d⚕️ "]
    inside = ["\u0301", "\u00ad", "\u200b", "\ufeff", "\u0327\u0301"]
    text = "\ufeff"
    for number in range(SENTENCES):
        for word in source.choice(sentences).words:
            if len(word) > 3 and source.random() < 0.2:
                at = source.randrange(1, len(word))
                word = word[:at] + source.choice(inside) + word[at:]
            text += word + source.choice(blanks)
        text += f"number {number} ." + source.choice(["\n", "\r\n", "\r\n\r\n", "\u2028\n"])
    path = tmp_path_factory.mktemp("awkward") / "own.txt"
    path.write_bytes(text.encode())
    return path


def read(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return stream.read()


def from_jsonl(path, text):
    (record,) = map(json.loads, read(path).splitlines())
    assert record["text"] == text
    return [(one["start"], one["end"], one["text"]) for one in record["entities"]]


def from_tsv(path, text):
    head, *rows = read(path).split("\n")[:-1]
    assert head == "id\tstart\tend\ttype\ttext"
    found = []
    for name, start, end, kind, cut in (row.split("\t") for row in rows):
        assert (name, kind) == ("own", "Chemical")
        found.append((int(start), int(end), re.sub(r"\\(u....|.)", lambda m: json.loads(f'"{m[0]}"'), cut)))
    return found


def from_pubtator(path, text):
    title, abstract, *rows = read(path).removesuffix("\n\n").split("\n")
    written = title.removeprefix("own|t|") + "\n" + abstract.removeprefix("own|a|")
    assert len(written) == len(text)
    found = []
    for row in rows:
        _, start, end, cut, _ = row.split("\t")
        assert written[int(start) : int(end)] == cut
        found.append((int(start), int(end), text[int(start) : int(end)]))
    return found


def from_brat(path, text):
    assert (path / "own.txt").read_bytes() == text.encode()
    found = []
    for row in read(path / "own.ann").split("\n")[:-1]:
        _, where, cut = row.split("\t")
        spans = [tuple(map(int, span.split())) for span in where.removeprefix("Chemical ").split(";")]
        assert " ".join(text[start:end] for start, end in spans) == cut
        found.append((spans[0][0], spans[-1][1], text[spans[0][0] : spans[-1][1]]))
    return found


def test_offsets_hold_in_every_format(awkward, run_of, tmp_path):
    text = read(awkward)
    assert text.encode() == awkward.read_bytes()
    found = {}
    for format, reader in {
        "jsonl": from_jsonl,
        "tsv": from_tsv,
        "pubtator": from_pubtator,
        "brat": from_brat,
    }.items():
        output = tmp_path / format
        arguments = ["predict", run_of("entities"), "--input", awkward, "--output", output, "--format", format]
        assert main(list(map(str, arguments))) == 0
        found[format] = reader(output, text)
        assert all(text[start:end] == cut for start, end, cut in found[format])
    assert found["jsonl"] == found["tsv"] == found["pubtator"] == found["brat"]
    assert len(found["jsonl"]) > 500
    assert max(start for start, _, _ in found["jsonl"]) > 0.9 * len(text)
    assert sum(not cut.isascii() for _, _, cut in found["jsonl"]) > 100


def test_to_stdout_and_without_bad_lines(run_of, tmp_path, capfd):
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": 1, "text": "Aspirin\\thelps ."}\nnonsense\n{"id": 2, "text": ""}\n')
    arguments = ["predict", str(run_of("entities")), "--input", str(path)]
    assert main(arguments) == 1
    _, err = capfd.readouterr()
    assert err.startswith(f"biomeg: {path}:2: expected a JSON object")
    assert len(err.splitlines()) == 1
    assert main([*arguments, "--skip-bad"]) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["1", "2"]
    assert err.startswith(f"biomeg: bad records left out: 1, the first: {path}:2: ")


def test_a_task_has_its_formats(run_of, tmp_path, capsys):
    cases = [
        ("entities", "squad", "jsonl or brat or pubtator or tsv, since this run predicts entities"),
        ("marked", "brat", "jsonl, since this run predicts labels"),
        ("bioasq", "tsv", "jsonl or squad or bioasq, since this run predicts answers"),
    ]
    for grid, format, says in cases:
        arguments = ["predict", run_of(grid), "--input", tmp_path / "none.jsonl", "--format", format]
        assert main(list(map(str, arguments))) == 1
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1
        assert err[0].endswith(f"expected the format {says}, found {format}")


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def labels(run, path, output):
    command.predict(run, path, output)
    records = [json.loads(line) for line in read(output).splitlines()]
    assert all(0 < record["probability"] <= 1 for record in records)
    return {record["id"]: record["label"] for record in records}


def scored(run, figures, part):
    """The run's own test scores are those of its predictions."""
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert figures == {name: pytest.approx(100 * test[key]) for name, key in part.items()}


PRF = {"precision": "precision", "recall": "recall", "F1": "f1"}


@pytest.mark.parametrize("marking", ["markers", "anonymised"])
def test_relations_score_as_the_run_did(study, run_of, tmp_path, monkeypatch, marking):
    monkeypatch.setattr(command, "RECORDS", 50)
    relations = load_benchmark(study, "relations").splits["test"]
    fields = [("chemical", "gene") if one.chemical_first else ("gene", "chemical") for one in relations]
    if marking == "markers":
        fields = [("second", "first")] * len(relations)
    records = [
        {"id": one.id, "text": one.text, names[0]: one.first, names[1]: one.second}
        for one, names in zip(relations, fields, strict=True)
    ]
    run = run_of("marked", marking)
    found = labels(run, write_lines(tmp_path / "own.jsonl", records), tmp_path / "out.jsonl")
    assert len(set(found.values())) > 1
    report = score(study.miniature / "chemprot" / "test_relations.tsv", tmp_path / "out.jsonl")
    scored(run, {name: report.scores["all"][name] for name in PRF}, PRF)


def test_anonymised_mentions_need_their_kinds(run_of, tmp_path, capsys):
    path = write_lines(tmp_path / "own.jsonl", [{"text": "<< Aspirin >> stops [[ COX ]]."}])
    assert main(["predict", str(run_of("marked", "anonymised")), "--input", str(path)]) == 1
    assert f"{path}:1: expected the fields chemical and gene, since" in capsys.readouterr().err
    assert labels(run_of("marked", "markers"), path, tmp_path / "out.jsonl").keys() == {"own.jsonl:1"}


def test_sentence_pairs_score_as_the_run_did(study, run_of, tmp_path):
    gold = study.miniature / "mrpc" / "test.txt"
    records = [{"id": pair.id, "first": pair.first, "second": pair.second} for pair in read_mrpc(gold)]
    labels(run_of("same"), write_lines(tmp_path / "own.jsonl", records), tmp_path / "out.jsonl")
    report = score(gold, tmp_path / "out.jsonl")
    scored(run_of("same"), {name: report.scores["all"][name] for name in PRF}, PRF)


def test_squad_scores_as_the_run_did(study, run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RECORDS", 100)
    gold = study.miniature / "squad2" / "dev.json"
    command.predict(run_of("squad2"), gold, tmp_path / "out.json", "squad")
    assert json.loads(read(tmp_path / "out.json")).keys() == {question.id for question in read_squad(gold)}
    report = score(gold, tmp_path / "out.json")
    scored(
        run_of("squad2"),
        {name: report.scores["all"][name] for name in ("exact match", "F1")},
        {"exact match": "exact", "F1": "f1"},
    )


def test_bioasq_scores_as_the_run_did(study, run_of, tmp_path, capfd):
    gold = study.miniature / "bioasq" / "test.json"
    arguments = ["predict", str(run_of("bioasq")), "--input", str(gold), "--format", "bioasq"]
    assert main([*arguments, "--output", str(tmp_path / "out.json")]) == 0
    err = capfd.readouterr().err
    kinds = [question.kind for question in read_bioasq(gold)]
    spanless = kinds.count("yesno") + kinds.count("summary")
    assert err == f"biomeg: yes/no and summary questions left out: {spanless}; no span answers them\n"
    written = json.loads(read(tmp_path / "out.json"))["questions"]
    assert len(written) == kinds.count("factoid") + kinds.count("list")
    assert all(1 <= len(question["exact_answer"]) <= 5 for question in written)
    assert main(arguments) == 0
    assert json.loads(capfd.readouterr().out)["questions"] == written
    report = score(gold, tmp_path / "out.json", skip_bad=True)
    part = {
        "strict accuracy": "strict_accuracy",
        "lenient accuracy": "lenient_accuracy",
        "mean reciprocal rank": "mean_reciprocal_rank",
    }
    scored(run_of("bioasq"), {name: report.scores["factoid"][name] for name in part}, part)


def test_questions_as_json_lines(run_of, tmp_path):
    context = "\ufeffé Aspirin\r\nhelps 👩\u200d⚕️ against pain ."
    records = [
        {"id": "one", "question": "What helps?", "context": context},
        {"id": 2, "question": "What helps?", "snippets": [context, "Nothing else .", "Aspirin does ."]},
    ]
    path = write_lines(tmp_path / "own.jsonl", records)
    command.predict(run_of("bioasq"), path, tmp_path / "out.jsonl")
    one, two = map(json.loads, read(tmp_path / "out.jsonl").splitlines())
    assert one.keys() == {"id", "answer", "start", "end", "score"}
    assert one["answer"] == context[one["start"] : one["end"]]
    assert two["id"] == "2"
    chances = [chance for _, chance in two["answers"]]
    assert 1 <= len(chances) <= 5
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) <= 1 + 1e-5
    assert all(any(text in snippet for snippet in records[1]["snippets"]) for text, _ in two["answers"])


def test_a_run_that_learned_to_withhold_answers(run_of, tmp_path):
    path = write_lines(tmp_path / "own.jsonl", [{"question": "Who?", "context": "Nobody knows ."}])
    run = run_of("squad2")
    metrics = run / "metrics.json"
    written = metrics.read_text()
    try:
        for threshold, withheld in ((1e6, False), (-1e6, True)):
            write_if_changed(metrics, json.dumps(json.loads(written) | {"threshold": threshold}))
            command.predict(run, path, tmp_path / "out.jsonl")
            (record,) = map(json.loads, read(tmp_path / "out.jsonl").splitlines())
            assert (record["answer"] == "") == withheld
            assert (record["start"] is None) == withheld
    finally:
        write_if_changed(metrics, written)


def test_progress_goes_to_stderr_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])
    with command.Progress("sentences") as progress:
        progress.total = 4000
        for _ in range(4):
            now[0] += 6
            progress.update(600)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "predict: 1,200 of 4,000 sentences, 6,000 a minute\n"
