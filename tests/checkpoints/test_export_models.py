"""Exported models: `transformers` loads every weight, and its outputs are those of the run."""

import json
import re

import pytest
import torch
import yaml
from export_runs import LABELS, SENTENCES, config_of, finetuned_run, pretraining_run, spread, vocabulary_of
from safetensors import safe_open

from biomeg_lib.checkpoints import checkpoint, export, hf_writer, reading
from biomeg_lib.checkpoints.checkpoint import Checkpoint
from biomeg_lib.checkpoints.export import export as exported
from biomeg_lib.checkpoints.model_card import escaped
from biomeg_lib.errors import BiomegError, InputError
from biomeg_lib.files import read_json, write_json
from biomeg_lib.model import PretrainingModel
from biomeg_lib.predict import load_run

transformers = pytest.importorskip("transformers")

NORMS = pytest.mark.parametrize("norm", ["pre", "post"])
TASKS = {
    "ner": transformers.AutoModelForTokenClassification,
    "classification": transformers.AutoModelForSequenceClassification,
    "qa": transformers.AutoModelForQuestionAnswering,
}


def loaded(auto, folder):
    """The model, and the weights that the folder lacks or has beyond it."""
    model, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    return model.eval(), sorted(report["unexpected_keys"])


def batch(folder):
    """Sentences of mixed length as their tokenizer pads them, and the mask as we have it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(
        SENTENCES, ["a second text", "", "", "more", ""], padding=True, truncation=True, return_tensors="pt"
    )
    return given, given["attention_mask"].bool()


def of_ours(model, given, mask):
    return model(given["input_ids"], given["token_type_ids"], mask)


@NORMS
@pytest.mark.parametrize("gelu", ["tanh", "erf"])
@torch.inference_mode()
def test_masked_words(norm, gelu, tmp_path):
    run, ours = pretraining_run(tmp_path, "bpe", norm, gelu=gelu, norm_eps=3e-3, token_types=3)
    name = exported(run, tmp_path / "to")
    assert name == {"pre": "MegatronBert", "post": "Bert"}[norm] + "ForMaskedLM"
    theirs, beyond = loaded(transformers.AutoModelForMaskedLM, tmp_path / "to")
    assert type(theirs).__name__ == name
    assert beyond == [
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    ]
    given, mask = batch(tmp_path / "to")
    words, _ = of_ours(ours, given, mask)
    torch.testing.assert_close(theirs(**given).logits[mask], words[mask], rtol=1e-5, atol=1e-5)
    assert theirs.get_output_embeddings().weight is theirs.get_input_embeddings().weight


@NORMS
@torch.inference_mode()
def test_sentence_order_comes_along(norm, tmp_path):
    run, ours = pretraining_run(tmp_path, "unigram", norm)
    exported(run, tmp_path / "to")
    theirs, beyond = loaded(transformers.AutoModelForPreTraining, tmp_path / "to")
    assert beyond == []
    given, mask = batch(tmp_path / "to")
    _, order = of_ours(ours, given, mask)
    torch.testing.assert_close(theirs(**given).seq_relationship_logits, order, rtol=1e-5, atol=1e-5)


@NORMS
@pytest.mark.parametrize("task", TASKS)
@torch.inference_mode()
def test_heads(norm, task, tmp_path):
    run, ours = finetuned_run(tmp_path, task, "wordpiece", norm)
    exported(run, tmp_path / "to")
    theirs, beyond = loaded(TASKS[task], tmp_path / "to")
    assert beyond == []
    given, mask = batch(tmp_path / "to")
    found, expected = theirs(**given), of_ours(ours, given, mask)
    if task == "qa":
        pairs = [(found.start_logits[mask], expected[:, 0][mask]), (found.end_logits[mask], expected[:, 1][mask])]
    elif task == "ner":
        pairs = [(found.logits[mask], expected[mask])]
    else:
        pairs = [(found.logits, expected)]
    for own, other in pairs:
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
        assert other.std() > 0.1  # else there is nothing to compare


@NORMS
@torch.inference_mode()
def test_the_pooler_of_a_sequence_classifier_changes_nothing(norm, tmp_path):
    run, ours = finetuned_run(tmp_path, "classification", "bpe", norm)
    last = ours.encoder.norm if norm == "pre" else ours.encoder.blocks[-1].mlp_norm
    k = hf_writer.scale_of_pooler(ours.config, {f"encoder.{name}": v for name, v in ours.encoder.state_dict().items()})
    # The largest vectors that this LayerNorm can give, and ordinary ones: all come back to the last bit but one.
    most = 32**0.5 * last.weight.abs() + last.bias.abs()
    vectors = torch.cat([most[None], torch.randn(99, 32) * last.weight + last.bias])
    through = torch.tanh(vectors * 2.0**-k) * 2.0**k
    torch.testing.assert_close(through, vectors, rtol=1.2e-7, atol=0)
    exported(run, tmp_path / "to")
    theirs, _ = loaded(transformers.AutoModelForSequenceClassification, tmp_path / "to")
    given, _ = batch(tmp_path / "to")
    hidden = theirs.bert(**given).last_hidden_state[:, 0]
    torch.testing.assert_close(theirs(**given).logits, ours.classifier(hidden), rtol=1e-6, atol=1e-6)
    assert f"2^-{k}" in (tmp_path / "to" / "README.md").read_text()


@NORMS
def test_the_config_tells_all_that_the_weights_do_not(norm, tmp_path):
    run, _ = finetuned_run(tmp_path, "ner", "bpe", norm)
    exported(run, tmp_path / "to")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "to")
    assert config.id2label == dict(enumerate(LABELS["ner"]))
    assert config.label2id == {label: number for number, label in enumerate(LABELS["ner"])}
    assert config.vocab_size == vocabulary_of("bpe").padded_size()
    assert config.pad_token_id == vocabulary_of("bpe").pad_id
    assert config.layer_norm_eps == (1e-5 if norm == "pre" else 1e-12)
    assert (config.max_position_embeddings, config.type_vocab_size) == (128, 2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    assert tokenizer.model_max_length == 96  # of the run, not of the position embedding


class TestCheckpoints:
    def made(self, norm="pre", without=(), vocabulary="wordpiece"):
        small = vocabulary_of("wordpiece")
        config = config_of(small, norm)
        torch.manual_seed(7)
        state = spread(PretrainingModel(config)).state_dict()
        state = {name: value for name, value in state.items() if name.split(".")[0] not in without}
        return Checkpoint.checked("test", config, state, small if vocabulary else None, "a test")

    @NORMS
    def test_importing_an_export_is_bit_identical(self, norm, tmp_path):
        checkpoint.save(self.made(norm), tmp_path / "from")
        exported(tmp_path / "from", tmp_path / "to")
        first, again = reading.read(tmp_path / "from"), reading.read(tmp_path / "to")
        assert again.config == first.config
        assert again.state.keys() == first.state.keys()
        assert all(torch.equal(again.state[name], value) for name, value in first.state.items())
        assert again.vocabulary.fingerprint == first.vocabulary.fingerprint

    @torch.inference_mode()
    def test_without_masked_lm_head_it_is_an_encoder(self, tmp_path):
        made = self.made(without=("mlm", "order"))
        checkpoint.save(made, tmp_path / "from")
        assert exported(tmp_path / "from", tmp_path / "to") == "MegatronBertModel"
        theirs, beyond = loaded(transformers.AutoModel, tmp_path / "to")
        assert beyond == []
        ours = PretrainingModel(made.config)
        ours.load_state_dict(made.state, strict=False)
        given, mask = batch(tmp_path / "to")
        expected = of_ours(ours.eval().encoder, given, mask)
        torch.testing.assert_close(theirs(**given).last_hidden_state[mask], expected[mask], rtol=1e-5, atol=1e-5)

    def test_without_vocabulary_there_are_no_tokenizer_files(self, tmp_path):
        checkpoint.save(self.made(vocabulary=None), tmp_path / "from")
        exported(tmp_path / "from", tmp_path / "to")
        names = {path.name for path in (tmp_path / "to").iterdir()}
        assert names == {"config.json", "model.safetensors", "README.md", export.DESCRIPTION}
        assert "no tokenizer files" in (tmp_path / "to" / "README.md").read_text()


class TestFolder:
    def test_weights_are_stored_once_and_as_transformers_stores_them(self, tmp_path):
        run, _ = pretraining_run(tmp_path, "bpe", "pre")
        exported(run, tmp_path / "to")
        with safe_open(tmp_path / "to" / "model.safetensors", "pt") as file:
            assert file.metadata() == {"format": "pt"}
            assert not [name for name in file.keys() if "decoder" in name]  # noqa: SIM118

    def test_a_head_of_two_layers_is_refused(self, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre", layers=2)
        with pytest.raises(
            InputError, match=r"TokenClassification is, found 2; .*search: \{num_fc_layers: \[1\]\}"
        ) as caught:
            exported(run, tmp_path / "to")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "to").exists()

    def test_what_is_no_export_is_never_replaced(self, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        for taken in (run, tmp_path, run.parent):
            with pytest.raises(BiomegError, match="an older export"):
                exported(run, taken)
        assert load_run(run).labels == LABELS["ner"]

    def test_an_older_export_is_replaced(self, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        exported(run, tmp_path / "to")
        (tmp_path / "to" / "old").touch()
        exported(run, tmp_path / "to")
        assert not (tmp_path / "to" / "old").exists()

    def test_nothing_is_left_of_an_export_that_fails(self, tmp_path, monkeypatch):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        monkeypatch.setattr(export, "model_card", lambda card: 1 / 0)
        before = set(tmp_path.iterdir())
        with pytest.raises(ZeroDivisionError):
            exported(run, tmp_path / "to")
        assert set(tmp_path.iterdir()) == before

    @pytest.mark.parametrize("name", ["metrics.json", "model.safetensors", "params.json"])
    def test_a_run_that_is_not_complete_is_refused(self, name, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        (run / name).unlink()
        with pytest.raises(InputError):
            exported(run, tmp_path / "to")
        assert not (tmp_path / "to").exists()

    @pytest.mark.parametrize(
        ("file", "values"),
        [
            ("params.json", []),
            ("params.json", {"cell": {}, "encoder": {"pretraining": {"vocabulary": "small"}}}),
            ("metrics.json", {"labels": ["O"]}),
            ("metrics.json", 1),
        ],
    )
    def test_files_of_another_content_are_refused(self, file, values, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        write_json(run / file, values)
        with pytest.raises(InputError, match="expected"):
            exported(run, tmp_path / "to")
        assert not (tmp_path / "to").exists()


class TestCard:
    def test_params_scores_data_and_origin_are_in_it(self, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        exported(run, tmp_path / "to")
        text = (tmp_path / "to" / "README.md").read_text()
        front = yaml.safe_load(text.split("---\n")[1])
        assert front["pipeline_tag"] == "token-classification"
        assert front["library_name"] == "transformers"
        blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", text, re.S)]
        assert blocks == [read_json(run / "params.json"), read_json(run / "environment.json")]
        assert "| test f1 | 0.71875 |" in text
        assert "- train: train\\_set" in text

    def test_hostile_names_stay_text(self, tmp_path):
        run, _ = finetuned_run(tmp_path, "ner", "bpe", "pre")
        hostile = "a | b\n\n```\n# <script>x</script> [y](z) ---\n"
        params = read_json(run / "params.json")
        params["benchmark"]["train"] = hostile
        write_json(run / "params.json", params)
        write_json(run / "metrics.json", read_json(run / "metrics.json") | {hostile: 1.0})
        exported(run, tmp_path / "to")
        text = (tmp_path / "to" / "README.md").read_text()
        outside = re.sub(r"```(json|python)\n.*?\n```", "", text, flags=re.S)
        assert "<script" not in outside.replace("\\<", "")
        assert not re.search(r"^```", outside, re.M)
        assert escaped(hostile) in outside
        (row,) = [line for line in outside.splitlines() if "script" in line and line.endswith("| 1 |")]
        assert len(re.findall(r"(?<!\\)\|", row)) == 3
