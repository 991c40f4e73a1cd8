import pytest

from glue_harness.hardware import resolve_environment
from glue_harness.records import Status, identify, read_record
from glue_harness.run import run_once

ADAPTERS = ["lora_xs", "lora_qv", "edora_random", "magnitude_only", "vera", "ia3"]


@pytest.mark.parametrize("method", [*ADAPTERS, "head_only"])
def test_a_run_of_each_method(build_config, tmp_path, method):
    config = build_config(
        f"method={method}", "task=rte", "rank=4", "trainer.max_steps=2", f"runs_dir={tmp_path}"
    )
    identity = identify(config, resolve_environment(config.trainer))
    state, message = run_once(config, identity, show_progress=False)
    assert state == Status.COMPLETE, message
    record = read_record(tmp_path / identity.folder)
    assert (record.parameters.adapter > 0) == (method in ADAPTERS)
    assert (tmp_path / identity.folder / "adapter").exists() == (method in ADAPTERS)
