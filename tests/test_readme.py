"""The README shows what is committed, to the digit."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_readme_shows_the_committed_table():
    table = (ROOT / "results" / "first_light" / "table_main.md").read_text()
    rows = "\n".join(line for line in table.splitlines() if line.startswith("|"))
    assert rows in (ROOT / "README.md").read_text()


def test_the_readme_shows_the_committed_benchmark():
    tables = (ROOT / "results" / "bench" / "layers.md").read_text().split("\n\n")
    (steps,) = (table for table in tables if table.startswith("| Training step"))
    assert steps.strip() in (ROOT / "README.md").read_text()
