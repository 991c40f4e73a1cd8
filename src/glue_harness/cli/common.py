"""What all commands share: errors of input in one line, and the resolvers that conf/ uses."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import ValueType
from omegaconf import OmegaConf

from glue_harness.cli.main import EXIT_BAD_INPUT
from glue_harness.config.compose import parse_override
from glue_harness.errors import CONF, InputError, choices, input_errors


@contextlib.contextmanager
def command_line(overrides: Sequence[str] = ()) -> Iterator[None]:
    """Check overrides, and turn an error of input into one line on stderr and exit code 2.

    Raises:
        SystemExit: with code 2 for bad input, 130 for Ctrl-C.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing in its own way
    OmegaConf.register_new_resolver("runs_at_once", _runs_at_once, replace=True)
    OmegaConf.register_new_resolver("gpus_per_run", _gpus_per_run, replace=True)
    try:
        with input_errors():
            _check_choices(overrides)
            yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever reads, `head` for instance, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _check_choices(arguments: Sequence[str]) -> None:
    """Check that whoever chooses from a group of conf/ names something: of `null` Hydra makes a traceback."""
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    given = [text for text in arguments if "=" in text and text.partition("=")[0].lstrip("+") in groups]
    for override in map(parse_override, given):
        if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            continue
        values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
        if not all(isinstance(value, str | list) for value in values):
            allowed = ", ".join(choices(override.get_key_element().lstrip("+")))
            raise InputError(f"{override.input_line}: allowed is one of {allowed}")


def _runs_at_once(runs_per_gpu: int) -> int:
    from glue_harness.hardware import runs_at_once

    return runs_at_once(runs_per_gpu)


def _gpus_per_run(runs_per_gpu: int) -> float | None:
    """Return a run's share of a GPU where there are GPUs, or nothing to ask a cluster for."""
    from glue_harness.hardware import count_gpus

    return 1 / runs_per_gpu if count_gpus() else None
