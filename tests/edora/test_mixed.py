"""Several adapters at once: as a sum on every element, or one for each element of a batch."""

import pytest
import torch
from peft import get_peft_model
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, T5Config, T5ForConditionalGeneration

from edora import EdoraConfig
from edora.layer import EdoraLayer

from .tiny_models import (
    TARGETS,
    TwoLayers,
    compose_longhand,
    make_batch,
    make_layer,
    move_far,
    relative_error,
)

KINDS = {"normalised": {}, "additive": {"train_magnitude": False}, "magnitude": {"train_core": False}}


def make_three(**choices):
    """One layer with three adapters of different kinds, all far from their start."""
    model, layer = make_layer(20, 12, r=4, **choices)
    for seed, (name, kind) in enumerate(KINDS.items()):
        model.add_adapter(name, EdoraConfig(r=2 + seed, target_modules=["linear"], **kind))
    for name in layer.list_present(["default", *KINDS]):
        move_far(layer, name)
    return model, layer


def compose_each(layer, names):
    """W' of every adapter in float64, from the formula."""
    for name in names:
        core, basis_in, basis_out = torch.zeros(1, 1), torch.zeros(1, 12), torch.zeros(20, 1)
        if name in layer.edora_core:
            core, basis_in, basis_out = layer.edora_core[name], layer.edora_A[name], layer.edora_B[name]
        magnitude = layer.edora_magnitude.get(name)
        scaling = layer.scaling.get(name, 1.0)
        yield compose_longhand(layer.original_weight, core, basis_in, basis_out, magnitude, scaling)


@pytest.mark.parametrize(
    "names", [["default", "normalised"], ["default", "additive", "magnitude"], ["normalised", "magnitude"]]
)
def test_the_effects_of_active_adapters_add_up(names):
    model, layer = make_three()
    x = torch.randn(6, 12)
    weight = layer.original_weight.double()
    wanted = weight + sum(composed - weight for composed in compose_each(layer, names))
    output = F.linear(x.double(), wanted, layer.bias.double()).detach()
    model.base_model.set_adapter(names)
    assert relative_error(model(x), output) < 1e-5
    assert relative_error(layer.compose_weight(names[::-1]), wanted.detach()) < 1e-5
    model.merge_adapter()
    assert relative_error(model(x), output) < 1e-5
    assert relative_error(layer.get_base_layer().weight, wanted.detach()) < 1e-5
    model.unmerge_adapter()
    assert torch.equal(layer.get_base_layer().weight.double(), weight)


def test_merging_one_after_another_is_merging_both():
    model, layer = make_three()
    model.merge_adapter(adapter_names=["default", "normalised"])
    together = layer.get_base_layer().weight.clone()
    model.unmerge_adapter()
    model.merge_adapter(adapter_names=["normalised"])
    with pytest.warns(UserWarning, match="additionally merging default"):
        model.merge_adapter(adapter_names=["default"])
    assert torch.allclose(layer.get_base_layer().weight, together, atol=1e-6)


def test_active_adapters_train_together_each_from_its_own_gradient():
    model, layer = make_three()
    names = ["default", "additive"]
    model.base_model.set_adapter(names)
    model(torch.randn(6, 12)).square().sum().backward()
    for name in names:
        assert layer.edora_core[name].grad.abs().max() > 0
    assert layer.edora_magnitude["default"].grad.abs().max() > 0
    assert layer.edora_core["normalised"].grad is None


def test_disabling_several_gives_the_base_model_bit_for_bit():
    model, layer = make_three()
    x = torch.randn(6, 12)
    model.base_model.set_adapter(["default", "normalised"])
    with model.disable_adapter():
        assert torch.equal(model(x), layer.get_base_layer()(x))


def test_adapters_on_different_layers_are_each_alone_there():
    model = get_peft_model(TwoLayers(), EdoraConfig(r=2, target_modules=["square"]))
    model.add_adapter("other", EdoraConfig(r=2, target_modules=["wide"]))
    for name, target in (("default", "square"), ("other", "wide")):
        move_far(getattr(model.base_model.model, target), name)
    x = torch.randn(3, 12)
    one = model(x)
    model.base_model.set_adapter(["default", "other"])
    both = model(x)
    assert relative_error(both, one.detach()) > 1e-3
    model.merge_adapter()
    assert relative_error(model(x), both.detach()) < 1e-5


def make_bert_with_three():
    """BERT, since PEFT mixes trained heads only where they are one linear layer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    base = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))
    settings = {"target_modules": TARGETS, "modules_to_save": ["classifier"], "task_type": "SEQ_CLS"}
    model = get_peft_model(base, EdoraConfig(r=4, **settings))
    model.add_adapter("second", EdoraConfig(r=2, bases="random", **settings))
    model.add_adapter(
        "third", EdoraConfig(r=3, train_magnitude=False, **{**settings, "target_modules": ["query"]})
    )
    for layer in model.modules():
        if isinstance(layer, EdoraLayer):
            for name in layer.list_present(["default", "second", "third"]):
                move_far(layer, name, core_size=1.0)
    with torch.no_grad():
        for name, head in model.base_model.model.classifier.modules_to_save.items():
            head.bias += len(name)
    return model.eval()


def compute_each(model, batch, names):
    outputs = {}
    for name in names:
        model.set_adapter(name)
        outputs[name] = model.eval()(**batch).logits
    with model.disable_adapter():
        outputs["__base__"] = model(**batch).logits
    model.set_adapter("default")
    return outputs


def test_every_element_has_its_own_adapter_and_its_own_head():
    model, batch = make_bert_with_three(), make_batch()
    outputs = compute_each(model, batch, ["default", "second", "third"])
    names = ["third", "__base__", "default", "second"]
    mixed = model(**batch, adapter_names=names).logits
    for row, name in enumerate(names):
        assert torch.allclose(mixed[row], outputs[name][row], atol=1e-5), name
        others = [outputs[other][row] for other in outputs if other != name]
        assert all(not torch.allclose(mixed[row], other, atol=1e-4) for other in others)
    assert torch.equal(model(**batch).logits, outputs["default"])


def test_repeated_names_and_one_name_for_all():
    model, batch = make_bert_with_three(), make_batch()
    outputs = compute_each(model, batch, ["default", "second"])
    mixed = model(**batch, adapter_names=["second", "default", "second", "default"]).logits
    assert torch.allclose(mixed[::2], outputs["second"][::2], atol=1e-5)
    assert torch.allclose(mixed[1::2], outputs["default"][1::2], atol=1e-5)
    same = model(**batch, adapter_names=["second"] * 4).logits
    assert torch.allclose(same, outputs["second"], atol=1e-6)


def test_names_that_do_not_fit_are_errors_and_leave_no_trace():
    model, batch = make_bert_with_three(), make_batch()
    wanted = model(**batch).logits
    with pytest.raises(ValueError, match=r"non-existing adapter\(s\): fifth, fourth"):
        model(**batch, adapter_names=["fourth", "default", "fifth", "default"])
    with pytest.raises(ValueError, match=r"adapter_names.*got 3 and 4"):
        model(**batch, adapter_names=["default"] * 3)
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        model(**batch, adapter_names=["default"] * 4)
    model.eval()
    model.merge_adapter()
    with pytest.raises(ValueError, match="merged"):
        model(**batch, adapter_names=["default"] * 4)
    model.unmerge_adapter()
    assert torch.equal(model(**batch).logits, wanted)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_disabled_adapters_stay_disabled_whatever_the_names():
    model, batch = make_bert_with_three(), make_batch()
    with model.disable_adapter():
        wanted = model(**batch).logits
        assert torch.equal(model(**batch, adapter_names=["second"] * 4).logits, wanted)


def test_beam_search_repeats_the_names_in_the_decoder_only():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "initializer_factor": 5.0}
    base = T5ForConditionalGeneration(T5Config(vocab_size=50, decoder_start_token_id=0, **sizes))
    model = get_peft_model(base, EdoraConfig(r=4, task_type="SEQ_2_SEQ_LM", target_modules=["q", "v", "wo"]))
    model.add_adapter("second", EdoraConfig(r=4, task_type="SEQ_2_SEQ_LM", target_modules=["q", "v", "wo"]))
    for layer in model.modules():
        if isinstance(layer, EdoraLayer):
            move_far(layer)
            move_far(layer, "second", core_size=1.0)
    model.eval()
    tokens = torch.randint(3, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    settings = {"input_ids": tokens, "num_beams": 3, "max_new_tokens": 6, "min_new_tokens": 6}
    alone = {}
    for name in ("default", "second"):
        model.set_adapter(name)
        alone[name] = model.generate(**settings)
    assert not torch.equal(alone["default"], alone["second"])
    mixed = model.generate(**settings, adapter_names=["second", "default", "second"])
    assert torch.equal(mixed[::2], alone["second"][::2])
    assert torch.equal(mixed[1], alone["default"][1])


def test_a_lone_layer_mixes_every_kind_of_adapter():
    model, layer = make_three()
    x = torch.randn(4, 5, 12)
    names = ["magnitude", "default", "__base__", "additive"]
    mixed = model.eval()(x, adapter_names=names)
    for row, name in enumerate(names):
        weight = layer.original_weight if name == "__base__" else layer.compose_weight([name])
        assert torch.allclose(mixed[row], F.linear(x[row], weight, layer.bias), atol=1e-5)
