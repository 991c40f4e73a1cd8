"""An adapter's checkpoint: what it holds beside R and m, and what is checked before it is loaded.

| tensor of a layer   | shape             | saved            | says                                 |
| ------------------- | ----------------- | ---------------- | ------------------------------------ |
| edora_core          | (r, r)            | train_core       | R                                    |
| edora_magnitude     | (out,)            | train_magnitude  | m                                    |
| edora_A, edora_B    | (r, in), (out, r) | save_bases=True  | the bases                            |
| edora_basis_sketch  | (2, r)            | save_bases=False | a projection of every basis vector   |
| edora_weight_hash   | (32,)             | always           | SHA-256 of the base weight           |
| edora_weight_sketch | (16,)             | always           | projections of the base weight       |

Hash and sketches exist in the file only: they are taken from the model that is saved, and compared with the
model that a checkpoint is loaded into, so that there is no state that could go stale.
"""

from pathlib import Path
from pickle import UnpicklingError

import torch
from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from peft.utils.save_and_load import load_peft_weights
from safetensors import SafetensorError
from torch import Tensor, nn

from edora.basis import build_bases
from edora.config import EdoraConfig
from edora.fingerprint import (
    PROJECTIONS,
    WeightFingerprint,
    describe_weight,
    measure_basis_error,
    sketch_bases,
)
from edora.layer import EdoraLayer

MODEL_PREFIX = "base_model.model."
FSDP_PREFIX = "_fsdp_wrapped_module."
BASES = ("edora_A", "edora_B")
WEIGHT_HASH, WEIGHT_SKETCH, BASIS_SKETCH = PROOFS = (
    "edora_weight_hash",
    "edora_weight_sketch",
    "edora_basis_sketch",
)
SAME_WEIGHT = 0.003  # rounding to bfloat16 makes 0.0015, give or take 18 %, to float16 0.0002
SAME_BASES = 1e-3  # another machine's exact SVD differs in the last bit; R feels a wrong vector in proportion


def complete_saved(
    model: nn.Module,
    config: EdoraConfig,
    adapter_name: str,
    tensors: dict[str, Tensor],
    state_dict: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Add hash and sketches to an adapter's tensors; with save_bases=False take the bases out.

    Names are the model's own, the adapter's name at the end. `state_dict` may hold gathered base weights.
    """
    tensors = dict(tensors)
    for name, layer in _list_layers(model, adapter_name).items():
        held = any(key.startswith(f"{name}.edora_") for key in tensors)  # by one process only under FSDP
        if not held or layer.original_weight.is_meta:
            continue
        fingerprint = _describe_base(layer, state_dict.get(f"{name}.base_layer.weight"))
        tensors[f"{name}.{WEIGHT_HASH}.{adapter_name}"] = fingerprint.digest
        tensors[f"{name}.{WEIGHT_SKETCH}.{adapter_name}"] = fingerprint.sketch
        if adapter_name in layer.edora_core and not config.save_bases:
            basis_in, basis_out = (tensors.pop(f"{name}.{part}.{adapter_name}") for part in BASES)
            tensors[f"{name}.{BASIS_SKETCH}.{adapter_name}"] = sketch_bases(basis_in, basis_out)
    return tensors


def complete_loaded(
    model: nn.Module,
    config: EdoraConfig,
    adapter_name: str,
    tensors: dict[str, Tensor],
    expected: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Check a checkpoint against the model that it is meant for, and build the bases that it leaves out.

    `expected` is what the model holds of the adapter. Names are as in complete_saved.

    Raises: ValueError that names tensors which are missing, surplus, misshapen or not finite, or the layer
        whose weight or bases are not those that the adapter was saved with.
    """
    found, wanted = _strip_prefix(tensors), _strip_prefix(expected)
    layers = _list_layers(model, adapter_name)
    for name, layer in layers.items():
        _expect_proofs(
            wanted, found, name.removeprefix(MODEL_PREFIX), layer.rank.get(adapter_name), adapter_name
        )
    _check_tensors(wanted, found)
    complete = {key: tensor for key, tensor in tensors.items() if not _is_proof(key)}
    for name, layer in layers.items():
        layer_name = name.removeprefix(MODEL_PREFIX)
        sketch = found.get(f"{layer_name}.{BASIS_SKETCH}")
        _check_weight(layer, layer_name, found, exactly=sketch is not None)
        if sketch is not None:
            bases = _rebuild_bases(layer, layer_name, adapter_name, config, sketch)
            complete |= {
                f"{name}.{part}.{adapter_name}": basis for part, basis in zip(BASES, bases, strict=True)
            }
    return complete


def read_saved(config: EdoraConfig) -> dict[str, Tensor]:
    """Read the tensors of the checkpoint that a configuration was loaded from.

    Empty if there is none, or if the configuration now asks for other bases than it did there.

    Raises: ValueError if the file cannot be understood.
    """
    if config.origin is None or config.origin.recipe != config.recipe:
        return {}
    try:
        return _strip_prefix(load_peft_weights(config.origin.path, device="cpu", **config.origin.options))
    except (OSError, ValueError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
        folder = Path(config.origin.path, config.origin.options["subfolder"] or "")
        if not any((folder / name).is_file() for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)):
            return {}  # a configuration alone, which may be meant for a new adapter
        raise ValueError(f"The adapter's weights in {folder} are truncated or damaged: {error}") from error


def find_bases(
    saved: dict[str, Tensor], layer_name: str, weight: Tensor, rank: int
) -> tuple[Tensor, Tensor] | None:
    """Find the bases of a layer in a checkpoint: only those that were saved with this very weight (out, in).

    Shapes: returns A (rank, in) and B (out, rank), float32, on the CPU.
    """
    digest, basis_in, basis_out = (saved.get(f"{layer_name}.{part}") for part in (WEIGHT_HASH, *BASES))
    if digest is None or basis_in is None or basis_out is None or weight.is_meta:
        return None
    out_features, in_features = weight.shape
    fitting = basis_in.shape == (rank, in_features) and basis_out.shape == (out_features, rank)
    sound = torch.isfinite(basis_in).all() and torch.isfinite(basis_out).all()
    if not (fitting and sound and torch.equal(digest, describe_weight(weight).digest)):
        return None  # the bases are built, and loading says what is wrong with the checkpoint
    return basis_in.float(), basis_out.float()


def _list_layers(model: nn.Module, adapter_name: str) -> dict[str, EdoraLayer]:
    """List the layers that have this adapter, under their names in the model's state."""
    return {
        name.replace(FSDP_PREFIX, ""): module
        for name, module in model.named_modules()
        if isinstance(module, EdoraLayer)
        and (adapter_name in module.edora_core or adapter_name in module.edora_magnitude)
    }


def _strip_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(MODEL_PREFIX): tensor for key, tensor in tensors.items()}


def _is_proof(key: str) -> bool:
    return key.rpartition(".")[2] in PROOFS


def _describe_base(layer: EdoraLayer, gathered: Tensor | None) -> WeightFingerprint:
    """Describe a layer's original weight; the gathered one where the layer itself holds only a part of it."""
    if layer.merged or gathered is None or gathered.data_ptr() == layer.get_base_weight().data_ptr():
        return layer.fingerprint
    return describe_weight(gathered.T if layer.fan_in_fan_out else gathered)


def _expect_proofs(
    wanted: dict[str, Tensor], found: dict[str, Tensor], layer_name: str, rank: int | None, adapter_name: str
) -> None:
    """Expect hash and sketches besides what the model holds; a sketch of the bases may stand for them."""
    wanted[f"{layer_name}.{WEIGHT_HASH}"] = torch.empty(32, dtype=torch.uint8)
    wanted[f"{layer_name}.{WEIGHT_SKETCH}"] = torch.empty(PROJECTIONS)
    bases = [f"{layer_name}.{part}.{adapter_name}" for part in BASES]
    if rank is not None and f"{layer_name}.{BASIS_SKETCH}" in found and not found.keys() & set(bases):
        wanted[f"{layer_name}.{BASIS_SKETCH}"] = torch.empty(2, rank)
        for key in bases:
            del wanted[key]


def _check_tensors(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    missing = sorted(wanted.keys() - found.keys())
    surplus = sorted(key for key in found.keys() - wanted.keys() if ".edora_" in key)
    shared = sorted(wanted.keys() & found.keys())
    misfits = [
        f"{key}: {_outline(found[key])} in the checkpoint, {_outline(wanted[key])} in the model"
        for key in shared
        if _outline(found[key]) != _outline(wanted[key])
    ]
    broken = [key for key in shared if not torch.isfinite(found[key]).all()]
    problems = (
        (missing, "The checkpoint lacks tensors of the adapter"),
        (surplus, "The checkpoint holds tensors for which the model has no place"),
        (misfits, "Shapes differ; was the adapter trained on another base model?"),
        (broken, "The checkpoint holds tensors with values that are not finite"),
    )
    for keys, message in problems:
        if keys:
            raise ValueError(
                f"{message} ({len(keys)}): {', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''}"
            )


def _outline(tensor: Tensor) -> str:
    """A tensor's shape, and its type unless that is a floating one: precision may differ."""
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else f' {tensor.dtype}'}"


def _check_weight(layer: EdoraLayer, layer_name: str, found: dict[str, Tensor], exactly: bool) -> None:
    """Refuse a base weight that is not the adapter's own; it may be of another precision unless `exactly`."""
    weight = layer.original_weight
    if weight.is_meta:
        if exactly:
            raise ValueError(
                f"Layer {layer_name!r}: its weight is on meta, so the bases that the checkpoint leaves out "
                "cannot be built. Load the base model first."
            )
        return
    digest = found[f"{layer_name}.{WEIGHT_HASH}"].cpu()
    if torch.equal(digest, layer.fingerprint.digest):
        return
    distance = layer.fingerprint.measure_distance(found[f"{layer_name}.{WEIGHT_SKETCH}"])
    if distance <= SAME_WEIGHT and not exactly:
        return
    then, now = (bytes(proof.tolist()).hex()[:12] for proof in (digest, layer.fingerprint.digest))
    advice = (
        "Without saved bases it has to be the same to the last bit: load the base model in the type that it "
        "had then, or save the adapter with save_bases=True."
        if distance <= SAME_WEIGHT
        else "The adapter belongs to another base model."
    )
    raise ValueError(
        f"Layer {layer_name!r}: the base weight ({weight.dtype}) is not the one that the adapter was saved "
        f"with: SHA-256 {then} then, {now} now; they differ by about {distance:.2%}. {advice}"
    )


def _rebuild_bases(
    layer: EdoraLayer, layer_name: str, adapter_name: str, config: EdoraConfig, sketch: Tensor
) -> tuple[Tensor, Tensor]:
    """Build the bases that a sketch stands for, unless the layer has them already."""
    current = layer.edora_A[adapter_name], layer.edora_B[adapter_name]
    if not current[0].is_meta and measure_basis_error(sketch, *current) <= SAME_BASES:
        return current
    built = build_bases(layer.original_weight, layer.rank[adapter_name], config, layer_name)
    error = measure_basis_error(sketch, *built)
    if error > SAME_BASES:
        raise ValueError(
            f"Layer {layer_name!r}: the bases that are built from its weight are not those that the adapter "
            f"was saved with: they differ by {error:.1e} of a vector's norm, {SAME_BASES:.0e} is allowed. "
            "Another configuration, library or machine? Save it with save_bases=True where it was trained."
        )
    return built
