"""Runs with random weights, in the folders of a study, and texts for them: what the tests of exports export."""

import functools
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from biomeg_lib.benchmarks.iob import read_iob
from biomeg_lib.files import write_json
from biomeg_lib.model import ModelConfig, PretrainingModel, SpanClassifier, TextClassifier, TokenClassifier
from biomeg_lib.vocab import SPECIALS, Vocabulary
from biomeg_lib.vocab.models import WordPieceModel

SENTENCES = [
    "Selegiline-induced postural hypotension in Parkinson's disease: a longitudinal study.",
    "Naloxone (0.1 mg/kg) reversed the effect of alpha-methyldopa, but not of \u03b2-blockers.",
    "IL-2 and TNF-\u03b1 rose by 3.5\u00b10.2 \u00b5g/ml at 37 \u00b0C; na\u00efve CD4+ T-cells did not respond.",
    "The M\u00fcller-Glia marker was \u6771\u4eac positive, \ud55c\uad6d\uc5b4 negative, "
    "and r\u00e9sum\u00e9-like \u201cquoted\u201d text.",
    "Lidocaine-induced cardiac asystole occurred\tin two\u00a0patients\nof ten, \u2581 and \ufffd and _ too.",
]
KINDS = ("wordpiece", "bpe", "unigram")
FORMATS = {"ner": "iob", "classification": "chemprot-jsonl", "pairs": "mrpc", "qa": "squad"}
LABELS = {
    "ner": ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"],
    "classification": ["false", "CPR:3", "CPR:4"],
    "pairs": ["0", "1"],
    "qa": [],
}


@functools.cache
def vocabulary_of(kind: str, lowercase: bool = False) -> Vocabulary:
    """A small vocabulary, with unknown characters, of each kind."""
    if kind != "wordpiece":
        return Vocabulary.train(SENTENCES * 4, 140, kind, lowercase)
    signs = [chr(code) for code in range(33, 127)] + list("\u00e9\u00fc\u00b5\u03b1\u03b2\u00b0\u00b1\u201d\u6771")
    signs = list(dict.fromkeys(sign.lower() if lowercase else sign for sign in signs))
    words = ["the", "Selegiline", "induced", "hypotension", "study", "effect", "disease", "##ine", "##tion", "##on"]
    words = [word.lower() if lowercase else word for word in words]
    lines = [SPECIALS[0], "[unused1]", *SPECIALS[1:], *signs, *("##" + sign for sign in signs), *words]
    return Vocabulary(WordPieceModel("".join(f"{line}\n" for line in lines).encode()), lowercase)


def config_of(vocabulary: Vocabulary, norm: str, **changes: Any) -> ModelConfig:
    """Two layers of 32, with weights large enough that texts differ."""
    values = {"layers": 2, "hidden": 32, "heads": 4, "max_length": 128, "init_std": 0.2, "dropout": 0.0, "norm": norm}
    return ModelConfig(vocab_size=vocabulary.padded_size(), **(values | changes))


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """The model with biases and LayerNorms that are not those of the start, in evaluation mode."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


@torch.inference_mode()
def balance(model: TextClassifier, vocabulary: Vocabulary) -> None:
    """Shift the head's bias so that no class is ahead: texts differ little in the first vector of a random encoder."""
    rows = [torch.tensor([[vocabulary.cls_id, *vocabulary.encode(text).ids]]) for text in SENTENCES]
    logits = torch.cat([model(row, torch.zeros_like(row), None) for row in rows])
    model.classifier.layers[-1].bias -= logits.mean(0)


def pretraining_run(root: Path, kind: str, norm: str, **changes: Any) -> tuple[Path, PretrainingModel]:
    """The folder of a pre-training run and its model."""
    vocabulary = vocabulary_of(kind)
    torch.manual_seed(3)
    model = spread(PretrainingModel(config_of(vocabulary, norm, **changes)))
    params = {"pretraining": {"vocabulary": "small", "length": 96}, "vocabulary": {}, "corpus": {"files": ["a|b"]}}
    return _written(root, "pretrain", model, vocabulary, params, {"heldout_mlm": 4.25, "evaluations": []}), model


def finetuned_run(
    root: Path, task: str, kind: str, norm: str, layers: int = 1, lowercase: bool = False, **recipe: Any
) -> tuple[Path, torch.nn.Module]:
    """The folder of a fine-tuning run and its model; its params and metrics are what `load_run` needs and no more."""
    vocabulary = vocabulary_of(kind, lowercase)
    config, labels = config_of(vocabulary, norm), LABELS[task]
    torch.manual_seed(5)
    head = {"num_fc_layers": layers, "fc_hidden": 16}
    if task == "qa":
        model = SpanClassifier(config, **head)
    else:
        model = (TokenClassifier if task == "ner" else TextClassifier)(config, len(labels), **head)
    cell = {"benchmark": task, "labelling": "piece"} | ({"marking": "markers"} if task == "classification" else {})
    params = {
        "cell": cell,
        "recipe": {"length": 96, "fc_dropout": 0.25, **recipe},
        "benchmark": {"format": FORMATS[task], "train": "train_set", "test": "test_set"},
        "encoder": {"pretraining": {"vocabulary": "small", "length": 96}},
    }
    if task == "qa":
        params["recipe"] |= {"stride": 32, "max_question": 24, "max_answer": 12, "n_best": 5}
    metrics = {"point": head, "labels": labels, "test": {"f1": 0.71875}, "threshold": None}
    spread(model)
    if isinstance(model, TextClassifier) and layers == 1:
        balance(model, vocabulary)
    return _written(root, "finetune", model, vocabulary, params, metrics), model


def _written(
    root: Path, stage: str, model: Any, vocabulary: Vocabulary, params: dict[str, Any], metrics: dict[str, Any]
) -> Path:
    folder = root / "runs" / stage / "a_run"
    folder.mkdir(parents=True)
    vocabulary.save(root / "vocabularies" / "small")
    write_json(folder / "params.json", params)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "model.json", model.config.to_dict())
    write_json(folder / "environment.json", {"commit": "0123abcd", "packages": {"torch": "2"}})
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    return folder


def real_sentences(shared_data: Path, count: int) -> list[str]:
    """Sentences of a benchmark, with blanks as people write them."""
    path = shared_data / "benchmarks" / "ner" / "bc5cdr-chem" / "devel.tsv"
    texts = [" ".join(sentence.words) for sentence in read_iob(path)[:count]]
    return [re.sub(r" ([.,;:)\]%/-])", r"\1", re.sub(r"([(\[/-]) ", r"\1", text)) for text in texts]
