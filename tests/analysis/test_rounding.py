import re
from pathlib import Path

import numpy as np
import pytest

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.rounding import show_percent, show_points

SRC = Path(__file__).parents[2] / "src" / "glue_harness"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.8125, "81.3"),  # Python's own: 81.2
        (0.8115, "81.2"),
        (0.81249, "81.2"),
        (-0.0005, "-0.1"),
        (-0.0004, "0.0"),
        (1.0, "100.0"),
        (1e-9, "0.0"),
        (np.float64(0.8125), "81.3"),
    ],
)
def test_ties_go_away_from_zero_and_nothing_else_moves(fraction, text):
    assert show_percent(fraction) == text


def test_every_tie_of_a_thousand_goes_up_whatever_binary_makes_of_it():
    """k/1000 + 0.0005 is no binary number, and neither is the mean of two of 408 rows' fractions."""
    for k in range(1000):
        assert show_percent((2 * k + 1) / 2000) == f"{(k + 1) // 10}.{(k + 1) % 10}"
        assert show_percent(0.1 + (2 * k + 1) / 2000 - 0.1) == f"{(k + 1) // 10}.{(k + 1) % 10}"
    assert show_percent(stats.median([331 / 408, 332 / 408])) == "81.3"


def test_digits_and_sign():
    assert show_percent(0.123456, digits=2) == "12.35"
    assert show_percent(0.00125, digits=2, sign=True) == "+0.13"
    assert show_percent(-0.00001, sign=True) == "0.0"
    assert show_points(-0.65, sign=True) == "-0.7"


def test_no_table_or_page_rounds_scores_by_itself():
    ours = {str(path): path.read_text() for path in SRC.rglob("*.py")}
    assert not [name for name, text in ours.items() if re.search(r"\{100 \* [^}]*\.\df", text)]
