"""What question answering loses before any model errs: gold answers through features and decoding, and back."""

import pandas as pd

from biomeg_lib.benchmarks.bioasq import read_bioasq, to_questions
from biomeg_lib.benchmarks.questions import Question, read_squad
from biomeg_lib.inputs import benchmark_files
from biomeg_lib.study import Study
from biomeg_lib.tasks.span_check import check
from biomeg_lib.vocab import Vocabulary

WINDOWS = {512: 128, 128: 64}  # length -> stride, in tokens
MAX_QUESTION = 64
WRONG_OFFSET = "the published offset does not point at the answer"


def gold_decoding(study: Study, vocabulary: str) -> pd.DataFrame:
    """One row for each training set of questions, length of windows and reason for a loss.

    Returns:
        `Benchmark`, `Vocabulary`, `Questions`, `Length`, `Stride`, `EM` and `F1` (per cent, of the questions read),
        `Reason`, `Lost` (questions) and `Ids`; a reason of "none" where nothing is lost. Records with a wrong offset
        are not read; they are a reason with no part in the scores.
    """
    pieces = Vocabulary.load(study.vocabulary_directory(vocabulary))
    rows = []
    for name, benchmark in study.benchmarks_of("qa").items():
        (path,) = benchmark_files(study, benchmark)["train"]
        skipped: list[str] = []
        if benchmark.format == "bioasq":
            asked = [one for question in read_bioasq(path, skipped) for one in to_questions(question)]
            questions: list[Question] = [question for question in asked if question.answers]
        else:
            questions = read_squad(path, skipped)
        for length, stride in WINDOWS.items():
            result = check(questions, pieces, length, stride, MAX_QUESTION)
            losses = {**({WRONG_OFFSET: skipped} if skipped else {}), **result.remainder} or {"none": []}
            for reason, ids in losses.items():
                rows.append(
                    {
                        "Benchmark": name,
                        "Vocabulary": vocabulary,
                        "Questions": len(questions),
                        "Length": length,
                        "Stride": stride,
                        "EM": 100 * result.exact,
                        "F1": 100 * result.f1,
                        "Reason": reason,
                        "Lost": len(ids),
                        "Ids": "" if reason == WRONG_OFFSET else " ".join(ids),
                    }
                )
    return pd.DataFrame(rows)
