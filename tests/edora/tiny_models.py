"""Small models and longhand formulas that the tests of edora share."""

import torch
from peft import get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import RobertaConfig, RobertaForSequenceClassification

from edora import EdoraConfig

TARGETS = ["query", "value", "attention.output.dense", "output.dense"]


class TwoLayers(nn.Module):
    """A square and two non-square layers, so that no test passes by symmetry."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.square = nn.Linear(12, 12, bias=bias)
        self.wide = nn.Linear(12, 20, bias=bias)
        self.narrow = nn.Linear(20, 7, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(torch.tanh(self.wide(torch.tanh(self.square(x)))))


class LargestOutput(TorchDispatchMode):
    """Record how many values the largest tensor has that is made inside the context."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not function.is_view:
            self.largest = max(self.largest, result.numel())
        return result


def make_layer(out_features: int, in_features: int, bias: bool = True, **choices):
    """Adapt a lone linear layer; returns the peft model and the adapted layer."""
    torch.manual_seed(out_features * 100 + in_features)
    model = nn.Sequential()
    model.add_module("linear", nn.Linear(in_features, out_features, bias=bias))
    peft_model = get_peft_model(model, EdoraConfig(target_modules=["linear"], **choices))
    return peft_model, peft_model.base_model.model.linear


def move_far(layer, adapter_name: str = "default", core_size: float = 0.3) -> None:
    """Take R and m far from where they start, as a long training would."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        if adapter_name in layer.edora_core:
            core = layer.edora_core[adapter_name]
            core.copy_(core_size * torch.randn(core.shape, generator=generator))
        if adapter_name in layer.edora_magnitude:
            magnitude = layer.edora_magnitude[adapter_name]
            magnitude.mul_(0.2 + 2 * torch.rand(magnitude.shape, generator=generator))


def compose_longhand(weight, core, basis_in, basis_out, magnitude, scaling) -> Tensor:
    """W' in float64, written as the paper does, with the norm detached."""
    updated = weight.double() + scaling * basis_out.double() @ core.double() @ basis_in.double()
    if magnitude is None:
        return updated
    norm = updated.detach().norm(dim=1, keepdim=True)
    return magnitude.double()[:, None] * updated / norm


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def make_roberta(seed: int = 0, **choices) -> RobertaForSequenceClassification:
    torch.manual_seed(seed)
    config = RobertaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=24,
        num_labels=2,
        **choices,
    )
    return RobertaForSequenceClassification(config).eval()


def make_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 50, (4, 9), generator=generator)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": torch.tensor([0, 1, 1, 0]),
    }


def adapt_roberta(model=None, **choices):
    """Adapt the tiny RoBERTa on the paper's four modules, head trained, and take every adapter far."""
    settings = {"r": 4, "target_modules": TARGETS, "modules_to_save": ["classifier"], "task_type": "SEQ_CLS"}
    peft_model = get_peft_model(
        make_roberta() if model is None else model, EdoraConfig(**{**settings, **choices})
    )
    for module in peft_model.modules():
        if hasattr(module, "edora_core"):
            move_far(module)
    return peft_model.eval()
