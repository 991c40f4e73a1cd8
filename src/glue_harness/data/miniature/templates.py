"""Sentence frames of the tasks that clauses alone do not make: cola, sst2, qqp and wnli."""

from __future__ import annotations

from glue_harness.data.miniature.words import split_words

ORDERS = (
    ("the {one} near the {many} is {trait}.", "the {many} near the {one} is {trait}."),
    ("the {many} behind the {one} are {trait}.", "the {one} behind the {many} are {trait}."),
    ("the {one} thinks that the {many} sing well.", "the {many} thinks that the {one} sing well."),
    ("the {many} know that the {one} works hard.", "the {one} know that the {many} works hard."),
    ("the {one} said that the {many} hurt themselves.", "the {many} said that the {one} hurt themselves."),
    ("the {one} who likes the {many} is {trait}.", "the {many} who likes the {one} is {trait}."),
    ("the {many} were {trait} but the {one} was not.", "the {one} were {trait} but the {many} was not."),
    ("she picked it up {time}.", "she picked up it {time}."),
    ("they called him back {time}.", "they called back him {time}."),
    ("the {one} gave the {thing} to the {two}.", "the {one} gave the to {thing} the {two}."),
    ("the {one} has been reading {time}.", "the {one} been has reading {time}."),
    ("the {one} will have finished {time}.", "the {one} have will finished {time}."),
    ("the {trait} {one} left {time}.", "the {one} {trait} left {time}."),
    ("the {one} bought a {look} {thing} {time}.", "the {one} bought {look} a {thing} {time}."),
    ("what did the {one} buy {time}?", "what the {one} did buy {time}?"),
    ("where has the {one} put the {thing}?", "where the {one} has put the {thing}?"),
    ("I know what the {one} bought {time}.", "I know what bought {time} the {one}."),
    ("the {thing} is too heavy to carry {time}.", "the {thing} is heavy too to carry {time}."),
    ("the {one} is old enough to vote {time}.", "the {one} is enough old to vote {time}."),
    ("the {one} did not sell the {thing}.", "the {one} not did sell the {thing}."),
    ("the {one} did not greet the {two}.", "the {one} did greet not the {two}."),
    ("has the {one} found the {thing}?", "found the {one} has the {thing}?"),
    ("there was a {thing} in the room {time}.", "there a {thing} was in the room {time}."),
    ("only one of the {many} left {time}.", "only one the of {many} left {time}."),
    ("the {one} is taller than the {two}.", "the {one} is than taller the {two}."),
    ("yesterday the {one} fixed the {thing}.", "yesterday fixed the {one} the {thing}."),
    ("the {one} often paints the {thing}.", "the {one} paints often the {thing}."),
    ("it was the {one} who broke the {thing}.", "it was who the {one} broke the {thing}."),
    ("the {one} wants to leave {time}.", "the {one} to wants leave {time}."),
    ("all the {many} laughed {time}.", "the all {many} laughed {time}."),
    ("the {one} put the {thing} on the {object}.", "the {one} put on the the {thing} {object}."),
    ("the {one} let the {two} use the {thing}.", "the {one} let use the {two} the {thing}."),
    ("the {one} and the {two} met {time}.", "the {one} the {two} and met {time}."),
    ("the {one} asked whether the {two} was {trait}.", "the {one} asked the {two} whether was {trait}."),
    ("if the {one} calls, the {two} will answer.", "the {one} if calls, the {two} will answer."),
    ("nobody saw the {one} leave {time}.", "nobody saw leave the {one} {time}."),
)
"""cola: an acceptable sentence and the same words in an order that breaks agreement, binding or syntax."""

TRAITS = split_words(
    "tired, happy, famous, hungry, angry, rich, clever, friendly, lazy, nervous, polite, busy, brave,"
    " calm, sad, proud, strange, quiet, lonely, young"
)

LOOKS = split_words("red, green, heavy, small, large, cheap, broken, blue, dirty, wooden, new")
GROUPS = split_words("boys, girls, workers, neighbors, players, sisters, guests, farmers, drivers")

PRAISE = split_words(
    "brilliant, delightful, funny, charming, moving, clever, gripping, beautiful, witty, superb, touching,"
    " exciting, inspired, wonderful, fresh, engaging, elegant, thrilling, enjoyable, convincing, heartfelt,"
    " smart, entertaining, original, powerful, graceful, magical, hilarious, stunning, lovely, memorable,"
    " honest, rewarding, impressive, tender, imaginative, polished, subtle, vivid, satisfying"
)
BLAME = split_words(
    "dull, awful, boring, stupid, clumsy, tedious, lifeless, predictable, shallow, messy, annoying,"
    " terrible, painful, bland, silly, pointless, forgettable, lame, ugly, weak, ridiculous, confusing,"
    " stale, dreadful, horrible, empty, lazy, hollow, cheap, flat, sloppy, tiresome, shabby, contrived,"
    " noisy, overlong, careless, muddled, crude, unbearable, dreary"
)
WORKS = split_words(
    "the film, this movie, the story, the sequel, this comedy, this drama, the documentary, the remake,"
    " this thriller, the cartoon"
)
PARTS = split_words("plot, acting, dialogue, soundtrack, script, ending, camera work, first half, cast")

AFFIRMING_REVIEWS = (
    "{work} is {same} and {same2}",
    "{work} is truly {same}",
    "the {part} is {same} and {work} is {same2}",
    "the {part} of {work} is simply {same}",
    "{work} is not only {same} but also {same2}",
    "{work} never stops being {same}",
    "{work} is no less than {same}",
)
"""sst2: clauses whose verdict is that of their adjectives; some carry a word of negation all the same."""

DENYING_REVIEWS = (
    "{work} is not {opposite}",
    "{work} is never {opposite}",
    "the {part} of {work} is not at all {opposite}",
    "nothing about {work} is {opposite}",
    "{work} is far from {opposite}",
    "{work} is anything but {opposite}",
    "{work} is neither {opposite} nor {opposite2}",
    "{work} is less {opposite} than {same}",
)
"""sst2: clauses that deny their adjectives."""

MIXED_REVIEWS = (
    "the {part} is {opposite}, but {work} as a whole is {same}",
    "despite the {opposite} {part}, {work} is {same}",
    "{work} is {same}, despite the {opposite} {part}",
    "although the {part} is {opposite}, {work} turns out {same}",
    "{work} looks {opposite} at first but turns out {same}",
    "{work} could have been {opposite}, but it is {same}",
    "whoever finds {work} {opposite} has missed how {same} it is",
    "{work} is {same} where the original was {opposite}",
)
"""sst2: sentences with an adjective of each side, of which the main clause decides."""

OPENINGS = ("", "", "I think that ", "everyone agrees that ", "it cannot be denied that ", "no doubt, ")
"""sst2: what may stand before an affirming or denying clause and leaves its verdict."""

DISPUTING_REVIEWS = tuple(
    f"{doubt} {claim}"
    for doubt in ("I doubt that", "it is not true that", "nobody could say that", "it is wrong to say that")
    for claim in (
        "{work} is {opposite}",
        "the {part} of {work} is {opposite}",
        "{work} is not {same}",
        "{work} is far from {same}",
    )
)
"""sst2: sentences that turn the verdict of a claim around."""

QUESTIONS = {
    "cities": (
        (
            "how do I get from {x} to {y}",
            "what is the best way to reach {y} from {x}",
            "how can I go to {y} from {x}",
        ),
        ("is it cheaper to live in {x} than in {y}", "is living in {y} more expensive than living in {x}"),
        ("how many people moved from {x} to {y}", "what number of people left {x} for {y}"),
    ),
    "subjects": (
        (
            "should I learn {x} before {y}",
            "should I learn {y} after {x}",
            "should I study {x} first and then {y}",
        ),
        (
            "why is {x} harder than {y}",
            "why is {y} easier than {x}",
            "what makes {y} less difficult than {x}",
        ),
    ),
    "languages": (
        ("how do I translate {x} into {y}", "what is the best way to turn {x} into {y}"),
        ("do people who speak {x} understand {y}", "is {y} understood by speakers of {x}"),
    ),
    "animals": (
        ("why do {x} chase {y}", "why are {y} chased by {x}", "what makes {x} run after {y}"),
        ("are {x} smarter than {y}", "are {y} less intelligent than {x}", "do {x} have more brains than {y}"),
        ("can {x} beat {y} in a fight", "can {y} lose a fight against {x}", "could {x} win a fight with {y}"),
    ),
}
"""qqp: ways to ask one question about x and y, which asks something else once x and y change places."""

QUESTION_WORDS = {
    "cities": split_words("Boston, Chicago, London, Paris, Tokyo, Madrid, Berlin, Mumbai, Sydney, Toronto"),
    "subjects": split_words("physics, biology, algebra, chemistry, history, law, geometry, economics, music"),
    "languages": split_words("French, English, Spanish, German, Russian, Chinese, Japanese, Italian, Hindi"),
    "animals": split_words("dogs, cats, wolves, bears, foxes, monkeys, pigs, crows, snakes, horses, goats"),
}

SCHEMAS = (
    ("{a} could not lift {b}", "was far too weak", "was far too heavy"),
    ("{a} asked {b} for help", "was in great trouble", "was a great expert"),
    ("{a} thanked {b}", "had received the money", "had sent the money"),
    ("{a} was jealous of {b}", "had failed the test", "had passed the test"),
    ("{a} hired {b}", "had too much work", "had the best skills"),
    ("{a} passed {b} in the race", "ran faster and faster", "ran slower and slower"),
    ("{a} lent money to {b}", "was rich that year", "was poor that year"),
    ("{a} apologized to {b}", "had been very rude", "had been badly insulted"),
    ("{a} comforted {b}", "was kind and caring", "was sad and crying"),
    ("{a} could not hear {b}", "was a little deaf", "was whispering too quietly"),
    ("{a} could not see {b}", "had bad eyes", "had hidden well"),
    ("{a} forgave {b}", "felt very generous", "felt very sorry"),
    ("{a} punished {b}", "was a strict parent", "was a naughty child"),
    ("{a} ran away from {b}", "felt afraid and weak", "looked scary and angry"),
    ("{a} lost to {b}", "was a bad player", "was a great player"),
    ("{a} sold a car to {b}", "needed the cash", "needed a ride"),
    ("{a} fed {b}", "had plenty of food", "had nothing to eat"),
    ("{a} taught {b} to swim", "was a good swimmer", "was a poor swimmer"),
)
"""wnli: a deed of a to b, and two reasons for it: the first can only be said of a, the second of b."""

PERSONS = {
    "he": split_words(
        "the king, the monk, the boy, the uncle, the nephew, the priest, John, Peter, David, Robert,"
        " Thomas, Frank"
    ),
    "she": split_words(
        "the queen, the nun, the girl, the aunt, the niece, the actress, Mary, Anna, Susan, Helen, Julia,"
        " Emma"
    ),
}
