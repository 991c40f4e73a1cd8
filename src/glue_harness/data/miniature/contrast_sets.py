"""The rows of each task in contrast sets: as many rows of each class, alike except for what decides it."""

from __future__ import annotations

from random import Random

from glue_harness.data.miniature import words
from glue_harness.data.miniature.words import QUESTIONS, STATEMENTS, TOWN, Vocabulary

Row = tuple[tuple[str, ...], float]
"""The sentences of a row and its label."""
Event = dict[str, str]
"""Field -> value."""


def draw_event(rng: Random, vocabulary: Vocabulary = TOWN) -> Event:
    """Return an event with a random value in every field."""
    return {field: rng.choice(values) for field, values in vocabulary.items()}


def change_fields(event: Event, fields: list[str], rng: Random, vocabulary: Vocabulary = TOWN) -> Event:
    """Return the event with another value in each of some fields."""
    others = {field: [value for value in vocabulary[field] if value != event[field]] for field in fields}
    return event | {field: rng.choice(values) for field, values in others.items()}


def write(template: str, **fields: str) -> str:
    """Return the template filled with the fields, with a capital at its beginning."""
    if "verb" in fields:
        fields |= dict(zip(("base", "past", "participle"), fields["verb"].split("/"), strict=True))
    text = template.format(**fields)
    return text[0].upper() + text[1:]


def make_cola(rng: Random) -> list[Row]:
    """Return an unacceptable and an acceptable order of the same words."""
    event = draw_event(rng)
    acceptable, unacceptable = rng.choice(words.ACCEPTABILITY)
    return [((write(unacceptable, **event),), 0), ((write(acceptable, **event),), 1)]


def make_sst2(rng: Random) -> list[Row]:
    """Return a negative and a positive review that differ in their adjectives."""
    template = rng.choice(words.REVIEWS)
    subject = {"work": rng.choice(words.WORKS), "part": rng.choice(words.PARTS)}
    rows: list[Row] = []
    for label, (adjectives, opposites) in enumerate(
        ((words.BLAME, words.PRAISE), (words.PRAISE, words.BLAME))
    ):
        same, same2 = rng.sample(adjectives, 2)
        review = write(template, same=same, same2=same2, opposite=rng.choice(opposites), **subject)
        rows.append(((review,), label))
    return rows


def make_mrpc(rng: Random) -> list[Row]:
    """Return a statement with one of another event, and with one of the same event in other words."""
    event = draw_event(rng)
    other = change_fields(event, [rng.choice(list(event))], rng)
    first, second = rng.sample(STATEMENTS, 2)
    statement = write(first, **event)
    return [((statement, write(second, **other)), 0), ((statement, write(second, **event)), 1)]


def make_stsb(rng: Random) -> list[Row]:
    """Return pairs of events that share 0, 1, ... 5 of their five fields; that number is the score."""
    rows: list[Row] = []
    for shared in range(6):
        event = draw_event(rng)
        other = change_fields(event, rng.sample(list(event), 5 - shared), rng)
        first, second = rng.sample(STATEMENTS, 2)
        rows.append(((write(first, **event), write(second, **other)), float(shared)))
    return rows


def make_qqp(rng: Random) -> list[Row]:
    """Return a question with one about another event, and with the same question in other words."""
    event = draw_event(rng)
    asked, changed = rng.sample(list(QUESTIONS), 2)
    other = change_fields(event, [changed], rng)
    first, second = rng.sample(QUESTIONS[asked], 2)
    question = write(first, **event)
    return [((question, write(second, **other)), 0), ((question, write(second, **event)), 1)]


def make_qnli(rng: Random) -> list[Row]:
    """Return a question with the statement that answers it, and with one of another event."""
    event = draw_event(rng)
    asked, changed = rng.sample(list(QUESTIONS), 2)
    other = change_fields(event, [changed], rng)
    question, template = write(rng.choice(QUESTIONS[asked]), **event), rng.choice(STATEMENTS)
    return [((question, write(template, **event)), 0), ((question, write(template, **other)), 1)]


def make_mnli(rng: Random, vocabulary: Vocabulary = TOWN) -> list[Row]:
    """Return a premise with a hypothesis that it entails, one it leaves open, one it contradicts."""
    fact = draw_event(rng, vocabulary)
    claimed = rng.choice(list(words.HYPOTHESES))
    neutral = change_fields(fact, ["person", "thing"], rng, vocabulary)
    contradiction = change_fields(fact, [claimed], rng, vocabulary)
    premise, hypothesis = write(rng.choice(words.PREMISES), **fact), rng.choice(words.HYPOTHESES[claimed])
    facts = (fact, neutral, contradiction)
    return [((premise, write(hypothesis, **stated)), label) for label, stated in enumerate(facts)]


def make_rte(rng: Random) -> list[Row]:
    """Return a premise with a hypothesis that it entails, and with one that it does not."""
    entailment, *others = make_mnli(rng)
    return [entailment, (rng.choice(others)[0], 1)]


def make_wnli(rng: Random) -> list[Row]:
    """Return two sentences with a pronoun, each with its person in the pronoun's place, and with another."""
    event = draw_event(rng)
    (man, other_man), (woman, other_woman) = (rng.sample(names, 2) for names in words.NAMES.values())
    a, b = rng.sample((man, woman), 2)
    template = rng.choice(words.PRONOUN_SENTENCES)
    rows: list[Row] = []
    for pronoun, person, wrong in (("he", man, (woman, other_man)), ("she", woman, (man, other_woman))):
        text = write(template, a=a, b=b, pronoun=pronoun, **event)
        for label, name in enumerate((rng.choice(wrong), person)):
            rows.append(((text, write("{name} had {participle} the {thing}.", name=name, **event)), label))
    return rows
