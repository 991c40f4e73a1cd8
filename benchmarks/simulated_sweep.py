"""A sweep whose runs take no time: what is left is the cost of sweeping itself.

    python benchmarks/simulated_sweep.py experiment=paper_grid model=tiny_roberta data=miniature runs_dir=…

Plan, launcher, locks and records are the real ones; instead of training, a job writes the record of a run of
fifty epochs. docs/sweeps.md says what came of it.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from glue_harness.cli.common import command_line
from glue_harness.config.schema import Config
from glue_harness.config.validation import resolve
from glue_harness.errors import CONF
from glue_harness.hardware import Environment
from glue_harness.runs.identity import Identity, identify
from glue_harness.runs.lock import begin_attempt, own_run
from glue_harness.runs.outcome import End, Ending
from glue_harness.runs.record import (
    Cost,
    Epoch,
    Parameters,
    Provenance,
    RunRecord,
    Status,
    package_versions,
    read_record,
    write_record,
)

EPOCHS = 50
NOWHERE = Environment(device="none", precision="fp32", threads=1, processes=1)
"""No machine's environment, so that a simulated run is never taken for this machine's."""


def pretend(config: Config, identity: Identity, attempts: int) -> RunRecord:
    """Return a record as large as a real one."""
    scores: dict[str, float | None] = dict.fromkeys(config.task.metrics, 0.5123456789012345)
    return RunRecord(
        status=Status.COMPLETE,
        identity=identity,
        headline=config.task.headline,
        majority_score=0.5,
        parameters=Parameters(adapter=37_632, head=592_130, total=629_762, backbone=124_055_040),
        epochs=[
            Epoch(
                epoch=number,
                train_loss=0.6931471805599453 / number,
                metrics=dict.fromkeys(("all", "even", "odd"), scores),
                degenerate=False,
            )
            for number in range(1, EPOCHS + 1)
        ],
        cost=Cost(
            train_seconds=500.0,
            eval_seconds=20.0,
            total_seconds=530.0,
            train_examples_per_second=250.0,
            peak_memory_bytes=2**30,
            truncated_share=0.0,
        ),
        provenance=Provenance(
            commit="0" * 40,
            dirty=False,
            packages=package_versions(),
            hardware="simulated",
            data_sha256={"train": "0" * 64, "validation": "0" * 64},
            weights_sha256=None,
            started_at="2026-01-01T00:00:00+00:00",
        ),
        error=None,
        attempts=attempts,
    )


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run_nothing(composed: DictConfig) -> Ending:
    """Do everything that a run does but train."""
    config = resolve(composed)
    identity = identify(config, NOWHERE)
    folder = Path(config.runs_dir) / identity.folder
    with own_run(folder) as ours:
        if not ours or read_record(folder) is not None:
            return Ending(End.SKIPPED, str(folder), folder)
        write_record(pretend(config, identity, begin_attempt(folder)), folder)
    return Ending(End.COMPLETE, str(folder), folder)


if __name__ == "__main__":
    with command_line():
        run_nothing()
