"""Entry: `python -m glue_harness.cli.train task=mrpc method=edora rank=16 seed=1` is one run; `-m` sweeps.

A sweep is either a product of values (`-m rank=4,8 seed=1,2`) or an experiment's grid (`experiment=demo`).
"""

from __future__ import annotations

import signal
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from glue_harness.cli.common import command_line
from glue_harness.config.validation import resolve
from glue_harness.distributed import is_first
from glue_harness.errors import CONF
from glue_harness.runs import tracking
from glue_harness.runs.outcome import End, Ending
from glue_harness.runs.record import Status
from glue_harness.sweeps.grid import Cell, build_cell
from glue_harness.sweeps.stages import order_stages


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def launch(composed: DictConfig) -> Ending:
    """Run the composed configuration: here, or in a child process if it is part of a sweep."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from glue_harness.training.worker import supervise

        cell = _describe(composed)
        ending = supervise(cell.config, cell.identity)
        _track(cell, ending)
        return ending
    with command_line():  # here too: Hydra adds a line of its own to an exception
        cell = _describe(composed)
        record = cell.record()
        if record is None or record.status is Status.FAILED:
            order_stages([cell])  # says at once if there is nothing to start from
        from glue_harness.training.run import run_once

        ending = run_once(cell.config, cell.identity, show_progress=True)
        if is_first():
            _track(cell, ending)
            print(f"{ending.state}: {ending.message}", file=sys.stderr)
    if not ending.is_well:
        sys.exit(1)
    return ending


def _track(cell: Cell, ending: Ending) -> None:
    """Begin to show a finished run where the configuration asks for it."""
    if ending.is_well or ending.state is End.DIVERGED:
        tracking.start(cell.config, cell.folder)


def _describe(composed: DictConfig) -> Cell:
    return build_cell(resolve(composed), HydraConfig.get().overrides.task)


def main() -> None:
    """Run from the command line; bad input is one line and exit code 2, a run that failed exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends as Ctrl-C does
    with command_line():
        launch()


if __name__ == "__main__":
    main()
