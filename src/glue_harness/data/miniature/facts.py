"""Facts: a statement with sentences that follow from it, contradict it, or do neither.

Each family draws polarity and surface order of both sentences of a pair independently of the relation
between them, so that no word of either sentence, taken alone, tells the relation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from glue_harness.data.miniature.clauses import (
    Clause,
    base_of,
    past_of,
    place_adverbs,
    say,
    vary,
)
from glue_harness.data.miniature.dice import Dice
from glue_harness.data.miniature.words import (
    COMPARISONS,
    STATES_OF_PEOPLE,
    STATES_OF_ROOMS,
    TRANSFERS,
    Lexicon,
    Sense,
)


@dataclass(frozen=True)
class Fact:
    """A statement, and hypotheses by their relation to it."""

    statement: str
    entailed: str
    open: str
    denied: str


def build_fact(clause: Clause, entailed: Clause, other: Clause, dice: Dice) -> Fact:
    """Return the fact that a clause states, given a clause it entails and one it leaves open."""
    statement = say(clause, dice)
    return Fact(
        statement=statement,
        entailed=vary(lambda: say(entailed, dice), statement),
        open=say(replace(other, negated=dice.coin()), dice),
        denied=say(replace(entailed, negated=not entailed.negated), dice),
    )


def draw_adverb(words: Lexicon, dice: Dice) -> Sense:
    """Return a place or a time."""
    return dice.pick(words.places if dice.coin() else words.times)


def draw_roles(words: Lexicon, dice: Dice) -> Fact:
    """Draw what one person did to another; the roles swapped, it is open."""
    agent, patient = dice.draw(words.people, 2)
    adverbs = (draw_adverb(words, dice),)
    clause = Clause(agent, dice.pick(words.deeds), patient, adverbs, negated=dice.coin())
    return build_fact(clause, clause, replace(clause, agent=patient, patient=agent), dice)


def draw_event(words: Lexicon, dice: Dice) -> Fact:
    """Draw what a person did with a thing; of another person, verb or thing, it is open."""
    agents, things = dice.draw(words.people, 2), dice.draw(words.things, 2)
    verbs = dice.draw(words.handlings, 2)
    clause = Clause(agents[0], verbs[0], things[0], (draw_adverb(words, dice),), negated=dice.coin())
    other = dice.pick(
        (
            replace(clause, agent=agents[1]),
            replace(clause, verb=verbs[1]),
            replace(clause, patient=things[1]),
        )
    )
    return build_fact(clause, clause, other, dice)


def draw_circumstance(words: Lexicon, dice: Dice) -> Fact:
    """Draw an event with place and time, which implies it with one; denied with one, it is with both."""
    place, time = dice.pick(words.places), dice.pick(words.times)
    verbs = dice.draw(words.handlings, 2)
    full = Clause(dice.pick(words.people), verbs[0], dice.pick(words.things), (place, time))
    part = replace(full, adverbs=(dice.pick((place, time)),))
    negated = dice.coin()
    clause, hypothesis = (part, full) if negated else (full, part)
    return build_fact(
        replace(clause, negated=negated),
        replace(hypothesis, negated=negated),
        replace(hypothesis, verb=verbs[1]),
        dice,
    )


def draw_kind(words: Lexicon, dice: Dice) -> Fact:
    """Draw what was done with a member of a kind, so with the kind; or with none of it, so no member."""
    kind, other = dice.draw(sorted(words.kinds), 2)
    member, stranger = dice.pick(words.kinds[kind]), dice.pick(words.kinds[other])
    negated = dice.coin()
    noun, hypothesis, unrelated = (kind, member, stranger) if negated else (member, kind, other)
    clause = Clause(
        dice.pick(words.people),
        dice.pick(words.dealings),
        (noun,),
        (draw_adverb(words, dice),),
        negated,
        definite=False,
    )
    return build_fact(
        clause,
        replace(clause, patient=(hypothesis,)),
        replace(clause, patient=(unrelated,)),
        dice,
    )


def draw_transfer(words: Lexicon, dice: Dice) -> Fact:
    """Draw a thing given, which is a thing taken seen from the other side; the roles swapped, it is open."""
    give, take = dice.pick(TRANSFERS)
    giver, taker = dice.draw(words.people, 2)
    thing = dice.pick(dice.pick(words.things))
    adverbs = (dice.pick(words.times),)
    negated = dice.coin()

    def tell(giver: Sense, taker: Sense, negated: bool) -> str:
        verb, preposition = (give, "to") if dice.coin() else (take, "from")
        subject, partner = (giver, taker) if preposition == "to" else (taker, giver)
        action = f"did not {base_of(verb)}" if negated else past_of(verb)
        core = f"the {dice.pick(subject)} {action} the {thing} {preposition} the {dice.pick(partner)}"
        return place_adverbs(core, adverbs, dice)

    statement = tell(giver, taker, negated)
    return Fact(
        statement=statement,
        entailed=vary(lambda: tell(giver, taker, negated), statement),
        open=tell(taker, giver, dice.coin()),
        denied=tell(giver, taker, not negated),
    )


def draw_comparison(words: Lexicon, dice: Dice) -> Fact:
    """Draw that one person exceeds another, in any of the ways to say so; on another scale, it is open."""
    more, less = dice.draw(words.people, 2)
    scale, other = (dice.shuffle(pair) for pair in dice.draw(COMPARISONS, 2))
    time = (dice.pick(words.times),)

    def compare(more: Sense, less: Sense, scale: list[str]) -> str:
        upper, lower = dice.pick(more), dice.pick(less)
        up, down = scale
        core = dice.pick(
            (
                f"the {upper} was {past_of(up)} than the {lower}",
                f"the {lower} was {past_of(down)} than the {upper}",
                f"the {lower} was not as {base_of(up)} as the {upper}",
            )
        )
        return place_adverbs(core, time, dice)

    statement = compare(more, less, scale)
    return Fact(
        statement=statement,
        entailed=vary(lambda: compare(more, less, scale), statement),
        open=compare(more, less, other),
        denied=compare(less, more, scale),
    )


def draw_state(words: Lexicon, dice: Dice) -> Fact:
    """Draw in which of two opposite states somebody or some place was; in which of two others, it is open."""
    if dice.coin():
        subject, pairs = dice.pick(words.people), STATES_OF_PEOPLE
    else:
        surrounding = dice.pick(words.surfaces)
        subject = tuple(f"{room} {surrounding}" for room in dice.pick(words.rooms))
        pairs = STATES_OF_ROOMS
    states, others = (dice.shuffle(pair) for pair in dice.draw(pairs, 2))
    time = (dice.pick(words.times),)

    def describe(state: str, opposite: str) -> str:
        claim = f"was {state}" if dice.coin(0.6) else f"was not {opposite}"
        return place_adverbs(f"the {dice.pick(subject)} {claim}", time, dice)

    statement = describe(*states)
    return Fact(
        statement=statement,
        entailed=vary(lambda: describe(*states), statement),
        open=describe(*others),
        denied=describe(*reversed(states)),
    )


EXACT = (draw_roles, draw_event, draw_transfer, draw_comparison, draw_state)
"""Families whose entailed sentence says the same as the statement."""

LOOSE = (*EXACT, draw_circumstance, draw_kind)
"""All families."""
