"""Run records -> results/<experiment>/: evidence, and the tables and figures that derive from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml

from glue_harness.analysis.claims import read_claims
from glue_harness.analysis.learning_curves import keep_middle_ranks, trace_cells
from glue_harness.analysis.paired import ABLATION, AGAINST_KEY, PAIR_KEY, compare_methods, compare_rows
from glue_harness.analysis.published import read_published
from glue_harness.analysis.summary import Selection, average_tasks, list_swept_methods, select
from glue_harness.analysis.verdicts import judge
from glue_harness.config.schema import Protocol
from glue_harness.errors import CONF, InputError, choices
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence.collect import collect, restrict
from glue_harness.evidence.schema import MISSING, Evidence
from glue_harness.io import write_together
from glue_harness.reports.claims import write_claims
from glue_harness.reports.page.page import build_page
from glue_harness.reports.table import Table, to_latex, to_markdown
from glue_harness.reports.tables.ablation import build_ablation_table
from glue_harness.reports.tables.costs import build_cost_table, to_cost_csv
from glue_harness.reports.tables.differences import build_differences_table
from glue_harness.reports.tables.hyperparameters import build_hyperparameter_table, to_hyperparameter_csv
from glue_harness.reports.tables.main import build_main_table, to_csv
from glue_harness.reports.tables.published import build_published_table, to_published_csv
from glue_harness.reports.tables.ranks import build_rank_table
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.plan import Plan


class NamedTable(NamedTuple):
    """A table of an experiment: `table_<name>`, its raw numbers, and whether `make tables` shows it."""

    name: str
    table: Table
    csv: str
    shown: bool = True


def aggregate(overrides: list[str]) -> str:
    """Write evidence, tables and figures of the experiment that `overrides` choose; return tables to show.

    Filters (`only.…`) narrow the returned tables; the files always hold the whole experiment, so that looking
    at a part loses nothing. A protocol chosen with `protocol=` has files of its own beside the experiment's;
    all that are there are written anew, so that none is older than the evidence.

    Raises:
        InputError: no experiment, or records or earlier evidence that cannot be used; nothing is written.
    """
    _check_protocol(overrides)
    unfiltered = sweep.without_filters(overrides)
    plan = sweep.plan(unfiltered)
    _check_grid(plan)
    folder = Path(plan.config.results_dir, plan.name)
    collected = collect(plan, Path(plan.config.runs_dir), folder)
    if (collected.runs["status"] == MISSING).all():
        found = f"no record of {plan.name}'s {len(plan.cells)} runs, and no evidence in {folder}"
        allowed = f"a folder with runs (`edora-glue sweep experiment={plan.config.experiment.name}`)"
        raise InputError(f"runs_dir={plan.config.runs_dir}: {found}; allowed is {allowed}")
    chosen, searched = plan.config.protocol, plan.config.experiment.searched
    files, tables = evidence_files.encode(collected), {}
    for suffix, protocol in _list_protocols(unfiltered, chosen, folder).items():
        selection = select(collected, protocol, searched)
        tables[protocol.name] = build_tables(selection, plan)
        files |= publish(collected, selection, tables[protocol.name], plan, suffix)
    write_together(folder, files)
    shown = tables[chosen.name]
    if unfiltered != overrides:
        filtered = sweep.plan(overrides)
        shown = build_tables(select(restrict(collected, filtered), chosen, searched), filtered)
    return "\n".join(to_markdown(named.table) for named in shown if named.shown)


def _list_protocols(overrides: list[str], chosen: Protocol, folder: Path) -> dict[str, Protocol]:
    """Return the protocols that have files, by these files' suffix; the experiment's own has none."""
    plain = [override for override in overrides if not override.startswith("protocol=")]
    own = chosen if plain == overrides else sweep.plan(plain).config.protocol
    others = {
        name: Protocol(**yaml.safe_load((CONF / "protocol" / f"{name}.yaml").read_text()))
        for name in choices("protocol")
        if (folder / f"table_main_{name}.md").exists()
    }
    others[chosen.name] = chosen
    others.pop(own.name, None)
    return {"": own} | {f"_{name}": protocol for name, protocol in others.items()}


def _check_protocol(overrides: list[str]) -> None:
    """Check that overrides choose a protocol by name: of a changed one the files would say what is not so."""
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name.startswith("protocol.") or (name == "protocol" and "," in value):
            allowed = f"protocol=<one of {', '.join(choices('protocol'))}>, each in a call of its own"
            raise InputError(f"{override}: allowed is {allowed}")


def _check_grid(plan: Plan) -> None:
    if plan.config.experiment.name is None or not plan.cells:
        allowed = ", ".join(choices("experiment"))
        raise InputError(f"experiment={plan.config.experiment.name or 'null'}: no grid; allowed is {allowed}")
    holdouts = {cell.config.data.holdout for cell in plan.cells} - {None}
    if holdouts:
        raise InputError(
            f"data.holdout={holdouts.pop()}: its runs are scored on rows of train; allowed in a table of "
            "results is null (`edora-glue tune` writes a search's own)"
        )


def publish(
    collected: Evidence, selection: Selection, tables: Sequence[NamedTable], plan: Plan, suffix: str = ""
) -> dict[str, bytes]:
    """Return every file that derives from the evidence, name to content: tables, figures, claims, page.

    Of `plan`, title and name enter, and whether its data are generated.
    """
    claims = _write_verdicts(selection, plan)
    figures = draw(collected, selection, plan, suffix)
    images = {name: content for name, content in figures.items() if name.endswith(".png")}
    page = build_page(plan.title, [named.table for named in tables], images, claims, selection)
    texts = render(tables, plan.name, suffix) | {f"claims{suffix}.md": claims, f"index{suffix}.html": page}
    return {name: text.encode() for name, text in texts.items()} | figures


def build_tables(selection: Selection, plan: Plan) -> list[NamedTable]:
    """Build every table that the grid calls for; of `plan`, title, notes and name enter.

    All experiments have the main table, costs and hyper-parameters. One that gives a method several ranks has
    the rank table, one with EDoRA beside other rows on the same seeds the table of differences, one that
    holds both methods of ABLATION the ablation table, one with rows that others have published
    (conf/published.yaml) the table beside them.
    """
    protocol, title = selection.protocol, plan.title
    main = build_main_table(selection, title)
    tables = [NamedTable("main", main, to_csv(selection.summary, selection.averages, protocol))]
    if methods := list_swept_methods(selection.summary):
        swept = _keep_methods(selection, methods)
        table = build_rank_table(swept, f"{title} (a column for each rank)")
        tables.append(NamedTable("ranks", table, to_csv(swept.summary, swept.averages, protocol)))
    tables += _build_comparisons(selection, title)
    published = read_published()
    if beside := build_published_table(selection, published, f"{title} (beside published scores)"):
        tables.append(NamedTable("published", beside, to_published_csv(selection, published)))
    cost = build_cost_table(selection, f"{title} (cost)")
    tables.append(NamedTable("cost", cost, to_cost_csv(selection), shown=False))
    hyperparameters = build_hyperparameter_table(selection, f"{title} (hyper-parameters)")
    csv = to_hyperparameter_csv(selection)
    tables.append(NamedTable("hyperparameters", hyperparameters, csv, shown=False))
    noted = (replace(t.table, notes=[*t.table.notes, *plan.config.experiment.notes]) for t in tables)
    return [named._replace(table=table) for named, table in zip(tables, noted, strict=True)]


def _build_comparisons(selection: Selection, title: str) -> list[NamedTable]:
    protocol, tables = selection.protocol, []
    compared = compare_rows(selection)
    if not compared.empty:
        table = build_differences_table(selection, compared, f"{title} (differences, seed by seed)")
        csv = to_csv(compared, average_tasks(compared, AGAINST_KEY), protocol, AGAINST_KEY)
        tables.append(NamedTable("differences", table, csv))
    compared = compare_methods(selection, *ABLATION)
    if not compared.empty:
        table = build_ablation_table(selection, compared, f"{title} (seed by seed)")
        csv = to_csv(compared, average_tasks(compared, PAIR_KEY), protocol, PAIR_KEY)
        tables.append(NamedTable("ablation", table, csv))
    return tables


def render(tables: Sequence[NamedTable], name: str, suffix: str = "") -> dict[str, str]:
    """Return the files of an experiment's tables, name to text."""
    files = {}
    for table in tables:
        label = name if table.name == "main" else f"{name}_{table.name}"
        files[f"table_{table.name}{suffix}.md"] = to_markdown(table.table)
        files[f"table_{table.name}{suffix}.tex"] = to_latex(table.table, label)
        files[f"table_{table.name}{suffix}.csv"] = table.csv
    return files


def _write_verdicts(selection: Selection, plan: Plan) -> str:
    claims = read_claims()
    is_generated = any(cell.config.data.name == "miniature" for cell in plan.cells)
    return write_claims(judge(claims, selection, is_generated), claims, selection.protocol, plan.title)


def draw(collected: Evidence, selection: Selection, plan: Plan, suffix: str = "") -> dict[str, bytes]:
    """Return the files of every figure, name to content; of `plan` the title enters."""
    # matplotlib's import takes time: only who draws waits for it
    from glue_harness.reports.figures import costs as cost_plot
    from glue_harness.reports.figures import panels, plots
    from glue_harness.reports.figures import ranks as rank_plot

    middle = keep_middle_ranks(selection)
    figures = {
        "scores": plots.draw_scores(selection, plan.title),
        "curves": plots.draw_curves(middle, trace_cells(collected, middle), plan.title),
        "costs": cost_plot.draw_costs(selection, plan.title),
    }
    if methods := list_swept_methods(selection.summary):
        figures["ranks"] = rank_plot.draw_ranks(_keep_methods(selection, methods), plan.title)
    return {
        f"figure_{name}{suffix}.{ending}": content
        for name, figure in figures.items()
        for ending, content in panels.encode(figure).items()
    }


def _keep_methods(selection: Selection, methods: Sequence[str]) -> Selection:
    return selection.keep(lambda row: row["method"] in methods)
