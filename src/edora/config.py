"""EdoraConfig: every choice of an EDoRA adapter, validated when it is made."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from peft.config import PeftConfig
from peft.utils import PeftType

BASES = ("svd", "random")
SINGULAR_VALUES = ("input", "output", "split")
SVD_ALGORITHMS = ("exact", "randomized")
BIASES = ("none", "all", "edora_only")


@dataclass(frozen=True)
class CheckpointOrigin:
    """Where a configuration was loaded from, and the recipe of the bases that were saved there.

    The path is a folder or a repository, the options select a version in it.
    """

    path: str
    options: dict[str, Any]
    recipe: tuple[str | int, ...]


@dataclass
class EdoraConfig(PeftConfig):
    """Configure an EDoRA adapter, or one of the methods that are EDoRA with a part left out.

    W' = m * (W + s B R A) / ||W + s B R A||, row by row, with s = alpha / r. W is (out, in), A (r, in),
    B (out, r), R (r, r), m (out,). A and B are frozen; R and m train: r^2 + out parameters a layer.

    Two fields say which parts an adapter has; a part that does not train does not exist:

    | train_core | train_magnitude | W'                                      | method         | trained   |
    | ---------- | --------------- | --------------------------------------- | -------------- | --------- |
    | True       | True            | m * (W + s B R A) / norm(W + s B R A)   | EDoRA          | r^2 + out |
    | True       | False           | W + s B R A                             | LoRA-XS        | r^2       |
    | False      | True            | m * W / norm(W)                         | magnitude only | out       |

    Args:
        r: rank of the update, 1 to min(in, out) of every adapted layer.
        alpha: the numerator of s = alpha / r.
        target_modules: names (suffixes) of the layers to adapt, a regular expression, or "all-linear"; every
            name has to match a layer. None takes the known layers of the model's architecture.
        exclude_modules: names, or a regular expression, of layers to leave alone.
        modules_to_save: further modules that train in full and are saved, such as a new head.
        init_std: standard deviation of R at the start; 0 starts exactly at the base model.
        init_seed: None draws R from torch's global generator. An integer gives every layer a generator of its
            own, seeded from (init_seed, name of the layer), and leaves the global one untouched.
        bases: "svd" of the layer's weight, or "random" (Kaiming-uniform, the ablation).
        basis_seed: seed of the random bases, together with the layer's name.
        singular_values: which base carries the singular values: "input" A, "output" B, "split" their roots on
            both. Concerns "svd" bases only.
        svd_algorithm: "exact", or "randomized" as in the authors' code (10 iterations, random state 42).
        train_core: whether there is an R (with its bases A and B).
        train_magnitude: whether there is an m (with the normalisation by rows).
        save_bases: whether a checkpoint holds A and B and stands by itself. False saves R and m only; loading
            then builds the bases again, from weights that have to be the same to the last bit.
        dropout: probability with which elements of the adapter's input, the x in B R A x, are dropped in
            training; W x and the norm see no dropout. Outputs of one training step then belong to no single
            W', only their expectation does; evaluation and merging are exact.
        bias: which biases train: "none", "all" of the model, "edora_only" those of adapted layers.
        fan_in_fan_out: part of PEFT's contract, without effect: the layer's type decides. Conv1D stores
            (in, out), nn.Linear (out, in).
        rank_pattern: ranks that differ from r, by layer name or regular expression.
        alpha_pattern: alphas that differ, likewise.
        layers_to_transform: indices of the blocks to adapt; None means all.
        layers_pattern: name of the list of blocks that these indices count.

    Raises:
        ValueError: for a value outside its legal set; the message names field, value and what is allowed.

    Source: EDoRA (arXiv 2501.12067), section 3; LoRA-XS (arXiv 2405.17604) for the layer without m.
    """

    r: int = 16
    alpha: float = 16
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    init_std: float = 1e-5
    init_seed: int | None = None
    bases: str = "svd"
    basis_seed: int = 0
    singular_values: str = "input"
    svd_algorithm: str = "exact"
    train_core: bool = True
    train_magnitude: bool = True
    save_bases: bool = True
    dropout: float = 0.0
    bias: str = "none"
    fan_in_fan_out: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("EDORA")
        self.origin: CheckpointOrigin | None = None
        self.target_modules = _list_names(self.target_modules)
        self.exclude_modules = _list_names(self.exclude_modules)
        self._check_numbers()
        self._check_choices()
        self._check_patterns()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any
    ) -> "EdoraConfig":
        """Load a configuration as PEFT does, and keep its origin: the bases saved there need no new SVD."""
        config = super().from_pretrained(pretrained_model_name_or_path, subfolder=subfolder, **kwargs)
        if isinstance(config, cls):
            options, _, _ = cls._split_kwargs(kwargs)
            config.origin = CheckpointOrigin(
                str(pretrained_model_name_or_path), {"subfolder": subfolder, **options}, config.recipe
            )
        return config

    @property
    def recipe(self) -> tuple[str | int, ...]:
        """All that bases depend on besides the weight, the rank and the layer's name."""
        return self.bases, self.basis_seed, self.singular_values, self.svd_algorithm

    def _check_numbers(self) -> None:
        _require(_is_int(self.r) and self.r >= 1, "r", self.r, "an integer >= 1")
        _require(_is_real(self.alpha) and self.alpha > 0, "alpha", self.alpha, "a finite number > 0")
        _require(
            _is_real(self.init_std) and self.init_std >= 0, "init_std", self.init_std, "a finite number >= 0"
        )
        _require(
            _is_real(self.dropout) and 0 <= self.dropout < 1, "dropout", self.dropout, "a number in [0, 1)"
        )
        _require(_is_seed(self.basis_seed), "basis_seed", self.basis_seed, "an integer >= 0")
        _require(
            self.init_seed is None or _is_seed(self.init_seed),
            "init_seed",
            self.init_seed,
            "None or an integer >= 0",
        )

    def _check_choices(self) -> None:
        for name, choices in (
            ("bases", BASES),
            ("singular_values", SINGULAR_VALUES),
            ("svd_algorithm", SVD_ALGORITHMS),
            ("bias", BIASES),
        ):
            value = getattr(self, name)
            _require(value in choices, name, value, f"one of {', '.join(map(repr, choices))}")
        for name in ("train_core", "train_magnitude", "save_bases", "fan_in_fan_out"):
            _require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")
        _require(
            self.train_core or self.train_magnitude,
            "train_magnitude",
            self.train_magnitude,
            "True where train_core is False (otherwise nothing would train)",
        )

    def _check_patterns(self) -> None:
        for name, is_legal, legal in (
            ("rank_pattern", lambda v: _is_int(v) and v >= 1, "an integer >= 1"),
            ("alpha_pattern", lambda v: _is_real(v) and v > 0, "a finite number > 0"),
        ):
            pattern = getattr(self, name)
            _require(isinstance(pattern, Mapping), name, pattern, "a mapping from layer names to values")
            for key, value in pattern.items():
                _require(is_legal(value), f"{name}[{key!r}]", value, legal)
        _require(
            not self.layers_pattern or self.layers_to_transform is not None,
            "layers_pattern",
            self.layers_pattern,
            "None where layers_to_transform is None",
        )
        _require(
            not isinstance(self.target_modules, str) or self.layers_to_transform is None,
            "layers_to_transform",
            self.layers_to_transform,
            "None where target_modules is a regular expression",
        )


def _require(legal: bool, name: str, value: Any, allowed: str) -> None:
    if not legal:
        raise ValueError(f"EdoraConfig: {name}={value!r} is not allowed; it has to be {allowed}.")


def _list_names(names: Iterable[str] | str | None) -> list[str] | str | None:
    """Keep the order that the user gave, so that the saved configuration has the same bytes every time."""
    if names is None or isinstance(names, str):
        return names
    return sorted(names) if isinstance(names, set | frozenset) else list(dict.fromkeys(names))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seed(value: Any) -> bool:
    return _is_int(value) and value >= 0


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
