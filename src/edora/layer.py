"""What an adapted layer holds, and the weight that it stands for."""

from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from edora.basis import build_bases, draw_core
from edora.config import EdoraConfig
from edora.fingerprint import WeightFingerprint, describe_weight
from edora.forward import forbid_autocast
from edora.norm import NormConstants, compute_row_norm, split_rows


class EdoraLayer(nn.Module, BaseTunerLayer):
    """Hold the adapters of one linear layer, and the weight W' that each of them stands for.

    W' = m * (W + s B R A) / ||W + s B R A||, row by row; without m: W + s B R A; without R: m * W / ||W||.

    Per adapter: edora_core R (r, r) and edora_magnitude m (out,) train; edora_A (r, in) and edora_B (out, r)
    are frozen and saved; the norm's constants are not saved, but made again whenever W or A is loaded. All
    are float32, whatever the weight's type (R and m not with autocast_adapter_dtype=False). W is taken to
    stay as it is: after a change in place call refresh_constants. Of several active adapters the effects
    W' - W add up.

    Source: EDoRA (arXiv 2501.12067), section 3; DoRA (arXiv 2402.09353), section 4.3 for the detached norm.
    """

    adapter_layer_names = ("edora_core", "edora_magnitude")
    other_param_names = (
        "edora_A",
        "edora_B",
        "edora_coordinates",
        "edora_factor",
        "edora_dropout",
        "rank",
        "scaling",
    )
    base_layer: nn.Module
    edora_original_weight: Tensor | None

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.fan_in_fan_out = isinstance(base_layer, Conv1D)
        self.edora_core = nn.ParameterDict()
        self.edora_magnitude = nn.ParameterDict()
        self.edora_A = BufferDict(persistent=True)
        self.edora_B = BufferDict(persistent=True)
        self.edora_coordinates = BufferDict(persistent=False)
        self.edora_factor = BufferDict(persistent=False)
        self.edora_dropout = nn.ModuleDict()
        self.register_buffer("edora_original_weight", None, persistent=False)
        self.rank: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._fingerprint: WeightFingerprint | None = None
        self.out_features, self.in_features = self.original_weight.shape
        self.register_load_state_dict_post_hook(_refresh_after_load)

    @property
    def original_weight(self) -> Tensor:
        """The base layer's weight without any adapter, merged or not, as (out, in)."""
        kept = self.edora_original_weight
        weight = self.get_base_weight().detach() if kept is None else kept
        return weight.T if self.fan_in_fan_out else weight  # (out, in)

    def update_layer(
        self,
        adapter_name: str,
        *,
        rank: int,
        alpha: float,
        config: EdoraConfig,
        layer_name: str,
        bases: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Add an adapter, or replace the one of this name; without values if a load is to bring them.

        Shapes: bases A (rank, in) and B (out, rank), if they are known; else they are built as configured.
        """
        for container_name in self.adapter_layer_names + self.other_param_names:
            container = getattr(self, container_name)
            if adapter_name in container:
                del container[adapter_name]
        self.edora_dropout[adapter_name] = nn.Dropout(config.dropout) if config.dropout > 0 else nn.Identity()
        if config.train_core:
            self.rank[adapter_name], self.scaling[adapter_name] = rank, alpha / rank
            weight = self.original_weight.to("meta" if _awaits_load() else self.original_weight.device)
            basis_in, basis_out = bases or build_bases(weight, rank, config, layer_name)
            core = draw_core(rank, config.init_std, config.init_seed, layer_name, weight.device)
            self.edora_A[adapter_name] = basis_in.to(weight.device)
            self.edora_B[adapter_name] = basis_out.to(weight.device)
            self.edora_core[adapter_name] = nn.Parameter(core)
        if config.train_magnitude:
            self._set_constants(adapter_name)
            magnitude = compute_row_norm(self._get_constants(adapter_name))  # (out,)
            self.edora_magnitude[adapter_name] = nn.Parameter(magnitude)
        self.set_adapter(self.active_adapters)

    @property
    def fingerprint(self) -> WeightFingerprint:
        """The original weight's fingerprint, taken once and again after refresh_constants."""
        if self._fingerprint is None:
            self._fingerprint = describe_weight(self.original_weight)
        return self._fingerprint

    def refresh_constants(self) -> None:
        """Make all that follows from the weight and A again, after one has been given other values."""
        self._fingerprint = None
        for adapter_name in self.edora_magnitude:
            self._set_constants(adapter_name)

    def _apply(self, fn: Any, recurse: bool = True) -> "EdoraLayer":
        """Move or cast the layer; constants that a cast has rounded are made again, in float32."""
        super()._apply(fn, recurse)
        if any(constant.dtype != torch.float32 for constant in self.edora_coordinates.values()):
            self.refresh_constants()
        return self

    def list_present(self, adapter_names: list[str]) -> list[str]:
        """Pick the adapters that this layer has."""
        return [name for name in adapter_names if name in self.edora_core or name in self.edora_magnitude]

    @torch.no_grad()
    def compose_weight(self, adapter_names: list[str]) -> Tensor:
        """Compute W' of these adapters, shape (out, in), float32: that of one, or W + sum of (W' - W)."""
        with forbid_autocast(self.original_weight.device):
            weight = self.original_weight.float()  # (out, in)
            composed = [self._compose_one(name, weight) for name in self.list_present(adapter_names)]
        return composed[0] if len(composed) == 1 else weight + sum(other - weight for other in composed)

    def _compose_one(self, adapter_name: str, weight: Tensor) -> Tensor:
        if adapter_name in self.edora_core:
            update = self._compute_update(adapter_name)  # (out, rank)
            weight = weight + update @ self.edora_A[adapter_name].float()  # (out, in)
        if adapter_name in self.edora_magnitude:
            weight = weight * self._compute_scale(adapter_name).unsqueeze(1)  # (out, in)
        return weight

    def cast_trained(self, adapter_name: str) -> None:
        """Give R and m the base weight's type; bases and constants stay float32."""
        for container in (self.edora_core, self.edora_magnitude):
            if adapter_name in container:
                container[adapter_name].data = container[adapter_name].data.to(self.original_weight.dtype)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Say whether W' - W is of low rank: not where rows are normalised."""
        return adapter_name not in self.edora_magnitude

    def _set_constants(self, adapter_name: str) -> None:
        weight = self.original_weight
        has_core = adapter_name in self.edora_core
        basis_in = self.edora_A[adapter_name] if has_core else weight.new_empty(0, self.in_features)
        constants = split_rows(weight, basis_in)
        self.edora_coordinates[adapter_name] = constants.coordinates
        self.edora_factor[adapter_name] = constants.factor

    def _get_constants(self, adapter_name: str) -> NormConstants:
        containers = (self.edora_coordinates, self.edora_factor)
        return NormConstants(*(container[adapter_name].float() for container in containers))

    def _compute_update(self, adapter_name: str) -> Tensor:
        core = self.scaling[adapter_name] * self.edora_core[adapter_name].float()
        return self.edora_B[adapter_name].float() @ core  # (out, rank)

    def _compute_scale(self, adapter_name: str) -> Tensor:
        """Compute m / ||W + s B R A||, shape (out,), with a gradient to m only."""
        return self.edora_magnitude[adapter_name].float() / self._compute_norm(adapter_name)

    @torch.no_grad()
    def _compute_norm(self, adapter_name: str) -> Tensor:
        """Compute ||W + s B R A||, shape (out,); above 0 also for a row of zeros."""
        constants, basis_out, core = self._get_constants(adapter_name), None, None
        with forbid_autocast(constants.coordinates.device):
            if adapter_name in self.edora_core:
                basis_out = self.edora_B[adapter_name].float()
                core = self.scaling[adapter_name] * self.edora_core[adapter_name].float()
            norm = compute_row_norm(constants, basis_out, core)  # (out,)
        return norm.clamp_min(torch.finfo(norm.dtype).tiny)

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move an adapter as PEFT does, but leave it in float32, and with its values if the base has none."""
        target = self.original_weight.device if device is None else device
        if target.type == "meta":
            return
        parameters = (self.edora_core, self.edora_magnitude)
        buffers = (self.edora_A, self.edora_B, self.edora_coordinates, self.edora_factor)
        for container in (*parameters, *buffers):
            if adapter_name in container and not container[adapter_name].is_meta:
                container[adapter_name].data = container[adapter_name].data.to(target)


def _refresh_after_load(module: nn.Module, _: Any) -> None:
    if isinstance(module, EdoraLayer):
        module.refresh_constants()


def _awaits_load() -> bool:
    """Say whether new parameters go to meta, the only sign that PEFT gives of low_cpu_mem_usage."""
    probe = nn.Module()
    probe.register_parameter("parameter", nn.Parameter(torch.empty(0)))
    return next(probe.parameters()).is_meta
