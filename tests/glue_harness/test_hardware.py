import ctypes
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import torch
from glue_harness.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for step in range(8):
    if step == 4:  # the first ones find their places
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc alone is told so")
def test_memory_that_was_freed_is_not_faulted_in_again():
    faults = {}
    for choice in ("keep", "give back"):
        command = [sys.executable, "-c", COUNT_FAULTS, choice]
        faults[choice] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["keep"] < 100 < faults["give back"]
