"""The layer's one product against the formula in float64, and against the layer computed operation by operation."""

import copy
import itertools

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from edora import EdoraConfig, forward
from edora.forward import LowRank, Magnitude, adapt_linear, find_product_dtype
from edora.frozen import FrozenLinear

from .tiny_models import make_layer, move_far, relative_error

OUT, IN, RANK = 20, 12, 3
PARTS = ("x", "bias", "basis_in", "core", "basis_out", "magnitude")
SCALING = 0.7


def draw_parts(dtype=torch.float64, tokens=7):
    generator = torch.Generator().manual_seed(2)
    shapes = {
        "x": (2, tokens, IN),
        "weight": (OUT, IN),
        "bias": (OUT,),
        "basis_in": (RANK, IN),
        "core": (RANK, RANK),
        "basis_out": (OUT, RANK),
        "magnitude": (OUT,),
        "norm": (OUT,),
    }
    parts = {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}
    return {**parts, "norm": parts["norm"].abs() + 0.1}


def call(parts):
    update, magnitude = None, None
    if "basis_in" in parts:
        update = LowRank(parts["basis_in"], parts.get("core"), parts["basis_out"], SCALING)
    if "magnitude" in parts:
        magnitude = Magnitude(parts["magnitude"], parts["norm"])
    return adapt_linear(
        parts["x"], parts["weight"], parts.get("bias"), update, magnitude, parts["weight"].dtype
    )


def spell_out(parts):
    """(m / norm) * (W x + s B R A x) + b, longhand."""
    weight = parts["weight"]
    if "basis_in" in parts:
        inner = parts["core"] @ parts["basis_in"] if "core" in parts else parts["basis_in"]
        weight = weight + SCALING * parts["basis_out"] @ inner
    if "magnitude" in parts:
        weight = (parts["magnitude"] / parts["norm"])[:, None] * weight
    return parts["x"] @ weight.T + parts.get("bias", 0)


ABSENT = [
    (),
    ("bias",),
    ("magnitude",),
    ("core",),
    ("bias", "magnitude"),
    ("basis_in", "core", "basis_out"),
    ("basis_in", "core", "basis_out", "bias"),
    ("basis_in", "core", "basis_out", "magnitude"),
]


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("tokens", [7, 70])
@pytest.mark.parametrize("tile", [3, 7, 1024])
def test_every_gradient_is_that_of_the_formula(monkeypatch, absent, tile, tokens):
    """With few tokens and with many; with tiles that do not divide them, that do, and that hold them all."""
    monkeypatch.setattr(forward, "TILE", tile)
    results = []
    for compute in (call, spell_out):
        parts = {name: part for name, part in draw_parts(tokens=tokens).items() if name not in absent}
        trained = [name for name in PARTS if name in parts]
        for name in trained:
            parts[name].requires_grad_()
        y = compute(parts)
        y.backward(torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y))
        results.append((y, {name: parts[name].grad for name in trained}))
    (found, found_grads), (wanted, wanted_grads) = results
    assert relative_error(found, wanted) < 1e-12
    for name, gradient in wanted_grads.items():
        assert relative_error(found_grads[name], gradient) < 1e-12, name


@pytest.mark.parametrize("trained", [c for n in (1, 2) for c in itertools.combinations(PARTS, n)])
def test_what_is_frozen_gets_no_gradient_and_what_trains_gets_its_own(trained):
    parts, wanted = draw_parts(), draw_parts()
    for name in trained:
        parts[name].requires_grad_()
        wanted[name].requires_grad_()
    call(parts).square().sum().backward()
    spell_out(wanted).square().sum().backward()
    for name in PARTS:
        if name in trained:
            assert relative_error(parts[name].grad, wanted[name].grad) < 1e-12, name
        else:
            assert parts[name].grad is None, name


def test_an_output_may_be_changed_in_place_unless_the_magnitude_trains():
    parts, wanted = draw_parts(), draw_parts()
    parts["core"].requires_grad_()
    wanted["core"].requires_grad_()
    torch.relu_(call(parts)).sum().backward()
    torch.relu(spell_out(wanted)).sum().backward()
    assert relative_error(parts["core"].grad, wanted["core"].grad) < 1e-12
    parts["magnitude"].requires_grad_()
    found = torch.relu_(call(parts))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.sum().backward()


@pytest.mark.parametrize("tokens", [7, 70])
def test_backward_may_run_inside_autocast(tokens):
    gradients = []
    for inside in (False, True):
        parts = draw_parts(torch.float32, tokens=tokens)
        for name in ("x", "core", "magnitude"):
            parts[name].requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            update = LowRank(parts["basis_in"], parts["core"], parts["basis_out"], SCALING)
            magnitude = Magnitude(parts["magnitude"], parts["norm"])
            y = adapt_linear(parts["x"], parts["weight"], parts["bias"], update, magnitude, torch.bfloat16)
            y.float().square().sum().backward()
        gradients.append([parts[name].grad for name in ("x", "core", "magnitude")])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("is_gpu", [False, True])
@pytest.mark.parametrize("train_magnitude", [False, True])
def test_a_compiled_layer_under_autocast_equals_the_layer(monkeypatch, train_magnitude, is_gpu):
    if is_gpu:  # which keeps z instead of asking whether y would do
        monkeypatch.setattr(forward, "_is_recoverable", lambda *_: False)
    model, layer = make_layer(32, 32, r=RANK, train_magnitude=train_magnitude)
    move_far(layer)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", dynamic=False)
    for tokens in (5, 4096):  # in parts, and at once
        found = []
        for module in (model, compiled):
            model.zero_grad()
            x = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = module(x)
            y.float().square().sum().backward()
            found.append(
                [y, x.grad, *(parameter.grad for parameter in model.parameters() if parameter.requires_grad)]
            )
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [-0.01, 0.001, 0.02, 0.4, 1.01, 3.0])
def test_sixteen_bits_hold_a_magnitude_of_any_size(dtype, size):
    """m / norm - 1 in 16 bits has lost m's digits where m is small."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, IN, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(OUT, IN, generator=generator).to(dtype)
    wanted = torch.full((OUT,), size, requires_grad=True)
    y = adapt_linear(x, weight, None, None, Magnitude(wanted, torch.ones(OUT)), dtype)
    y.float().square().sum().backward()
    z = x.detach().double() @ weight.double().T
    assert relative_error(y.detach(), size * z) < 5e-3
    assert relative_error(wanted.grad, 2 * size * z.square().sum(dim=0)) < 2e-2
    assert relative_error(x.grad, 2 * size**2 * z @ weight.double()) < 2e-2


def test_a_weight_rounded_once_errs_less_than_parts(monkeypatch):
    """In bf16, and a step of R that changes W by a thousandth, below W x's last bit, shows whole on average."""
    generator = torch.Generator().manual_seed(4)
    x, weight, basis_in, core, basis_out = (
        torch.randn(shape, generator=generator) for shape in ((1500, 64), (64, 64), (4, 64), (4, 4), (64, 4))
    )
    x = x.to(torch.bfloat16)
    step = basis_out @ core @ basis_in
    scaling = 1e-3 * (weight.norm() / step.norm()).item()
    before, after = (x.double() @ (weight + s * step).T.double() for s in (0.0, scaling))
    errors, slopes = [], []
    for composes in (True, False):
        monkeypatch.setattr(forward, "is_worth_composing", lambda *_, composes=composes: composes)
        found = [
            adapt_linear(
                x, weight, None, LowRank(basis_in, core, basis_out, s), None, torch.bfloat16
            ).double()
            for s in (0.0, scaling)
        ]
        errors.append(relative_error(found[1], after))
        slopes.append(((found[1] - found[0]) * (after - before)).sum() / (after - before).square().sum())
    assert errors[0] < 0.95 * errors[1]
    assert abs(slopes[0] - 1) < 0.15
    assert slopes[1] < 0.8


def test_evaluation_keeps_nothing_for_the_magnitude():
    parts = draw_parts(torch.float32)
    parts["magnitude"][0] = 0.0  # would have z kept beside y
    parts["magnitude"].requires_grad_()
    with torch.no_grad():
        found = call(parts)
    assert not found.requires_grad
    assert relative_error(found, spell_out(parts).detach()) < 1e-6


def test_a_second_derivative_is_refused():
    parts = draw_parts()
    parts["core"].requires_grad_()
    (gradient,) = torch.autograd.grad(call(parts).square().sum(), parts["core"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("shape", [(IN,), (4, IN), (2, 3, 4, IN), (0, IN), (2, 0, IN)])
def test_any_number_of_leading_dimensions(shape):
    parts = draw_parts()
    parts["x"] = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    parts["magnitude"].requires_grad_()
    found = call(parts)
    assert found.shape == (*shape[:-1], OUT)
    assert torch.allclose(found, spell_out(parts), atol=1e-12)
    found.sum().backward()
    assert parts["x"].grad.shape == shape


def test_inputs_and_gradients_may_lie_anyhow_in_memory():
    parts = draw_parts()
    parts["x"] = torch.randn(IN, 7, 2, dtype=torch.float64).permute(2, 1, 0).requires_grad_()
    parts["weight"] = parts["weight"].T.contiguous().T
    parts["core"].requires_grad_()
    found = call(parts).transpose(0, 1)
    gradient = torch.randn(found.shape, dtype=torch.float64)
    found.backward(gradient)
    wanted = draw_parts()
    wanted["x"] = parts["x"].detach().clone().requires_grad_()
    wanted["core"].requires_grad_()
    spell_out(wanted).transpose(0, 1).backward(gradient)
    assert relative_error(parts["x"].grad, wanted["x"].grad) < 1e-12
    assert relative_error(parts["core"].grad, wanted["core"].grad) < 1e-12


def test_a_magnitude_at_or_near_zero_keeps_its_exact_gradient():
    """Recovered from the output, (y - b) / scale, it would be lost in the bias's last digits, or be 0 / 0."""
    parts, wanted = draw_parts(torch.float32, tokens=50), draw_parts(torch.float32, tokens=50)
    for drawn in (parts, wanted):
        drawn["magnitude"][:2] = torch.tensor([0.0, 1e-7])
        drawn["bias"][:2] = 100.0
    parts["magnitude"].requires_grad_()
    wanted = {name: part.double() for name, part in wanted.items()}
    wanted["magnitude"].requires_grad_()
    gradient = torch.randn(2, 50, OUT)
    call(parts).backward(gradient)
    spell_out(wanted).backward(gradient.double())
    assert torch.allclose(parts["magnitude"].grad.double(), wanted["magnitude"].grad, rtol=1e-4)


@pytest.mark.parametrize(
    "choices", [{}, {"train_magnitude": False}, {"train_core": False}, {"bias": "edora_only"}]
)
@pytest.mark.parametrize("base_class", [nn.Linear, Conv1D])
@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
def test_a_layer_at_once_equals_the_layer_in_parts(choices, base_class, precision):
    """The layer in parts is the readable one; see test_layer.py for both against the paper's formula."""
    tolerance = 1e-5 if precision == "float32" else 2e-2
    torch.manual_seed(4)
    base = nn.Sequential()
    base.add_module("linear", nn.Linear(48, 64) if base_class is nn.Linear else Conv1D(64, 48))
    base.to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    model = get_peft_model(base, EdoraConfig(r=8, target_modules=["linear"], **choices))
    move_far(model.base_model.model.linear)
    x = torch.randn(3, 40, 48).to(base.linear.weight.dtype)
    results = []
    for in_parts in (False, True):
        twin = copy.deepcopy(model)
        layer = twin.base_model.model.linear
        if in_parts:
            layer.get_base_layer().register_forward_hook(lambda module, inputs, output: None)
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"):
            assert (find_product_dtype(layer.get_base_layer(), leaf) is None) == in_parts
            out = twin(leaf)
        out.float().square().sum().backward()
        gradients = {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}
        results.append((out, leaf.grad, gradients))
    (found, found_dx, found_grads), (wanted, wanted_dx, wanted_grads) = results
    assert found.dtype == wanted.dtype
    assert found_dx.dtype == wanted_dx.dtype
    assert relative_error(found, wanted) < tolerance
    assert relative_error(found_dx, wanted_dx) < tolerance
    assert found_grads.keys() == wanted_grads.keys()
    for name, gradient in wanted_grads.items():
        assert found_grads[name].dtype == gradient.dtype
        assert relative_error(found_grads[name], gradient) < tolerance, name


class TensorsSaved:
    """How many elements autograd keeps for backward that are neither parameters nor buffers of the model."""

    def __init__(self, model) -> None:
        self.owned = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        self.shapes = []

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *details) -> None:
        self.hooks.__exit__(*details)

    def pack(self, tensor):
        if tensor.data_ptr() not in self.owned:
            self.shapes.append(tuple(tensor.shape))
        return tensor


def test_the_input_is_not_kept_and_the_output_once_where_the_magnitude_trains():
    model, _ = make_layer(30, 50, r=2)
    with TensorsSaved(model) as saved:
        model(torch.randn(100, 50, requires_grad=True))
    assert not [shape for shape in saved.shapes if shape[-1] == 50]
    assert [shape for shape in saved.shapes if shape == (100, 30)] == [(100, 30)]
    model, _ = make_layer(30, 50, r=2, train_magnitude=False)
    with TensorsSaved(model) as saved:
        model(torch.randn(100, 50, requires_grad=True))
    assert max(shape[0] * shape[-1] for shape in saved.shapes if len(shape) == 2) == 100 * 2


def test_nothing_is_kept_without_gradients():
    model, layer = make_layer(30, 50, r=2)
    x = torch.randn(10, 50)
    wanted = model(x).detach()
    with torch.no_grad(), TensorsSaved(model) as saved:
        assert torch.equal(model(x), wanted)
    assert saved.shapes == []
    with torch.inference_mode():
        assert torch.equal(model(x), wanted)
    layer.requires_grad_(False)
    assert not model(x).requires_grad


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointed_gradients_are_the_same_bits(use_reentrant):
    model, layer = make_layer(20, 12, r=3)
    move_far(layer)
    x = torch.randn(6, 12)
    gradients = []
    for run in (model, lambda leaf: checkpoint(model, leaf, use_reentrant=use_reentrant)):
        model.zero_grad()
        leaf = x.clone().requires_grad_()
        run(leaf).square().sum().backward()
        gradients.append([leaf.grad, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def change_forward(layer) -> None:
    layer.forward = lambda x: nn.Linear.forward(layer, x)


def test_a_weight_that_is_kept_cast_gives_autocasts_bits():
    model, layer = make_layer(20, 12, r=3)
    move_far(layer)
    x, results = torch.randn(6, 12), []
    for base_layer in (layer.base_layer, FrozenLinear(layer.base_layer)):
        layer.base_layer = base_layer
        leaf = x.clone().requires_grad_()
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert find_product_dtype(base_layer, leaf) is torch.bfloat16
            out = model(leaf)
        out.float().square().sum().backward()
        results.append([out, leaf.grad, *(p.grad.clone() for p in model.parameters() if p.requires_grad)])
    assert layer.base_layer._kept is not None
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


BYPASSED = {
    "forward hook": lambda layer: layer.register_forward_hook(lambda *_: None),
    "forward pre-hook": lambda layer: layer.register_forward_pre_hook(lambda *_: None),
    "backward hook": lambda layer: layer.register_full_backward_hook(lambda *_: None),
    "another forward": change_forward,
    "trained weight": lambda layer: layer.weight.requires_grad_(),
    "parametrisation": lambda layer: nn.utils.parametrizations.weight_norm(layer),
}


@pytest.mark.parametrize("change", BYPASSED)
def test_a_base_layer_that_is_more_than_its_product_is_called(change):
    layer = nn.Linear(12, 20).requires_grad_(False)
    x = torch.randn(2, 12)
    assert find_product_dtype(layer, x) is torch.float32
    BYPASSED[change](layer)
    assert find_product_dtype(layer, x) is None


def test_types_that_do_not_fit_are_the_base_layer_s_to_refuse():
    model, layer = make_layer(20, 12, r=3)
    assert find_product_dtype(layer.get_base_layer(), torch.randn(2, 12).bfloat16()) is None
    with pytest.raises(RuntimeError, match="dtype"):
        model(torch.randn(2, 12).bfloat16())


def test_a_trained_base_weight_gets_its_gradient():
    model, layer = make_layer(20, 12, r=3)
    layer.get_base_layer().weight.requires_grad_()
    model(torch.randn(2, 12)).sum().backward()
    assert layer.get_base_layer().weight.grad.abs().sum() > 0


def test_a_hook_on_the_base_layer_is_seen():
    model, layer = make_layer(20, 12, r=3)
    seen = []
    layer.get_base_layer().register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(torch.randn(2, 12))
    assert len(seen) == 1
