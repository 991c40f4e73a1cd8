"""What import-linter's contracts (pyproject.toml, run by `make lint`) cannot say of the packages."""

import ast
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"


def list_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_module_imports_pyplot():
    """Its figures would share global state."""
    for path in (SRC / "glue_harness").rglob("*.py"):
        assert not any("pyplot" in name for name in list_imports(path)), path


def test_packages_import_nothing_by_themselves():
    """`import glue_harness.sweeps` takes no time: an __init__.py is its docstring (the miniature data are one module)."""
    for path in (SRC / "glue_harness").rglob("__init__.py"):
        if path.parent.name != "miniature":
            (only,) = ast.parse(path.read_text()).body
            assert isinstance(only, ast.Expr), path
