"""The vocabulary and the sentence templates of the miniature GLUE.

An event is: a person does something with a thing of some colour at some place. No word is listed under two
fields, and every thing, person and colour begins with a consonant, so that "a" fits it.
"""

Vocabulary = dict[str, list[str]]
"""Field of an event -> the values it can take; a verb is base/past/participle."""


def split_words(listing: str) -> list[str]:
    """Split words or phrases at their commas."""
    return listing.split(", ")


TOWN: Vocabulary = {
    "person": split_words(
        "doctor, lawyer, writer, nurse, teacher, judge, pilot, painter, singer, student, soldier, baker,"
        " waiter, banker, plumber, dentist, tailor, barber, mayor, clerk, butcher, tourist, cook, librarian"
    ),
    "verb": split_words(
        "buy/bought/bought, sell/sold/sold, repair/repaired/repaired, hide/hid/hidden, find/found/found,"
        " clean/cleaned/cleaned, break/broke/broken, weigh/weighed/weighed, wrap/wrapped/wrapped,"
        " borrow/borrowed/borrowed, steal/stole/stolen, drop/dropped/dropped, choose/chose/chosen"
    ),
    "colour": split_words("red, blue, green, yellow, black, white, brown, pink, purple, silver"),
    "thing": split_words(
        "bicycle, lamp, table, chair, clock, piano, mirror, ladder, computer, camera, wallet, suitcase,"
        " telephone, blanket, carpet, radio, bottle, basket, statue, guitar, hammer, violin, doll, jacket"
    ),
    "place": split_words(
        "at the market, in the garage, at the airport, in the kitchen, at the office, at the hotel,"
        " at the school, at the museum, in the basement, at the theater, on the train, at the stadium"
    ),
}
COUNTRY: Vocabulary = TOWN | {
    "person": split_words("farmer, hunter, shepherd, sailor, miller, gardener, ranger, blacksmith"),
    "thing": split_words("boat, rope, tent, saddle, bucket, net, lantern, canoe, sled, stone, barrel"),
    "place": split_words("in the forest, by the sea, on the hill, near the river, near the cave"),
}
"""mnli's mismatched genre."""

STATEMENTS = (
    "the {person} {past} the {colour} {thing} {place}.",
    "the {colour} {thing} was {participle} by the {person} {place}.",
    "it was the {person} who {past} the {colour} {thing} {place}.",
    "{place}, the {person} {past} the {colour} {thing}.",
)
QUESTIONS = {
    "person": (
        "who {past} the {colour} {thing} {place}?",
        "by whom was the {colour} {thing} {participle} {place}?",
    ),
    "colour": (
        "what colour was the {thing} that the {person} {past} {place}?",
        "of which colour was the {thing} {participle} by the {person} {place}?",
    ),
    "thing": (
        "what did the {person} {base} {place} that was {colour}?",
        "which {colour} thing was {participle} by the {person} {place}?",
    ),
    "place": (
        "where did the {person} {base} the {colour} {thing}?",
        "in which place was the {colour} {thing} {participle} by the {person}?",
    ),
}
"""Field that is asked for -> two questions for it, which name every other field."""

PREMISES = (
    "the {person} has only one {thing}, which is {colour} and now {place}.",
    "the only {thing} of the {person} is {colour} and can be seen {place}.",
    "{place} is the only {thing} that the {person} has, and it is {colour}.",
)
HYPOTHESES = {
    "colour": ("the {person} has a {thing} that is {colour}.", "a {colour} {thing} belongs to the {person}."),
    "place": ("the {person} has a {thing} {place}.", "{place} is a {thing} that belongs to the {person}."),
}
"""Field that is claimed -> hypotheses. A premise decides those about its person and thing, and no others."""

ACCEPTABILITY = (
    ("the {thing} near the boxes is {colour}.", "the boxes near the {thing} is {colour}."),
    ("the boxes behind the {thing} are {colour}.", "the {thing} behind the boxes are {colour}."),
    ("the {person} says that the boys {base} it.", "the boys says that the {person} {base} it."),
    ("the {person} has {participle} the {thing}.", "the {person} {participle} has the {thing}."),
    ("the {person} did not {base} the {thing}.", "the {person} not did {base} the {thing}."),
    ("what did the {person} {base} {place}?", "what the {person} did {base} {place}?"),
    ("the {person} {past} a {colour} {thing}.", "the {person} {past} {colour} a {thing}."),
    ("the {thing} is too heavy for the {person}.", "the {thing} is heavy too for the {person}."),
    ("there is a {thing} {place}.", "there a {thing} is {place}."),
    ("the {person} wants to {base} the {thing}.", "the {person} to wants {base} the {thing}."),
)
"""An acceptable sentence, and the same words with an error of agreement or of word order."""

PRAISE = split_words(
    "brilliant, delightful, funny, charming, moving, clever, gripping, beautiful, witty, superb, touching,"
    " exciting, wonderful, fresh, engaging, elegant, thrilling, convincing, smart, original, powerful"
)
BLAME = split_words(
    "dull, awful, boring, stupid, clumsy, tedious, lifeless, predictable, shallow, messy, annoying,"
    " terrible, painful, bland, silly, pointless, forgettable, ugly, weak, confusing, dreadful, lazy"
)
WORKS = split_words("film, movie, story, sequel, comedy, drama, documentary, remake, thriller, cartoon")
PARTS = split_words("plot, dialogue, soundtrack, script, title, first half, cast, hero, beginning, finale")
REVIEWS = (
    "the {part} of this {work} is {same} and {same2}.",
    "this {work} is {same}, and the {part} is {same2}.",
    "despite the {opposite} {part}, this {work} is {same}.",
    "this {work} is {same}, although the {part} is {opposite}.",
    "the {part} is {opposite}, but this {work} is really {same}.",
    "without its {same} {part}, this {work} would be {opposite}.",
    "nothing in this {work} is {opposite}, not even the {part}.",
)
"""`same` is the review's verdict, `opposite` is what it concedes or denies."""

PRONOUN_SENTENCES = (
    "{a} met {b} {place} after {pronoun} had {participle} the {thing}.",
    "{a} called {b} because {pronoun} had {participle} the {colour} {thing}.",
)
"""Sentences about a man and a woman in either order, of whom the pronoun is one."""
NAMES = {
    "he": split_words("John, Peter, David, Robert, Thomas, Frank, Henry, Martin, Paul, George"),
    "she": split_words("Mary, Anna, Susan, Helen, Julia, Emma, Laura, Sarah, Nora, Alice"),
}
