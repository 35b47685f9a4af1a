"""Odd and long texts through every task: as inputs of predictions, and as what is learned on; see `odd_texts`."""

import json
import math

import pytest
import yaml
from odd_texts import LONE_SURROGATE, ODD

from biomeg_lib.cli import main
from biomeg_lib.files import read_json
from biomeg_lib.study import load
from biomeg_lib.tasks.jobs import run_job

NAMED = {str(number): text for number, text in enumerate(ODD.values())}


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def predicted(run, path, capfd, *more):
    """What was predicted, and what was said about what was left out."""
    capfd.readouterr()
    output = f"{path}.predicted"
    code = main(["predict", str(run), "--input", path, "--output", output, *more])
    said = capfd.readouterr().err
    assert code == 0, said
    with open(output, encoding="utf-8") as stream:
        return [json.loads(line) for line in stream], said


def test_entities(run_of, tmp_path, capfd):
    path = lines(tmp_path / "a.jsonl", ({"id": name, "text": text} for name, text in NAMED.items()))
    found, _ = predicted(run_of("entities"), path, capfd)
    assert [one["id"] for one in found] == [*NAMED]
    for one in found:
        assert one["text"] == NAMED[one["id"]]
        for entity in one["entities"]:
            assert one["text"][entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"].strip()


def test_relations(run_of, tmp_path, capfd):
    def record(name, text):
        shown = f"aspirin {text} inhibits {text[:1000]} COX ."
        return {"id": name, "text": shown, "chemical": [0, 7], "gene": [len(shown) - 5, len(shown) - 2]}

    path = lines(tmp_path / "a.jsonl", (record(name, text) for name, text in NAMED.items()))
    for word in ("markers", "anonymised"):
        found, _ = predicted(run_of("marked", word), path, capfd)
        assert [one["id"] for one in found] == [*NAMED]
        assert all(0 < one["probability"] <= 1 for one in found)
    own = lines(
        tmp_path / "b.jsonl",
        (
            {"id": name, "text": f"<< {text[:100_000]} >> [[ {text[:9]}x ]]"}
            for name, text in NAMED.items()
            if text.strip()
        ),
    )
    found, _ = predicted(run_of("marked", "markers"), own, capfd)
    assert len(found) == sum(bool(text.strip()) for text in NAMED.values())


def test_pairs(run_of, tmp_path, capfd):
    texts = [*NAMED.items()]
    records = [
        {"id": f"{a}:{b}", "first": one, "second": other}
        for (a, one), (b, other) in zip(texts, texts[1:] + texts[:1], strict=True)
    ]
    found, said = predicted(run_of("same"), lines(tmp_path / "a.jsonl", records), capfd, "--skip-bad")
    kept = [one["id"] for one in records if one["first"].strip() and one["second"].strip()]
    assert [one["id"] for one in found] == kept
    assert f"bad records left out: {len(records) - len(kept)}" in said
    assert all(0 < one["probability"] <= 1 for one in found)


def test_questions(run_of, tmp_path, capfd):
    short = {name: text[:120_000] for name, text in NAMED.items()}  # a window every 64 pieces takes its time
    asked = [{"id": name, "question": "Who?", "context": text} for name, text in short.items()]
    asked += [{"id": f"q{name}", "question": text, "context": "Bob did it ."} for name, text in NAMED.items()]
    kept = [one for one in asked if one["question"].strip() and one["context"].strip()]
    found, said = predicted(run_of("squad2"), lines(tmp_path / "a.jsonl", asked), capfd, "--skip-bad")
    assert [one["id"] for one in found] == [one["id"] for one in kept]
    assert f"bad records left out: {len(asked) - len(kept)}" in said
    for one, record in zip(found, kept, strict=True):
        if one["answer"]:
            assert record["context"][one["start"] : one["end"]] == one["answer"]
    snippets = [{"id": "1", "question": "Who?", "snippets": [text for text in short.values() if text.strip()]}]
    (found,), _ = predicted(run_of("bioasq"), lines(tmp_path / "b.jsonl", snippets), capfd)
    assert len(found["answers"]) <= 5


@pytest.mark.parametrize(
    ("grid", "word", "fields"),
    [
        ("entities", "", {"text": "{}"}),
        ("marked", "markers", {"text": "<< a >> {} [[ b ]]"}),
        ("same", "", {"first": "a", "second": "{}"}),
        ("squad2", "", {"question": "{}", "context": "a"}),
    ],
)
def test_half_a_surrogate_pair_is_one_line_or_left_out(run_of, tmp_path, capfd, grid, word, fields):
    records = [{name: text.format(odd) for name, text in fields.items()} for odd in ("fine", LONE_SURROGATE)]
    path = lines(tmp_path / "a.jsonl", ({"id": str(number), **record} for number, record in enumerate(records)))
    run_of(grid, word)
    capfd.readouterr()
    assert main(["predict", str(run_of(grid, word)), "--input", path]) == 1
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert f"{path}:2" in err
    assert "surrogate pair" in err
    found, err = predicted(run_of(grid, word), path, capfd, "--skip-bad")
    assert [one["id"] for one in found] == ["0"]
    assert "bad records left out: 1" in err


def iob(texts):
    """A sentence a text, all of its words, and one of 30,000 words."""
    sentences = [text.split(" ")[:200] for text in texts] + [["aspirin", "works"] * 15_000]
    rows = [
        [f"{''.join(word.split())}\t{'O' if n % 7 else 'B-X'}" for n, word in enumerate(one) if word.split()]
        for one in sentences
    ]
    return "\n\n".join("\n".join(one) for one in rows if one) + "\n"


def chemprot(texts):
    records = [(f"{text[:150_000]} << a >> {text[:500]} [[ b ]]", "INHIBITOR") for text in texts]
    records += [("no << a >> at all [[ b ]]", "ACTIVATOR")] * 5
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in records)


def mrpc(texts):
    shown = [" ".join(text.split())[:150_000] for text in texts]
    rows = [f"{n % 2}\t{n}\t{n}b\t{text}\t{shown[n - 1]}" for n, text in enumerate(shown)]
    return "\n".join(["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *rows]) + "\n"


def squad(texts):
    def question(n, text):
        answer = text.split()[-1][:50]
        gold = {"text": answer, "answer_start": text.rindex(answer)} if n % 2 else None
        asked = {
            "id": str(n),
            "question": text[:1000] + "?",
            "answers": [gold] if gold else [],
            "is_impossible": not gold,
        }
        return {"context": text, "qas": [asked]}

    paragraphs = [question(n, text[:20_000]) for n, text in enumerate(texts)]
    return json.dumps({"version": "v2.0", "data": [{"paragraphs": paragraphs}]})


def bioasq(texts):
    questions = [
        {
            "id": f"{n:024x}", "type": "factoid", "body": text[:1000], "exact_answer": [text.split()[-1][:50]],
            "snippets": [{"text": text[:20_000], "document": "d"}],
        }
        for n, text in enumerate(texts)
    ]  # fmt: skip
    return json.dumps({"questions": questions})


MADE = {"entities": iob, "marked": chemprot, "same": mrpc, "squad2": squad, "bioasq": bioasq}
FORMATS = {"entities": "iob", "marked": "chemprot-jsonl", "same": "mrpc", "squad2": "squad", "bioasq": "bioasq"}


def finite(value):
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize("grid", MADE)
def test_learned_on_and_scored(study, tmp_path, grid):
    root = study.root
    texts = [text for text in NAMED.values() if text.strip() and text.split()[-1:]]
    (root / "odd").mkdir(exist_ok=True)
    (root / "odd" / grid).write_text(MADE[grid](texts), encoding="utf-8")
    params = yaml.safe_load((root / study.params_file).read_text())
    files = dict.fromkeys(("train", "test") if grid != "entities" else ("train", "devel", "test"), f"odd/{grid}")
    name = f"odd-{grid}"
    params["benchmarks"][name] = {"format": FORMATS[grid], **files}
    (task, grids) = next((task, params[task]) for task in ("ner", "classification", "qa") if grid in params[task])
    params[task][name] = {**grids[grid], "benchmarks": [name], "fraction": 1.0, "epochs": 1, "evaluations": 1}
    if "markings" in params[task][name]:
        params[task][name]["markings"] = ["markers"]
    (root / study.params_file).with_name("odd.yaml").write_text(yaml.safe_dump({**params, "profile": "odd"}))
    (root / "outputs" / "odd").unlink(missing_ok=True)
    (root / "outputs" / "odd").symlink_to(study.outputs)
    odd = load(root / study.params_file.parent / "odd.yaml")
    (job,) = (job for job in odd.jobs() if job.grid == name)
    run_job(odd, job)
    for run in odd.runs(job):
        metrics = read_json(odd.run_directory("finetune", run) / "metrics.json")
        assert finite(metrics)
        assert "test" in metrics
