"""What every entry shares: errors of input in one line, and the resolvers that conf/ uses."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from omegaconf import OmegaConf

from glue_harness.errors import InputError, input_errors

EXIT_BAD_INPUT = 2


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Turn an error of input into one line on stderr and exit code 2.

    Raises:
        SystemExit: with code 2 for bad input, 130 for Ctrl-C.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing in its own way
    OmegaConf.register_new_resolver("runs_at_once", _runs_at_once, replace=True)
    OmegaConf.register_new_resolver("gpus_per_run", _gpus_per_run, replace=True)
    try:
        with input_errors():
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


def _runs_at_once(runs_per_gpu: int) -> int:
    from glue_harness.hardware import runs_at_once

    return runs_at_once(runs_per_gpu)


def _gpus_per_run(runs_per_gpu: int) -> float | None:
    """Return a run's share of a GPU where there are GPUs, or nothing to ask a cluster for."""
    from glue_harness.hardware import count_gpus

    return 1 / runs_per_gpu if count_gpus() else None
