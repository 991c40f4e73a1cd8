"""What goes wrong around a run: damaged checkpoints, a full disk, too little memory. Each says so in one line."""

import errno
import subprocess
import warnings

import pytest
import torch

from glue_harness.hardware import resolve_environment
from glue_harness.runs.identity import identify
from glue_harness.runs.record import Status, logits_path, read_record
from glue_harness.training import trainer
from glue_harness.training.checkpoints import CHECKPOINTS, SEAL_NAME
from glue_harness.training.run import run_once
from glue_harness.training.trainer import GlueTrainer


@pytest.fixture(scope="module")
def start(build_config):
    """Return a function that runs a small run below a folder: its folder, state and message."""

    def run(folder):
        overrides = ["trainer=fast", "trainer.batch_size=128", "trainer.epochs=3", "task=rte", "method=edora"]
        config = build_config(*overrides, "rank=4", f"runs_dir={folder}")
        identity = identify(config, resolve_environment(config.trainer.precision))
        ending = run_once(config, identity, show_progress=False)
        return folder / identity.folder, ending.state, ending.message

    return run


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """Return the folder of the run that nothing went wrong with."""
    folder, state, message = start(tmp_path_factory.mktemp("whole"))
    assert state == Status.COMPLETE, message
    return folder


@pytest.fixture
def interrupt(start, monkeypatch):
    """Return a function that runs until two epochs are in a checkpoint, and returns the run's folder."""

    def interrupted(folder):
        save = GlueTrainer._save_checkpoint

        def stop(self, model, trial):
            save(self, model, trial)
            if self.state.epoch == 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(GlueTrainer, "_save_checkpoint", stop)
            with pytest.raises(KeyboardInterrupt):
                start(folder)
        (checkpoint,) = folder.rglob("checkpoint-*")
        return checkpoint.parent.parent

    return interrupted


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def edit(path):
    path.write_text(path.read_text().replace('"global_step": 8', '"global_step": 4'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optimizer.pt", cut),
        ("adapter_model.safetensors", cut),
        ("trainer_state.json", edit),
        ("rng_state.pth", lambda path: path.unlink()),
        (SEAL_NAME, cut),
        ("../../logits/epoch_1.npy", cut),
    ],
)
def test_a_damaged_checkpoint_is_dropped_with_a_warning_that_names_it(
    start, interrupt, whole, tmp_path, name, damage
):
    folder = interrupt(tmp_path)
    damage(folder / CHECKPOINTS / "checkpoint-8" / name)
    with pytest.warns(UserWarning, match=r"checkpoint-8 is damaged \(.*\); it is removed") as caught:
        _, state, message = start(tmp_path)
    assert len([warning for warning in caught if "damaged" in str(warning.message)]) == 1
    assert state == Status.COMPLETE, message
    assert read_record(folder).epochs == read_record(whole).epochs
    for epoch in (1, 2, 3):
        assert logits_path(folder, epoch).read_bytes() == logits_path(whole, epoch).read_bytes()


def test_a_sound_checkpoint_is_gone_on_from_without_a_word(start, interrupt, tmp_path):
    folder = interrupt(tmp_path)
    written = logits_path(folder, 2).stat().st_mtime_ns
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert start(tmp_path)[1] == Status.COMPLETE
    assert logits_path(folder, 2).stat().st_mtime_ns == written


def test_with_one_checkpoint_damaged_the_one_before_is_gone_on_from(start, interrupt, tmp_path):
    """Two are there when a process dies before it drops the earlier one."""
    folder = interrupt(tmp_path)
    written = logits_path(folder, 2).stat().st_mtime_ns
    newer = folder / CHECKPOINTS / "checkpoint-12"
    newer.mkdir()
    (newer / "optimizer.pt").write_bytes(b"half")
    with pytest.warns(UserWarning, match="checkpoint-12 is damaged"):
        assert start(tmp_path)[1] == Status.COMPLETE
    assert logits_path(folder, 2).stat().st_mtime_ns == written


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a disk of its own here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk, leave):
    with (disk / "rubble").open("wb") as rubble:
        rubble.write(bytes(2 * 2**20 - leave))


@pytest.mark.parametrize("leave", [60_000, 200_000, 400_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_space(start, small_disk, leave):
    fill(small_disk, leave)
    folder, state, message = start(small_disk)
    assert state == Status.FAILED
    assert f"no space left on the disk of {folder}" in message
    assert "\n" not in message
    assert read_record(folder).status is Status.FAILED
    (small_disk / "rubble").unlink()
    assert start(small_disk)[1] == Status.COMPLETE


def test_a_disk_that_is_full_when_a_record_is_written_leaves_the_record_before(start, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("glue_harness.training.run.fit", lambda *args: 1 / 0)
        folder, _, _ = start(tmp_path)
    before = read_record(folder)

    def no_space(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("glue_harness.io.os.fsync", no_space)
        with pytest.raises(ValueError, match=rf"{folder}/\S+: cannot be written \(No space left on device\)"):
            start(tmp_path)
    assert read_record(folder) == before
    assert not list(folder.glob(".*.partial"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_which_setting_to_lower(start, tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(trainer.GlueTrainer, "training_step", fail)
    _, state, message = start(tmp_path)
    assert state == Status.FAILED
    assert "out of memory: set trainer.device_batch_size below 128 (the global batch stays 128)" in message
    assert "\n" not in message


def test_any_other_failure_has_its_own_last_line(start, tmp_path, monkeypatch):
    monkeypatch.setattr("glue_harness.training.run.fit", lambda *args: 1 / 0)
    _, _, message = start(tmp_path)
    assert message.endswith("ZeroDivisionError: division by zero")
