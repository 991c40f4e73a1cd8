"""Hydra's launchers as a sweep uses them: do they answer, and has every run come to an end?"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glue_harness.config.schema import name_run
from glue_harness.errors import InputError, require
from glue_harness.runs.index import Inventory, Key, State, take_inventory
from glue_harness.runs.lock import is_owned
from glue_harness.runs.outcome import End, Ending, describe_end, describe_owned
from glue_harness.runs.record import Status, read_record
from glue_harness.sweeps.grid import Cell

ANSWER_SECONDS = 3.0
"""How long a cluster may take to say that it is there."""

SLURM_ANSWER_SECONDS = 30.0
"""How long SLURM may: a slurmctld at work takes its time."""

POLL_SECONDS = 2.0

SLURM_GPUS = ("gpus_per_node", "gpus_per_task", "gres")
"""By which of submitit's settings a SLURM job asks for GPUs."""

Launch = Callable[[Sequence[Cell]], list[Ending]]
"""Hands cells to a launcher and waits for them: an ending each."""


def check_gpu_share(launcher: Mapping[str, Any], runs_per_gpu: int) -> None:
    """Check that a launcher's jobs can share a GPU as they are to; `launcher` is Hydra's node of that name.

    Raises:
        InputError: they cannot.
    """
    alone = launcher["_target_"].endswith("SlurmLauncher")
    allowed = "1 with launcher=slurm, which gives every job whole GPUs"
    require(not alone or runs_per_gpu == 1, "launcher.runs_per_gpu", runs_per_gpu, allowed)


def note_without_gpus(launcher: Mapping[str, Any]) -> str | None:
    """Say so if jobs that may run elsewhere ask for no GPU, which is what a machine without one asks for."""
    if not runs_elsewhere(launcher):
        return None
    if launcher["_target_"].endswith("SlurmLauncher"):
        asked, setting = [launcher.get(name) for name in SLURM_GPUS], SLURM_GPUS[0]
    else:
        asked, setting = [launcher["ray"]["remote"].get("num_gpus")], "ray.remote.num_gpus"
    return None if any(asked) else f"jobs ask for no GPU; hydra.launcher.{setting}=1 asks for one each"


def jobs_per_launch(launcher: Mapping[str, Any]) -> int | None:
    """Return how many jobs a launcher takes at once, or None for any number, once its cluster answers.

    `launcher` is Hydra's node of that name.

    Raises:
        InputError: the cluster cannot be reached, or the package that reaches it is missing.
    """
    target = launcher["_target_"].rpartition(".")[2]
    if target == "RayLauncher":
        _check_ray(launcher["ray"]["init"])
    return _ask_slurm() if target == "SlurmLauncher" else None


def _check_ray(init: Mapping[str, Any]) -> None:
    if importlib.util.find_spec("ray") is None:
        raise InputError("launcher=ray: the package ray is not installed; `make setup-ray` installs it")
    address = _ray_address(init)
    if address == "local":
        return
    if init.get("num_cpus") is not None:
        raise InputError(
            f"launcher=ray: address={address}: allowed is local; launcher=ray_cluster joins others"
        )
    allowed = "allowed is a running cluster's <host>:<port>, or auto for this machine's"
    if address == "auto":
        current = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
        if not current.is_file():
            raise InputError(
                f"launcher=ray_cluster: address=auto: no cluster runs on this machine; {allowed}"
            )
        address = current.read_text().strip()
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"launcher=ray_cluster: address={address}: {allowed}")
    if (reason := _why_unreachable(host, int(port))) is not None:
        raise InputError(f"launcher=ray_cluster: address={address} does not answer ({reason}); {allowed}")


def _why_unreachable(host: str, port: int) -> str | None:
    """Say why a port cannot be reached, within seconds; None where it can."""

    def connect() -> None:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()

    # In a thread of its own: a timeout of the connection does not bound the look-up of the name.
    asking = concurrent.futures.ThreadPoolExecutor(max_workers=1).submit(connect)
    try:
        asking.result(timeout=ANSWER_SECONDS)
    except (OSError, concurrent.futures.TimeoutError) as error:
        return str(error) or "no answer within seconds"
    return None


def _ask_slurm() -> int:
    """Return how many jobs an array of the site's SLURM may have."""
    allowed = "allowed is a machine that submits to a SLURM cluster which runs"
    if shutil.which("sbatch") is None or shutil.which("scontrol") is None:
        raise InputError(f"launcher=slurm: there is no sbatch on this machine; {allowed}")
    ask = ["scontrol", "show", "config"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=SLURM_ANSWER_SECONDS, check=True)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"launcher=slurm: SLURM does not answer within seconds; {allowed}") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())
        raise InputError(f"launcher=slurm: SLURM does not answer ({reason}); {allowed}") from error
    settings = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    return int(next(value for name, value in settings.items() if name.strip() == "MaxArraySize"))


def split_evenly(cells: Sequence[Cell], at_most: int | None) -> list[Sequence[Cell]]:
    """Split cells, in order, into as few parts of about the same size as `at_most` in each allows."""
    parts = 1 if at_most is None else -(-len(cells) // at_most)
    bounds = [len(cells) * part // parts for part in range(parts + 1)]
    return [cells[begin:end] for begin, end in itertools.pairwise(bounds)]


def launch_side_by_side(launch: Launch, parts: Sequence[Sequence[Cell]]) -> list[Ending]:
    """Launch all parts at once and wait for all: each is in the cluster's queue before any has ended.

    The threads do not keep the program alive: Ctrl-C ends it, and what is in a queue goes on.
    """
    if len(parts) == 1:
        return launch(parts[0])
    endings: list[list[Ending]] = [[] for _ in parts]
    errors: list[Exception] = []

    def run(part: int) -> None:
        try:
            endings[part] = launch(parts[part])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(part,), daemon=True) for part in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [ending for part in endings for ending in part]


def run_to_the_end(launch: Launch, cells: Sequence[Cell]) -> list[Ending]:
    """Launch cells until each has come to an end, here or in another process; return an ending each.

    A run that another process is at is waited for, and launched again if its owner dies.
    """
    endings: dict[Key, Ending] = {}
    waiting = list(cells)
    while waiting:
        endings |= zip((cell.key for cell in waiting), launch(waiting), strict=True)
        busy = {cell.key: endings[cell.key].folder for cell in waiting if endings[cell.key].state is End.BUSY}
        endings |= _wait_for_others({key: folder for key, folder in busy.items() if folder is not None})
        waiting = [cell for cell in waiting if endings[cell.key].state is End.BUSY]
    return [endings[cell.key] for cell in cells]


def _wait_for_others(busy: Mapping[Key, Path]) -> dict[Key, Ending]:
    """Wait until all of these runs have ended, or one has been left by its owner; return how they ended.

    `busy`: the folder of each, as the machine has it that found an owner there.
    """
    if busy:
        print(f"{len(busy)} runs are with another sweep; waiting for them", file=sys.stderr)
    before = {key: read_record(folder) for key, folder in busy.items()}
    endings: dict[Key, Ending] = {}
    left = False
    while len(endings) < len(busy) and not left:
        time.sleep(POLL_SECONDS)
        for key, folder in busy.items():
            if key in endings or is_owned(folder):
                continue
            record = read_record(folder)
            if record is not None and (record.status is not Status.FAILED or record != before[key]):
                endings[key] = describe_end(record.status, record.error, folder)
            else:
                left = True
    return endings


def describe_runs(cells: Sequence[Cell]) -> list[Ending]:
    """Return how runs ended as their records tell it, whichever machine has written them.

    Raises:
        InputError: a record cannot be read.
    """
    models = {cell.config.model.name for cell in cells}
    inventory = take_inventory(Path(cells[0].config.runs_dir), models)
    return [_describe_run(cell, inventory) for cell in cells]


def _describe_run(cell: Cell, inventory: Inventory) -> Ending:
    state = inventory.state(cell.key)
    if state is State.RUNNING:
        return describe_owned(inventory.running[cell.key].folder)
    for found in inventory.find(cell.key):
        if found.status == state:
            return describe_end(found.status, found.error, found.folder)
    return Ending(End.LOST, f"{name_run(cell.config)}: it has no record; the same command goes on with it")


def runs_elsewhere(launcher: Mapping[str, Any]) -> bool:
    """Say whether a launcher's jobs may run on other machines; `launcher` is Hydra's node of that name."""
    target = launcher["_target_"].rpartition(".")[2]
    if target == "RayLauncher":
        return str(_ray_address(launcher["ray"]["init"])) != "local"
    return target == "SlurmLauncher"


def _ray_address(init: Mapping[str, Any]) -> str:
    return init.get("address") or os.environ.get("RAY_ADDRESS", "local")
