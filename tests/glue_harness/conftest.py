"""Builders of configurations, composed from conf/ as a user composes them."""

import pytest

from glue_harness.config import Config
from glue_harness.sweep import plan


def compose_run(*overrides: str) -> Config:
    """Return the configuration of one small run; later overrides win."""
    (cell,) = plan(["model=tiny_roberta", "data=miniature", "trainer=smoke", *overrides]).cells
    return cell.config


@pytest.fixture(scope="session")
def build_config():
    return compose_run
