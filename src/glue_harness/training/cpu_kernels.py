"""The same training in less time on a CPU: dropout, attention and frozen weights without detours.

What `trainer.accelerated` switches on. Nothing here changes what is computed but for roundings and for which
random numbers decide; a GPU has fast kernels of its own for all but the frozen weights.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from edora.frozen import FrozenLinear
from glue_harness.hardware import Environment

ATTENTION = "padded_attention"
"""The name by which transformers' models find `attend` and `mask_padding`."""


def accelerate(model: nn.Module, environment: Environment) -> None:
    """Replace what the model's modules compute slowly; parameters, their names and their values stay."""
    on_cpu = environment.device == "cpu"
    in_bf16 = environment.precision == "bf16"
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and in_bf16 and not child.weight.requires_grad:
                setattr(parent, name, FrozenLinear(child).train(child.training))
            elif type(child) is nn.Dropout and on_cpu and 0 < child.p < 1:
                setattr(parent, name, PackedDropout(child.p).train(child.training))
    backbone = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(backbone, PreTrainedModel)
    if on_cpu and backbone.config._attn_implementation == "sdpa":
        backbone.config._attn_implementation = ATTENTION
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is MPNetSelfAttention and on_cpu:
                setattr(parent, name, PaddedMpnetAttention(child).train(child.training))


class PackedDropout(nn.Dropout):
    """Dropout whose mask is drawn four elements at a time; see `drop`."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x in training, and return it as it is in evaluation."""
        return drop(x, self.p) if self.training else x


def drop(x: Tensor, p: float) -> Tensor:
    """Set each element of a CPU tensor to 0 with probability p, and divide the others by 1 - p.

    p is taken to the nearest multiple of 2^-16, in both places. Torch's own dropout draws a double from the
    CPU generator for every element; this draws 64 bits for four of them, from the same generator, which is
    the one that checkpoints keep.
    """
    return _Dropout.apply(x, round(p * 2**16))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        kept = _draw_kept(x, dropped)
        ctx.save_for_backward(kept)
        ctx.scale = 2**16 / (2**16 - dropped)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradient * kept).mul_(ctx.scale), None


def _draw_kept(x: Tensor, dropped: int) -> Tensor:
    """Draw 1 where an element is kept and 0 where not, in x's type and shape: products with bool are slow."""
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform on -2^15 to 2^15 - 1
    return torch.ge(draws, dropped - 2**15, out=torch.empty_like(x, memory_format=torch.contiguous_format))


def mask_padding(
    *, attention_mask: Tensor | None, dtype: torch.dtype = torch.float32, **_: Any
) -> Tensor | None:
    """Return what is added to an encoder's scores, (rows, 1, 1, tokens): 0 at a token, -inf at padding.

    Every token of an encoder sees all that is not padding, so the mask has no dimension of queries.
    """
    if attention_mask is None:
        return None
    mask = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
    return mask.masked_fill_(~attention_mask.bool(), float("-inf"))[:, None, None, :]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute softmax(scaling Q K^T + mask) V with dropout on the probabilities, the softmax in float32.

    On CPU, torch's fused attention knows no dropout and falls back to a path of several times this cost.

    Shapes: query, key and value (rows, heads, tokens, width), the mask of `mask_padding`, or one with heads
    and queries too; returns (rows, tokens, heads, width), and no probabilities.
    """
    rows, heads, tokens, width = query.shape
    query, key, value = (part.reshape(rows * heads, -1, width) for part in (query, key, value))
    if attention_mask is None:
        attention_mask = query.new_zeros(rows, 1, 1, key.shape[1])
    mask = attention_mask.to(query.dtype).expand(rows, heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scaling or width**-0.5)
    probabilities = F.softmax(scores.float(), dim=-1).to(value.dtype)  # (rows * heads, tokens, tokens)
    if dropout > 0:
        probabilities = drop(probabilities, dropout)
    context = torch.bmm(probabilities, value)
    return context.view(rows, heads, tokens, width).transpose(1, 2), None


class PaddedMpnetAttention(nn.Module):
    """MPNet's self-attention, computed by `attend`; it has the projections of the module it stands in for.

    transformers has no interface for MPNet's attention, whose scores have a bias by relative position.
    """

    def __init__(self, eager: MPNetSelfAttention) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = eager.q, eager.k, eager.v, eager.o
        self.heads, self.dropout = eager.num_attention_heads, eager.dropout.p

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor]:
        """Attend from every token to every token of its row.

        Shapes: hidden_states (rows, tokens, hidden), attention_mask (rows, 1, 1, tokens), position_bias
        (rows, heads, tokens, tokens); both are added to the scores. Returns (rows, tokens, hidden).
        """
        rows, tokens, _hidden = hidden_states.shape
        query, key, value = (
            project(hidden_states).view(rows, tokens, self.heads, -1).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )  # (rows, heads, tokens, width)
        added = [part for part in (position_bias, attention_mask) if part is not None]
        mask = sum(added[1:], start=added[0]) if added else None
        context, _probabilities = attend(
            self, query, key, value, mask, dropout=self.dropout if self.training else 0.0
        )
        return (self.o(context.flatten(2)),)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, mask_padding)
