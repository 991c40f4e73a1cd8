"""What is claimed of EDoRA: conf/claims.yaml, typed and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from glue_harness.errors import CONF, choices, require, require_one_of
from glue_harness.io import Strict, read_yaml


class Baseline(Strict):
    """What a method is compared with; at the method's own rank unless `rank` is given."""

    method: str
    rank: int | None = None


class _Stated(Strict):
    id: str
    statement: str
    source: str
    method: str


class CountClaim(_Stated):
    """An adapter has exactly `expected` parameters."""

    test: Literal["count"]
    model: str
    rank: int
    expected: int


class RatioClaim(_Stated):
    """An adapter has, at one of `ranks`, `at_least` times fewer parameters than each baseline's."""

    test: Literal["ratio"]
    model: str
    ranks: list[int] = Field(min_length=1)
    baselines: list[Baseline] = Field(min_length=1)
    at_least: float


class ScoreClaim(_Stated):
    """Scores beside the baselines' at the same rank: on each task within `margin`, or above on average."""

    test: Literal["non_inferiority", "superiority"]
    baselines: list[str] = Field(min_length=1)
    tasks: list[str] = Field(min_length=1)
    margin: float = Field(default=0.0, ge=0)


Claim = Annotated[CountClaim | RatioClaim | ScoreClaim, Field(discriminator="test")]


class Claims(Strict):
    """The content of conf/claims.yaml."""

    level: float = Field(gt=0, lt=1)
    claims: list[Claim]


def read_claims(path: Path = CONF / "claims.yaml") -> Claims:
    """Return the claims of a file.

    Raises:
        InputError: it is no YAML, or a claim lacks a field, has an unknown one, or a value that cannot be.
    """
    claims = read_yaml(path, TypeAdapter(Claims))
    _check_names(claims, path)
    return claims


def _check_names(claims: Claims, path: Path) -> None:
    seen: set[str] = set()
    for claim in claims.claims:
        place = f"{path}: {claim.id}"
        require(claim.id not in seen, f"{path}: id", claim.id, "one claim an id")
        seen.add(claim.id)
        methods = [claim.method]
        if not isinstance(claim, CountClaim):
            methods += [b if isinstance(b, str) else b.method for b in claim.baselines]
        for method in methods:
            require_one_of(f"{place}: method", method, tuple(choices("method")))
        for task in claim.tasks if isinstance(claim, ScoreClaim) else []:
            require_one_of(f"{place}: task", task, tuple(choices("task")))
        if not isinstance(claim, ScoreClaim):
            require_one_of(f"{place}: model", claim.model, tuple(choices("model")))
