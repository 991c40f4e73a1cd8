import math

import pytest
import torch
from peft import PeftModel
from torch import nn

from edora.frozen import FrozenLinear
from glue_harness.hardware import Environment
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import load_backbone
from glue_harness.training.cpu_kernels import (
    ATTENTION,
    PackedDropout,
    PaddedMpnetAttention,
    accelerate,
    attend,
    drop,
    mask_padding,
)

TINY_MPNET = [
    *("model=mpnet", "model.weights.source=random", "model.weights.seed=1", "model.tokenizer=miniature"),
    *("model.architecture.vocab_size=512", "model.architecture.hidden_size=32", "rank=4"),
    *("model.architecture.num_hidden_layers=2", "model.architecture.num_attention_heads=4"),
    *("model.architecture.intermediate_size=64", "model.adapted_layers=8"),
]
"""MPNet's architecture, small and with random weights."""

BF16 = Environment(device="cpu", precision="bf16", threads=1, processes=1)
FP32 = Environment(device="cpu", precision="fp32", threads=1, processes=1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build_model(build_config, *overrides):
    config = build_config(*overrides)
    backbone = load_backbone(config.model, config.task, config.seed)
    return apply_method(backbone, config.model, config.method, config.seed)[0]


def some_rows(rows=6, tokens=11):
    """Rows of different lengths, the last one whole."""
    ids = torch.randint(5, 200, (rows, tokens))
    lengths = torch.linspace(tokens // 2, tokens, rows).long()
    return {"input_ids": ids, "attention_mask": (torch.arange(tokens) < lengths[:, None]).long()}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_has_the_right_rate_and_scale(p, dtype):
    elements = 1_000_003  # no multiple of the four that share a draw
    dropped = drop(torch.ones(elements, dtype=dtype), p)
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / elements))
    (scale,) = dropped[dropped != 0].unique()
    assert scale.item() == pytest.approx(1 / (1 - p), rel=2**-15 if dtype == torch.float32 else 2**-8)


def test_dropped_elements_are_independent_of_their_neighbours():
    """Four elements share one draw of 64 bits: no pair of them may be dropped together more often than p^2."""
    zero = (drop(torch.ones(2_000_000), 0.1) == 0).view(-1, 4).double()
    together = (zero.T @ zero) / len(zero)
    expected = torch.full((4, 4), 0.01, dtype=torch.float64).fill_diagonal_(0.1)
    torch.testing.assert_close(together, expected, rtol=0, atol=2e-3)


def test_dropouts_gradient_is_its_mask():
    x = torch.randn(40, 30, dtype=torch.float64).transpose(0, 1).requires_grad_()
    y = drop(x, 0.25)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y, x * gradient, rtol=0, atol=0)
    assert set(gradient.unique().tolist()) == {0.0, 1 / 0.75}


def test_dropout_follows_torchs_generator():
    """It is what a checkpoint keeps: the same state gives the same mask, and a mask moves the state on."""
    x = torch.ones(1001)
    state = torch.get_rng_state()
    first, second = drop(x, 0.5), drop(x, 0.5)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(drop(x, 0.5), first)
    torch.manual_seed(1)
    other = drop(x, 0.5)
    assert (other == first).double().mean().item() == pytest.approx(0.5, abs=0.1)


def test_dropout_drops_nothing_in_evaluation():
    x = torch.randn(100)
    assert PackedDropout(0.5).eval()(x) is x


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_is_that_of_the_formula(masked, dtype):
    query, key, value = (torch.randn(6, 3, 11, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    kept = some_rows()["attention_mask"] if masked else torch.ones(6, 11, dtype=torch.long)
    mask = mask_padding(attention_mask=kept if masked else None, dtype=torch.float32)
    context, probabilities = attend(nn.Module(), query, key, value, mask, scaling=0.3)
    assert probabilities is None

    scores = 0.3 * query.double() @ key.double().transpose(2, 3)
    weights = scores.exp() * kept[:, None, None, :]
    expected = (weights / weights.sum(dim=-1, keepdim=True)) @ value.double()  # (rows, heads, tokens, width)
    tolerance = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(context.double(), expected.transpose(1, 2), **tolerance)
    upstream = torch.randn(expected.shape, dtype=torch.float64)
    for part in (query, key, value):
        (ours,) = torch.autograd.grad(
            context, part, upstream.transpose(1, 2).to(context.dtype), retain_graph=True
        )
        (theirs,) = torch.autograd.grad(expected, part, upstream, retain_graph=True)
        torch.testing.assert_close(ours.double(), theirs.double(), **tolerance)


def test_attention_drops_probabilities():
    """With V the identity the context is what was left of the probabilities."""
    query, key = torch.randn(2, 64, 4, 32, 32) / 4
    value = torch.eye(32).expand(64, 4, 32, 32)
    whole, left = (attend(nn.Module(), query, key, value, None, dropout=p)[0] for p in (0.0, 0.1))
    assert (left == 0).double().mean().item() == pytest.approx(0.1, abs=0.005)
    kept = left != 0
    torch.testing.assert_close(left[kept], whole[kept] / 0.9, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["edora", "dora", "dora_factored", "lora", "head_only", "full"])
def test_frozen_weights_leave_logits_and_gradients_as_they_were(build_config, method):
    """No dropout and the attention left alone: every bit must be autocast's."""
    model = build_model(build_config, f"method={method}").eval()
    rows = some_rows()

    def bits():
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**rows).logits
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [logits, *torch.autograd.grad(logits.float().square().sum(), trained)]

    before = bits()
    names = list(model.state_dict())
    accelerate(model, BF16)
    base = model if method in ("head_only", "full") else model.get_base_model()
    base.config._attn_implementation = "sdpa"
    assert list(model.state_dict()) == names
    assert any(isinstance(module, FrozenLinear) for module in model.modules()) == (method != "full")
    for ours, theirs in zip(bits(), before, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["tiny_roberta", "tiny_deberta"])
def test_an_accelerated_model_computes_the_same(build_config, name):
    """In float32 and without dropout, up to rounding; padding included."""
    model = build_model(build_config, f"model={name}").eval()
    rows = some_rows()
    before = model(**rows).logits
    accelerate(model, FP32)
    torch.testing.assert_close(model(**rows).logits, before, rtol=1e-4, atol=1e-6)
    attention = model.get_base_model().config._attn_implementation
    assert attention == (ATTENTION if name == "tiny_roberta" else "eager")
    assert not any(type(module) is nn.Dropout and module.p > 0 for module in model.modules())
    assert not any(isinstance(module, FrozenLinear) for module in model.modules())


def test_a_gpu_keeps_its_own_kernels(build_config):
    model = build_model(build_config)
    accelerate(model, Environment(device="cuda", precision="bf16", threads=None, processes=1))
    assert model.get_base_model().config._attn_implementation == "sdpa"
    assert not any(isinstance(module, PackedDropout) for module in model.modules())
    assert any(isinstance(module, FrozenLinear) for module in model.modules())


@pytest.mark.parametrize("method", ["full", "lora", "dora", "dora_factored", "edora", "head_only"])
def test_mpnets_attention_is_transformers_own_but_for_dropout(build_config, method):
    """Logits and every gradient, with the bias by relative position, and with padding."""
    model, eager = (build_model(build_config, *TINY_MPNET, f"method={method}").eval() for _ in range(2))
    with torch.no_grad():
        for one in (model, eager):
            torch.manual_seed(1)
            for name, parameter in one.named_parameters():
                if "relative_attention_bias" in name or (parameter.requires_grad and "lora_B" in name):
                    parameter.normal_()
    accelerate(model, FP32)
    assert len([m for m in model.modules() if isinstance(m, PaddedMpnetAttention)]) == 2
    rows = some_rows()
    outputs = [one(**rows).logits for one in (model, eager)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)
    for logits in outputs:
        logits.square().sum().backward()
    gradients = [{n: p.grad for n, p in one.named_parameters() if p.requires_grad} for one in (model, eager)]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_mpnets_attention_drops_probabilities_in_training_alone(build_config):
    model = build_model(build_config, *TINY_MPNET, "method=head_only")
    accelerate(model, FP32)
    attention = next(m for m in model.modules() if isinstance(m, PaddedMpnetAttention))
    assert attention.dropout == 0.1
    x = torch.randn(2, 7, 32)
    torch.manual_seed(3)
    dropped = attention.train()(x)[0]
    assert not torch.equal(dropped, attention.eval()(x)[0])
    torch.manual_seed(3)
    torch.testing.assert_close(attention.train()(x)[0], dropped, rtol=0, atol=0)


def test_mpnet_is_saved_and_loaded_and_merged_as_it_was_trained(build_config, tmp_path):
    model = build_model(build_config, *TINY_MPNET, "method=edora")
    accelerate(model, FP32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "edora_core" in name:
                parameter.normal_()
    model.eval().save_pretrained(tmp_path)
    config = build_config(*TINY_MPNET)
    loaded = PeftModel.from_pretrained(load_backbone(config.model, config.task, seed=2), tmp_path).eval()
    rows = some_rows()
    expected = model(**rows).logits
    torch.testing.assert_close(loaded(**rows).logits, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.merge_and_unload()(**rows).logits, expected, rtol=0, atol=1e-5)
