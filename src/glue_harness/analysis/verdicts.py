"""Claims and a selection -> a verdict on each, with the numbers that led to it. Pure.

A claim on every task is supported once every test of it speaks for it at `level`: all have to, so that no
correction is needed (an intersection-union test: Berger 1982). One test against it suffices to contradict it,
so these are Holm-corrected. What has not run speaks for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.claims import Claims, CountClaim, RatioClaim, ScoreClaim
from glue_harness.analysis.paired import PAIR_KEY, Pair, may_compare, pair_runs
from glue_harness.analysis.rounding import show_percent
from glue_harness.analysis.summary import Selection
from glue_harness.models.parameter_formulas import count_adapter

EQUAL_METHODS = {"dora": ("dora_factored",)}
"""Methods that compute what another does, in less time: claims on the one take runs of the other."""


class Finding(StrEnum):
    """What the evidence says of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class PairedTest:
    """One paired test: seeds that have a difference of those planned, its mean, and both one-sided p-values.

    `task` None: the average over tasks. `absent`: the tasks that it needs and that are not planned. `p_for`
    the claim, and `p_against` it: Holm-corrected over the claim's tests. None: not all pairs have run.
    """

    baseline: str
    task: str | None
    absent: tuple[str, ...]
    entered: int
    planned: int
    mean: float | None = None
    spread: float | None = None
    p_for: float | None = None
    p_against: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A finding on a claim, `on` what, why in words, and the tests behind it (counts have none)."""

    claim: CountClaim | RatioClaim | ScoreClaim
    on: str
    finding: Finding
    reason: str
    tests: tuple[PairedTest, ...] = ()


def judge(claims: Claims, selection: Selection, is_generated: bool = False) -> list[Verdict]:
    """Return the verdicts on every claim, in their order: on scores, one for each model, rank and settings.

    `is_generated`: the runs' data are the embedded miniature, which says nothing of GLUE.
    """
    verdicts: list[Verdict] = []
    for claim in claims.claims:
        if isinstance(claim, CountClaim):
            verdicts.append(_judge_count(claim, selection))
        elif isinstance(claim, RatioClaim):
            verdicts.append(_judge_ratio(claim))
        else:
            verdicts += _judge_scores(claim, selection, claims.level, is_generated)
    return verdicts


def _judge_count(claim: CountClaim, selection: Selection) -> Verdict:
    """Count from the architecture, and from every run of the evidence that has it."""
    wanted = {"model": claim.model, "method": claim.method, "rank": claim.rank}
    runs = selection.scored
    for name, value in wanted.items():
        runs = runs[runs[name].eq(value).fillna(False)]
    counted = [int(count) for count in runs["adapter_parameters"].dropna()]
    expected, own = claim.expected, count_adapter(claim.model, claim.method, claim.rank)
    right = own == expected and set(counted) <= {expected}
    reason = f"{own:,} by the architecture, {expected:,} claimed"
    if counted:
        shown = " and ".join(f"{count:,}" for count in sorted(set(counted)))
        reason += f"; {shown} in {len(counted)} runs here"
    finding = Finding.SUPPORTED if right else Finding.CONTRADICTED
    return Verdict(claim, f"{claim.model}, r={claim.rank}", finding, reason)


def _judge_ratio(claim: RatioClaim) -> Verdict:
    reached, shown = [], []
    for baseline in claim.baselines:
        ratios = {
            rank: count_adapter(claim.model, baseline.method, baseline.rank or rank)
            / count_adapter(claim.model, claim.method, rank)
            for rank in claim.ranks
        }
        reached.append(max(ratios.values()) >= claim.at_least)
        listed = ", ".join(f"{ratio:.1f} at r={rank}" for rank, ratio in ratios.items())
        name = baseline.method + ("" if baseline.rank is None else f" r={baseline.rank}")
        shown.append(f"than {name}: {listed}")
    finding = Finding.SUPPORTED if all(reached) else Finding.CONTRADICTED
    return Verdict(claim, claim.model, finding, f"times fewer {'; '.join(shown)}")


Differences = dict[str, dict[int, float | None]]
"""Task to seed to the difference of a planned pair's scores, None until both are there."""


def _judge_scores(claim: ScoreClaim, selection: Selection, level: float, is_generated: bool) -> list[Verdict]:
    places: dict[tuple, dict[str, Differences]] = {}
    for baseline in claim.baselines:
        for key, pairs in _pair_with_baseline(selection, claim.method, baseline).items():
            if not may_compare(claim.method, baseline, key[PAIR_KEY.index("settings")]):
                continue
            found = places.setdefault(key[:-1], {}).setdefault(baseline, {})
            found[key[-1]] = {seed: _subtract(pair) for seed, pair in pairs.items()}
    if not places:
        methods = " or ".join(claim.baselines)
        alike = "at one rank, with the same settings and seeds, each at its own learning rate"
        reason = f"the experiment has no runs of {claim.method} beside {methods} {alike}"
        return [Verdict(claim, "--", Finding.UNDETERMINED, reason)]
    return [
        _judge_place(claim, dict(zip(PAIR_KEY, key, strict=True)), found, level, is_generated)
        for key, found in places.items()
    ]


def _pair_with_baseline(selection: Selection, method: str, baseline: str) -> dict[tuple, dict[int, Pair]]:
    """Return pairs of runs with a baseline, or where it has none with what equals it."""
    names = (baseline, *EQUAL_METHODS.get(baseline, ()))
    return next((paired for name in names if (paired := pair_runs(selection, method, name))), {})


def _subtract(pair: Pair) -> float | None:
    first, second = (run["score"] for run in pair)
    return None if first is None or second is None else first - second


def _judge_place(
    claim: ScoreClaim, place: dict, found: dict[str, Differences], level: float, is_generated: bool
) -> Verdict:
    """Judge a claim on one model, at one rank and setting, from the differences of each baseline's tasks."""
    tests = []
    for baseline in claim.baselines:
        differences = found.get(baseline, {})
        on_tasks = [differences.get(task, {}) for task in claim.tasks]
        absent = tuple(task for task in claim.tasks if task not in differences)
        if claim.test == "superiority":
            tests.append(_test(baseline, None, absent, _average(on_tasks), claim.margin))
        else:
            for task, by_seed in zip(claim.tasks, on_tasks, strict=True):
                own = tuple(name for name in absent if name == task)
                tests.append(_test(baseline, task, own, by_seed, claim.margin))
    tests = _correct(tests)
    names = [place["model"], f"r={place['rank']}" if place["rank"] is not None else None, place["settings"]]
    finding, reason = _conclude(claim, tests, level, is_generated)
    return Verdict(claim, ", ".join(name for name in names if name), finding, reason, tuple(tests))


def _average(on_tasks: list[dict[int, float | None]]) -> dict[int, float | None]:
    """Return the mean over tasks of the differences of each seed that all planned tasks share, if known."""
    planned = [set(by_seed) for by_seed in on_tasks if by_seed]
    averages: dict[int, float | None] = {}
    for seed in sorted(set.intersection(*planned)) if planned else ():
        values = [by_seed.get(seed) for by_seed in on_tasks]
        known = [value for value in values if value is not None]
        averages[seed] = stats.mean(known) if len(known) == len(values) else None
    return averages


def _test(
    baseline: str, task: str | None, absent: tuple[str, ...], by_seed: dict[int, float | None], margin: float
) -> PairedTest:
    known = [by_seed[seed] for seed in sorted(by_seed)]
    values = [value for value in known if value is not None]
    place = (baseline, task, absent, len(values), len(known))
    if not values or len(values) < len(known):
        return PairedTest(*place)
    p_for, p_against = (
        stats.flip_signs(values, margin),
        stats.flip_signs([-value for value in values], -margin),
    )
    return PairedTest(*place, stats.mean(values), stats.spread(values), p_for, p_against)


def _correct(tests: list[PairedTest]) -> list[PairedTest]:
    """Return tests with `p_against` corrected for their number; one without all its runs counts as 1."""
    corrected = stats.correct_holm([1.0 if test.p_against is None else test.p_against for test in tests])
    return [
        test if test.p_against is None else PairedTest(**vars(test) | {"p_against": value})
        for test, value in zip(tests, corrected, strict=True)
    ]


def _conclude(
    claim: ScoreClaim, tests: list[PairedTest], level: float, is_generated: bool
) -> tuple[Finding, str]:
    if is_generated:
        return Finding.UNDETERMINED, "the data are generated: they say nothing of GLUE"
    against = [test for test in tests if test.p_against is not None and test.p_against <= level]
    if against:
        shown = [f"{_name(t)} ({show_percent(t.mean or 0, sign=True)}, {t.entered} seeds)" for t in against]
        return Finding.CONTRADICTED, f"below: {', '.join(shown)}"
    open_tests = [test for test in tests if test.p_for is None]
    if open_tests:
        return Finding.UNDETERMINED, f"{_explain_open(open_tests)}; {_explain_need(claim, tests, level)}"
    if all(test.p_for is not None and test.p_for <= level for test in tests):
        fewest = min(test.entered for test in tests)
        return Finding.SUPPORTED, f"all of {len(tests)} tests speak for it, on {fewest} seeds or more"
    return Finding.UNDETERMINED, _explain_need(claim, tests, level)


def _name(test: PairedTest) -> str:
    return f"{test.task or 'average'} against {test.baseline}"


def _explain_open(tests: list[PairedTest]) -> str:
    absent: dict[tuple[str, ...], list[str]] = {}
    for baseline in dict.fromkeys(test.baseline for test in tests):
        tasks = tuple(task for test in tests if test.baseline == baseline for task in test.absent)
        absent.setdefault(tasks, []).append(baseline)
    begun = [f"{_name(t)} ({t.entered}/{t.planned} seeds)" for t in tests if t.planned and not t.absent]
    said = [f"without all its runs: {', '.join(begun)}"] if begun else []
    apart = [test.baseline for test in tests if not test.planned and not test.absent]
    said += [f"no seed is planned on all tasks against {', '.join(apart)}"] if apart else []
    said += [
        f"not planned against {', '.join(of)}: {', '.join(tasks)}" for tasks, of in absent.items() if tasks
    ]
    return "; ".join(said)


def _explain_need(claim: ScoreClaim, tests: list[PairedTest], level: float) -> str:
    """Say how many seeds there are, how many can decide at all, and how many it takes as they spread."""
    least, corrected = stats.count_needed_pairs(level), stats.count_needed_pairs(level / len(tests))
    planned = sorted({test.planned for test in tests if test.planned}) or [0]
    seeds = " to ".join(str(number) for number in dict.fromkeys((planned[0], planned[-1])))
    reason = (
        f"{seeds} seeds, where at least {least} are needed to support it and {corrected} to contradict it"
    )
    estimates = [*_estimate_support(claim, tests, level), *_estimate_contradiction(claim, tests, level)]
    return f"{reason}; as seeds spread here, {min(estimates)[1]}" if estimates else reason


def _estimate_support(claim: ScoreClaim, tests: list[PairedTest], level: float) -> list[tuple[int, str]]:
    """Return about how many seeds decide: all tests speak for the claim together in four cases of five."""
    power = 1 - 0.2 / len(tests)
    distances = [(test.spread, claim.margin or test.mean or 0) for test in tests if test.spread]
    needs = [
        stats.estimate_needed_pairs(spread, away, level, power) for spread, away in distances if away > 0
    ]
    seen = "were the methods equal" if claim.margin else "were the difference the one seen"
    return [(max(needs), f"about {max(needs)} would decide, {seen}")] if needs else []


def _estimate_contradiction(
    claim: ScoreClaim, tests: list[PairedTest], level: float
) -> list[tuple[int, str]]:
    """Return about how many seeds contradict what does not look true: one test suffices, corrected."""
    against = [(test.spread, -claim.margin - (test.mean or 0)) for test in tests if test.spread]
    needs = [
        stats.estimate_needed_pairs(spread, away, level / len(tests)) for spread, away in against if away > 0
    ]
    seen = "were the difference the one seen"
    return [(min(needs), f"about {min(needs)} would contradict it, {seen}")] if needs else []
