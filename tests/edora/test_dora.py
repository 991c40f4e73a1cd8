"""The factored DoRA against PEFT's own, on layers whose adapters are far from their start."""

import copy
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import nn
from transformers.pytorch_utils import Conv1D

from edora import FactoredDoraConfig
from edora.dora import FactoredDoraLinear, compute_norm
from edora.forward import LowRank

from .tiny_models import LargestOutput, make_batch, make_roberta, relative_error

TARGETS = ["query", "value", "attention.output.dense", "output.dense"]


def move_far(model) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.mul_(1 + 0.3 * noise) if "magnitude" in name else parameter.copy_(0.4 * noise)


def adapt_twins(base, **choices):
    """PEFT's DoRA and the factored one on the same base with the same far adapters."""
    twins = []
    for config in (LoraConfig(use_dora=True, **choices), FactoredDoraConfig(**choices)):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fan_in_fan_out")
            twins.append(get_peft_model(copy.deepcopy(base), config))
        move_far(twins[-1])
    return twins


def make_base(base_class=nn.Linear, bias=True):
    torch.manual_seed(3)
    base = nn.Sequential()
    layer = nn.Linear(12, 20, bias=bias) if base_class is nn.Linear else Conv1D(20, 12)
    base.add_module("linear", layer)
    if base_class is Conv1D:
        nn.init.normal_(layer.bias)
    return base


def collect_gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def compare(twins, x, tolerance, weights_dtype=torch.float32):
    """Outputs and every gradient, the input's included."""
    results = []
    for model in twins:
        leaf = x.clone().requires_grad_()
        out = model(leaf)
        generator = torch.Generator().manual_seed(1)
        (out.float() * torch.randn(out.shape, generator=generator)).sum().backward()
        results.append((out, leaf.grad, collect_gradients(model)))
    (wanted, wanted_dx, wanted_grads), (found, found_dx, found_grads) = results
    assert found.dtype == wanted.dtype
    assert relative_error(found, wanted) < tolerance
    assert relative_error(found_dx, wanted_dx) < tolerance
    assert found_grads.keys() == wanted_grads.keys()
    assert len(found_grads) >= 3
    for name, gradient in wanted_grads.items():
        assert found_grads[name].dtype == gradient.dtype
        assert relative_error(found_grads[name], gradient) < tolerance, name


@pytest.mark.parametrize("base_class", [nn.Linear, Conv1D])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [1, 4, 12])
def test_outputs_and_gradients_are_peft_s(base_class, bias, rank):
    twins = adapt_twins(make_base(base_class, bias), r=rank, lora_alpha=6, target_modules=["linear"])
    assert isinstance(twins[1].base_model.model.linear, FactoredDoraLinear)
    assert not isinstance(twins[0].base_model.model.linear, FactoredDoraLinear)
    compare(twins, torch.randn(5, 3, 12), 1e-5)


def test_a_trained_bias_gets_peft_s_gradient():
    compare(adapt_twins(make_base(), r=4, target_modules=["linear"], bias="all"), torch.randn(5, 3, 12), 1e-5)


def test_a_trained_base_weight_gets_its_gradient():
    twins = adapt_twins(make_base(), r=4, target_modules=["linear"])
    for model in twins:
        model.base_model.model.linear.base_layer.weight.requires_grad_()
    compare(twins, torch.randn(5, 3, 12), 1e-5)


def test_dropout_in_training_drops_what_peft_drops():
    twins = adapt_twins(make_base(), r=4, target_modules=["linear"], lora_dropout=0.4)
    x, outputs = torch.randn(5, 3, 12), []
    for model in twins:
        model.train()
        torch.manual_seed(9)
        outputs.append(model(x))
        outputs[-1].square().sum().backward()
    assert relative_error(outputs[1], outputs[0]) < 1e-5
    for name, gradient in collect_gradients(twins[0]).items():
        assert relative_error(collect_gradients(twins[1])[name], gradient) < 1e-5, name


def test_autocast_and_half_bases_agree_within_bfloat16():
    twins = adapt_twins(make_base(), r=4, target_modules=["linear"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compare(twins, torch.randn(5, 3, 12), 2e-2)
    twins = adapt_twins(make_base().to(torch.bfloat16), r=4, target_modules=["linear"])
    compare(twins, torch.randn(50, 12).to(torch.bfloat16), 2e-2)


def test_a_whole_model_trains_as_peft_s_and_saves_as_its_adapter(tmp_path):
    batch = make_batch()
    twins = adapt_twins(make_roberta(), r=4, target_modules=TARGETS, task_type="SEQ_CLS")
    losses = [model.train(False)(**batch).loss for model in twins]
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    for name, gradient in collect_gradients(twins[0]).items():
        assert relative_error(collect_gradients(twins[1])[name], gradient) < 1e-4, name
    wanted = twins[1](**batch).logits.detach()
    twins[1].save_pretrained(str(tmp_path))
    plain = PeftModel.from_pretrained(make_roberta(), str(tmp_path)).eval()
    assert type(plain.peft_config["default"]) is LoraConfig
    assert type(plain.base_model.model.roberta.encoder.layer[0].attention.self.query) is lora.Linear
    assert relative_error(plain(**batch).logits.detach(), wanted) < 1e-5
    factored = PeftModel.from_pretrained(
        make_roberta(),
        str(tmp_path),
        config=FactoredDoraConfig(r=4, target_modules=TARGETS, task_type="SEQ_CLS"),
    ).eval()
    assert type(factored.base_model.model.roberta.encoder.layer[0].attention.self.query) is FactoredDoraLinear
    assert relative_error(factored(**batch).logits.detach(), wanted) < 1e-5


@pytest.mark.parametrize("safe", [True, False])
def test_merged_and_unmerged_weights_are_peft_s(safe):
    twins = adapt_twins(make_base(), r=4, target_modules=["linear"])
    x = torch.randn(5, 12)
    before = twins[1](x).detach()
    for model in twins:
        model.merge_adapter(safe_merge=safe)
    merged = [model.base_model.model.linear.get_base_layer().weight for model in twins]
    assert torch.equal(*merged)
    assert relative_error(twins[1](x).detach(), before) < 1e-5
    for model in twins:
        model.unmerge_adapter()
    assert relative_error(twins[1](x).detach(), before) < 1e-5
    with twins[1].disable_adapter():
        assert relative_error(twins[1](x).detach(), make_base()(x).detach()) < 1e-5


def test_a_second_adapter_and_a_change_of_the_weight_are_followed():
    twins = adapt_twins(make_base(), r=4, target_modules=["linear"])
    x = torch.randn(5, 12)
    for model, config in zip(twins, (LoraConfig, FactoredDoraConfig), strict=True):
        more = {"use_dora": True} if config is LoraConfig else {}
        model.add_adapter("other", config(r=2, target_modules=["linear"], **more))
        move_far(model)
        model.set_adapter("other")
    assert relative_error(twins[1](x).detach(), twins[0](x).detach()) < 1e-5
    for model in twins:
        model.base_model.set_adapter(["default", "other"])
    assert relative_error(twins[1](x).detach(), twins[0](x).detach()) < 1e-5
    for model in twins:
        model.set_adapter("default")
        model.base_model.model.linear.base_layer.weight.data.mul_(3.0)
    assert relative_error(twins[1](x).detach(), twins[0](x).detach()) < 1e-5


def test_a_plain_lora_adapter_beside_it_stays_lora():
    twins = adapt_twins(make_base(), r=4, target_modules=["linear"])
    x = torch.randn(5, 12)
    for model in twins:
        model.add_adapter("plain", LoraConfig(r=2, target_modules=["linear"]))
        move_far(model)
        model.set_adapter("plain")
    assert relative_error(twins[1](x).detach(), twins[0](x).detach()) < 1e-6


def test_layers_that_are_not_linear_are_left_to_peft():
    base = nn.Sequential()
    base.add_module("convolution", nn.Conv2d(3, 4, 3))
    model = get_peft_model(base, FactoredDoraConfig(r=2, target_modules=["convolution"]))
    assert type(model.base_model.model.convolution) is lora.Conv2d


def test_the_norm_keeps_its_digits_when_an_update_cancels_rows():
    """The factored sum alone loses them all, or becomes negative."""
    torch.manual_seed(0)
    weight = torch.randn(20, 12)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    basis_in, basis_out = values[:, None] * right, -(1 - 1e-4) * left
    basis_out[::2] *= 0.3
    wanted = (weight.double() + basis_out.double() @ basis_in.double()).norm(dim=1)
    found = compute_norm(weight, LowRank(basis_in, None, basis_out / 0.7, 0.7))
    assert ((found - wanted).abs() / wanted).max() < 2e-2  # as exact as float32 rows are
    assert ((found - wanted).abs() / wanted)[::2].max() < 1e-5
    squared = weight.square().sum(1) + (basis_out * (2 * weight @ basis_in.T)).sum(1)
    naive = squared + ((basis_out @ (basis_in @ basis_in.T)) * basis_out).sum(1)
    assert naive[1::2].min() < 0 or relative_error(naive[1::2].sqrt(), wanted[1::2]) > 0.5


def test_no_matrix_of_the_weight_s_size_is_made():
    base = nn.Sequential()
    base.add_module("linear", nn.Linear(200, 300))
    sizes = []
    for model in adapt_twins(base, r=4, target_modules=["linear"]):
        with LargestOutput() as watch:
            model(torch.randn(2, 200)).sum().backward()
        sizes.append(watch.largest)
    assert sizes[1] < 300 * 200 / 10
    assert sizes[0] >= 300 * 200


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_norm_has_room_in_sixteen_bits(dtype):
    """The square of a row's norm of 400 is above what float16 holds."""
    generator = torch.Generator().manual_seed(0)
    weight = (100 * torch.randn(20, 16, generator=generator)).to(dtype)
    basis_in = torch.randn(3, 16, generator=generator).to(dtype)
    basis_out = torch.randn(20, 3, generator=generator).to(dtype)
    wanted = (weight.double() + 0.7 * basis_out.double() @ basis_in.double()).norm(dim=1)
    found = compute_norm(weight, LowRank(basis_in, None, basis_out, 0.7))
    assert relative_error(found, wanted) < 1e-5
