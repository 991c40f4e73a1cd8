from glue_harness.reports.table import Entry, Table, mark_places, to_latex, to_markdown

HEAD = [("Task (metric)", ""), ("Method", ""), ("r=4", "")]


def make_rows(*rows):
    return [[Entry(task), Entry(method), Entry(str(number), shown=number)] for task, method, number in rows]


def make_table(groups, compared="of each model"):
    return Table("Ranks", HEAD, 2, [mark_places(rows) for rows in groups], ["A note."], compared)


GROUPS = [
    make_rows(("RTE", "LoRA", 1.0), ("RTE", "EDoRA", 2.0)),
    make_rows(("CoLA", "LoRA", 3.0), ("CoLA", "EDoRA", 0.5)),
]


def test_latex_says_a_name_once_a_group_and_markdown_in_every_row():
    table = make_table(GROUPS)
    tex = [line for line in to_latex(table, "t").splitlines() if line.endswith(r" \\")]
    assert tex == [
        r"Task (metric) & Method & r=4 \\",
        r"RTE & LoRA & \underline{1.0} \\",
        r" & EDoRA & \textbf{2.0} \\",
        r"CoLA & LoRA & \textbf{3.0} \\",
        r" & EDoRA & \underline{0.5} \\",
    ]
    assert to_markdown(table).count("| RTE") == 2


def test_only_names_at_the_beginning_of_a_row_are_left_out():
    texts = [("RTE", "LoRA", "1", "2"), ("CoLA", "LoRA", "1", "2"), ("CoLA", "LoRA", "1", "3")]
    rows = [[Entry(text) for text in row] for row in texts]
    tex = to_latex(Table("Ranks", [*HEAD, ("r=8", "")], 2, [rows], []), "t")
    assert "RTE & LoRA & 1 & 2 \\\\\nCoLA & LoRA & 1 & 2 \\\\\n &  & 1 & 3 \\\\\n" in tex


def test_a_second_line_of_the_head_is_there_when_it_says_something():
    table = Table("T", [("Method", ""), ("Adapter", "parameters")], 1, [[[Entry("LoRA"), Entry("8")]]], [])
    assert "Method & Adapter \\\\\n & parameters \\\\\n\\midrule" in to_latex(table, "t")


def test_within_what_the_best_is_sought_is_said_of_several_groups_only():
    assert "Best at each rank in bold" in to_markdown(make_table(GROUPS, "at each rank"))
    assert "Best in bold" in to_markdown(make_table(GROUPS[:1], "at each rank"))


def test_latex_marks_the_number_alone_so_that_no_rule_runs_below_a_spread():
    entries = [Entry("81.3", spread="2.3", shown=81.3, marks="†1"), Entry("80.0", spread="1.0", shown=80.0)]
    tex = to_latex(Table("T", [("RTE", "")], 0, [mark_places([[entry] for entry in entries])], []), "t")
    assert "\\textbf{81.3}$_{\\pm 2.3}$ $\\dagger$1 \\\\\n\\underline{80.0}$_{\\pm 1.0}$ \\\\\n" in tex


def test_latex_has_the_title_above_and_the_notes_below():
    tex = to_latex(make_table(GROUPS), "t")
    assert "\\caption{Ranks.}\n" in tex
    assert (
        tex.index("\\toprule") < tex.index("\\bottomrule") < tex.index("A note. Best of each model in bold")
    )
    assert "minipage" not in to_latex(Table("T", [("RTE", "")], 0, [[[Entry("1")]]], []), "t")
