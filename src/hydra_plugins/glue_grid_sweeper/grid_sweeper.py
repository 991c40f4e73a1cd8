"""A Hydra sweeper that plans an experiment's grid, hands what is left to any launcher, and sums up."""

import copy
import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# No `from __future__ import annotations` here: Hydra executes its plugins without entering them in
# sys.modules, where dataclass would look its string annotations up. The harness is imported when it is
# needed: Hydra reads every plugin at every start.


@dataclass
class GridSweeperConf:
    """Hydra's node for the sweeper.

    `retry` runs what has failed and nothing else. `queue_limit` is how many runs a launcher is handed before
    these have ended, null for all of them: for sites that limit the jobs in their queue.
    """

    _target_: str = "hydra_plugins.glue_grid_sweeper.grid_sweeper.GridSweeper"
    retry: bool = False
    queue_limit: int | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="edora-glue")


class GridSweeper(Sweeper):
    """Run every cell of a plan that has not ended well yet; exit non-zero if one fails."""

    def __init__(self, retry: bool, queue_limit: int | None) -> None:
        self.retry, self.queue_limit = retry, queue_limit

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a launcher is made of: how much it may take is known once the runs are."""
        self.whole_config = config
        self.jobs_per_launch: int | None = None
        self.instantiate = functools.partial(
            Plugins.instance().instantiate_launcher, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, launch what is left, and list what failed.

        Raises:
            SystemExit: with code 1 if a run failed or diverged, or could not begin.
            KeyboardInterrupt: a run was interrupted.
        """
        from glue_harness.distributed import refuse_sweep
        from glue_harness.runs.index import LEFT, State
        from glue_harness.runs.outcome import End, Ending
        from glue_harness.sweeps import monitor as console
        from glue_harness.sweeps.launchers import (
            note_without_gpus,
            run_to_the_end,
            runs_elsewhere,
            split_evenly,
        )
        from glue_harness.sweeps.plan import plan
        from glue_harness.sweeps.stages import order_stages
        from glue_harness.training.worker import SWEEPER_PID

        refuse_sweep()
        planned = plan(arguments)
        inventory = planned.take_inventory()
        elsewhere = inventory if runs_elsewhere(self.whole_config.hydra.launcher) else None
        left = planned.select(inventory, [State.FAILED] if self.retry else LEFT)
        stages, blocked = order_stages(left, elsewhere)
        # One seed of everything first, so that a whole table is there early.
        stages = [sorted(stage, key=lambda cell: cell.config.seed) for stage in stages]
        todo = [cell for stage in stages for cell in stage]
        if todo:
            self._check(todo)
        console.announce(planned, todo, inventory)
        if not todo:
            return
        if (note := note_without_gpus(self.whole_config.hydra.launcher)) is not None:
            print(note, file=sys.stderr)
        os.environ[SWEEPER_PID] = str(os.getpid())
        with console.watch(todo):
            batches = [batch for stage in stages for batch in split_evenly(stage, self.queue_limit)]
            endings = [ending for batch in batches for ending in run_to_the_end(self._launch, batch)]
        endings += [Ending(End.BLOCKED, reason) for reason in blocked]
        well = console.summarise(endings)
        if any(ending.state is End.INTERRUPTED for ending in endings):
            raise KeyboardInterrupt  # Ctrl-C may reach the runs alone, while this process is busy
        if not well:
            sys.exit(1)

    def _check(self, todo: Sequence[Any]) -> None:
        """Find out what ends all runs: first the launcher; last data and weights, which may be fetched."""
        from glue_harness.errors import require
        from glue_harness.runs.lock import check_writable
        from glue_harness.sweeps.launchers import check_gpu_share, jobs_per_launch

        limit = self.queue_limit
        require(limit is None or limit >= 1, "hydra.sweeper.queue_limit", limit, "1 or more, or null")
        launcher = self.whole_config.hydra.launcher
        check_gpu_share(launcher, todo[0].config.launcher.runs_per_gpu)
        self.jobs_per_launch = jobs_per_launch(launcher)
        if launcher["_target_"].endswith("SlurmLauncher"):
            answer_for_every_job()
        check_writable(Path(todo[0].config.runs_dir))
        from glue_harness.training.setup import check_inputs

        check_inputs([cell.config for cell in todo])

    def _launch(self, cells: Sequence[Any]) -> list[Any]:
        """Hand cells to the launcher, in parts that it takes, and return how each ended."""
        from glue_harness.sweeps.launchers import launch_side_by_side, split_evenly

        parts = split_evenly(cells, self.jobs_per_launch)
        launcher = self._make_launcher(len(parts))
        return launch_side_by_side(functools.partial(_launch_part, launcher), parts)

    def _make_launcher(self, parts: int) -> Launcher:
        """Make the launcher that the configuration names; the parts share what it may run at once."""
        config = copy.deepcopy(self.whole_config)
        if "array_parallelism" in config.hydra.launcher:
            config.hydra.launcher.array_parallelism = -(-config.hydra.launcher.array_parallelism // parts)
        return self.instantiate(config=config)


class NoResult(NamedTuple):
    """The answer of a cluster's job that has ended without one: cancelled, or its node is gone."""

    reason: str


def answer_for_every_job() -> None:
    """Have a job of submitit's that ended without a result return a NoResult, not raise an error.

    Hydra's launcher asks its jobs one by one: an error of one would leave all others alone while they run.
    """
    import submitit

    ask = submitit.Job.results

    @functools.wraps(ask)
    def answer(job: Any) -> list[Any]:
        try:
            return ask(job)
        except Exception as error:
            silence = NoResult(f"job {job.job_id}: {' '.join(str(error).split())}")
            return [JobReturn(status=JobStatus.COMPLETED, _return_value=silence)]

    if not hasattr(ask, "__wrapped__"):
        setattr(submitit.Job, "results", answer)  # noqa: B010  typed as what it is


def _launch_part(launcher: Launcher, cells: Sequence[Any]) -> list[Any]:
    """Launch cells and wait for them; if the launcher gives up, the records tell how far it came."""
    from glue_harness.sweeps.launchers import describe_runs

    try:
        jobs = launcher.launch([list(cell.overrides) for cell in cells], initial_job_idx=0)
    except Exception as error:
        reason = " ".join(str(error).split())
        print(f"error: the launcher gave up ({type(error).__name__}: {reason})", file=sys.stderr)
        return describe_runs(cells)
    answers = [_describe_job(job) for job in jobs]
    silent = [n for n, answer in enumerate(answers) if isinstance(answer, NoResult)]
    for n in silent:
        print(f"error: the launcher has no result of a run ({answers[n].reason})", file=sys.stderr)
    told = dict(zip(silent, describe_runs([cells[n] for n in silent]), strict=True)) if silent else {}
    return [told.get(n, answer) for n, answer in enumerate(answers)]


def _describe_job(job: JobReturn) -> Any:
    """Return what the job returned, or why it could not begin."""
    from glue_harness.runs.outcome import End, Ending

    try:
        return job.return_value
    except Exception as error:
        return Ending(End.FAILED, f"{' '.join(job.overrides or ())}: {' '.join(str(error).split())}")
