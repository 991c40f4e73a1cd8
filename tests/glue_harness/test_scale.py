"""The authors' grid, 10,500 runs: a plan of it and a look at its records take seconds."""

import resource
import subprocess
import sys
from itertools import islice

import pytest

from glue_harness.sweep import plan

from .planned_runs import CellElsewhere, make_record
from .sweep_processes import environment

HEAVY = ("torch", "transformers", "datasets", "peft", "pandas", "sklearn")
SECONDS = 3.0
EPOCHS = 50


def test_planning_and_looking_import_nothing_heavy():
    code = "import sys, glue_harness.plan, glue_harness.status; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [name for name in HEAVY if name in imported]


@pytest.fixture(scope="module")
def ten_thousand_records(tmp_path_factory):
    """Every run of the authors' grid but the last ten, with the record of a run of fifty epochs."""
    runs_dir = tmp_path_factory.mktemp("runs")
    cells = plan(["experiment=paper_grid"]).cells
    epochs = make_record(CellElsewhere((), cells[0].config, cells[0].cell_hash), scores=[0.5] * EPOCHS).epochs
    for cell in islice(cells, len(cells) - 10):
        here = CellElsewhere((), cell.config, cell.cell_hash)
        record = make_record(here, scores=()).model_copy(update={"epochs": epochs})
        folder = runs_dir / record.identity.folder
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(record.model_dump_json(indent=1))
    return runs_dir


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["plan", "status"])
def test_ten_thousand_records_are_planned_and_looked_at_in_seconds(ten_thousand_records, entry):
    """In seconds of this process's own: a machine that has other work to do takes longer."""
    command = [sys.executable, "-m", f"glue_harness.{entry}", "experiment=paper_grid"]
    command += [f"runs_dir={ten_thousand_records}"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "10,490 complete, 10 missing" in shown
        assert "250/250" in shown
    assert min(seconds) < SECONDS, seconds
