import dataclasses
import json

import pytest
import sentencepiece
import torch

from glue_harness.data import miniature
from glue_harness.errors import InputError
from glue_harness.models import backbone as backbone_module
from glue_harness.models.backbone import (
    is_head_parameter,
    load_backbone,
    load_tokenizer,
    outline_backbone,
    weights_sha256,
)

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def head_of(model, config):
    return {n: p for n, p in model.named_parameters() if is_head_parameter(n, config.model.head_modules)}


@pytest.mark.parametrize("name", ["tiny_roberta", "tiny_deberta", "minilm"])
def test_everything_is_float32_a_new_head_included(build_config, name):
    config = build_config(f"model={name}")
    model = load_backbone(config.model, config.task, seed=1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["tiny_roberta", "tiny_deberta", "minilm"])
def test_the_outline_has_the_backbones_shapes_and_no_values(build_config, name):
    config = build_config(f"model={name}", "task=stsb")
    outline = dict(outline_backbone(config.model, config.task).named_parameters())
    assert all(parameter.is_meta for parameter in outline.values())
    loaded = load_backbone(config.model, config.task, seed=1).named_parameters()
    assert {n: p.shape for n, p in loaded} == {n: p.shape for n, p in outline.items()}


@pytest.mark.parametrize(("task", "outputs"), [("mrpc", 2), ("stsb", 1)])
def test_outputs_follow_the_task(build_config, task, outputs):
    config = build_config(f"task={task}")
    model = load_backbone(config.model, config.task, seed=1)
    assert model(torch.tensor([[0, 5, 2]])).logits.shape == (1, outputs)


@pytest.mark.parametrize("name", ["tiny_roberta", "tiny_deberta", "minilm"])
def test_head_comes_from_the_seed_alone(build_config, name):
    config = build_config(f"model={name}")
    torch.manual_seed(123)
    first = head_of(load_backbone(config.model, config.task, seed=1), config)
    torch.manual_seed(456)
    again = head_of(load_backbone(config.model, config.task, seed=1), config)
    other = head_of(load_backbone(config.model, config.task, seed=2), config)
    weights = [name for name in first if name.endswith("weight")]
    assert weights
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in weights)
    for name in weights:
        assert first[name].std().item() == pytest.approx(0.02, rel=0.2)


def test_loading_leaves_the_global_generator_alone(build_config):
    config = build_config()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    load_backbone(config.model, config.task, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_minilms_weights_are_the_packages(build_config):
    config = build_config("model=minilm")
    model = load_backbone(config.model, config.task, seed=1)
    assert weights_sha256(config.model) == MINILM_SHA256
    assert model.bert.encoder.layer[0].attention.self.query.weight.abs().sum().item() > 1000


def test_other_weights_are_refused(build_config):
    config = build_config("model=minilm", "model.weights.sha256=0000")
    with pytest.raises(InputError, match=f"has {MINILM_SHA256}; allowed is 0000"):
        load_backbone(config.model, config.task, seed=1)


def test_a_missing_package_says_what_to_install(build_config):
    config = build_config("model=minilm", "model.weights.id=no-such-package")
    with pytest.raises(InputError, match=r"pip install no-such-package==0\.1\.0"):
        load_tokenizer(config.model)


def test_a_checkpoint_that_lacks_more_than_the_head_is_refused(build_config, monkeypatch):
    config = build_config("model=minilm")
    deeper = dict(config.model.architecture, num_hidden_layers=7)
    model = dataclasses.replace(config.model, architecture=deeper)
    with pytest.raises(
        InputError, match=r"lacks bert\.encoder\.layer\.6\.\S+; allowed to be new is only the head"
    ):
        load_backbone(model, config.task, seed=1)


def test_a_hub_model_out_of_reach_names_other_ways(build_config):
    config = build_config("model=roberta_base", "model.weights.id=nobody/nothing")
    with pytest.raises(InputError, match="hub is out of reach.*use model=minilm"):
        load_backbone(config.model, config.task, seed=1)


def test_what_the_hub_does_not_give_is_one_line(build_config, monkeypatch):
    monkeypatch.setattr(backbone_module, "check_hub_reachable", lambda wanted, instead: None)
    config = build_config("model=roberta_base", "model.weights.id=nobody/nothing")
    with pytest.raises(
        InputError, match="model=roberta_base: the hub did not give it .*use model=minilm"
    ) as caught:
        load_backbone(config.model, config.task, seed=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["roberta_base", "deberta_v3_base"])
def test_a_cache_that_lacks_the_vocabulary_is_refused(build_config, monkeypatch, tmp_path, name):
    monkeypatch.setattr(backbone_module, "check_hub_reachable", lambda wanted, instead: None)
    model = build_config(f"model={name}", f"model.weights.id={tmp_path}").model
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model.architecture["model_type"]}))
    with pytest.raises(InputError, match=rf"model={name}: .*a vocabulary of \d tokens for \d+ embeddings"):
        load_tokenizer(model)


def test_a_cache_that_lacks_a_file_of_the_vocabulary_is_refused(build_config, monkeypatch, tmp_path):
    monkeypatch.setattr(backbone_module, "check_hub_reachable", lambda wanted, instead: None)
    model = build_config("model=roberta_base", f"model.weights.id={tmp_path}").model
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    (tmp_path / "vocab.json").write_text('{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}')
    with pytest.raises(InputError, match="model=roberta_base: the hub did not give it"):
        load_tokenizer(model)


@pytest.mark.parametrize("name", ["tiny_roberta", "minilm"])
def test_tokenizer_marks_pairs_and_pads(build_config, name):
    config = build_config(f"model={name}")
    tokenizer = load_tokenizer(config.model)
    pair = tokenizer("one thing", "another thing")["input_ids"]
    assert pair[-1] == tokenizer.sep_token_id
    assert pair.count(tokenizer.sep_token_id) == (2 if name == "minilm" else 3)
    assert tokenizer.pad_token_id == config.model.architecture["pad_token_id"]


@pytest.fixture(scope="session")
def deberta_repository(tmp_path_factory):
    """A folder with the files of microsoft/deberta-v3-base that make its tokenizer, trained on the miniature text."""
    folder = tmp_path_factory.mktemp("deberta")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(miniature.corpus()),
        model_prefix=str(folder / "spm"),
        vocab_size=256,
        num_threads=1,
        minloglevel=2,
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
        **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    )
    (folder / "config.json").write_text('{"model_type": "deberta-v2"}')
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    return folder


@pytest.fixture
def deberta(build_config, deberta_repository):
    """tiny_deberta with a tokenizer as DeBERTa's: sentencepiece, padding id 0."""
    model = build_config(
        "model=tiny_deberta", "model.architecture.pad_token_id=0", "model.architecture.vocab_size=400"
    ).model
    weights = dataclasses.replace(model.weights, source="hub", id=str(deberta_repository))
    return model, load_tokenizer(dataclasses.replace(model, weights=weights, tokenizer="weights"))


def test_debertas_tokenizer_splits_as_sentencepiece_does(deberta, deberta_repository):
    _, tokenizer = deberta
    assert type(tokenizer).__name__ == "DebertaV2Tokenizer"
    reference = sentencepiece.SentencePieceProcessor(model_file=str(deberta_repository / "spm.model"))
    sentences = [*miniature.corpus()[:500], "", "two  spaces", " before", "after ", "Straße 你好"]
    for sentence in sentences:
        assert tokenizer(sentence, add_special_tokens=False)["input_ids"] == reference.encode(sentence)
    assert tokenizer.unk_token_id in tokenizer("你好")["input_ids"]


def test_debertas_tokenizer_marks_pairs_and_pads(deberta):
    _, tokenizer = deberta
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the boat", "a dog"))
    cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    assert (pad, cls, sep, tokenizer.unk_token_id) == (0, 1, 2, 3)
    assert tokenizer.mask_token_id == 256  # behind the vocabulary, as 128000 is in DeBERTa's own
    pair = tokenizer("the boat", "a dog", padding="max_length", max_length=32)
    ids = [cls, *first, sep, *second, sep]
    assert pair["input_ids"] == ids + [pad] * (32 - len(ids))
    assert pair["attention_mask"] == [1] * len(ids) + [0] * (32 - len(ids))


def test_padding_does_not_change_what_deberta_says(deberta, build_config):
    model, tokenizer = deberta
    backbone = load_backbone(model, build_config().task, seed=1).eval()
    short, long = (
        tokenizer("the boat", "a dog", padding="max_length", max_length=n, return_tensors="pt")
        for n in (16, 32)
    )
    with torch.no_grad():
        torch.testing.assert_close(backbone(**short).logits, backbone(**long).logits, rtol=0, atol=1e-5)


def test_miniature_tokenizer_is_the_same_every_time():
    text = "The quiet farmer did not sell the old boat."
    first = backbone_module.miniature_tokenizer.__wrapped__(1024)(text)["input_ids"]
    assert first == backbone_module.miniature_tokenizer.__wrapped__(1024)(text)["input_ids"]
    assert 3 not in first  # the unknown token
