import fcntl
import multiprocessing
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from glue_harness.errors import InputError
from glue_harness.runs import lock as run_lock
from glue_harness.runs.lock import LOCK_NAME, begin_attempt, check_writable, count_attempts, is_owned, own_run


def hold(folder, ready):
    with own_run(folder) as ours:
        assert ours
        ready.set()
        threading.Event().wait()  # until it is killed


@pytest.fixture
def owner(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_two_processes_never_own_one_run_and_a_dead_owner_frees_it(tmp_path, owner):
    with own_run(tmp_path) as ours:
        assert not ours
    assert is_owned(tmp_path)
    owner.kill()
    owner.join()
    assert not is_owned(tmp_path)
    with own_run(tmp_path) as ours:
        assert ours


def test_a_look_never_makes_a_starting_run_believe_that_it_is_busy(tmp_path):
    """One who looks holds the lock for far longer than `is_owned` does; the run waits for it."""
    (tmp_path / LOCK_NAME).touch()
    with (tmp_path / LOCK_NAME).open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.3, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        begin = time.monotonic()
        with own_run(tmp_path) as ours:
            assert ours
        assert time.monotonic() - begin > 0.2


def look_without_end(folder, stop):
    while not stop.is_set():
        is_owned(folder)


def test_a_hundred_claims_under_constant_looking_are_all_granted(tmp_path):
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    (tmp_path / LOCK_NAME).touch()
    watchers = [context.Process(target=look_without_end, args=(tmp_path, stop)) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(100):
            with own_run(tmp_path) as ours:
                assert ours
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


def test_a_folder_that_cannot_be_written_is_one_line():
    with (
        pytest.raises(InputError, match="runs_dir: /proc/nowhere cannot be written"),
        own_run(Path("/proc/nowhere")),
    ):
        pass


def test_looking_leaves_nothing_behind(tmp_path):
    assert not is_owned(tmp_path)
    assert not is_owned(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_attempts_are_counted_whoever_makes_them(tmp_path):
    assert count_attempts(tmp_path) == 0
    with own_run(tmp_path) as ours:
        assert ours
        assert begin_attempt(tmp_path) == 1
    with own_run(tmp_path):
        assert begin_attempt(tmp_path) == 2
    assert count_attempts(tmp_path) == 2
    assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()


def test_an_attempt_does_not_free_the_lock(tmp_path):
    with own_run(tmp_path) as ours:
        assert ours
        begin_attempt(tmp_path)
        assert is_owned(tmp_path)


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match=r"\.lock cannot be locked \(Function not impl.*locks$"),
        own_run(tmp_path),
    ):
        pass


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB of its own; yields its folder and what remounts it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted here by root only")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_found_before_anything_runs(small_disk):
    with pytest.raises(InputError, match=r"runs_dir: .* cannot be written \(No space left on device\)"):
        check_writable(small_disk / "runs")
    assert not list((small_disk / "runs").iterdir())


def test_a_read_only_disk_is_found_before_anything_runs(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(InputError, match=r"runs_dir: .* cannot be written \(Read-only file system\)"):
        check_writable(small_disk / "runs")


def test_a_disk_with_room_is_left_as_it_was(tmp_path):
    check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
