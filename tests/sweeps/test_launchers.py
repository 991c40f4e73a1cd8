"""What a sweep asks of a launcher: an answer within seconds, and an end for every run."""

import os
import socket
import stat
import sys
import time
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus

from glue_harness.errors import InputError, explain
from glue_harness.runs.lock import own_run
from glue_harness.runs.outcome import End, Ending
from glue_harness.runs.progress import Progress, write_progress
from glue_harness.runs.record import Status
from glue_harness.sweeps import launchers
from glue_harness.sweeps.launchers import (
    check_gpu_share,
    describe_runs,
    jobs_per_launch,
    launch_side_by_side,
    note_without_gpus,
    run_to_the_end,
    runs_elsewhere,
    split_evenly,
)
from glue_harness.sweeps.monitor import Arrivals
from hydra_plugins.glue_grid_sweeper.grid_sweeper import _launch_part, answer_for_every_job
from tests.support.planned_runs import GPU, CellElsewhere, make_cell, make_record, write_run

RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}


def ray_at(address):
    return {"_target_": RAY, "ray": {"init": {"address": address}}}


@pytest.fixture
def ray_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(launchers.importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_launchers_of_this_machine_take_any_number():
    assert (
        jobs_per_launch({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"})
        is None
    )


def test_ray_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(launchers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="launcher=ray: the package ray is not installed; `make setup-ray`"):
        jobs_per_launch(ray_at("local"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{port}", r"address=127.0.0.1:\d+ does not answer \(.*refused\)"),
        ("ray://127.0.0.1:{port}", "does not answer"),
        ("auto", "address=auto: no cluster runs on this machine"),
        ("nonsense", "address=nonsense: allowed is a running cluster's <host>:<port>"),
    ],
)
@pytest.mark.usefixtures("ray_installed")
def test_a_ray_that_cannot_be_reached_is_one_line_within_seconds(address, message, closed_port):
    begin = time.monotonic()
    with pytest.raises(InputError, match=message) as caught:
        jobs_per_launch(ray_at(address.format(port=closed_port)))
    assert time.monotonic() - begin < 2 * launchers.ANSWER_SECONDS
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("ray_installed")
def test_a_cluster_is_not_told_how_many_cpus_it_has():
    joined = {"_target_": RAY, "ray": {"init": {"address": "auto", "num_cpus": 2}}}
    with pytest.raises(InputError, match="address=auto: allowed is local; launcher=ray_cluster joins others"):
        jobs_per_launch(joined)


@pytest.mark.usefixtures("ray_installed")
def test_a_ray_that_answers_is_taken(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert jobs_per_launch(ray_at(address)) is None
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address + "\n")
        assert jobs_per_launch(ray_at("auto")) is None
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert jobs_per_launch(ray_at(None)) is None
    with pytest.raises(InputError, match="does not answer"):
        jobs_per_launch(ray_at(None))


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """Put an sbatch on the PATH, and a scontrol that does what the test says."""

    def install(script):
        for name in ("sbatch", "scontrol"):
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    return install


def test_a_slurm_array_is_as_large_as_the_site_allows(fake_slurm):
    fake_slurm("echo 'Configuration data'; echo 'MaxArraySize            = 1001'; echo 'MaxJobCount = 10000'")
    assert jobs_per_launch(SLURM) == 1001


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'slurm_load_ctl_conf error: Unable to contact' >&2; exit 1",
            r"not answer \(slurm_load_ctl_conf",
        ),
        ("exec sleep 30", "SLURM does not answer within seconds"),
    ],
)
def test_a_slurm_that_cannot_be_reached_is_one_line_in_time(fake_slurm, monkeypatch, script, message):
    monkeypatch.setattr(launchers, "SLURM_ANSWER_SECONDS", 1.0)
    fake_slurm(script)
    begin = time.monotonic()
    with pytest.raises(InputError, match=message):
        jobs_per_launch(SLURM)
    assert time.monotonic() - begin < 5


def test_a_machine_without_slurm_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="launcher=slurm: there is no sbatch on this machine"):
        jobs_per_launch(SLURM)


@pytest.mark.parametrize(("name", "remedy"), [("ray", "make setup-ray"), ("submitit_slurm", "make setup")])
def test_a_launcher_without_its_plugin_says_what_to_install(name, remedy):
    from hydra.errors import MissingConfigException

    error = MissingConfigException("Could not find", missing_cfg_file=f"hydra/launcher/{name}")
    launcher = name.removeprefix("submitit_")
    assert explain(error) == f"launcher={launcher}: its package is not installed; `{remedy}` installs it"


@pytest.mark.parametrize(
    ("cells", "at_most", "sizes"),
    [
        (24, None, [24]),
        (24, 24, [24]),
        (25, 24, [12, 13]),
        (10_500, 1001, [954, 955] * 5 + [955]),
        (1, 1001, [1]),
    ],
)
def test_cells_are_split_evenly_into_parts_that_fit(cells, at_most, sizes):
    parts = split_evenly(range(cells), at_most)
    assert sorted(len(part) for part in parts) == sorted(sizes)
    assert [cell for part in parts for cell in part] == list(range(cells))


def test_parts_are_launched_at_once_and_their_endings_keep_the_order():
    launched = []

    def launch(cells):
        launched.append(cells)
        while len(launched) < 3:  # none returns before all are in the queue
            time.sleep(0.01)
        return [("complete", str(cell)) for cell in cells]

    endings = launch_side_by_side(launch, split_evenly(range(8), 3))
    assert [message for _, message in endings] == [str(cell) for cell in range(8)]


def test_a_part_that_cannot_be_launched_is_an_error_not_a_silence():
    def launch(cells):
        raise RuntimeError(f"no room for {cells}")

    with pytest.raises(RuntimeError, match="no room"):
        launch_side_by_side(launch, split_evenly(range(8), 3))


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.setattr(launchers, "POLL_SECONDS", 0.01)
    found = [make_cell(seed=seed) for seed in (1, 2)]
    return [
        CellElsewhere((), _below(c.config, tmp_path), c.cell_hash, environment=c.environment) for c in found
    ]


DONE = Ending(End.COMPLETE, "here")


def busy(cell):
    return Ending(End.BUSY, "elsewhere", cell.folder)


def _below(config, tmp_path):
    config.runs_dir = str(tmp_path)
    return config


def write(cell, **values):
    write_run(make_record(cell, **values), cell.config.runs_dir)


def test_a_run_that_another_sweep_finishes_is_waited_for_and_not_launched_again(cells, monkeypatch):
    launches, owned = [], own_run(cells[0].folder)
    assert owned.__enter__()

    def launch(waiting):
        launches.append(len(waiting))
        return [busy(cells[0]), DONE]

    def pause(seconds):
        write(cells[0])
        owned.__exit__(None, None, None)

    monkeypatch.setattr(launchers.time, "sleep", pause)
    endings = run_to_the_end(launch, cells)
    assert [ending.state for ending in endings] == ["complete", "complete"]
    assert launches == [2]


def test_a_run_that_fails_elsewhere_meanwhile_is_not_run_again(cells, monkeypatch):
    owned = own_run(cells[0].folder)
    assert owned.__enter__()

    def pause(seconds):
        write(cells[0], status=Status.FAILED)
        owned.__exit__(None, None, None)

    monkeypatch.setattr(launchers.time, "sleep", pause)
    endings = run_to_the_end(lambda waiting: [busy(cells[0]), DONE], cells)
    assert [ending.state for ending in endings] == ["failed", "complete"]


@pytest.mark.parametrize("failed_before", [False, True])
def test_a_run_whose_other_owner_dies_is_launched_again(cells, failed_before):
    if failed_before:
        write(cells[0], status=Status.FAILED)
    launches = []

    def launch(waiting):
        launches.append([cell.key for cell in waiting])
        if len(launches) == 1:
            return [busy(cells[0]), DONE]
        return [DONE]

    endings = run_to_the_end(launch, cells)
    assert endings[0] == DONE
    assert launches == [[cell.key for cell in cells], [cells[0].key]]


def test_a_run_is_waited_for_where_its_owner_has_it_not_where_this_machine_would(cells, monkeypatch):
    there = CellElsewhere((), cells[0].config, cells[0].cell_hash, environment=GPU)
    launches, owned = [], own_run(there.folder)
    assert owned.__enter__()
    assert there.folder != cells[0].folder

    def launch(waiting):
        launches.append(len(waiting))
        return [busy(there), DONE]

    def pause(seconds):
        write(there)
        owned.__exit__(None, None, None)

    monkeypatch.setattr(launchers.time, "sleep", pause)
    assert [ending.state for ending in run_to_the_end(launch, cells)] == ["complete", "complete"]
    assert launches == [2]


def test_runs_that_a_launcher_gave_up_on_are_told_from_their_records_of_any_machine(cells):
    write(CellElsewhere((), cells[0].config, cells[0].cell_hash, environment=GPU))
    done, lost = describe_runs(cells)
    assert (done.state, lost.state) == ("complete", "lost")
    assert lost.message.startswith("tiny rte lora_r16 seed 2: it has no record")


def test_a_run_that_is_still_at_work_when_its_launcher_gave_up_is_waited_for(cells):
    with own_run(cells[0].folder):
        write_progress(Progress(*cells[0].key, 3, 10, 7.0, "here", 1), cells[0].folder)
        running, _ = describe_runs(cells)
    assert (running.state, running.folder) == (End.BUSY, cells[0].folder)


class Job:
    """One of an array's jobs, as submitit has them."""

    def __init__(self, job_id, outcome):
        self.job_id, self.outcome = job_id, outcome

    def results(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return [self.outcome]


class ArrayLauncher:
    """A launcher that asks its jobs one by one, as Hydra's does."""

    def __init__(self, jobs):
        self.jobs = jobs

    def launch(self, overrides, initial_job_idx):
        return [job.results()[0] for job in self.jobs]


def test_one_job_without_a_result_leaves_the_others_theirs(cells, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(Job=Job))
    done = JobReturn(status=JobStatus.COMPLETED, _return_value=DONE)
    launcher = ArrayLauncher([Job("7_0", RuntimeError("its node\nis gone")), Job("7_1", done)])
    answer_for_every_job()
    answer_for_every_job()  # once is enough
    lost, well = _launch_part(launcher, cells)
    assert (lost.state, well) == (End.LOST, DONE)
    said = capfd.readouterr().err
    assert said == "error: the launcher has no result of a run (job 7_0: its node is gone)\n"


def test_where_the_jobs_of_a_launcher_run():
    assert runs_elsewhere(SLURM)
    assert runs_elsewhere(ray_at("head:6379"))
    assert not runs_elsewhere(ray_at("local"))
    assert not runs_elsewhere({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"})


def test_the_bar_of_a_sweep_counts_records_of_any_machine_and_no_others(cells):
    other = make_cell(seed=3)
    write(cells[0], status=Status.FAILED)
    arrivals = Arrivals(cells)
    assert arrivals.count_new() == 0
    write(cells[0])
    write(CellElsewhere((), _below(other.config, cells[0].config.runs_dir), other.cell_hash))
    assert arrivals.count_new() == 1
    write(CellElsewhere((), cells[1].config, cells[1].cell_hash, environment=GPU))
    assert arrivals.count_new() == 1
    assert arrivals.count_new() == 0


def test_a_slurm_job_shares_its_gpus_with_nobody():
    check_gpu_share(SLURM, 1)
    check_gpu_share(ray_at("local"), 4)
    message = r"launcher\.runs_per_gpu=2: allowed is 1 with launcher=slurm"
    with pytest.raises(InputError, match=message):
        check_gpu_share(SLURM, 2)


def test_jobs_elsewhere_that_ask_for_no_gpu_are_noted():
    at_head = {**ray_at("head:6379")}
    at_head["ray"]["remote"] = {"num_gpus": None}
    assert note_without_gpus(SLURM | {"gpus_per_node": None}) == (
        "jobs ask for no GPU; hydra.launcher.gpus_per_node=1 asks for one each"
    )
    assert "hydra.launcher.ray.remote.num_gpus=1 asks" in note_without_gpus(at_head)
    at_head["ray"]["remote"]["num_gpus"] = 0.5
    for asks in (SLURM | {"gpus_per_node": 1}, SLURM | {"gres": "gpu:a100:1"}, at_head, ray_at("local")):
        assert note_without_gpus(asks) is None
