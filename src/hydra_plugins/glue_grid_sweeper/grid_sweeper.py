"""A Hydra sweeper that plans an experiment's grid, hands what is left to any launcher, and sums up."""

import os
import sys
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# No `from __future__ import annotations` here: Hydra executes its plugins without entering them in
# sys.modules, where dataclass would look its string annotations up. The harness is imported when it is
# needed: Hydra reads every plugin at every start.


@dataclass
class GridSweeperConf:
    """Hydra's node for the sweeper."""

    _target_: str = "hydra_plugins.glue_grid_sweeper.grid_sweeper.GridSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="edora-glue")


class GridSweeper(Sweeper):
    """Run every cell of a plan that has not ended well yet; exit non-zero if one fails."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher that the configuration names."""
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, launch what is left, and list what failed.

        Raises:
            SystemExit: with code 1 if a run failed or diverged.
        """
        from glue_harness.console import announce, summarise, watch
        from glue_harness.supervise import SWEEPER_PID
        from glue_harness.sweep import order_stages, plan

        planned = plan(arguments)
        todo = planned.unfinished()
        stages = order_stages(todo)
        returns: list[Any] = []
        if todo:
            from glue_harness.run import check_inputs

            check_inputs([cell.config for cell in todo])
        announce(planned, todo)
        if not todo:
            return returns
        os.environ[SWEEPER_PID] = str(os.getpid())
        with watch(todo):
            for cells in stages:
                jobs = [list(cell.overrides) for cell in cells]
                returns += self.launcher.launch(jobs, initial_job_idx=len(returns))
        if not summarise(todo, [job.return_value for job in returns]):
            sys.exit(1)
        return returns
