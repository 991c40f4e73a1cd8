"""How many parameters an adapter trains, in closed form from a model's architecture, without torch.

`params` counts the built model instead; a test holds the two together.
"""

from __future__ import annotations

import functools
from typing import Any

import yaml

from glue_harness.errors import CONF, choices, require_one_of


@functools.cache
def read_architecture(model: str) -> dict[str, Any]:
    """Return the architecture in conf/model/<model>.yaml, which may add to that of the models it names.

    Raises:
        InputError: there is no such model.
    """
    require_one_of("model", model, tuple(choices("model")))
    own: dict[str, Any] = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())
    architecture: dict[str, Any] = {}
    for base in own.get("defaults", []):
        architecture |= read_architecture(base)
    return architecture | own.get("architecture", {})


def count_adapter(model: str, method: str, rank: int) -> int:
    """Return what an adapter on query, value, attention output and feed-forward output trains.

    A layer W (out, in) has, at rank r: LoRA r (in + out); DoRA out more; EDoRA r^2 + out; LoRA-XS r^2.

    Raises:
        InputError: an unknown model, or a method without a closed form.
    """
    architecture = read_architecture(model)
    require_one_of("method", method, tuple(_COUNTS))
    hidden, wide = architecture["hidden_size"], architecture["intermediate_size"]
    shapes = [(hidden, hidden), (hidden, hidden), (hidden, hidden), (hidden, wide)]  # (out, in)
    if method == "lora_qv":
        shapes = shapes[:2]
    count_layer = _COUNTS[method]
    return int(architecture["num_hidden_layers"] * sum(count_layer(rank, *shape) for shape in shapes))


_COUNTS = {
    "lora": lambda rank, out, into: rank * (into + out),
    "lora_qv": lambda rank, out, into: rank * (into + out),
    "dora": lambda rank, out, into: rank * (into + out) + out,
    "edora": lambda rank, out, into: rank**2 + out,
    "edora_random": lambda rank, out, into: rank**2 + out,
    "lora_xs": lambda rank, out, into: rank**2,
}
