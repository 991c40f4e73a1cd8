"""Merging, unmerging, disabling, and the mistakes that users make with them."""

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from edora import EdoraConfig

from .tiny_models import adapt_roberta, make_batch, make_layer, make_roberta, move_far, relative_error


@pytest.mark.parametrize(
    "choices", [{}, {"train_magnitude": False}, {"train_core": False}, {"bases": "random"}]
)
def test_merging_keeps_the_output_and_unmerging_restores_every_bit(choices):
    model, layer = make_layer(20, 12, r=4, **choices)
    move_far(layer)
    x = torch.randn(6, 12)
    original, plain = layer.get_base_layer().weight.clone(), model(x)
    model.merge_adapter(safe_merge=True)
    assert relative_error(model(x), plain.detach()) < 1e-5
    assert relative_error(layer.get_base_layer().weight, original) > 1e-2
    model.unmerge_adapter()
    assert torch.equal(layer.get_base_layer().weight, original)
    assert torch.equal(model(x), plain)


def test_merging_twice_warns_and_does_nothing():
    model, layer = make_layer(20, 12, r=4)
    move_far(layer)
    model.merge_adapter()
    once = layer.get_base_layer().weight.clone()
    with pytest.warns(UserWarning, match="already merged"):
        model.merge_adapter()
    assert torch.equal(layer.get_base_layer().weight, once)
    model.unmerge_adapter()
    with pytest.warns(UserWarning, match="Already unmerged"):
        model.unmerge_adapter()


def test_disabling_gives_the_base_model_merged_or_not():
    model, layer = make_layer(20, 12, r=4)
    x = torch.randn(6, 12)
    base = layer.get_base_layer()(x)
    move_far(layer)
    adapted = model(x)
    with model.disable_adapter():
        assert torch.equal(model(x), base)
    assert torch.equal(model(x), adapted)
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(model(x), base)
    assert not layer.merged
    assert torch.equal(model(x), adapted)


def test_delta_weight_is_what_merging_adds():
    model, layer = make_layer(20, 12, r=4)
    move_far(layer)
    original = layer.get_base_layer().weight.clone()
    delta = layer.get_delta_weight("default")
    model.merge_adapter()
    assert torch.allclose(original + delta, layer.get_base_layer().weight, atol=1e-6)
    assert torch.equal(layer.get_delta_weight("default"), delta)


def test_safe_merge_refuses_broken_values_and_leaves_the_weight():
    model, layer = make_layer(20, 12, r=4)
    with torch.no_grad():
        layer.edora_magnitude["default"][3] = float("nan")
    original = layer.get_base_layer().weight.clone()
    with pytest.raises(ValueError, match=r"NaNs detected.*adapter default.*not finite"):
        model.merge_adapter(safe_merge=True)
    assert torch.equal(layer.get_base_layer().weight, original)
    assert not layer.merged


def test_merge_and_unload_gives_a_plain_model_with_the_same_logits():
    model, batch = adapt_roberta(), make_batch()
    logits = model(**batch).logits
    plain = model.merge_and_unload()
    assert not [name for name, _ in plain.named_modules() if "edora" in name or "base_layer" in name]
    assert relative_error(plain(**batch).logits, logits.detach()) < 1e-4


def test_unload_gives_the_base_model_back():
    base, batch = make_roberta(), make_batch()
    wanted = base(**batch).logits
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    restored = adapt_roberta(base, modules_to_save=None, task_type=None).unload()
    assert torch.equal(restored(**batch).logits, wanted)
    assert restored.state_dict().keys() == weights.keys()


@pytest.mark.parametrize("choices", [{}, {"train_magnitude": False}])
def test_conv1d_is_the_transposed_linear(choices):
    torch.manual_seed(0)
    linear, conv = nn.Linear(12, 20), Conv1D(20, 12)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.T)
        conv.bias.copy_(linear.bias)
    x = torch.randn(6, 12)
    outputs, weights = [], []
    for base in (linear, conv):
        model = nn.Sequential()
        model.add_module("target", base)
        adapted = get_peft_model(model, EdoraConfig(r=4, init_seed=0, target_modules=["target"], **choices))
        layer = adapted.base_model.model.target
        move_far(layer)
        outputs.append(adapted(x))
        delta = layer.get_delta_weight("default")
        adapted.merge_adapter()
        weights.append((layer.get_base_layer().weight.clone(), delta))
        assert relative_error(adapted(x), outputs[-1].detach()) < 1e-5
        adapted.unmerge_adapter()
        assert torch.equal(adapted(x), outputs[-1])
    assert relative_error(outputs[1], outputs[0].detach()) < 1e-6
    assert relative_error(weights[1][0].T, weights[0][0].detach()) < 1e-6
    assert relative_error(weights[1][1].T, weights[0][1]) < 1e-5


def test_an_adapter_added_while_another_is_merged_starts_from_the_original_weight():
    model, layer = make_layer(20, 12, r=4, train_magnitude=False)
    move_far(layer)
    basis_in = layer.edora_A["default"].clone()
    model.merge_adapter()
    model.add_adapter("other", EdoraConfig(r=4, target_modules=["linear"], train_magnitude=False))
    assert torch.equal(layer.edora_A["other"], basis_in)
