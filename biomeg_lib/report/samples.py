"""Test items beside what a run made of them, as HTML: entities marked, relations labelled, questions answered."""

import pandas as pd
from IPython.display import HTML

from biomeg_lib.grids import Job
from biomeg_lib.predict import Answerer, Recogniser, load_run
from biomeg_lib.report.linked import linked_table
from biomeg_lib.report.show import marked
from biomeg_lib.study import Study
from biomeg_lib.tasks.classification import pair_examples, relation_examples
from biomeg_lib.tasks.jobs import load_benchmark

_CONTEXT = 400  # characters of a question's text that are shown


def samples(study: Study, job: Job, count: int = 4) -> HTML:
    """The first test items that have something to find, as the first arm's first seed reads them, and the gold."""
    run = load_run(study.run_directory("finetune", study.cells(job)[0].run(study.seeds_of(job.grid)[0])))
    data = load_benchmark(study, job.benchmark)
    if isinstance(run, Recogniser):
        sentences = [sentence for sentence in data.splits["test"] if set(sentence.tags) != {"O"}][:count]
        tags = run.tags([sentence.words for sentence in sentences])
        parts = []
        for sentence, predicted in zip(sentences, tags, strict=True):
            both = marked([sentence.words] * 2, [predicted, sentence.tags]).data
            parts.append(f"<p><em>model, then annotators:</em></p>{both}")
        return HTML("\n".join(parts))
    if isinstance(run, Answerer):
        questions = [question for question in data.splits["test"] if question.answers][:count]
        rows = [
            (q.question, _shortened(q.context), answer, " / ".join(dict.fromkeys(a.text for a in q.answers)))
            for q, answer in zip(questions, run.answers(questions), strict=True)
        ]
        return _table(("Question", "Text", "Model", "Gold"), rows)
    records = [record for record in data.splits["test"] if record.label not in data.excluded][:count]
    marking = run.params["cell"].get("marking")
    examples = pair_examples(records) if marking is None else relation_examples(records, marking)
    rows = [
        (" — ".join(filter(None, (example.first, example.second))), label, example.label)
        for example, label in zip(examples, run.label(records), strict=True)
    ]
    return _table(("Text", "Model", "Gold"), rows)


def _shortened(text: str) -> str:
    return text if len(text) <= _CONTEXT else text[:_CONTEXT] + " …"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> HTML:
    return HTML(linked_table(pd.DataFrame(rows, columns=list(heads)), "Test items, the model's word and the gold.", []))
