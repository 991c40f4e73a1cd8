"""Commands `train` (one run; -m: a product of values), `sweep` and `retry` (an experiment's grid)."""

from __future__ import annotations

import shlex
import signal
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from glue_harness.cli.common import command_line
from glue_harness.config.validation import resolve
from glue_harness.distributed import is_first
from glue_harness.errors import CONF, InputError, choices
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


def run(name: str, arguments: list[str]) -> None:
    """Run `train`, `sweep` or `retry`; Hydra reads the arguments, its flags among them.

    Raises:
        SystemExit: with code 1 for a run that failed, 2 for bad input.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends as Ctrl-C does
    with command_line([argument for argument in arguments if not argument.startswith("-")]):
        chosen = [text for text in arguments if text.startswith("experiment=") and text != "experiment=null"]
        if name == "train" and chosen:
            typed = shlex.join(argument for argument in arguments if argument not in ("-m", "--multirun"))
            raise InputError(f"{chosen[-1]}: is a grid of runs, not one run; type edora-glue sweep {typed}")
        if name != "train" and not chosen:
            known = ", ".join(choices("experiment"))
            raise InputError(
                f"{name}: no experiment is chosen; type edora-glue {name} experiment=, one of {known}"
            )
        added = [] if name == "train" else ["--multirun"]
        added += ["hydra.sweeper.retry=true"] if name == "retry" else []
        sys.argv = [f"edora-glue {name}", *arguments, *added]
        launch()
