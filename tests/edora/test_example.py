"""The example that README and docs show, run as it stands but for the model's name."""

import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

ROOT = Path(__file__).parents[2]
PUBLISHED = "FacebookAI/roberta-base"
WORDS = ["<pad>", "<unk>", "a", "gem", "mess"]


def read_example(document):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    return code


@pytest.fixture
def tiny_model(tmp_path):
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        tmp_path / "base"
    )
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = RobertaConfig(vocab_size=len(WORDS), pad_token_id=0, **sizes)
    RobertaForSequenceClassification(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("document", ["README.md", "docs/edora.md"])
def test_the_example_adapts_trains_saves_loads_and_merges(
    document, tiny_model, tmp_path, monkeypatch, capsys
):
    code = read_example(document)
    assert len(code.strip().splitlines()) <= 25
    assert code.count(PUBLISHED) == 1
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.replace(PUBLISHED, str(tiny_model)), names)
    assert "trainable params" in capsys.readouterr().out
    model, merged, batch = names["model"], names["merged"], names["batch"]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert type(merged) is RobertaForSequenceClassification
    again = names["PeftModel"].from_pretrained(
        RobertaForSequenceClassification.from_pretrained(tiny_model, num_labels=2), "adapter"
    )
    assert model.base_model.model is merged
    assert torch.allclose(merged.eval()(**batch).logits, again.eval()(**batch).logits, atol=1e-5)
    plain = RobertaForSequenceClassification.from_pretrained(tiny_model, num_labels=2).eval()
    assert not torch.allclose(merged(**batch).logits, plain(**batch).logits, atol=1e-5)


def test_both_documents_show_the_same_example():
    assert read_example("README.md") == read_example("docs/edora.md")
