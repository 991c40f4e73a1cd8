"""What a wheel holds: every package, conf/ and the page's template."""

import glob
import tomllib
from pathlib import Path

from setuptools import find_namespace_packages

ROOT = Path(__file__).parents[1]
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_a_wheel_has_every_package():
    src = ROOT / "src"
    found = find_namespace_packages(src, exclude=TOOL["packages"]["find"]["exclude"])
    own = {path.parent.relative_to(src).as_posix().replace("/", ".") for path in src.rglob("__init__.py")}
    assert own <= set(found)
    assert not any(name.startswith("glue_harness.conf.") for name in found)


def test_a_wheel_has_conf_and_templates():
    package = ROOT / "src" / "glue_harness"
    patterns = TOOL["package-data"]["glue_harness"]
    held = {path for pattern in patterns for path in glob.glob(pattern, root_dir=package, recursive=True)}
    conf = {f"conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert held >= {*conf, "reports/page/templates/page.html"}
