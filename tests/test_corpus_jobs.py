"""The Snakefile reads a corpus of many files by a job each, on its own and after jobs of other machines."""

import json
import shutil

import yaml
from workflow_project import new_project, snakemake

from biomeg_lib.corpus.documents import build_corpus, parts_folder, read_part

COUNTS = "outputs/nano/corpora/many/counts.json"


def test_a_job_a_file_and_nothing_to_do_afterwards(tmp_path):
    new_project(tmp_path)
    params = tmp_path / "params" / "nano.yaml"
    values = yaml.safe_load(params.read_text())
    values["corpora"]["many"] = {"format": "text", "files": ["data/*.txt"]}
    params.write_text(yaml.safe_dump(values, sort_keys=False))
    (tmp_path / "data").mkdir()
    sources = [tmp_path / "data" / f"{number:02}.txt" for number in range(16)]
    for number, path in enumerate(sources):
        path.write_text(f"Text {number}.\n\nText {number + 1}.\n")

    made = tmp_path / "outputs" / "nano" / "corpora" / "many"
    for number, path in list(enumerate(sources, 1))[:14]:
        read_part(path, number, "text", made)
    said = snakemake(tmp_path, "--printshellcmds", COUNTS)
    assert said.count("rule corpus_part:") == 2
    assert not parts_folder(made).exists()

    build_corpus(sources, "text", tmp_path / "alone")
    for name in ("counts.json", "documents.jsonl.gz"):
        assert (made / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert json.loads((tmp_path / COUNTS).read_text())["documents"] == 17
    shutil.rmtree(tmp_path / ".snakemake")  # as for a corpus that `biomeg corpus` made, or an older version
    assert "Nothing to be done" in snakemake(tmp_path, "--printshellcmds", COUNTS)
