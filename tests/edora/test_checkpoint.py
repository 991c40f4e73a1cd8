"""Saving and loading: everything comes back, and nothing is ever silently missing."""

import os
import subprocess
import sys

import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from edora import EdoraConfig, basis
from edora.layer import EdoraLayer

from .tiny_models import TARGETS, adapt_roberta, make_batch, make_roberta, move_far

VARIANTS = [
    {},
    {"train_magnitude": False},
    {"train_core": False},
    {"bases": "random", "singular_values": "split"},
    {"rank_pattern": {"query": 2}, "bias": "edora_only"},
    {"save_bases": False},
    {"save_bases": False, "bases": "random", "singular_values": "output"},
    {"save_bases": False, "rank_pattern": {"query": 2}, "train_magnitude": False},
]


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("choices", VARIANTS)
def test_round_trip_gives_identical_logits(tmp_path, choices, low_cpu_mem_usage):
    model, batch = adapt_roberta(**choices), make_batch()
    wanted = model(**batch).logits
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_roberta(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage).eval()
    assert torch.equal(loaded(**batch).logits, wanted)
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    loaded.merge_adapter()
    assert torch.allclose(loaded(**batch).logits, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("choices", "parts"),
    [
        ({}, ["core", "magnitude", "A", "B", "weight_hash", "weight_sketch"]),
        ({"save_bases": False}, ["core", "magnitude", "basis_sketch", "weight_hash", "weight_sketch"]),
        ({"train_magnitude": False}, ["core", "A", "B", "weight_hash", "weight_sketch"]),
        ({"train_core": False, "save_bases": False}, ["magnitude", "weight_hash", "weight_sketch"]),
    ],
)
def test_the_checkpoint_holds_these_tensors_of_every_layer(tmp_path, choices, parts):
    adapt_roberta(**choices).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    shapes = {
        "core": (4, 4), "magnitude": (16,), "A": (4, 16), "B": (16, 4),
        "basis_sketch": (2, 4), "weight_hash": (32,), "weight_sketch": (16,),
    }  # fmt: skip
    query = "base_model.model.roberta.encoder.layer.0.attention.self.query.edora_"
    assert {key.removeprefix(query) for key in saved if key.startswith(query)} == set(parts)
    for part in parts:
        assert saved[query + part].shape == shapes[part]
        assert saved[query + part].dtype == (torch.uint8 if part == "weight_hash" else torch.float32)
    assert len([key for key in saved if "edora_" in key]) == 8 * len(parts)
    assert {key for key in saved if "edora_" not in key} == {
        f"base_model.model.classifier.{name}" for name in
        ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    }  # fmt: skip


def test_bases_come_from_the_checkpoint_not_from_a_new_decomposition(tmp_path):
    model, batch = adapt_roberta(), make_batch()
    for layer in model.modules():
        if isinstance(layer, EdoraLayer):
            layer.edora_A["default"] = layer.edora_A["default"].flip(0).contiguous() * 1.5
            layer.refresh_constants()
    wanted = model(**batch).logits
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_roberta(), tmp_path).eval()
    assert torch.equal(loaded(**batch).logits, wanted)


def test_training_goes_on_after_loading(tmp_path):
    model = adapt_roberta()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_roberta(), tmp_path, is_trainable=True)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == names
    frozen = PeftModel.from_pretrained(make_roberta(), tmp_path)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_a_second_adapter_loads_beside_the_first_under_another_name(tmp_path):
    model, batch = adapt_roberta(r=3), make_batch()
    wanted = model(**batch).logits
    model.save_pretrained(tmp_path)
    other = adapt_roberta()
    other.load_adapter(tmp_path, "second")
    other.set_adapter("second")
    assert torch.equal(other.eval()(**batch).logits, wanted)


@pytest.mark.parametrize("part", ["edora_core", "edora_magnitude", "edora_A", "edora_B"])
@pytest.mark.parametrize("all_layers", [True, False])
def test_a_checkpoint_that_lacks_a_part_is_an_error(tmp_path, part, all_layers):
    adapt_roberta().save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    saved = load_file(path)
    keys = [key for key in saved if key.endswith(part)]
    for key in keys if all_layers else keys[:1]:
        del saved[key]
    save_file(saved, path)
    with pytest.raises(
        ValueError, match=rf"lacks tensors of the adapter \({8 if all_layers else 1}\).*{part}"
    ):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


def test_a_checkpoint_without_its_trained_bias_is_an_error(tmp_path):
    adapt_roberta(bias="edora_only").save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    saved = load_file(path)
    removed = [saved.pop(key) for key in list(saved) if key.endswith("query.base_layer.bias")]
    assert len(removed) == 2
    save_file(saved, path)
    with pytest.raises(ValueError, match="lacks tensors"):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


def test_a_head_missing_from_the_checkpoint_is_an_error(tmp_path):
    adapt_roberta().save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if "classifier" not in key}, path)
    with pytest.raises(KeyError, match="classifier"):
        PeftModel.from_pretrained(make_roberta(), tmp_path)


@pytest.mark.parametrize("ignore", [False, True])
def test_another_base_model_is_an_error(tmp_path, ignore):
    adapt_roberta().save_pretrained(tmp_path)
    from transformers import RobertaConfig, RobertaForSequenceClassification

    settings = {
        "vocab_size": 50,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "max_position_embeddings": 24,
    }
    wide = RobertaForSequenceClassification(RobertaConfig(hidden_size=24, intermediate_size=40, **settings))
    with pytest.raises(ValueError, match=r"Shapes differ.*another base model"):
        PeftModel.from_pretrained(wide, tmp_path, ignore_mismatched_sizes=ignore)


@pytest.mark.parametrize(("layers", "message"), [(1, "no place"), (3, "lacks tensors")])
def test_another_number_of_layers_is_an_error(tmp_path, layers, message):
    adapt_roberta().save_pretrained(tmp_path)
    from transformers import RobertaConfig, RobertaForSequenceClassification

    settings = {"vocab_size": 50, "num_attention_heads": 2, "hidden_size": 16, "max_position_embeddings": 24}
    config = RobertaConfig(num_hidden_layers=layers, intermediate_size=40, **settings)
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(RobertaForSequenceClassification(config), tmp_path)


def test_a_checkpoint_with_a_magnitude_does_not_load_as_lora_xs(tmp_path):
    model = adapt_roberta()
    state = get_peft_model_state_dict(model)
    other = adapt_roberta(train_magnitude=False)
    with pytest.raises(ValueError, match=r"no place.*edora_magnitude"):
        set_peft_model_state_dict(other, state)


def test_plain_injection_round_trip():
    batch = make_batch()
    config = EdoraConfig(r=4, target_modules=TARGETS)
    first, second = (inject_adapter_in_model(config, make_roberta()).eval() for _ in range(2))
    for layer in first.modules():
        if isinstance(layer, EdoraLayer):
            move_far(layer)
    state = get_peft_model_state_dict(first)
    set_peft_model_state_dict(second, state)
    assert torch.equal(first(**batch).logits, second(**batch).logits)
    state.pop(next(iter(state)))
    with pytest.raises(ValueError, match="lacks tensors"):
        set_peft_model_state_dict(second, state)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_adapters_stay_in_float32_on_a_bfloat16_model(tmp_path, low_cpu_mem_usage):
    model = adapt_roberta(make_roberta().to(torch.bfloat16))
    wanted = model(**make_batch()).logits
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(
        make_roberta().to(torch.bfloat16),
        tmp_path,
        low_cpu_mem_usage=low_cpu_mem_usage,
    )
    tensors = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    assert {tensor.dtype for name, tensor in tensors.items() if "edora_" in name} == {torch.float32}
    kept = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in kept.items() if "edora_" in name)
    assert torch.allclose(loaded.eval()(**make_batch()).logits.float(), wanted.float(), atol=1e-2)


def forbid_decompositions(monkeypatch, tmp_path):
    monkeypatch.setenv("EDORA_CACHE", str(tmp_path / "empty"))

    def refuse(*_):
        raise AssertionError("a basis was computed although it is about to be loaded")

    monkeypatch.setitem(basis._COMPUTE, "exact", refuse)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_loading_saved_bases_computes_none(tmp_path, monkeypatch, low_cpu_mem_usage):
    model, batch = adapt_roberta(), make_batch()
    wanted = model(**batch).logits
    model.save_pretrained(tmp_path / "adapter")
    forbid_decompositions(monkeypatch, tmp_path)
    choices = {"low_cpu_mem_usage": low_cpu_mem_usage}
    loaded = PeftModel.from_pretrained(make_roberta(), tmp_path / "adapter", **choices).eval()
    assert torch.equal(loaded(**batch).logits, wanted)
    loaded.load_adapter(tmp_path / "adapter", "second", **choices)
    loaded.set_adapter("second")
    assert torch.equal(loaded(**batch).logits, wanted)
    loaded.save_pretrained(tmp_path / "both")
    third = PeftModel.from_pretrained(make_roberta(), tmp_path / "both", subfolder="second", **choices).eval()
    assert torch.equal(third(**batch).logits, wanted)
    with pytest.raises(AssertionError, match="about to be loaded"):
        get_peft_model(make_roberta(), EdoraConfig(r=4))


def test_a_loaded_configuration_starts_anew_on_another_model(tmp_path):
    adapt_roberta().save_pretrained(tmp_path)
    config = EdoraConfig.from_pretrained(tmp_path)
    layers = [
        get_peft_model(make_roberta(seed), config).base_model.model.roberta.encoder.layer[0].output.dense
        for seed in (0, 1)
    ]
    for layer in layers:
        basis_in, basis_out = basis.build_svd_bases(layer.original_weight, 4, "input")
        assert torch.equal(layer.edora_A["default"], basis_in)
        assert torch.equal(layer.edora_B["default"], basis_out)
    assert not torch.equal(layers[0].edora_A["default"], layers[1].edora_A["default"])
    config.singular_values = "output"
    layer = get_peft_model(make_roberta(), config).base_model.model.roberta.encoder.layer[0].output.dense
    basis_in, _ = basis.build_svd_bases(layer.original_weight, 4, "output")
    assert torch.equal(layer.edora_A["default"], basis_in)


def test_without_the_import_loading_fails_loudly(tmp_path):
    adapt_roberta().save_pretrained(tmp_path)
    program = f"""
from peft import PeftConfig, PeftModel
from torch import nn
folder = {str(tmp_path)!r}
for load in (PeftConfig.from_pretrained, lambda path: PeftModel.from_pretrained(nn.Sequential(), path)):
    try:
        load(folder)
    except KeyError as error:
        print("refused", error)
import edora
print("rank", PeftConfig.from_pretrained(folder).r)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines() == ["refused 'EDORA'"] * 2 + ["rank 4"]
