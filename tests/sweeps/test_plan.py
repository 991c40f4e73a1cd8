import shutil
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from glue_harness.errors import CONF, InputError
from glue_harness.runs.index import LEFT
from glue_harness.runs.outcome import End, Ending
from glue_harness.runs.record import Status, write_record
from glue_harness.sweeps.plan import plan
from glue_harness.training.run import record_failure
from glue_harness.training.worker import SWEEPER_PID
from hydra_plugins.glue_grid_sweeper.grid_sweeper import GridSweeper


def axes(planned, *names):
    return [tuple(getattr(cell.identity, name) for name in names) for cell in planned.cells]


def unfinished(planned):
    return planned.select(planned.take_inventory(), LEFT)


def test_demo_is_four_methods_three_tasks_two_seeds():
    planned = plan(["experiment=demo"])
    assert planned.name == "demo"
    assert len(planned.cells) == 24
    assert len({(cell.identity.config_hash, cell.identity.seed) for cell in planned.cells}) == 24


SEARCHED = "experiment.grid=[{trainer.epochs: [1, 2], rank: [4, 8], trainer: [fast]}]"


def test_only_an_axis_of_single_values_in_the_grid_can_be_searched():
    planned = plan(["experiment=demo", SEARCHED, "experiment.searched=[trainer.epochs]"])
    assert planned.config.experiment.searched == ["trainer.epochs"]
    for axis in ("rank", "trainer", "trainer.learning_rate"):
        with pytest.raises(InputError) as caught:
            plan(["experiment=demo", SEARCHED, f"experiment.searched=[{axis}]"])
        assert str(caught.value) == f"experiment.searched={axis}: allowed is trainer.epochs"


def test_the_authors_search_is_over_rates_and_sigma():
    searched = plan(["experiment=paper_grid", "only.task=[rte]", "only.rank=[4]"]).config.experiment.searched
    assert searched == ["method.adapter.init_std", "trainer.learning_rate", "trainer.head_learning_rate"]


def test_glue_all_is_six_tasks_and_five_seeds():
    planned = plan(["experiment=glue_all"])
    labels = {label for (label,) in axes(planned, "label")}
    assert labels == {
        "full", "head_only", "lora_qv_r8", "lora_r8", "lora_r16", "dora_r8", "dora_r16",
        "lora_xs_r16", "edora_r8", "edora_r16", "edora_r32",
    }  # fmt: skip
    assert len(planned.cells) == len(labels) * 6 * 5


def test_filters_keep_the_grids_own_cells():
    planned = plan(
        [
            "experiment=glue_all",
            "only.task=[rte]",
            "only.method=[full,edora]",
            "only.rank=[16]",
            "only.seed=[1]",
        ]
    )
    assert axes(planned, "label", "task", "seed") == [("full", "rte", 1), ("edora_r16", "rte", 1)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("only.method=[vera]", "only.method=vera: allowed is full, lora, dora, edora"),
        ("only.seed=[9]", "only.seed=9: allowed is 1, 2"),
        ("experiment=nix", "experiment=nix: allowed is one of demo, "),
        ("seed=1,x", "seed: Value 'x' of type 'str' could not be converted to Integer"),
        ("task=rte,nix", "task=nix: allowed is one of cola"),
    ],
)
def test_bad_input_is_one_line(override, message):
    overrides = [override] if override.startswith("experiment") else ["experiment=demo", override]
    with pytest.raises(InputError, match=message) as caught:
        plan(overrides)
    assert "\n" not in str(caught.value)


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Return what puts an experiment into a copy of conf/."""
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    for module in ("errors", "config.compose", "sweeps.plan"):
        monkeypatch.setattr(f"glue_harness.{module}.CONF", conf)

    def write(text):
        (conf / "experiment" / "planted.yaml").write_text(f"# @package _global_\n{text}\n")

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiment: {name: planted}", "experiment=planted: it has no .* experiment.grid; allowed is"),
        ("experiment: {grid: [{task: [rte]}]}", "experiment=planted: it has no experiment.name"),
        ("seed: 3", "experiment=planted: it has no experiment.name"),
        ("experiment: {name: planted, grid: [{task: [rte, nix]}]}", "task=nix: allowed is one of cola, "),
        ("experiment: {name: planted, grid: [{taks: [rte]}]}", "taks"),
        ("experiment: {name: planted, grid: [{rank: [4, many]}]}", "rank: Value 'many'"),
        ("experiment: {name: planted, grid: [{task: []}]}", "no run of the grid"),
        ("experiment: {name: planted, grid: [{task: [rte, 3]}]}", "grid: task=3: allowed is one of cola, "),
        ("experiment: {name: planted, grid: [{task: null}]}", "grid: task=None: allowed is one of cola, "),
        ("experiment: {name: planted, grid: [rte]}", "experiment.grid.*; allowed is a list of blocks, each"),
        ("experiment: {name: planted, grid: rte}", "experiment.grid.*; allowed is a list of blocks, each"),
    ],
)
def test_an_experiment_without_a_usable_grid_is_one_line(plant, text, message):
    plant(text)
    with pytest.raises(InputError, match=message) as caught:
        plan(["experiment=planted"])
    assert "\n" not in str(caught.value)


def test_filters_that_leave_nothing_are_refused():
    with pytest.raises(InputError, match="no run of the grid has all of these"):
        plan(["experiment=glue_all", "only.method=[lora]", "only.rank=[32]"])


def test_another_model_may_have_ranks_that_the_experiments_own_has_not():
    assert plan(["experiment=demo", "model=roberta_base", "rank=512", "task=rte", "seed=1"]).cells


def test_a_value_on_the_command_line_takes_an_axis_place():
    planned = plan(["experiment=demo", "seed=7", "task=cola,mrpc"])
    assert set(axes(planned, "task", "seed")) == {("cola", 7), ("mrpc", 7)}
    assert len(planned.cells) == 8


def test_another_model_has_results_of_its_own():
    assert plan(["experiment=demo", "model=tiny_roberta"]).name == "demo-tiny_roberta"
    assert plan(["experiment=demo", "model=minilm"]).name == "demo"


def test_without_an_experiment_it_is_a_product():
    planned = plan(["model=tiny_roberta", "data=miniature", "rank=4,8", "seed=1,2,3"])
    assert axes(planned, "rank", "seed") == [(4, 1), (4, 2), (4, 3), (8, 1), (8, 2), (8, 3)]


def test_a_rank_sweep_runs_a_method_without_rank_once():
    planned = plan(["model=tiny_roberta", "data=miniature", "method=full,lora", "rank=4,8"])
    assert axes(planned, "label") == [("full",), ("lora_r4",), ("lora_r8",)]


def test_failed_runs_are_left_to_do_and_diverged_ones_are_not(tmp_path):
    overrides = ["model=tiny_roberta", "data=miniature", "seed=1,2", f"runs_dir={tmp_path}"]
    planned = plan(overrides)
    assert len(unfinished(planned)) == 2
    first = planned.cells[0]
    record_failure(first.config, first.identity, "planted")
    assert len(unfinished(planned)) == 2
    record = first.record().model_copy(update={"status": Status.DIVERGED})
    (first.folder / "record.json").write_text(record.model_dump_json())
    assert unfinished(planned) == planned.cells[1:]


def test_a_run_finished_in_another_environment_counts_as_long_as_numerics_agree(tmp_path):
    """A restored run from a machine with other hardware is not run again; one from before a change of numbers is."""
    planned = plan(["model=tiny_roberta", "data=miniature", f"runs_dir={tmp_path}"])
    (cell,) = planned.cells
    record_failure(cell.config, cell.identity, "planted")
    record = cell.record().model_copy(update={"status": Status.DIVERGED})
    for numerics, finished in ((cell.identity.numerics - 1, False), (cell.identity.numerics, True)):
        elsewhere = cell.identity.environment.model_copy(update={"device": "elsewhere"})
        identity = cell.identity.model_copy(update={"environment": elsewhere, "numerics": numerics})
        write_record(record.model_copy(update={"identity": identity}), tmp_path / identity.folder)
        assert (not unfinished(planned)) == finished


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("trainer=smoke", "demo-smoke"),
        ("seed=1", "demo"),
        ("trainer.epochs=1", "demo"),
    ],
)
def test_results_of_another_protocol_have_a_name_of_their_own(override, name):
    assert plan(["experiment=demo", override]).name == name


def test_overrides_recompose_the_same_cell():
    for cell in plan(["experiment=first_light"]).cells:
        (again,) = plan(list(cell.overrides)).cells
        assert again.identity == cell.identity


class Counting:
    """A launcher that runs nothing, and remembers how many jobs it was handed each time."""

    def __init__(self):
        self.handed = []

    def launch(self, jobs, initial_job_idx):
        self.handed.append(len(jobs))
        return [SimpleNamespace(return_value=Ending(End.COMPLETE, "")) for _ in jobs]


def sweep_counting(queue_limit, tmp_path, monkeypatch):
    monkeypatch.setenv(SWEEPER_PID, "")
    launcher, sweeper = Counting(), GridSweeper(retry=False, queue_limit=queue_limit)
    sweeper.whole_config = OmegaConf.create({"hydra": {"launcher": {"_target_": "BasicLauncher"}}})
    sweeper.instantiate = lambda config: launcher
    sweeper.sweep(["model=tiny_roberta", "data=miniature", "seed=1,2,3,4,5", f"runs_dir={tmp_path}"])
    return launcher.handed


@pytest.mark.parametrize(("queue_limit", "handed"), [(None, [5]), (5, [5]), (2, [1, 2, 2])])
def test_a_queue_is_handed_no_more_than_its_limit(queue_limit, handed, tmp_path, monkeypatch):
    assert sweep_counting(queue_limit, tmp_path, monkeypatch) == handed


def test_a_queue_of_none_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="hydra.sweeper.queue_limit=0: allowed is 1 or more, or null"):
        sweep_counting(0, tmp_path, monkeypatch)
