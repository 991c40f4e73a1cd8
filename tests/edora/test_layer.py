"""The adapted layer's arithmetic against the paper's formula, written out in float64."""

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn import functional as F

from edora import EdoraConfig
from edora.basis import build_svd_bases
from edora.fingerprint import describe_weight
from edora.norm import compute_row_norm, split_rows

from .tiny_models import LargestOutput, compose_longhand, make_layer, move_far, relative_error

SHAPES = [(12, 12), (20, 12), (7, 20)]


def read_parts(layer, name="default"):
    """Copy of everything the formula needs; R and m as float64 leaves that collect gradients."""
    core = layer.edora_core[name].detach().double().requires_grad_() if name in layer.edora_core else None
    magnitude = None
    if name in layer.edora_magnitude:
        magnitude = layer.edora_magnitude[name].detach().double().requires_grad_()
    return core, magnitude


def compute_longhand(layer, x, core, magnitude, name="default"):
    weight = compose_longhand(
        layer.get_base_layer().weight.detach(),
        core,
        layer.edora_A[name],
        layer.edora_B[name],
        magnitude,
        layer.scaling[name],
    )
    bias = layer.bias
    return F.linear(x.double(), weight, None if bias is None else bias.detach().double())


@pytest.mark.parametrize(
    "choices",
    [
        {"singular_values": "input"},
        {"singular_values": "output"},
        {"singular_values": "split"},
        {"bases": "random"},
    ],
)
@pytest.mark.parametrize("rank", [1, 3, None])
@pytest.mark.parametrize(("out_features", "in_features"), SHAPES)
def test_output_gradients_and_merge_equal_the_formula(out_features, in_features, rank, choices):
    rank = rank or min(out_features, in_features)
    model, layer = make_layer(out_features, in_features, r=rank, alpha=8, **choices)
    move_far(layer)
    x = torch.randn(5, 3, in_features)
    core, magnitude = read_parts(layer)
    wanted = compute_longhand(layer, x, core, magnitude)
    found = model(x)
    assert relative_error(found, wanted) < 1e-5
    weights = torch.randn(5, 3, out_features)
    (found * weights).sum().backward()
    (wanted * weights.double()).sum().backward()
    assert relative_error(layer.edora_core["default"].grad, core.grad) < 1e-5
    assert relative_error(layer.edora_magnitude["default"].grad, magnitude.grad) < 1e-5
    merged = compose_longhand(
        layer.original_weight, core, layer.edora_A["default"], layer.edora_B["default"], magnitude, 8 / rank
    )
    model.merge_adapter()
    assert relative_error(layer.get_base_layer().weight, merged.detach()) < 1e-5
    assert relative_error(model(x), wanted.detach()) < 1e-5


@pytest.mark.parametrize(("out_features", "in_features"), SHAPES)
def test_every_rank_equals_the_formula(out_features, in_features):
    x = torch.randn(4, in_features)
    for rank in range(1, min(out_features, in_features) + 1):
        model, layer = make_layer(out_features, in_features, r=rank)
        move_far(layer, core_size=1.0)
        core, magnitude = read_parts(layer)
        wanted = compute_longhand(layer, x, core, magnitude)
        found = model(x)
        assert relative_error(found, wanted) < 1e-5
        found.square().sum().backward()
        wanted.square().sum().backward()
        assert relative_error(layer.edora_core["default"].grad, core.grad) < 1e-5
        assert relative_error(layer.edora_magnitude["default"].grad, magnitude.grad) < 1e-5


@pytest.mark.parametrize("step", [1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("bias_size", [0.0, 1.0, 100.0])
def test_a_factor_near_one_loses_no_digits(step, bias_size):
    """What changes is as exact as float32 can hold it: not the difference of two large numbers."""
    model, layer = make_layer(64, 48, r=8, init_std=0.0)
    with torch.no_grad():
        layer.bias.mul_(bias_size)
        layer.edora_magnitude["default"].mul_(1 + step)
    x = torch.randn(30, 48)
    core, magnitude = read_parts(layer)
    wanted = compute_longhand(layer, x, core, magnitude)
    base = layer.get_base_layer()
    plain = F.linear(x.double(), base.weight.double(), base.bias.double())
    found_change = model(x).double() - base(x).double()
    largest = torch.maximum(plain.abs(), wanted.abs())
    assert (
        (found_change - (wanted - plain)).abs() <= 8 * torch.finfo(torch.float32).eps * largest + 1e-6
    ).all()
    assert relative_error(model(x), wanted) < 1e-6


def test_the_norm_is_detached():
    """With a gradient through the norm, R's gradient would be orthogonal to what it is here."""
    model, layer = make_layer(20, 12, r=3)
    move_far(layer)
    x = torch.randn(6, 12)
    core, magnitude = read_parts(layer)
    model(x).square().sum().backward()
    updated = layer.original_weight.double() + layer.scaling["default"] * (
        layer.edora_B["default"].double() @ core @ layer.edora_A["default"].double()
    )
    attached = magnitude.detach()[:, None] * updated / updated.norm(dim=1, keepdim=True)
    F.linear(x.double(), attached, layer.bias.detach().double()).square().sum().backward()
    assert relative_error(layer.edora_core["default"].grad, core.grad) > 1e-2


@pytest.mark.parametrize("train_magnitude", [True, False])
def test_without_bias(train_magnitude):
    model, layer = make_layer(20, 12, bias=False, r=3, train_magnitude=train_magnitude)
    move_far(layer)
    x = torch.randn(6, 12)
    core, magnitude = read_parts(layer)
    assert relative_error(model(x), compute_longhand(layer, x, core, magnitude)) < 1e-5


@pytest.mark.parametrize(("out_features", "in_features"), SHAPES)
def test_lora_xs_is_additive_and_has_no_magnitude(out_features, in_features):
    model, layer = make_layer(out_features, in_features, r=4, train_magnitude=False)
    move_far(layer)
    x = torch.randn(6, in_features)
    core, magnitude = read_parts(layer)
    assert magnitude is None
    wanted = compute_longhand(layer, x, core, None)
    assert relative_error(model(x), wanted) < 1e-5
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 4**2
    model.merge_adapter()
    assert relative_error(model(x), wanted.detach()) < 1e-5


def test_magnitude_only_trains_out_values_and_scales_rows():
    model, layer = make_layer(20, 12, r=4, train_core=False)
    move_far(layer)
    weight = layer.original_weight.double()
    magnitude = layer.edora_magnitude["default"].detach().double()
    scaled = magnitude[:, None] * weight / weight.norm(dim=1, keepdim=True)
    x = torch.randn(6, 12)
    wanted = F.linear(x.double(), scaled, layer.bias.double())
    assert relative_error(model(x), wanted) < 1e-5
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 20
    model.merge_adapter()
    assert relative_error(layer.get_base_layer().weight, scaled) < 1e-5


@pytest.mark.parametrize("train_magnitude", [True, False])
def test_a_zero_start_changes_no_bit(train_magnitude):
    model, layer = make_layer(20, 12, r=4, init_std=0.0, train_magnitude=train_magnitude)
    x = torch.randn(6, 12)
    assert torch.equal(model(x), layer.get_base_layer()(x))


def test_magnitude_starts_as_the_row_norm_and_core_at_the_configured_spread():
    _, layer = make_layer(64, 48, r=40, init_std=0.02)
    norms = layer.original_weight.double().norm(dim=1)
    assert torch.allclose(layer.edora_magnitude["default"].detach().double(), norms, rtol=1e-6, atol=0)
    assert layer.edora_core["default"].std().item() == pytest.approx(0.02, rel=0.1)
    assert layer.scaling["default"] == 16 / 40


def test_norm_keeps_its_digits_when_an_update_cancels_rows():
    """||W||^2 + 2<C, W A^T> + <C A A^T, C> loses all digits here, or becomes negative."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, 12, generator=generator)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    basis_in = values[:, None] * right
    update = -(1 - 1e-4) * left
    wanted = (weight.double() + update.double() @ basis_in.double()).norm(dim=1)
    found = compute_row_norm(split_rows(weight, basis_in), left, -(1 - 1e-4) * torch.eye(12))
    assert relative_error(found, wanted) < 2e-2
    naive = (
        weight.square().sum(1)
        + 2 * (update * (weight @ basis_in.T)).sum(1)
        + ((update @ (basis_in @ basis_in.T)) * update).sum(1)
    )
    assert naive.min() < 0 or relative_error(naive.clamp_min(0).sqrt(), wanted) > 0.5


def test_rank_deficient_weight_and_rows_of_zeros_stay_finite():
    model, layer = make_layer(20, 12, r=12)
    with torch.no_grad():
        layer.get_base_layer().weight[:, 3:] = 0
        layer.get_base_layer().weight[5] = 0
    base = model.unload()
    model = get_peft_model(base, EdoraConfig(r=12, target_modules=["linear"]))
    layer = model.base_model.model.linear
    x = torch.randn(6, 12)
    before = layer.get_base_layer()(x)
    found = model(x)
    found.square().sum().backward()
    assert torch.isfinite(layer.edora_core["default"].grad).all()
    assert torch.isfinite(layer.edora_magnitude["default"].grad).all()
    assert torch.allclose(found, before, atol=1e-3)


@pytest.mark.parametrize("choices", [{"init_std": 0.0}, {"train_core": False}])
def test_a_row_of_zeros_stays_zero(choices):
    base = nn.Sequential()
    base.add_module("linear", nn.Linear(12, 20))
    with torch.no_grad():
        base.linear.weight[5] = 0
    x = torch.randn(6, 12)
    wanted = base(x)
    model = get_peft_model(base, EdoraConfig(r=4, target_modules=["linear"], **choices))
    found = model(x)
    assert torch.equal(found, wanted)
    found.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("train_magnitude", [True, False])
def test_bfloat16_base_with_float32_adapter(train_magnitude):
    torch.manual_seed(0)
    base = nn.Sequential()
    base.add_module("linear", nn.Linear(48, 64))
    base.to(torch.bfloat16)
    config = EdoraConfig(r=8, target_modules=["linear"], train_magnitude=train_magnitude)
    model = get_peft_model(base, config)
    layer = model.base_model.model.linear
    move_far(layer)
    adapter = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in adapter} == {torch.float32}
    bases = build_svd_bases(layer.original_weight.float(), 8, "input")
    assert torch.equal(layer.edora_A["default"], bases[0])
    assert torch.equal(layer.edora_B["default"], bases[1])
    x = torch.randn(30, 48).to(torch.bfloat16)
    core, magnitude = read_parts(layer)
    wanted = compute_longhand(layer, x, core, magnitude)
    found = model(x)
    assert found.dtype == torch.bfloat16
    assert relative_error(found, wanted) < 2e-2
    weights = torch.randn(30, 64)
    (found.float() * weights).sum().backward()
    (wanted * weights.double()).sum().backward()
    assert relative_error(layer.edora_core["default"].grad, core.grad) < 2e-2
    model.merge_adapter()
    assert layer.get_base_layer().weight.dtype == torch.bfloat16
    assert relative_error(model(x), wanted) < 2e-2


def test_casting_the_whole_model_leaves_the_norm_its_digits():
    model, layer = make_layer(40, 30, r=4)
    move_far(layer)
    model.to(torch.bfloat16)
    wanted = compose_longhand(
        layer.original_weight,
        layer.edora_core["default"],
        layer.edora_A["default"],
        layer.edora_B["default"],
        None,
        layer.scaling["default"],
    ).norm(dim=1)
    assert relative_error(layer._compute_norm("default"), wanted) < 1e-6
    assert torch.equal(layer.fingerprint.digest, describe_weight(layer.original_weight).digest)


def test_autocast_gives_bfloat16_outputs_and_a_float32_norm():
    model, layer = make_layer(64, 48, r=8)
    move_far(layer)
    x = torch.randn(30, 48)
    core, magnitude = read_parts(layer)
    wanted = compute_longhand(layer, x, core, magnitude)
    plain = layer._compute_scale("default")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(x)
        assert torch.equal(layer._compute_scale("default"), plain)
        composed = layer.compose_weight(["default"])
    assert found.dtype == torch.bfloat16
    assert relative_error(found, wanted) < 2e-2
    assert torch.equal(composed, layer.compose_weight(["default"]))


def test_dropout_touches_the_update_only():
    model, layer = make_layer(20, 12, r=4, dropout=0.5)
    move_far(layer)
    x = torch.randn(6, 12)
    scale = layer._compute_scale("default").detach()
    model.train()
    torch.manual_seed(0)
    found = model(x)
    torch.manual_seed(0)
    dropped = F.dropout(x, 0.5, training=True)
    update = layer.scaling["default"] * (
        layer.edora_B["default"] @ layer.edora_core["default"] @ layer.edora_A["default"]
    )
    wanted = (F.linear(x, layer.original_weight) + F.linear(dropped, update)) * scale + layer.bias
    assert relative_error(found, wanted.detach()) < 1e-5
    model.eval()
    core, magnitude = read_parts(layer)
    assert relative_error(model(x), compute_longhand(layer, x, core, magnitude)) < 1e-5


def test_forward_builds_no_matrix_of_the_weight_s_size():
    """With few tokens the largest tensor of a forward and backward pass stays below (out, in)."""
    model, layer = make_layer(300, 200, r=4)
    layer.get_base_layer().requires_grad_(False)
    with LargestOutput() as watch:
        model(torch.randn(2, 200)).sum().backward()
    assert 0 < watch.largest < 300 * 200 / 10


def test_layer_reports_its_features_and_no_lora_conversion():
    _, layer = make_layer(20, 12, r=4)
    assert (layer.in_features, layer.out_features) == (12, 20)
    assert not layer.supports_lora_conversion()
    _, additive = make_layer(20, 12, r=4, train_magnitude=False)
    assert additive.supports_lora_conversion()
