"""README and docs/ show what is committed, to the digit."""

from pathlib import Path

import pytest

from glue_harness.cli.main import main
from glue_harness.errors import InputError
from glue_harness.reports.sections import fill_tables, find_documents

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MARKED = {
    "docs/findings.md": "minilm_glue/table_main",
    "docs/tables.md": "params/roberta_base",
    "docs/benchmarks.md": "bench/layers#Training step",
}


@pytest.fixture
def results(tmp_path):
    """A folder with one table in one file and two in another."""
    for name, content in {
        "light/table_main.md": "**Title**\n\n| A | B |\n| --- | ---: |\n| a | 1 |\n\n- A note | with a bar.\n",
        "bench/layers.md": "# Cost\n\n| Step, s | x |\n| - | - |\n| 1 | 2 |\n\n| Memory | x |\n| - | - |\n| 3 | 4 |\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    return tmp_path


def fill(text, results):
    return fill_tables(text, results, "README.md")


def test_the_documents_equal_the_files(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = find_documents()
    assert set(map(Path, MARKED)) <= set(found)
    for path in found:
        assert fill_tables(path.read_text(), Path("results"), str(path)) == path.read_text()


def test_the_documents_show_scores_parameters_and_cost():
    for path, name in MARKED.items():
        assert f"<!-- results:{name} -->\n\n|" in (ROOT / path).read_text()


def test_a_number_typed_into_a_document_is_put_right():
    text = (ROOT / "docs/benchmarks.md").read_text()
    typed = text.replace("75.5 ± 0.3", "99.9 ± 0.1")
    assert typed != text
    assert fill(typed, ROOT / "results") == text


def test_the_readmes_main_result_is_that_of_the_whole_table():
    """README leaves out ranks, marks and notes; every score of a row stands in that method's row of the table."""
    whole = {}
    for line in (ROOT / "results/minilm_glue/table_main.md").read_text().splitlines():
        name, _, rest = line.strip("| ").partition("|")
        whole[name.strip().removesuffix(" (r=16)")] = rest.replace("*", "").replace("_", "")
    rows = [line for line in README.splitlines() if line.startswith("|") and " ± " in line]
    assert len(rows) == 5
    for row in rows:
        name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        shown = [cell for cell in cells if cell != "--"]
        assert len(shown) >= 5
        assert all(cell in whole[name] for cell in shown), row


def test_a_table_comes_without_title_and_with_its_notes(results):
    text = "Before\n<!-- results:light/table_main -->\nold\n<!-- /results -->\nafter"
    table = "| A | B |\n| --- | ---: |\n| a | 1 |"
    table += "\n\n- A note | with a bar."
    filled = f"Before\n<!-- results:light/table_main -->\n\n{table}\n\n<!-- /results -->\nafter\n"
    assert fill(text, results) == filled
    assert fill(filled, results) == filled


def test_one_table_of_several_is_named_by_its_head(results):
    filled = fill("<!-- results:bench/layers#Memory -->\n<!-- /results -->\n", results)
    assert "| 3 | 4 |" in filled
    assert "| 1 | 2 |" not in filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no marker at all", r"^README.md=no marker: allowed is <!-- results:"),
        (
            "a\n<!-- results:light/gone -->\n<!-- /results -->",
            "line 2: results=light/gone: allowed is one of ",
        ),
        ("<!-- results:light/gone -->\n<!-- /results -->", "bench/layers, light/table_main$"),
        ("<!-- results:../x/y -->\n<!-- /results -->", "line 1=<!-- results:../x/y -->: allowed is"),
        ("<!-- results:light/table_main -->", "a marker with its end"),
        ("a <!-- /results -->", "each marker a line of its own"),
        ("<!-- /results -->", "line 1=<!-- /results -->: allowed is after its beginning"),
        (
            "<!-- results:light/table_main -->\n<!-- results:light/table_main -->\n<!-- /results -->",
            "line 2=.*: allowed is after the end of",
        ),
        (
            "<!-- results:bench/layers -->\n<!-- /results -->",
            "table=not said: allowed is .* has Step, s, Memory",
        ),
        ("<!-- results:bench/layers#M. -->\n<!-- /results -->", "table=M.: allowed is the beginning of one"),
    ],
)
def test_a_marker_that_cannot_be_followed_is_one_line(results, text, message):
    with pytest.raises(InputError, match=message) as caught:
        fill(text, results)
    assert "\n" not in str(caught.value)


def run_entry(monkeypatch, *arguments):
    main(["docs", *map(str, arguments)])


def test_the_entry_writes_once_and_says_so(results, tmp_path, monkeypatch, capsys):
    path = tmp_path / "README.md"
    path.write_text("<!-- results:light/table_main -->\n<!-- /results -->\n")
    run_entry(monkeypatch, path, "--results", results)
    assert capsys.readouterr().out == f"{path}: tables brought up to date\n"
    assert "| a | 1 |" in path.read_text()
    run_entry(monkeypatch, path, "--results", results)
    assert capsys.readouterr().out == ""


def test_without_a_name_the_entry_fills_what_is_marked_and_nothing_else(
    results, tmp_path, monkeypatch, capsys
):
    (tmp_path / "docs").mkdir()
    marked = "<!-- results:light/table_main -->\n<!-- /results -->\n"
    for name, text in (("README.md", marked), ("docs/findings.md", marked), ("docs/plain.md", "| x |\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    run_entry(monkeypatch, "--results", results)
    said = "".join(f"{name}: tables brought up to date\n" for name in ("README.md", "docs/findings.md"))
    assert capsys.readouterr().out == said
    assert (tmp_path / "docs" / "plain.md").read_text() == "| x |\n"


def test_bad_input_of_the_entry_leaves_the_file_as_it_was(results, tmp_path, monkeypatch, capsys):
    path = tmp_path / "README.md"
    text = "<!-- results:light/table_main -->\n<!-- /results -->\n<!-- results:light/gone -->\n<!-- /results -->\n"
    path.write_text(text)
    for place in (path, tmp_path / "gone.md"):
        with pytest.raises(SystemExit) as caught:
            run_entry(monkeypatch, place, "--results", results)
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert path.read_text() == text
