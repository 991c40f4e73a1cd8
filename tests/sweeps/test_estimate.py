from dataclasses import replace

import pytest

from glue_harness.io import free_space
from glue_harness.runs.identity import hash_plan
from glue_harness.runs.index import take_inventory
from glue_harness.runs.record import Status
from glue_harness.sweeps.estimate import count_examples, count_steps, estimate, measure_size
from tests.support.planned_runs import CPU, GPU, make_cell, make_cost, make_record, write_run

ROWS, EPOCHS = 100, 2


def timed(total_seconds, examples=ROWS * EPOCHS, train_seconds=10.0):
    return make_cost().model_copy(
        update={
            "train_seconds": train_seconds,
            "total_seconds": total_seconds,
            "train_examples_per_second": examples / train_seconds,
        }
    )


def estimate_left(tmp_path, left, measured):
    for cell, cost in measured:
        write_run(make_record(cell, cost=cost), tmp_path)
    return estimate(left, take_inventory(tmp_path, ["tiny"]))


def test_like_runs_take_what_they_took(tmp_path):
    measured = [
        (make_cell(seed=seed), timed(seconds)) for seed, seconds in ((1, 20.0), (2, 30.0), (3, 100.0))
    ]
    found = estimate_left(tmp_path, [make_cell(seed=4), make_cell(seed=5)], measured)
    assert found.seconds == pytest.approx(2 * 30.0)
    assert (found.runs, found.unlike, found.examples) == (2, 0, 2 * ROWS * EPOCHS)
    assert found.measured.total() == 3


@pytest.mark.parametrize(
    ("like", "seconds"),
    [
        (make_cell(seed=2), 11.0),
        (make_cell(learning_rate=0.5), 12.0),
        (make_cell(rank=8), 13.0),
        (make_cell(method="dora"), 14.0),
        (make_cell(task="cola", method="dora"), 15.0),
    ],
)
def test_the_most_like_runs_are_asked(tmp_path, like, seconds):
    """Every one of these is measured, or all those less like than the one in question."""
    likes = [
        (make_cell(task="cola", method="dora"), 15.0),
        (make_cell(method="dora"), 14.0),
        (make_cell(rank=8), 13.0),
        (make_cell(learning_rate=0.5), 12.0),
        (make_cell(seed=2), 11.0),
    ]
    measured = [(cell, timed(took)) for cell, took in likes if took >= seconds]
    assert like.key in {cell.key for cell, _ in measured}
    assert estimate_left(tmp_path, [make_cell()], measured).seconds == pytest.approx(seconds)


def test_time_follows_the_number_of_examples(tmp_path):
    left = make_cell(epochs=5 * EPOCHS)
    assert estimate_left(tmp_path, [left], [(make_cell(), timed(20.0))]).seconds == pytest.approx(100.0)


@pytest.mark.parametrize("changes", [{"padding": "max_length"}, {"batch_size": 4}])
def test_a_run_that_trains_otherwise_is_asked_only_where_there_is_no_other(tmp_path, changes):
    """The same method, task and rates, but padded to the longest, or a few rows at a time: several times slower."""
    left, slower, other_task = make_cell(), make_cell(seed=2), make_cell(task="cola", seed=3)
    slower = replace(slower, config=replace(slower.config, trainer=replace(slower.config.trainer, **changes)))
    slower = replace(slower, cell_hash=hash_plan(slower.config))
    assert estimate_left(tmp_path / "a", [left], [(slower, timed(50.0))]).seconds == pytest.approx(50.0)
    measured = [(slower, timed(50.0)), (other_task, timed(20.0))]
    assert estimate_left(tmp_path / "b", [left], measured).seconds == pytest.approx(20.0)


def test_runs_of_several_processes_or_on_another_device_say_nothing(tmp_path):
    shared = make_cell(seed=2, environment=CPU.model_copy(update={"processes": 4}))
    elsewhere = make_cell(seed=3, environment=GPU)
    alone = estimate_left(tmp_path / "a", [make_cell()], [(shared, timed(5.0)), (elsewhere, timed(1.0))])
    assert alone.seconds == pytest.approx(1.0)
    measured = [(shared, timed(5.0)), (elsewhere, timed(1.0)), (make_cell(seed=4), timed(20.0))]
    found = estimate_left(tmp_path / "b", [make_cell()], measured)
    assert (found.seconds, found.measured.total()) == (pytest.approx(20.0), 1)


def test_what_resembles_nothing_is_left_out_and_counted(tmp_path):
    measured = [(make_cell(), timed(20.0))]
    found = estimate_left(tmp_path, [make_cell(seed=2), make_cell(model="other")], measured)
    assert (found.runs, found.unlike, found.seconds) == (2, 1, pytest.approx(20.0))
    assert found.examples == 2 * ROWS * EPOCHS
    assert found.steps == 2 * count_steps(measured[0][0].config)


def test_a_run_whose_data_is_of_unknown_size_leaves_the_examples_unknown(tmp_path):
    known = make_cell()
    unknown = replace(known, config=replace(known.config, task=replace(known.config.task, splits={})))
    assert estimate_left(tmp_path, [known, unknown], []).examples is None
    assert estimate_left(tmp_path, [known, unknown], []).steps is None


def test_failed_runs_and_runs_without_a_pace_say_nothing(tmp_path):
    write_run(make_record(make_cell(), status=Status.FAILED), tmp_path)
    write_run(make_record(make_cell(seed=2), status=Status.DIVERGED), tmp_path)
    no_pace = make_cost().model_copy(update={"train_examples_per_second": None})
    found = estimate_left(tmp_path, [make_cell(seed=4)], [(make_cell(seed=3), no_pace)])
    assert (found.unlike, found.seconds) == (1, 0.0)


def test_disk_is_that_of_a_like_run(tmp_path):
    folder = write_run(make_record(make_cell(), cost=timed(20.0)), tmp_path)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_bytes(bytes(100_000))
    measure_size.cache_clear()
    found = estimate(
        [make_cell(seed=2), make_cell(seed=3)],
        take_inventory(tmp_path, ["tiny"]),
    )
    assert 200_000 < found.size < 400_000


def test_examples_are_those_of_the_data_that_is_read(build_config):
    config = make_cell().config
    assert (count_examples(config), count_steps(config)) == (ROWS * EPOCHS, 8)  # 100 rows in batches of 32
    steps = replace(config, trainer=replace(config.trainer, max_steps=3))
    assert (count_examples(steps), count_steps(steps)) == (3 * config.trainer.batch_size, 3)
    unknown = replace(config, task=replace(config.task, splits={}))
    assert (count_examples(unknown), count_steps(unknown)) == (None, None)
    miniature = build_config("task=rte", "trainer=fast", "trainer.epochs=3")
    assert 0 < count_examples(miniature) < 3 * miniature.task.splits["train"].rows


def test_what_is_held_out_is_not_trained_on():
    config = make_cell().config
    assert count_examples(replace(config, data=replace(config.data, holdout=0.2))) == EPOCHS * (ROWS - 20)


def test_free_space_is_known_before_there_is_a_folder(tmp_path):
    assert free_space(tmp_path / "not" / "yet") > 0
