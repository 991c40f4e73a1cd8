"""One contrast a task: equally many rows of each class, which differ in what decides the class."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from glue_harness.data.miniature.clauses import (
    Clause,
    base_of,
    participle_of,
    past_of,
    say,
    vary,
    write,
)
from glue_harness.data.miniature.dice import Dice
from glue_harness.data.miniature.facts import EXACT, LOOSE, Fact
from glue_harness.data.miniature.templates import (
    AFFIRMING_REVIEWS,
    BLAME,
    DENYING_REVIEWS,
    DISPUTING_REVIEWS,
    GROUPS,
    LOOKS,
    MIXED_REVIEWS,
    OPENINGS,
    ORDERS,
    PARTS,
    PERSONS,
    PRAISE,
    QUESTION_WORDS,
    QUESTIONS,
    SCHEMAS,
    TRAITS,
    WORKS,
)
from glue_harness.data.miniature.words import TOWN, Lexicon

Row = tuple[tuple[str, ...], float]
"""The sentences of a row and its label."""

REVIEWS = (*[AFFIRMING_REVIEWS] * 6, *[DENYING_REVIEWS] * 2, *[MIXED_REVIEWS] * 2, *[DISPUTING_REVIEWS] * 2)
"""sst2: the sorts of frames; in half of the rows, adjectives alone tell the label."""

SLOT_POINTS = (1.25, 1.25, 1.0, 0.75, 0.75)
"""stsb: what agreement in patient, verb, agent, place and time is worth; together 5."""


def contrast_cola(dice: Dice) -> list[Row]:
    """Return an acceptable sentence and an unacceptable order of its words."""
    one, two = (dice.pick(person) for person in dice.draw(TOWN.people, 2))
    thing, surface = (dice.pick(thing) for thing in dice.draw(TOWN.things, 2))
    fillers = {
        "one": one,
        "two": two,
        "many": dice.pick(GROUPS),
        "thing": thing,
        "object": surface,
        "look": dice.pick(LOOKS),
        "trait": dice.pick(TRAITS),
        "time": dice.pick(dice.pick(TOWN.times)),
    }
    acceptable, unacceptable = (write(frame.format(**fillers), "") for frame in dice.pick(ORDERS))
    return [((unacceptable,), 0), ((acceptable,), 1)]


def contrast_sst2(dice: Dice) -> list[Row]:
    """Return a negative and a positive review in frames of one sort."""
    frames = dice.pick(REVIEWS)
    rows: list[Row] = []
    for label, (words, opposites) in enumerate(((BLAME, PRAISE), (PRAISE, BLAME))):
        same, same2 = dice.draw(words, 2)
        opposite, opposite2 = dice.draw(opposites, 2)
        opening = dice.pick(OPENINGS) if frames in (AFFIRMING_REVIEWS, DENYING_REVIEWS) else ""
        review = dice.pick(frames).format(
            work=dice.pick(WORKS),
            part=dice.pick(PARTS),
            same=same,
            same2=same2,
            opposite=opposite,
            opposite2=opposite2,
        )
        rows.append(((write(opening + review),), label))
    return rows


def contrast_mrpc(dice: Dice) -> list[Row]:
    """Return a sentence with a paraphrase, and with one that says something else of the same."""
    fact = dice.pick(EXACT)(TOWN, dice)
    different = fact.open if dice.coin(0.7) else fact.denied
    return [
        (tuple(dice.shuffle((fact.statement, different))), 0),
        (tuple(dice.shuffle((fact.statement, fact.entailed))), 1),
    ]


def contrast_rte(dice: Dice) -> list[Row]:
    """Return a premise with a sentence that follows, and with one that does not."""
    fact = dice.pick(LOOSE)(TOWN, dice)
    different = fact.open if dice.coin(0.7) else fact.denied
    return [((fact.statement, fact.entailed), 0), ((fact.statement, different), 1)]


def contrast_mnli(dice: Dice, words: Lexicon = TOWN) -> list[Row]:
    """Return a premise with a sentence that follows, one left open and one that cannot be true with it."""
    fact: Fact = dice.pick(LOOSE)(words, dice)
    hypotheses = (fact.entailed, fact.open, fact.denied)
    return [((fact.statement, hypothesis), label) for label, hypothesis in enumerate(hypotheses)]


def contrast_qqp(dice: Dice) -> list[Row]:
    """Return a question about two things with another way to ask it, and with the two swapped or one new."""
    subject = dice.pick(tuple(QUESTIONS))
    x, y, z = dice.draw(QUESTION_WORDS[subject], 3)
    first, second = dice.draw(dice.pick(QUESTIONS[subject]), 2)
    swapped = second.format(x=y, y=x) if dice.coin(0.6) else second.format(x=x, y=z)
    question = write(first.format(x=x, y=y), "?")
    return [
        ((question, write(swapped, "?")), 0),
        ((question, write(second.format(x=x, y=y), "?")), 1),
    ]


def contrast_stsb(dice: Dice) -> list[Row]:
    """Return pairs that agree in no, one, ... all five slots; synonyms agree, swapped people do not."""
    rows: list[Row] = []
    for agreeing in range(6):
        agree = dice.shuffle([True] * agreeing + [False] * (5 - agreeing))
        people = dice.draw(TOWN.people, 4)
        personal = dice.coin()
        agents = people[:2]
        patients = people[2:] if personal else dice.draw(TOWN.things, 2)
        verbs = dice.draw(TOWN.deeds if personal else TOWN.handlings, 2)
        places, times = dice.draw(TOWN.places, 2), dice.draw(TOWN.times, 2)
        patient, verb, agent, place, time = (0 if same else 1 for same in agree)
        if personal and agent and patient and dice.coin():
            agents[1], patients[1] = patients[0], agents[0]
        first = Clause(agents[0], verbs[0], patients[0], (places[0], times[0]))
        second = Clause(agents[agent], verbs[verb], patients[patient], (places[place], times[time]))
        said = say(first, dice)
        again = vary(partial(say, second, dice), said)
        score = sum(points for points, same in zip(SLOT_POINTS, agree, strict=True) if same)
        rows.append(((said, again), score))
    return rows


def contrast_wnli(dice: Dice) -> list[Row]:
    """Return a sentence with a pronoun, in both senses, each with either person in the pronoun's place."""
    deed, *reasons = dice.pick(SCHEMAS)
    pronoun = dice.pick(tuple(PERSONS))
    people = dice.draw(PERSONS[pronoun], 2)
    rows: list[Row] = []
    for owner, reason in enumerate(reasons):
        text = write(f"{deed.format(a=people[0], b=people[1])} because {pronoun} {reason}")
        for candidate, person in enumerate(people):
            rows.append(((text, write(f"{person} {reason}")), int(candidate == owner)))
    return rows


def contrast_qnli(dice: Dice) -> list[Row]:
    """Return a question with a sentence that answers it, and with one that does not."""
    agent, patient, *strangers = dice.draw(TOWN.people, 4)
    verb, other_verb = dice.draw(TOWN.deeds, 2)
    place, time = dice.pick(TOWN.places), dice.pick(TOWN.times)
    adverb, other_adverb = dice.shuffle((place, time))
    clause = Clause(agent, verb, patient, (adverb,))
    if dice.coin():
        question = ask_circumstance(clause, "where" if adverb == place else "when", dice)
        silent = [replace(clause, adverbs=(other_adverb,))]
    else:
        clause = replace(clause, negated=dice.coin())
        question = ask_person(clause, dice)
        silent = [
            replace(clause, agent=patient, patient=agent),
            replace(clause, negated=not clause.negated),
            replace(clause, verb=other_verb),
        ]
    unrelated = replace(clause, agent=strangers[0], verb=other_verb, patient=strangers[1])
    beside = unrelated if dice.coin(0.4) else dice.pick(silent)
    return [((question, say(clause, dice)), 0), ((question, say(beside, dice)), 1)]


def ask_circumstance(clause: Clause, adverb: str, dice: Dice) -> str:
    """Return a question for the place or time of what a clause says."""
    agent, verb, patient = dice.pick(clause.agent), dice.pick(clause.verb), dice.pick(clause.patient)
    if dice.coin():
        return write(f"{adverb} was the {patient} {participle_of(verb)} by the {agent}", "?")
    return write(f"{adverb} did the {agent} {base_of(verb)} the {patient}", "?")


def ask_person(clause: Clause, dice: Dice) -> str:
    """Return a question for the agent or the patient of what a clause says."""
    agent, verb, patient = dice.pick(clause.agent), dice.pick(clause.verb), dice.pick(clause.patient)
    denial = " not" if clause.negated else ""
    core = dice.pick(
        (
            f"who did not {base_of(verb)} the {patient}"
            if clause.negated
            else f"who {past_of(verb)} the {patient}",
            f"by whom was the {patient}{denial} {participle_of(verb)}",
            f"whom did the {agent}{denial} {base_of(verb)}",
            f"who was{denial} {participle_of(verb)} by the {agent}",
        )
    )
    return write(" ".join([core, *(dice.pick(adverb) for adverb in clause.adverbs)]), "?")
