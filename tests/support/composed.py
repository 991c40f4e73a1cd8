"""Configurations composed from conf/ as a user composes them."""

from glue_harness.config.schema import Config
from glue_harness.sweeps.plan import plan


def compose_run(*overrides: str) -> Config:
    """Return the configuration of one small run; later overrides win."""
    (cell,) = plan(["model=tiny_roberta", "data=miniature", "trainer=smoke", *overrides]).cells
    return cell.config
