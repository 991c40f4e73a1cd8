"""Clauses as meanings and the English that says them, in either voice, word and order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glue_harness.data.miniature.dice import Dice
from glue_harness.data.miniature.words import Sense


@dataclass(frozen=True)
class Clause:
    """Who does what to whom or what, and where or when; `negated` denies it as a whole."""

    agent: Sense
    verb: Sense
    patient: Sense
    adverbs: tuple[Sense, ...] = ()
    negated: bool = False
    definite: bool = True
    """Whether the patient is a certain one; else it is any."""


def base_of(verb: str) -> str:
    """Return the infinitive of a listed verb."""
    return verb.split("/")[0]


def past_of(verb: str) -> str:
    """Return the past tense of a listed verb."""
    return verb.split("/")[1]


def participle_of(verb: str) -> str:
    """Return the past participle of a listed verb."""
    return verb.split("/")[-1]


def write(text: str, end: str = ".") -> str:
    """Return the text as a written sentence, with a capital and a mark at its end."""
    return text[0].upper() + text[1:] + end


def say(clause: Clause, dice: Dice) -> str:
    """Return one of the sentences that say the clause."""
    agent, verb, patient = dice.pick(clause.agent), dice.pick(clause.verb), dice.pick(clause.patient)
    passive = dice.coin()
    thing = f"{choose_article(clause, patient, passive)} {patient}"
    if passive:
        auxiliary = "was not" if clause.negated and clause.definite else "was"
        core = f"{thing} {auxiliary} {participle_of(verb)} by the {agent}"
    elif clause.negated:
        core = f"the {agent} did not {base_of(verb)} {thing}"
    else:
        core = f"the {agent} {past_of(verb)} {thing}"
    return place_adverbs(core, clause.adverbs, dice)


def choose_article(clause: Clause, patient: str, passive: bool) -> str:
    """Return the patient's article; an indefinite patient takes the negation into it."""
    if clause.definite:
        return "the"
    if clause.negated:
        return "no" if passive else "any"
    return "an" if patient[0] in "aeiou" else "a"


def place_adverbs(core: str, adverbs: tuple[Sense, ...], dice: Dice) -> str:
    """Return the core as a sentence with its adverbs, one of which may come first."""
    spoken = dice.shuffle([dice.pick(adverb) for adverb in adverbs])
    if spoken and dice.coin(0.4):
        core = f"{spoken.pop()}, {core}"
    return write(" ".join([core, *spoken]))


def vary(speak: Callable[[], str], said: str) -> str:
    """Return what `speak` says once that differs from what was said already."""
    text = speak()
    while text == said:
        text = speak()
    return text
