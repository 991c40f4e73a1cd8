"""What is read from disk and held to its type: an error names the file, the field and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from glue_harness.errors import InputError

T = TypeVar("T")


class Strict(BaseModel):
    """What is read from disk: no field more or less, no NaN, and none that changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def explain_invalid(path: Path, error: ValidationError) -> InputError:
    """Return in one line the first of what is wrong with a file."""
    first = error.errors()[0]
    return InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}")


def read_yaml(path: Path, adapter: TypeAdapter[T]) -> T:
    """Return what a YAML file holds, as a type.

    Raises:
        InputError: it is no YAML, lacks a field, has an unknown one, or a value that cannot be.
    """
    try:
        return adapter.validate_python(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        raise explain_invalid(path, error) from error
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable ({' '.join(str(error).split())})") from error
