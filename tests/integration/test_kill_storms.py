"""A run that is killed again and again, at random and at the worst moments, ends in an undisturbed run's bits.

`pytest -m "slow or not slow"` runs all of this and shows when each kill came; the suite has a short storm.
"""

import functools
import importlib
import multiprocessing
import os
import random
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glue_harness.hardware import Environment, has_bf16
from glue_harness.runs.identity import identify
from glue_harness.runs.record import TRAINED_WEIGHTS, Status, logits_path, read_record
from glue_harness.training import worker as supervise
from glue_harness.training.checkpoints import CHECKPOINTS, partial_folder

RUN = ["trainer=fast", "trainer.batch_size=128", "task=rte", "method=edora", "rank=4"]
WORST_MOMENTS = [
    ("numpy.save", r"epoch_2\.npy$"),
    ("torch.save", r"checkpoint-8/optimizer\.pt$"),
    ("os.fsync", r"checkpoint-8/seal\.json$"),
    ("os.replace", r"partial/checkpoint-8$"),
    ("shutil.rmtree", r"checkpoints/checkpoint-4$"),
    ("os.fsync", r"adapter_model\.safetensors$"),
    ("os.fsync", r"/\.record\.json"),
    ("os.replace", r"/\.record\.json"),
    ("shutil.rmtree", r"/checkpoints$"),
]
"""A function and a pattern of paths it is called with: a process dies there, leaving half of what it saves."""


BF16_OF_HARDWARE = pytest.param(
    "bf16", marks=pytest.mark.skipif(not has_bf16("cpu"), reason="emulated, bf16 takes this eight minutes")
)


class Run:
    """A run that this test supervises as a sweep does, and may kill."""

    def __init__(self, build_config, folder, precision, epochs, minutes=10):
        settings = [*RUN, f"trainer.epochs={epochs}", f"trainer.precision={precision}", f"runs_dir={folder}"]
        self.config = build_config(*settings, f"checkpoint_minutes={minutes}")
        # bf16 is forced: where the hardware lacks it, it is emulated, with the same bits before and after
        environment = Environment(device="cpu", precision=precision, threads=1, processes=1)
        self.identity = identify(self.config, environment)
        self.folder = folder / self.identity.folder

    def attempt(self):
        return supervise.supervise(self.config, self.identity)

    def kill_after(self, seconds):
        """Start the run and kill its process after some seconds; return whether it had not ended by then."""
        with ThreadPoolExecutor(1) as pool:
            attempt = pool.submit(self.attempt)
            while not (children := multiprocessing.active_children()):
                time.sleep(0.001)
            time.sleep(seconds)
            os.kill(children[0].pid, signal.SIGKILL)
            state, message, _ = attempt.result()
        assert (state == Status.FAILED) == ("SIGKILL" in message), message
        return state == Status.FAILED

    def leave_rubble(self):
        """Leave what a death in the middle of writing may leave."""
        half = partial_folder(self.folder) / "checkpoint-999"
        half.mkdir(parents=True, exist_ok=True)
        (half / "optimizer.pt").write_bytes(b"half an optim")
        (self.folder / ".record.json.0.partial").write_text('{"schema_ver')

    def results(self):
        """Return what of a complete run may not depend on kills."""
        record = read_record(self.folder)
        assert record.status is Status.COMPLETE, record.error
        assert record.cost.total_seconds > record.cost.train_seconds + record.cost.eval_seconds
        assert not (self.folder / CHECKPOINTS).exists()
        assert not partial_folder(self.folder).exists()
        logits = {path.name: path.read_bytes() for path in (self.folder / "logits").iterdir()}
        assert len(logits) == len(record.epochs) == self.config.trainer.epochs
        numbers = record.epochs, record.parameters, record.majority_score, record.identity
        return numbers, logits, (self.folder / TRAINED_WEIGHTS).read_bytes()


def storm(build_config, folder, precision, kills, epochs, seed, minutes):
    """Kill a run at random moments until it was killed so often; it then ends as one that never was."""
    killed = Run(build_config, folder / "killed", precision, epochs, minutes)
    assert killed.kill_after(0)  # and so the fork server has imported everything
    whole = Run(build_config, folder / "whole", precision, epochs)
    began = time.time()
    assert whole.attempt()[0] == Status.COMPLETE
    latest = logits_path(whole.folder, 3).stat().st_mtime - began
    generator = random.Random(seed)
    moments = [generator.uniform(0, latest) for _ in range(kills)]
    print(f"\n{precision}, seed {seed}: killed after", *(f"{moment:.3f}" for moment in moments), "seconds")
    for kill, moment in enumerate(moments):
        assert killed.kill_after(moment), f"kill {kill + 1} came after the end"
        if kill % 3 == 1:
            killed.leave_rubble()
    state, message, _ = killed.attempt()
    assert state == Status.COMPLETE, message
    assert killed.results() == whole.results()


@pytest.mark.parametrize("minutes", [10, 0])
def test_a_short_storm(build_config, tmp_path, minutes):
    """Checkpoints at the ends of epochs, and at every step."""
    storm(build_config, tmp_path, "fp32", kills=4, epochs=12, seed=0, minutes=minutes)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", BF16_OF_HARDWARE])
def test_a_storm_of_twenty(build_config, tmp_path, precision):
    storm(build_config, tmp_path, precision, kills=20, epochs=50, seed=1, minutes=10)


@pytest.mark.slow
def test_a_storm_of_twenty_with_a_checkpoint_at_every_step(build_config, tmp_path):
    storm(build_config, tmp_path, "fp32", kills=20, epochs=50, seed=1, minutes=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_killed_at_each_of_the_worst_moments(build_config, tmp_path, monkeypatch, precision):
    whole = Run(build_config, tmp_path / "whole", precision, epochs=3)
    assert whole.attempt()[0] == Status.COMPLETE
    killed = Run(build_config, tmp_path / "killed", precision, epochs=3)
    for moment in WORST_MOMENTS:
        with monkeypatch.context() as patch:
            patch.setattr(supervise, "_run_in_child", functools.partial(run_and_die, *moment))
            state, message, _ = killed.attempt()
        if moment is WORST_MOMENTS[-1]:  # the record was there already
            assert state == "skipped", message
        else:
            assert state == Status.FAILED
            assert "SIGKILL" in message
    assert killed.results() == whole.results()


def run_and_die(function, pattern, *arguments):
    """Run as a child does, and die where `function` is about to be called with such a path."""
    module, name = function.rsplit(".")
    module = importlib.import_module(module)
    call = getattr(module, name)

    def call_or_die(*given, **settings):
        for path in map(name_file, given):
            if re.search(pattern, path):
                if name == "save":
                    Path(path).write_bytes(b"half of what was to be wri")
                os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **settings)

    setattr(module, name, call_or_die)
    supervise._run_in_child(*arguments)


def name_file(argument):
    """Return the path that an argument stands for: itself, or that of an open file; else nothing."""
    if isinstance(argument, str | Path):
        return str(argument)
    descriptor = argument if isinstance(argument, int) else getattr(argument, "fileno", int)()
    return os.readlink(f"/proc/self/fd/{descriptor}") if descriptor else ""
