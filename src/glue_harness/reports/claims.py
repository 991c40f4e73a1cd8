"""Verdicts -> claims.md: what is claimed, what the evidence says of it, and the tests behind it. Pure."""

from __future__ import annotations

from glue_harness.analysis.claims import Claims
from glue_harness.analysis.rounding import show_percent
from glue_harness.analysis.verdicts import PairedTest, Verdict
from glue_harness.config.schema import Protocol
from glue_harness.reports.notes import AVERAGE, name_bare, name_task
from glue_harness.reports.table import UNKNOWN, Entry, Table, to_markdown

HEAD = [("Claim", ""), ("On", ""), ("Verdict", "")]
TESTS = [("Claim", ""), ("On", ""), ("Against", ""), ("Task", ""), ("Seeds", "")]
TESTS += [("Mean difference", "points"), ("p for", ""), ("p against", "Holm")]


def write_claims(verdicts: list[Verdict], claims: Claims, protocol: Protocol, title: str) -> str:
    """Return claims.md: the verdicts, each claim with its source and reasons, and the tests of scores."""
    rows = [[Entry(v.claim.statement), Entry(v.on), Entry(v.finding.value)] for v in verdicts]
    text = to_markdown(Table(f"{title}: what is claimed of EDoRA", HEAD, len(HEAD), [rows], []))
    for claim in claims.claims:
        own = [verdict for verdict in verdicts if verdict.claim is claim]
        reasons = "".join(f"- {v.on}: **{v.finding.value}**. {_capitalise(v.reason)}.\n" for v in own)
        text += f"\n**{claim.id}**: {claim.statement}. Source: {claim.source}.\n\n{reasons}"
    tests = [_show_test(verdict, test) for verdict in verdicts for test in verdict.tests if test.planned]
    if not tests:
        return text
    table = Table("The tests behind the verdicts on scores", TESTS, 4, [tests], _explain(claims, protocol))
    return f"{text}\n{to_markdown(table)}"


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def _show_test(verdict: Verdict, test: PairedTest) -> list[Entry]:
    texts = [
        *(verdict.claim.id, verdict.on, name_bare(test.baseline)),
        AVERAGE if test.task is None else name_task(test.task),
        f"{test.entered}/{test.planned}",
        UNKNOWN if test.mean is None else show_percent(test.mean, digits=2, sign=True),
        *(UNKNOWN if value is None else f"{value:.3g}" for value in (test.p_for, test.p_against)),
    ]
    return [Entry(text) for text in texts]


def _explain(claims: Claims, protocol: Protocol) -> list[str]:
    return [
        f"Protocol {protocol.name}: {protocol.description.rstrip('.')}.",
        "Differences are EDoRA's score minus the other method's on the same seed, model and rank; p is of a "
        "one-sided sign-flip test of their mean, against the claim's margin. Of n seeds none is below 2^-n.",
        f"Supported: every p for the claim is at most {claims.level:g}; all have to be, so that this needs "
        "no correction. Contradicted: one p against it is, Holm-corrected over its tests. Undetermined: "
        "neither.",
    ]
