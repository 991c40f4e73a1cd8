import pytest
import torch
from torch import nn

from edora.frozen import FrozenLinear


@pytest.mark.parametrize("bias", [True, False])
def test_a_frozen_weight_gives_autocasts_bits(bias):
    linear = nn.Linear(48, 32, bias=bias).requires_grad_(False)
    frozen = FrozenLinear(linear)
    results = []
    for module in (linear, frozen, frozen):
        x = torch.linspace(-1, 1, 5 * 48).view(5, 48).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        y.float().square().sum().backward()
        results.append((y, x.grad))
    for y, gradient in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(gradient, results[0][1])
    assert torch.equal(frozen(x), linear(x))  # without autocast: float32
    assert frozen.weight is linear.weight
    assert frozen.weight.dtype == torch.float32


def test_a_weight_that_changes_is_cast_again():
    frozen = FrozenLinear(nn.Linear(4, 4, bias=False).requires_grad_(False))
    x = torch.ones(1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        frozen(x)
        frozen.weight.fill_(2.0)  # a load writes in place
        assert frozen(x).tolist() == [[8.0] * 4]
        frozen.weight.data = torch.full((4, 4), 3.0)  # a merge may put another in its place
        assert frozen(x).tolist() == [[12.0] * 4]


def test_an_evaluation_in_inference_mode_leaves_a_weight_that_trains_on():
    frozen = FrozenLinear(nn.Linear(4, 4).requires_grad_(False))
    x = torch.ones(1, 4, requires_grad=True)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        frozen(x)
    with torch.autocast("cpu", torch.bfloat16):
        frozen(x).sum().backward()
    assert x.grad is not None
