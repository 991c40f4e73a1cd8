import json

import pytest

from glue_harness.errors import InputError
from glue_harness.runs.identity import NUMERICS
from glue_harness.runs.index import State, take_inventory
from glue_harness.runs.lock import own_run
from glue_harness.runs.progress import Progress, clear_progress, read_progress, write_progress
from glue_harness.runs.record import RECORD_NAME, Status, read_record, write_record
from tests.support.planned_runs import GPU, make_cell, make_record, write_run


def state(cell, runs_dir):
    return take_inventory(runs_dir, [cell.config.model.name]).state(cell.key)


@pytest.mark.parametrize("status", Status)
def test_a_record_says_where_a_run_stands(tmp_path, status):
    cell = make_cell()
    assert state(cell, tmp_path) is State.MISSING
    write_run(make_record(cell, status=status), tmp_path)
    assert state(cell, tmp_path) == status.value
    assert state(make_cell(seed=2), tmp_path) is State.MISSING
    assert state(make_cell(learning_rate=0.5), tmp_path) is State.MISSING


def test_a_head_holds_what_the_record_does(tmp_path):
    record = make_record(make_cell(), status=Status.DIVERGED, attempts=3)
    folder = write_run(record, tmp_path)
    (found,) = take_inventory(tmp_path, ["tiny"]).find(make_cell().key)
    assert found.folder == folder
    for name in ("status", "cost", "error", "attempts"):
        assert getattr(found, name) == getattr(record, name)
    for name in ("model", "task", "method", "label"):
        assert getattr(found, name) == getattr(record.identity, name)
    assert found.hardware == record.provenance.hardware


def test_records_laid_out_otherwise_and_from_before_attempts_were_counted_read_alike(tmp_path):
    folder = write_run(make_record(make_cell()), tmp_path)
    plain = json.loads((folder / RECORD_NAME).read_text())
    del plain["attempts"]
    (folder / RECORD_NAME).write_text(json.dumps(plain))
    (found,) = take_inventory(tmp_path, ["tiny"]).find(make_cell().key)
    assert found.attempts == read_record(folder).attempts == 1


def test_seeds_of_one_folder_are_told_apart_from_a_record_that_strayed_there(tmp_path):
    """Settings are hashed once a folder: a record of other settings in it must not pass for its neighbours'."""
    cell, other = make_cell(seed=1), make_cell(seed=2, learning_rate=0.5)
    folder = write_run(make_record(cell), tmp_path)
    write_record(make_record(other), folder.parent / "seed2")
    assert state(cell, tmp_path) is State.COMPLETE
    assert state(other, tmp_path) is State.COMPLETE
    assert state(make_cell(seed=2), tmp_path) is State.MISSING


def test_any_environment_counts_but_other_numerics_do_not(tmp_path):
    write_run(make_record(make_cell(environment=GPU)), tmp_path)
    assert state(make_cell(), tmp_path) is State.COMPLETE
    record = make_record(make_cell(seed=2))
    bumped = record.identity.model_copy(update={"numerics": NUMERICS + 1})
    write_run(record.model_copy(update={"identity": bumped}), tmp_path)
    assert state(make_cell(seed=2), tmp_path) is State.MISSING


def test_a_finished_record_outweighs_a_failed_one(tmp_path):
    write_run(make_record(make_cell(environment=GPU), status=Status.FAILED), tmp_path)
    write_run(make_record(make_cell()), tmp_path)
    assert state(make_cell(), tmp_path) is State.COMPLETE


def make_progress(cell, **changes):
    values = {"cell": cell.cell_hash, "seed": cell.config.seed, "step": 3, "steps": 10, "seconds_left": 7.0}
    return Progress(**(values | {"host": "here", "pid": 1} | changes))


@pytest.mark.parametrize("before", [None, Status.FAILED])
def test_a_run_in_progress_is_one_that_is_claimed_and_says_so(tmp_path, before):
    cell = make_cell()
    folder = tmp_path / cell.identity.folder
    if before is not None:
        write_run(make_record(cell, status=before), tmp_path)
    with own_run(folder):
        write_progress(make_progress(cell), folder)
        inventory = take_inventory(tmp_path, ["tiny"])
        assert inventory.state(cell.key) is State.RUNNING
        assert inventory.running[cell.key] == (folder, make_progress(cell))
    after = State.MISSING if before is None else State.FAILED
    assert state(cell, tmp_path) is after  # what a dead run left behind is no run


def test_a_finished_run_is_not_looked_at_for_its_lock(tmp_path):
    folder = write_run(make_record(make_cell()), tmp_path)
    with own_run(folder):
        write_progress(make_progress(make_cell()), folder)
        assert state(make_cell(), tmp_path) is State.COMPLETE


@pytest.mark.parametrize("text", ["", "[]", '{"cell": "a"}', '{"cell'])
def test_a_damaged_progress_file_is_no_progress(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(tmp_path) is None
    clear_progress(tmp_path)
    clear_progress(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"\x89PNG\r\n"), "record.json: not a run record"),
        (
            lambda path: path.write_text('{"schema_version": 9}'),
            "record.json: schema_version=9: allowed is 1",
        ),
        (lambda path: path.mkdir(), r"record.json: cannot be read \(Is a directory\)"),
        (
            lambda path: path.write_text('{"schema_version": 1, "status": "complete"}'),
            "record.json: identity: Field required",
        ),
    ],
)
def test_a_foreign_file_where_a_record_should_be_is_one_line(tmp_path, spoil, message):
    path = tmp_path / make_cell().identity.folder / RECORD_NAME
    path.parent.mkdir(parents=True)
    spoil(path)
    with pytest.raises(InputError, match=message) as caught:
        take_inventory(tmp_path, ["tiny"])
    assert "\n" not in str(caught.value)


def test_stray_files_among_the_folders_are_left_alone(tmp_path):
    (tmp_path / "tiny" / "rte").mkdir(parents=True)
    (tmp_path / "tiny" / "notes.txt").write_text("mine")
    (tmp_path / "tiny" / "rte" / "notes.txt").write_text("mine")
    assert not take_inventory(tmp_path, ["tiny"]).records


def test_a_file_where_a_folder_of_runs_should_be_is_one_line(tmp_path):
    (tmp_path / "tiny").write_text("")
    with pytest.raises(
        InputError, match=r"tiny: cannot be read \(Not a directory\); allowed is a folder of runs"
    ):
        take_inventory(tmp_path, ["tiny"])


def test_a_file_where_a_run_should_be_is_one_line(tmp_path):
    folder = write_run(make_record(make_cell()), tmp_path).parent
    (folder / "notes.txt").write_text("whose this is, nobody asks")
    assert state(make_cell(), tmp_path) is State.COMPLETE
    (folder / "seed7").write_text("")
    with pytest.raises(InputError, match=r"seed7/record.json: cannot be read \(Not a directory\)"):
        take_inventory(tmp_path, ["tiny"])
