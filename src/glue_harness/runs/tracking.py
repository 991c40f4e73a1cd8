"""Show a finished run to W&B, from its record, in a process of its own: nothing of W&B is ever part of a run.

`start` begins that process, which no run waits for; it ends itself when its time is up, and says in one line
what went wrong. The record is whole before it begins, and `wandb_sync` makes up for what it could not do.
"""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import yaml

from glue_harness.config.schema import Config, name_run

# Each run starts this module anew: it imports no torch, and of the harness nothing that does.

FOLDER = "wandb"
"""Where a run's folder has its W&B run: complete or absent, as the record is."""

RECORD_NAME = "record.json"
GRACE_SECONDS = 5.0
Mode = Literal["offline", "online"]
ENDED_WELL = "complete"


@dataclass(frozen=True)
class Request:
    """A run to show: its folder, what W&B is to call it, where it goes and how long to try."""

    folder: str
    run_id: str
    name: str
    group: str | None
    project: str | None
    entity: str | None
    mode: Mode
    timeout_seconds: float


def make_request(config: Config, folder: Path) -> Request:
    """Return the request for the finished run in `folder`; its id follows from its place below runs_dir."""
    tracking, below = config.tracking, folder.relative_to(config.runs_dir).as_posix()
    return Request(
        folder=str(folder),
        run_id=hashlib.sha256(below.encode()).hexdigest()[:16],
        name=name_run(config),
        group=config.experiment.name,
        project=tracking.project,
        entity=tracking.entity,
        mode=cast(Mode, tracking.mode),  # checked with the configuration
        timeout_seconds=tracking.timeout_seconds,
    )


def start(config: Config, folder: Path) -> None:
    """Begin to show the run in `folder` to W&B, if that is asked for and has not been done; do not wait.

    This process waits for it once it has nothing else to do, when it ends.
    """
    if config.tracking.name != "wandb" or (folder / FOLDER).exists():
        return
    request = make_request(config, folder)
    command = [sys.executable, "-m", "glue_harness.runs.tracking", json.dumps(dataclasses.asdict(request))]
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(warn(request, explain(error)), file=sys.stderr)
        return
    atexit.register(_await_end, process, time.monotonic() + request.timeout_seconds + GRACE_SECONDS)


def _await_end(process: subprocess.Popen, deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()


def write_run(request: Request) -> None:
    """Make the W&B run of a finished run from its record, whole or not at all.

    Raises:
        Exception: whatever W&B or the disk raises; nothing is then left behind.
    """
    import wandb

    folder = Path(request.folder)
    config, history, summary = describe(folder)
    partial = _partial(folder)
    partial.mkdir()
    try:
        run = wandb.init(
            project=request.project,
            entity=request.entity,
            group=request.group,
            name=request.name,
            id=request.run_id,
            config=config,
            dir=partial,
            mode=request.mode,
            settings=wandb.Settings(
                console="off",
                silent=True,
                init_timeout=request.timeout_seconds,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
            ),
        )
        for values in history:
            run.log(values, step=values["epoch"])
        run.summary.update(summary)
        run.finish(exit_code=0 if summary["status"] == ENDED_WELL else 1)
        if not (folder / FOLDER).exists():  # else another process has been sooner
            (partial / "wandb").rename(folder / FOLDER)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def describe(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return what W&B gets of a run's record: its config, a dictionary an epoch, and its summary.

    The config is the run's resolved configuration and, beside it, the record's identity, parameters and
    provenance. What is null in the record is left out of an epoch.
    """
    record = json.loads((folder / RECORD_NAME).read_bytes())
    settings = folder / "config.yaml"
    config = yaml.safe_load(settings.read_text()) if settings.is_file() else {}  # a restored run has none
    config |= {name: record[name] for name in ("identity", "parameters", "provenance", "headline")}
    history = []
    for epoch in record["epochs"]:
        values = {name: epoch[name] for name in ("epoch", "degenerate")}
        values["train/loss"] = epoch["train_loss"]
        for part, metrics in epoch["metrics"].items():
            values |= {f"dev/{part}/{name}": value for name, value in metrics.items()}
        history.append({name: value for name, value in values.items() if value is not None})
    summary = {name: record[name] for name in ("status", "error", "majority_score", "cost")}
    return config, history, summary


def _partial(folder: Path) -> Path:
    return folder / f".{FOLDER}-{os.getpid()}"


def warn(request: Request, reason: str) -> str:
    """Return the one line about a run that could not be shown."""
    return (
        f"warning: tracking=wandb: {request.folder} is not shown ({reason}); its record is complete; "
        "`edora-glue wandb-sync` tries again"
    )


def explain(error: BaseException) -> str:
    """Return in one line what kept a run from being shown."""
    if isinstance(error, ModuleNotFoundError) and error.name == "wandb":
        return "the package wandb is missing: pip install -r requirements.txt"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _give_up(request: Request, terminal: TextIO) -> None:
    folder = Path(request.folder)
    if not (folder / FOLDER).exists():  # else the run is shown, and W&B hangs on its way out
        print(warn(request, f"no end after {request.timeout_seconds:g} s"), file=terminal, flush=True)
    shutil.rmtree(_partial(folder), ignore_errors=True)
    os._exit(1)


def _keep_terminal() -> TextIO:
    """Return the terminal for our own line; what W&B has to say goes nowhere."""
    terminal = os.fdopen(os.dup(2), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return terminal


def main() -> None:
    """Show the run that the command line's request names, within its time."""
    request = Request(**json.loads(sys.argv[1]))
    terminal = _keep_terminal()
    watchdog = threading.Timer(request.timeout_seconds, _give_up, (request, terminal))
    watchdog.daemon = True  # it goes on through what W&B does at exit
    watchdog.start()
    try:
        write_run(request)
    except (Exception, SystemExit) as error:
        print(warn(request, explain(error)), file=terminal, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
