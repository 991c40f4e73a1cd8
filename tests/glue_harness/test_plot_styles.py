import pandas as pd

from glue_harness.figure_notes import TOLD_APART
from glue_harness.plot_styles import FAINT, LOOKS, SETTING_LOOKS, PlotStyles


def find(methods, settings=(None,)):
    rows = [{"method": method, "settings": own} for method in methods for own in settings]
    looks = PlotStyles(pd.DataFrame(rows, dtype=object))
    return {(row["method"], row["settings"]): looks.find(row) for row in rows}


def test_methods_look_different_in_grey_and_others_too():
    looks = find([*LOOKS, "own", "other"])
    assert len({look.marker for look in looks.values()}) == len(looks)
    assert not {look.marker for look in looks.values()} & set("|_,")  # an error bar covers these
    assert find(["edora", "own"])["edora", None] == LOOKS["edora"]
    assert len(find(f"method{n}" for n in range(30))) == 30


def test_settings_look_different_up_to_what_is_told_apart():
    assert len(SETTING_LOOKS) == TOLD_APART
    few = find(["edora", "head_only"], [None, "a=1", "a=2", "a=3"])
    assert len({(look.marker, look.fill, look.line) for look in few.values()}) == 8
    assert len({str(look.style_crossing()) for look in few.values()}) == 8
    assert few["edora", None] == LOOKS["edora"]
    many = set(find(["edora"], [f"a={n}" for n in range(5)]).values())
    assert [look.style_line()["alpha"] for look in many] == [FAINT]
