"""PEFT's contract where it reaches beyond one adapter on one layer: types, targets, and what is refused by name."""

import pytest
import torch
from peft import LoraConfig, PeftModel, convert_to_lora, get_peft_model, get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.hotswap import hotswap_adapter
from torch import nn

from edora import EdoraConfig
from edora.layer import EdoraLayer

from .tiny_models import TARGETS, TwoLayers, adapt_roberta, make_batch, make_layer, make_roberta, move_far


def list_adapted(model):
    return [name for name, module in model.named_modules() if isinstance(module, EdoraLayer)]


def list_types(model, prefix="edora_"):
    return {p.dtype for name, p in model.named_parameters() if prefix in name}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_without_autocast_the_trained_part_has_the_base_model_s_type(tmp_path, dtype, low_cpu_mem_usage):
    def build():
        return make_roberta().to(dtype)

    config = EdoraConfig(r=4, target_modules=TARGETS)
    model = get_peft_model(build(), config, autocast_adapter_dtype=False)
    model.add_adapter("second", config, autocast_adapter_dtype=False)
    assert list_types(model) == {dtype}
    buffers = {tensor.dtype for name, tensor in model.named_buffers() if "edora_" in name}
    assert buffers == {torch.float32}
    for layer in model.modules():
        if isinstance(layer, EdoraLayer):
            move_far(layer)
    wanted = model.eval()(**make_batch()).logits
    model.save_pretrained(tmp_path)
    choices = {"autocast_adapter_dtype": False, "low_cpu_mem_usage": low_cpu_mem_usage}
    loaded = PeftModel.from_pretrained(build(), tmp_path, **choices).eval()
    assert list_types(loaded) == {dtype}
    assert torch.equal(loaded(**make_batch()).logits, wanted)
    loaded.merge_adapter()
    assert torch.allclose(loaded(**make_batch()).logits.float(), wanted.float(), atol=2e-2)
    cast = PeftModel.from_pretrained(build(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage).eval()
    assert list_types(cast) == {torch.float32}
    assert torch.allclose(cast(**make_batch()).logits.float(), wanted.float(), atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_adapter_trains(dtype):
    config = EdoraConfig(r=4, target_modules=TARGETS)
    model = get_peft_model(make_roberta().to(dtype), config, autocast_adapter_dtype=False)
    for layer in model.modules():
        if isinstance(layer, EdoraLayer):
            move_far(layer)
    (100 * model(**make_batch()).loss).backward()  # scaled, as float16 needs it
    gradients = [p.grad for name, p in model.named_parameters() if "edora_" in name]
    assert all(gradient.dtype == dtype and torch.isfinite(gradient).all() for gradient in gradients)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_a_whole_model_can_be_moved_to_another_type_and_back():
    model, batch = adapt_roberta(), make_batch()
    wanted = model(**batch).logits
    model.to(torch.bfloat16)
    assert torch.allclose(model(**batch).logits.float(), wanted, atol=5e-2)
    model.float()
    model.merge_adapter(safe_merge=True)
    assert torch.allclose(model(**batch).logits, wanted, atol=5e-2)


def test_all_linear_leaves_the_head_and_a_regular_expression_chooses():
    model = get_peft_model(make_roberta(), EdoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS"))
    assert len(list_adapted(model)) == 2 * 6
    assert not any("classifier" in name for name in list_adapted(model))
    pattern = r".*\.1\.attention\.(self\.(query|key)|output\.dense)"
    model = get_peft_model(make_roberta(), EdoraConfig(r=2, target_modules=pattern))
    assert [name.rpartition("attention.")[2] for name in list_adapted(model)] == [
        "self.query", "self.key", "output.dense",
    ]  # fmt: skip


def test_layer_indices_and_patterns_choose_blocks():
    for choices in ({"layers_to_transform": [1]}, {"layers_to_transform": 1, "layers_pattern": "layer"}):
        model = get_peft_model(make_roberta(), EdoraConfig(r=2, target_modules=["query", "value"], **choices))
        assert len(list_adapted(model)) == 2
        assert all(".layer.1." in name for name in list_adapted(model))


def test_default_targets_follow_peft_s_own_table(monkeypatch):
    monkeypatch.setitem(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, "new-model", ["wide"])
    base = TwoLayers()
    base.config = {"model_type": "new-model"}
    assert get_peft_model(base, EdoraConfig(r=2)).base_model.targeted_module_names == ["wide"]


@pytest.mark.parametrize("choices", [{"r": 0}, {"r": -1}, {"r": 2.5}, {"bases": "qr"}])
def test_bad_values_are_refused_before_a_model_is_touched(choices):
    with pytest.raises(ValueError, match=next(iter(choices))):
        get_peft_model(make_roberta(), EdoraConfig(**choices))


def test_a_weight_that_is_not_finite_is_refused_with_its_name():
    base = TwoLayers()
    with torch.no_grad():
        base.wide.weight[2, 3] = float("inf")
    with pytest.raises(ValueError, match=r"Layer 'wide': its weight has values that are not finite"):
        get_peft_model(base, EdoraConfig(r=2, target_modules="all-linear"))
    get_peft_model(TwoLayers(), EdoraConfig(r=2, target_modules=["square"]))


def test_loading_onto_an_adapter_that_is_there_replaces_it_in_place(tmp_path):
    first, batch = adapt_roberta(), make_batch()
    second = adapt_roberta()
    with torch.no_grad():
        for layer in second.modules():
            if isinstance(layer, EdoraLayer):
                layer.edora_core["default"].mul_(-3)
                layer.edora_magnitude["default"].mul_(1.5)
    wanted = second(**batch).logits
    second.save_pretrained(tmp_path)
    places = {name: p.data_ptr() for name, p in first.named_parameters()}
    first.load_adapter(tmp_path, "default")
    assert torch.equal(first(**batch).logits, wanted)
    assert places == {name: p.data_ptr() for name, p in first.named_parameters()}


def test_hotswap_is_refused_by_name(tmp_path):
    model = adapt_roberta()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"Hotswapping only supports .*LORA but EDORA"):
        hotswap_adapter(model, tmp_path, "default")


def test_mixing_methods_in_one_model_is_refused_by_name():
    with pytest.raises(ValueError, match="EDORA"):
        get_peft_model(TwoLayers(), EdoraConfig(r=2, target_modules=["wide"]), mixed=True)


def test_lora_xs_converts_to_lora_and_edora_is_refused():
    base = nn.Sequential(nn.Linear(12, 20))
    base.config = {"model_type": "custom"}
    model = get_peft_model(base, EdoraConfig(r=3, target_modules=["0"], train_magnitude=False))
    move_far(model.base_model.model[0])
    x = torch.randn(5, 12)
    wanted = model(x)
    config, state = convert_to_lora(model, rank=3)
    other = get_peft_model(model.unload(), config)
    assert isinstance(config, LoraConfig)
    set_peft_model_state_dict(other, state)
    assert torch.allclose(other(x), wanted, atol=1e-5)
    normalised, _ = make_layer(20, 12, r=3)
    assert not normalised.supports_lora_conversion()


def test_a_deleted_adapter_leaves_nothing_in_the_checkpoint(tmp_path):
    model = adapt_roberta()
    model.add_adapter("second", EdoraConfig(r=2, target_modules=TARGETS))
    model.delete_adapter("second")
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert not any("second" in key for key in get_peft_model_state_dict(model))
    last = model.base_model.model.roberta.encoder.layer[0].output.dense
    model.delete_adapter("default")
    assert not last.edora_core
    assert not last.edora_A
    assert torch.equal(last(torch.ones(1, 40)), last.get_base_layer()(torch.ones(1, 40)))
