import pandas as pd

from glue_harness.reports.figures.notes import TOLD_APART
from glue_harness.reports.figures.styles import FAINT, METHOD_STYLES, SETTING_STYLES, PlotStyles


def find(methods, settings=(None,)):
    rows = [{"method": method, "settings": own} for method in methods for own in settings]
    styles = PlotStyles(pd.DataFrame(rows, dtype=object))
    return {(row["method"], row["settings"]): styles.find(row) for row in rows}


def test_methods_look_different_in_grey_and_others_too():
    styles = find([*METHOD_STYLES, "own", "other"])
    assert len({style.marker for style in styles.values()}) == len(styles)
    assert not {style.marker for style in styles.values()} & set("|_,")  # an error bar covers these
    assert find(["edora", "own"])["edora", None] == METHOD_STYLES["edora"]
    assert len(find(f"method{n}" for n in range(30))) == 30


def test_settings_look_different_up_to_what_is_told_apart():
    assert len(SETTING_STYLES) == TOLD_APART
    few = find(["edora", "head_only"], [None, "a=1", "a=2", "a=3"])
    assert len({(style.marker, style.fill, style.line) for style in few.values()}) == 8
    assert len({str(style.style_crossing()) for style in few.values()}) == 8
    assert few["edora", None] == METHOD_STYLES["edora"]
    many = set(find(["edora"], [f"a={n}" for n in range(5)]).values())
    assert [style.style_line()["alpha"] for style in many] == [FAINT]
