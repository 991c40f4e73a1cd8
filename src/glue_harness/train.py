"""Entry: `python -m glue_harness.train task=mrpc method=edora rank=16 seed=1` is one run; `-m` sweeps.

A sweep is either a product of values (`-m rank=4,8 seed=1,2`) or an experiment's grid (`experiment=demo`).
"""

from __future__ import annotations

import signal
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from glue_harness.config import Config, resolve
from glue_harness.entry import command_line
from glue_harness.errors import CONF
from glue_harness.hardware import resolve_environment
from glue_harness.records import Identity, identify


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def launch(composed: DictConfig) -> tuple[str, str]:
    """Run the composed configuration: here, or in a child process if it is part of a sweep."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from glue_harness.supervise import supervise

        return supervise(*_identify(composed))
    with command_line():  # here too: Hydra adds a line of its own to an exception
        config, identity = _identify(composed)
        from glue_harness.run import run_once

        state, message = run_once(config, identity, show_progress=True)
    print(f"{state}: {message}", file=sys.stderr)
    if state in ("failed", "diverged", "busy"):
        sys.exit(1)
    return state, message


def _identify(composed: DictConfig) -> tuple[Config, Identity]:
    config = resolve(composed)
    return config, identify(config, resolve_environment(config.trainer))


def main() -> None:
    """Run from the command line; bad input is one line and exit code 2, a run that failed exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends as Ctrl-C does
    with command_line():
        launch()


if __name__ == "__main__":
    main()
