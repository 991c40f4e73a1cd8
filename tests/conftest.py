"""What all tests share: a cache of edora that is empty at the start, and the workers they run in."""

import os
import tempfile

import pytest
from xdist.scheduler import LoadScopeScheduling

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share their parent's
    cache_folder = tempfile.TemporaryDirectory()
    os.environ["EDORA_CACHE"] = cache_folder.name


class Scheduling(LoadScopeScheduling):
    """Each test goes to any worker, but the tests of real launchers to one: there is one cluster, one reference.

    xdist's own groups are lost under pytest 9.2, which has no `Item._nodeid` any more.
    """

    def _split_scope(self, nodeid):
        return "launchers" if "/test_launchers_for_real.py::" in nodeid else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def build_config():
    """Return what composes the configuration of one small run; imported late, for tests that do without."""
    from tests.support.composed import compose_run

    return compose_run
