"""The product of an adapted layer as one autograd function: exact, and with few passes over activations.

Where tokens are enough to pay for it, a layer multiplies by the weight that holds everything,
W' = (m / norm) (W + s B R A), and in parts where they are few. Under autocast W' is composed from the float32
weight and rounded once, which errs less than parts that are rounded one by one.

What EDoRA costs beyond the frozen layer, which takes 4 in out FLOPs a token, forward and backward together,
and keeps no activation:

| for each                 | FLOPs                           | kept for backward, in values         |
| ------------------------ | ------------------------------- | ------------------------------------ |
| token, forward           | 2 r in                          | r for R's gradient; for m's y, which |
|                          |                                 | the next layer may keep anyway       |
| token, backward          | 2 r (out + r) + 3 out           |                                      |
| call                     | 4 out r^2                       | 2 out                                |
| call, for each W'        | 2 r in out + in out + 2 out r^2 |                                      |
| token, forward in parts  | 2 r (out + r) + 2 out           |                                      |
| token, backward in parts | 2 r (in + r) + out              |                                      |

A value has 4 bytes, or 2 under bf16. Through memory pass, in values a token: forward in, and in parts 4 out;
backward 5 out, and in parts 2 in + 2 out; a W' passes 4 in out a call.

On roberta-base's adapted layers, at r = 16, a token costs 1.7 % of the frozen layers' FLOPs,
and 3.4 % in parts; to compose W' twice adds 0.4 % at 4,096 tokens. LoRA takes 6 r (in + out) a token, 4.9 %,
and keeps in + r values.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from edora.frozen import FrozenLinear
from edora.product import AdaptedWeight, is_worth_composing, rescale

TILE = 1024
"""Tokens that a CPU sums up at a time, so that a product of activations is still in its cache."""


class LowRank(NamedTuple):
    """An update s B R A: A (r, in), R (r, r) or None for the identity, B (out, r), and the number s."""

    basis_in: Tensor
    core: Tensor | None
    basis_out: Tensor
    scaling: float


class Magnitude(NamedTuple):
    """Lengths of the rows: m (out,), which they are to have, and the norm (out,) that they have, constant."""

    wanted: Tensor
    norm: Tensor


def has_autocast(device: torch.device) -> bool:
    """Say whether autocast is on; there is none on meta."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def forbid_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which operations keep the types that they are given."""
    return torch.autocast(device.type, enabled=False) if has_autocast(device) else nullcontext()


def find_product_dtype(base_layer: Any, x: Tensor) -> torch.dtype | None:
    """Find the type in which a layer multiplies x; None if `adapt_linear` cannot stand in for the layer.

    It can for nn.Linear, FrozenLinear and Conv1D with a frozen weight, if nothing hooks into their call.
    """
    if type(base_layer) not in (nn.Linear, FrozenLinear, Conv1D) or base_layer.weight.requires_grad:
        return None
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if "forward" in vars(base_layer) or any(getattr(base_layer, name) for name in hooks):
        return None
    if has_autocast(x.device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if x.dtype == base_layer.weight.dtype else None


def get_weight(base_layer: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Get a frozen weight as it is stored; for a product in parts as the layer keeps it in `dtype`."""
    weight: Tensor = base_layer.weight
    if not isinstance(base_layer, FrozenLinear) or weight.dtype == dtype:
        return weight
    composes = is_worth_composing(x.numel() // weight.shape[1], weight.shape, dtype)
    return weight if composes else base_layer.cast_weight(dtype)


def adapt_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    update: LowRank | None,
    magnitude: Magnitude | None,
    dtype: torch.dtype,
) -> Tensor:
    """Compute y = (m / norm) * (W x + s B R A x) + b, or what is left of it, with products in `dtype`.

    W is frozen, everything else may train. m / norm and b are applied in their own type. There is no second
    derivative. If m trains, y is kept for its gradient, and autograd refuses a y that was changed in place; a
    GPU keeps z = (y - b) norm / m instead. A bias far larger than z costs m's gradient digits, as in PEFT's
    DoRA.

    Shapes: x (..., in), weight (out, in), bias (out,); returns (..., out) of type `dtype`.
    """
    factors = update or (None, None, None, 1.0)
    if magnitude is not None and not torch.is_grad_enabled():
        magnitude = Magnitude(magnitude.wanted.detach(), magnitude.norm)  # so that nothing is kept for m
    with forbid_autocast(x.device):
        return _AdaptedLinear.apply(x, weight, bias, *(magnitude or (None, None)), *factors, dtype)


class _AdaptedLinear(torch.autograd.Function):
    """y = scale z + b, with z = x W^T + s q B^T, q = p R^T, p = x A^T, scale = m / norm; rows are tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        wanted: Tensor | None,
        norm: Tensor | None,
        basis_in: Tensor | None,
        core: Tensor | None,
        basis_out: Tensor | None,
        scaling: float,
        dtype: torch.dtype,
    ) -> Tensor:
        _, _, _, trains_magnitude, _, trains_in, trains_core, trains_out, *_ = ctx.needs_input_grad
        rows = x.reshape(-1, x.shape[-1]).to(dtype)  # (tokens, in)
        few = not is_worth_composing(len(rows), weight.shape, dtype)
        weight = weight.to(dtype) if few else weight
        scale = None if wanted is None or norm is None else wanted / norm  # (out,)
        ctx.keeps_z = trains_magnitude and not _is_recoverable(scale, dtype)
        y = rows.new_empty(*x.shape[:-1], len(weight))  # no view: others may change it
        flat = y.view(-1, len(weight))  # (tokens, out)
        z = torch.empty_like(flat) if ctx.keeps_z else flat
        adapted = AdaptedWeight(weight, scale, basis_in, core, basis_out, scaling)
        in_parts = few or ctx.keeps_z
        p = None
        if basis_in is not None and (trains_core or trains_out or in_parts):
            p = rows @ basis_in.to(dtype).T  # (tokens, r)
        if in_parts:
            adapted.multiply_parts(rows, p, out=z)
            rescale(z, scale, bias, out=flat)
        else:
            adapted.multiply(rows, bias, out=flat)
        ctx.scaling, ctx.shape = scaling, x.shape
        ctx.save_for_backward(
            weight,
            bias,
            norm,
            scale,
            basis_in,
            core,
            basis_out,
            rows if trains_in else None,
            p if trains_core or trains_out else None,
            (z if ctx.keeps_z else y) if trains_magnitude else None,
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        # Not forbid_autocast: a compiler traces this where autocast is off, and would leave the context out.
        with nullcontext() if dy.is_meta else torch.autocast(dy.device.type, enabled=False):
            return _AdaptedLinear._derive(ctx, dy)

    @staticmethod
    def _derive(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias, norm, scale, basis_in, core, basis_out, rows, p, kept = ctx.saved_tensors
        trains_x, _, trains_bias, trains_magnitude, _, trains_in, trains_core, trains_out, *_ = (
            ctx.needs_input_grad
        )
        dy = dy.reshape(-1, dy.shape[-1])  # (tokens, out)
        adapted = AdaptedWeight(weight, scale, basis_in, core, basis_out, ctx.scaling)
        dq: Any = None
        dx = d_in = d_core = d_out = d_wanted = None
        if basis_out is not None:
            dq = dy @ adapted.scale_rows(basis_out).to(dy.dtype)  # (tokens, r)
        if trains_x:
            dx = adapted.multiply_back(dy, dq).view(ctx.shape)
        if trains_in:
            d_in = (dq if core is None else dq @ core.to(dq.dtype)).T @ rows * ctx.scaling  # (r, in)
        if trains_core:
            d_core = dq.T @ p * ctx.scaling  # (r, r)
        if trains_out:
            d_out = dy.T @ (p if core is None else p @ core.to(p.dtype).T) * ctx.scaling  # (out, r)
            d_out = adapted.scale_rows(d_out)
        if trains_magnitude:
            d_scale = _sum_products(dy, kept.view_as(dy), None if ctx.keeps_z else bias)  # (out,)
            d_wanted = (d_scale if ctx.keeps_z else d_scale / scale) / norm
        d_bias = dy.sum(dim=0) if trains_bias else None
        return dx, None, d_bias, d_wanted, None, d_in, d_core, d_out, None, None


def _is_recoverable(scale: Tensor | None, dtype: torch.dtype) -> bool:
    """Say whether z = (y - b) / scale keeps its digits in `dtype`; no on a GPU, which would have to wait."""
    if scale is None or scale.device.type != "cpu":
        return False
    return bool(scale.abs().min() > torch.finfo(dtype).eps ** (1 / 3))


def _sum_products(dy: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
    """Sum dy * (y - b) over tokens, shape (out,).

    Tiles add up in float32 at least; float16 has no room for products under a scaled loss.
    """
    length = TILE if dy.device.type == "cpu" else max(len(dy), 1)
    total = dy.new_zeros(dy.shape[1], dtype=torch.promote_types(dy.dtype, torch.float32))
    for dy_tile, y_tile in zip(dy.split(length), y.split(length), strict=True):
        z_tile = y_tile if bias is None else y_tile - bias.to(y.dtype)
        z_tile = z_tile.float() if z_tile.dtype == torch.float16 else z_tile
        total += (dy_tile * z_tile).sum(dim=0)
    return total
