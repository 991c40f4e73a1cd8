"""Every table of results/ compiles with pdflatex as it is, with the package booktabs alone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "results"
GOLDEN = Path(__file__).parents[1] / "support" / "golden"
PDFLATEX = shutil.which("pdflatex")
TABLES = sorted([*RESULTS.glob("*/*.tex"), *GOLDEN.glob("*.tex")])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PDFLATEX is None, reason="pdflatex is not installed (texlive-latex-base)"),
]


def compile_tables(texts, folder):
    """Compile one document of all tables; return whether it did, and the log."""
    body = "\n\\clearpage\n".join(texts)
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "tables.tex").write_text(document)
    command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300)
    return done.returncode == 0, done.stdout


def test_all_tables_compile_in_one_document(tmp_path):
    assert {"table_main.tex", "table_cost.tex", "table_hyperparameters.tex"} <= {path.name for path in TABLES}
    texts = [path.read_text() for path in TABLES]
    done, log = compile_tables(texts, tmp_path)
    assert done, log[-2000:]
    assert not re.search(r"LaTeX Warning: Float too large|multiply.defined|undefined", log)
    (pages,) = re.findall(r"tables.pdf \((\d+) pages", log)
    assert int(pages) >= len(texts)  # a table's last rows may share a page with its first


def test_a_character_left_unescaped_would_be_found(tmp_path):
    text = (GOLDEN / "table_main.tex").read_text()
    for fault in (text.replace(r"\&", "&"), text.replace(r"\_", "_")):
        assert fault != text
        assert not compile_tables([fault], tmp_path)[0]
