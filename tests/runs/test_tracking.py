"""tracking=wandb: what W&B stores is what the record says, and nothing that W&B does reaches a run."""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from glue_harness.cli.wandb_sync import find_unsent, list_requests, make_missing
from glue_harness.runs import record as records
from glue_harness.runs import tracking
from glue_harness.runs.record import Status, read_record
from glue_harness.sweeps.plan import plan
from tests.support.planned_runs import make_cell, make_record, write_run

SMALL = ["model=tiny_roberta", "data=miniature", "trainer=smoke", "method=lora", "rank=4"]


def command(*arguments, module="train", **environment):
    paths = os.pathsep.join([environment.pop("first", ""), "src", os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "glue_harness", module, *arguments],
        env=os.environ | {"PYTHONPATH": paths.strip(os.pathsep), "HF_HUB_OFFLINE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


def plant_wandb(folder, code):
    """Put a package named wandb, of this code, where Python looks first."""
    (folder / "planted" / "wandb").mkdir(parents=True)
    (folder / "planted" / "wandb" / "__init__.py").write_text(code)
    return str(folder / "planted")


def warnings_of(stderr):
    return [line for line in stderr.splitlines() if "warning: tracking=wandb" in line]


def read_wandb(path):
    """Read an offline W&B run by its published format: LevelDB's log (32 KiB blocks) of protobuf records."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length = int.from_bytes(content[place + 4 : place + 6], "little")
        kind = content[place + 6]  # 1 whole, 2 first, 3 middle, 4 last
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(whole))
            whole = b""
    return found


def stored_values(folder):
    """Return the run, config, history and summary that W&B keeps of a run's folder."""
    (path,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    config, history, summary, run = {}, [], {}, None
    for record in read_wandb(path):
        if record.HasField("run"):
            run = record.run
            config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        if record.HasField("history"):
            values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            history.append({name: value for name, value in values.items() if not name.startswith("_")})
        if record.HasField("summary"):
            for item in record.summary.update:
                summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    config.pop("_wandb", None)
    return run, config, history, summary


def test_a_wandb_run_holds_the_records_values(tmp_path):
    pytest.importorskip("wandb", reason="pip install -r requirements.txt")
    overrides = [*SMALL, "task=mrpc", "trainer=fast", "trainer.epochs=2", "experiment.name=shown"]
    result = command(*overrides, f"runs_dir={tmp_path}", "tracking=wandb")
    assert result.returncode == 0, result.stderr
    assert not warnings_of(result.stderr)
    (cell,) = plan([*overrides, f"runs_dir={tmp_path}"]).cells
    record = json.loads((cell.folder / "record.json").read_text())
    run, config, history, summary = stored_values(cell.folder)
    assert (run.project, run.run_group) == ("edora-glue", "shown")
    assert run.display_name == "tiny_roberta mrpc lora_r4 seed 1"
    settings = yaml.safe_load((cell.folder / "config.yaml").read_text())
    assert {name: config[name] for name in settings} == settings
    for part in ("identity", "parameters", "provenance", "headline"):
        assert config[part] == record[part], part
    assert len(history) == len(record["epochs"]) == 2
    for shown, epoch in zip(history, record["epochs"], strict=True):
        assert (shown["epoch"], shown["train/loss"]) == (epoch["epoch"], epoch["train_loss"])
        dev = {name: value for name, value in shown.items() if name.startswith("dev/")}
        assert dev == {
            f"dev/{part}/{name}": v for part, found in epoch["metrics"].items() for name, v in found.items()
        }
    for part in ("status", "majority_score", "cost"):
        assert summary[part] == record[part], part
    assert sorted(path.name for path in cell.folder.glob(".wandb*")) == []


def test_what_is_null_is_not_shown_and_a_restored_run_needs_no_settings(tmp_path):
    cell = make_cell(task="stsb")
    folder = write_run(make_record(cell, scores=(None, 0.8), status=Status.DIVERGED), tmp_path)
    config, history, summary = tracking.describe(folder)
    assert config["identity"] == cell.identity.model_dump(mode="json")
    assert "dev/all/pearson" not in history[0]
    assert history[1]["dev/all/pearson"] == 0.8
    assert (summary["status"], summary["majority_score"]) == ("diverged", 0.0)


def test_the_light_module_says_what_records_says():
    assert tracking.RECORD_NAME == records.RECORD_NAME
    assert tracking.ENDED_WELL == Status.COMPLETE


def test_the_process_that_shows_a_run_loads_no_torch():
    code = "import sys, glue_harness.runs.tracking; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": "src"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ModuleNotFoundError('no wandb', name='wandb')", "the package wandb is missing: pip install"),
        ("import time; time.sleep(600)", "no end after 3 s"),
    ],
)
def test_a_wandb_that_is_missing_or_hangs_costs_a_run_one_line(tmp_path, code, reason):
    overrides = [*SMALL, "task=rte", f"runs_dir={tmp_path / 'runs'}"]
    begin = time.monotonic()
    result = command(
        *overrides, "tracking=wandb", "tracking.timeout_seconds=3", first=plant_wandb(tmp_path, code)
    )
    assert time.monotonic() - begin < 150
    assert result.returncode == 0, result.stderr
    (line,) = warnings_of(result.stderr)
    assert reason in line
    (cell,) = plan(overrides).cells
    assert cell.record().status is Status.COMPLETE
    assert not list(cell.folder.glob("*wandb*"))
    assert not list(cell.folder.glob(".wandb*"))


@pytest.mark.slow
def test_a_hanging_wandb_delays_no_run_of_a_sweep(tmp_path):
    """Each W&B process hangs for as long as it may; the next run begins and ends meanwhile."""
    overrides = [*SMALL, "task=rte,sst2", "launcher=basic", f"runs_dir={tmp_path / 'runs'}"]
    hanging = plant_wandb(tmp_path, "import time; time.sleep(600)")
    result = command("-m", *overrides, "tracking=wandb", "tracking.timeout_seconds=45", first=hanging)
    assert result.returncode == 0, result.stderr
    ends = sorted(path.stat().st_mtime for path in (tmp_path / "runs").rglob("record.json"))
    assert len(ends) == 2
    assert ends[1] - ends[0] < 40
    assert len(warnings_of(result.stderr)) == 2


def make_request(folder, **changes):
    cell = make_cell()
    config = dataclasses.replace(cell.config, runs_dir=str(folder))
    config.tracking.name, config.tracking.mode = "wandb", "offline"
    run = write_run(make_record(cell), folder)
    return dataclasses.replace(tracking.make_request(config, run), **changes)


def show(request, *program, **options):
    program = program or ("-m", "glue_harness.runs.tracking")
    return subprocess.run(
        [sys.executable, *program, json.dumps(dataclasses.asdict(request))],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(["src", os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError(28, 'No space left on device')", "OSError: [Errno 28] No space left on device"),
        ("raise SystemExit('pay first')", "SystemExit: pay first"),
        (
            "print('noise'); import sys; print('noise', file=sys.stderr); raise ValueError('a\\nb')",
            "ValueError: a b",
        ),
    ],
)
def test_whatever_wandb_raises_or_prints_is_one_line(tmp_path, monkeypatch, code, reason):
    request = make_request(tmp_path / "runs")
    monkeypatch.setenv("PYTHONPATH", plant_wandb(tmp_path, code))
    result = show(request)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert f"({reason})" in line


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    """Below /proc nobody can make a folder, root included."""
    pytest.importorskip("wandb", reason="pip install -r requirements.txt")
    elsewhere = "tracking._partial = lambda folder: Path('/proc/.wandb')"
    code = f"from pathlib import Path; from glue_harness.runs import tracking; {elsewhere}; tracking.main()"
    request = make_request(tmp_path)
    result = show(request, "-c", code)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"warning: tracking=wandb: {request.folder} is not shown (")
    assert "/proc/.wandb" in line
    assert "its record is complete" in line


def test_a_full_disk_is_one_line(tmp_path):
    """No process of W&B can write a single byte to any file."""
    pytest.importorskip("wandb", reason="pip install -r requirements.txt")
    request = make_request(tmp_path, timeout_seconds=20.0)
    before = read_record(Path(request.folder))
    result = show(request, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    assert result.returncode == 1
    assert len(warnings_of(result.stderr)) == 1
    assert len(result.stderr.splitlines()) == 1
    assert read_record(Path(request.folder)) == before
    assert not (Path(request.folder) / "wandb").exists()


def test_sync_makes_what_is_missing_once(tmp_path, capsys):
    pytest.importorskip("wandb", reason="pip install -r requirements.txt")
    overrides = [*SMALL, "task=rte,sst2", f"runs_dir={tmp_path}", "tracking=wandb"]
    planned = plan(overrides)
    first = planned.cells[0]
    write_run(make_record(first), tmp_path)
    requests = list_requests(planned)
    assert [Path(request.folder) for request in requests] == [first.folder]
    assert make_missing(requests)
    (unsent,) = find_unsent(first.folder)
    assert make_missing(requests)
    assert find_unsent(first.folder) == [unsent]
    (sent,) = unsent.glob("*.wandb")
    sent.with_suffix(".wandb.synced").touch()
    assert find_unsent(first.folder) == []


def test_sync_goes_on_after_a_run_that_cannot_be_shown(tmp_path, capsys, monkeypatch):
    request = make_request(tmp_path)
    requests = [dataclasses.replace(request, folder=str(tmp_path / name)) for name in ("a", "b")]
    shown = []

    def write_run(request):
        if request.folder.endswith("a"):
            raise OSError(28, "No space left on device")
        shown.append(request.folder)

    monkeypatch.setattr("glue_harness.cli.wandb_sync.write_run", write_run)
    assert not make_missing(requests)
    assert shown == [str(tmp_path / "b")]
    assert "a is not shown (OSError: [Errno 28] No space left on device)" in capsys.readouterr().err
