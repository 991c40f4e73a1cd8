"""What is measured: each method on the same backbone, built and trained as the harness does it."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from benchmarks.longhand import use_longhand
from glue_harness.config.schema import Config
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import is_head_parameter, load_backbone
from glue_harness.sweeps.plan import plan
from glue_harness.training.trainer import build_optimizer, sum_loss

FLOOR = "floor"
METHODS = {
    FLOOR: "Floor",
    "full": "Full fine-tuning",
    "lora": "LoRA (PEFT)",
    "dora": "DoRA (PEFT)",
    "dora_factored": "DoRA, factored norm",
    "edora_longhand": "EDoRA, longhand",
    "edora": "EDoRA",
    "lora_xs": "LoRA-XS",
}
"""What the table calls a method. The floor is the frozen backbone with a trained head and gradients to every
layer's input; longhand is EDoRA's layer as it was published."""

RANK = 16
CONFIGURED_AS = {FLOOR: "head_only", "edora_longhand": "edora"}
RANDOM_BASES = ("edora_longhand", "edora", "lora_xs")
"""Methods whose bases are drawn at random: the values do not change the time, and an SVD takes minutes."""


@dataclass(frozen=True)
class Setting:
    """A batch's shape, and its precision: `fp32`, or `bf16` by autocast as the trainer does it."""

    rows: int
    tokens: int
    precision: str

    def __str__(self) -> str:
        return f"{self.rows} x {self.tokens} {self.precision}"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the model runs forward."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast("cpu", dtype=torch.bfloat16)


@dataclass
class Trainee:
    """A model with its optimiser and its batch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    max_grad_norm: float
    inputs: dict[str, Tensor]
    labels: Tensor
    setting: Setting

    def propagate(self) -> None:
        """Run one batch forward and backward, in training."""
        self.model.train()
        with self.setting.autocast():
            outputs = self.model(**self.inputs)
        sum_loss(outputs, self.labels).backward()

    def update(self) -> None:
        """Clip the gradients and make AdamW's step; then the gradients are gone."""
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def evaluate(self) -> None:
        """Compute the batch's logits as an evaluation does."""
        self.model.eval()
        with self.setting.autocast():
            self.model(**self.inputs)


def build_trainees(
    names: Sequence[str], setting: Setting, model: str, rank: int = RANK, layers: int | None = None
) -> dict[str, Trainee]:
    """Build every method's model in one process, with as many layers as the model has or is given.

    Frozen weights are held once.

    Raises:
        InputError: a method or model that does not exist.
    """
    trainees: dict[str, Trainee] = {}
    shared: PreTrainedModel | None = None
    for name in names:
        config = _configure(name, model, rank, layers)
        backbone = load_backbone(config.model, config.task, config.seed)
        if not config.method.train_backbone:
            shared = shared or backbone
            _share_encoder(shared, backbone, config.model.head_modules)
        trainees[name] = _build_trainee(name, backbone, config, setting)
    return trainees


def _configure(name: str, model: str, rank: int, layers: int | None) -> Config:
    """Compose conf/ as a run does; without dropout, which would only make the floor slower."""
    overrides = [f"model={model}", "data=miniature", "task=rte", f"method={CONFIGURED_AS.get(name, name)}"]
    overrides += [f"rank={rank}", "trainer=fast"]
    overrides += [f"model.architecture.{part}_dropout_prob=0.0" for part in ("hidden", "attention_probs")]
    if name in RANDOM_BASES:
        overrides.append("method.adapter.bases=random")
    (cell,) = plan(overrides).cells
    if layers is not None:
        chosen = cell.config.model
        adapted = chosen.adapted_layers // chosen.architecture["num_hidden_layers"] * layers
        deeper = [f"model.architecture.num_hidden_layers={layers}", f"model.adapted_layers={adapted}"]
        (cell,) = plan([*overrides, *deeper]).cells
    return cell.config


def _share_encoder(source: PreTrainedModel, target: PreTrainedModel, head_modules: list[str]) -> None:
    for name, parameter in target.named_parameters():
        if not is_head_parameter(name, head_modules):
            parameter.data = source.get_parameter(name).data


def _build_trainee(name: str, backbone: PreTrainedModel, config: Config, setting: Setting) -> Trainee:
    backbone.enable_input_require_grads()
    adapted, _ = apply_method(backbone, config.model, config.method, config.seed)
    if name == "edora_longhand":
        assert isinstance(adapted, PeftModel)
        use_longhand(adapted)
    generator = torch.Generator().manual_seed(0)
    words = config.model.architecture["vocab_size"]
    shape = (setting.rows, setting.tokens)
    tokens = torch.randint(5, words, shape, generator=generator)  # 0 to 4 are special
    return Trainee(
        model=adapted,
        optimizer=build_optimizer(adapted, config),
        max_grad_norm=config.trainer.max_grad_norm,
        inputs={"input_ids": tokens, "attention_mask": torch.ones_like(tokens)},
        labels=torch.arange(setting.rows) % len(config.task.labels),
        setting=setting,
    )
