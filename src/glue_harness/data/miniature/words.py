"""The words of the miniature GLUE: people, verbs, things, places and times, and which mean the same.

Written for this project. In the lists a comma separates meanings and `=` joins words of one meaning; a verb
is base/past or base/past/participle, an adjective of comparison is base/comparative.
"""

from __future__ import annotations

from dataclasses import dataclass

Sense = tuple[str, ...]
"""Words or phrases of one meaning; whichever stands in a sentence, the sentence says the same."""


def split_senses(listing: str) -> tuple[Sense, ...]:
    """Split a listing into its meanings."""
    return tuple(tuple(word.strip() for word in item.split("=")) for item in listing.split(","))


def split_words(listing: str) -> tuple[str, ...]:
    """Split a listing of which every meaning has one word or phrase."""
    return tuple(word for (word,) in split_senses(listing))


@dataclass(frozen=True)
class Lexicon:
    """The vocabulary of one genre."""

    people: tuple[Sense, ...]
    deeds: tuple[Sense, ...]
    """What one person does to another; none follows from another or from itself with the two swapped."""
    things: tuple[Sense, ...]
    handlings: tuple[Sense, ...]
    """What a person does with a thing; none follows from another."""
    dealings: tuple[Sense, ...]
    """What a person does with one of a kind."""
    kinds: dict[str, tuple[str, ...]]
    """A kind and its members, e.g. instrument: violin, flute; the kinds are disjoint."""
    places: tuple[Sense, ...]
    times: tuple[Sense, ...]
    rooms: tuple[Sense, ...]
    """Places as the subject of a sentence."""
    surfaces: tuple[str, ...]
    """Where a room is, to tell it from others."""


TOWN = Lexicon(
    people=split_senses(
        "doctor=physician, lawyer=attorney, writer=author, nurse, teacher=instructor, judge, pilot,"
        " painter, singer=vocalist, student=pupil, soldier=trooper, baker, waiter=server, banker, plumber,"
        " dentist, actor, tailor, barber, mayor, clerk, butcher, tourist=traveler, professor, chef=cook,"
        " cleaner=janitor, engineer, secretary, librarian, manager"
    ),
    deeds=split_senses(
        "call/called=phone/phoned, hire/hired=employ/employed, rescue/rescued=save/saved,"
        " praise/praised=commend/commended, mock/mocked=ridicule/ridiculed,"
        " scare/scared=frighten/frightened, annoy/annoyed=irritate/irritated, thank/thanked,"
        " visit/visited, interview/interviewed, warn/warned=caution/cautioned, blame/blamed,"
        " invite/invited, forgive/forgave/forgiven, photograph/photographed, push/pushed=shove/shoved,"
        " hug/hugged=embrace/embraced"
    ),
    things=split_senses(
        "car=automobile, bike=bicycle, sofa=couch, photo=picture, present=gift, lamp=light, table, chair,"
        " clock, piano, mirror, ladder, computer, camera, wallet, umbrella, suitcase, phone=telephone,"
        " blanket, carpet=rug, radio, bottle, basket, bench, statue"
    ),
    handlings=split_senses(
        "buy/bought=purchase/purchased, fix/fixed=repair/repaired, throw/threw/thrown=toss/tossed,"
        " hide/hid/hidden=conceal/concealed, paint/painted, clean/cleaned, break/broke/broken,"
        " measure/measured, sell/sold, find/found=discover/discovered, wrap/wrapped, borrow/borrowed,"
        " steal/stole/stolen, design/designed, rent/rented"
    ),
    dealings=split_senses(
        "buy/bought=purchase/purchased, find/found=discover/discovered, steal/stole/stolen, sell/sold,"
        " photograph/photographed, describe/described, choose/chose/chosen=select/selected,"
        " receive/received"
    ),
    kinds={
        "instrument": ("violin", "flute", "guitar", "trumpet", "cello"),
        "drink": ("coffee", "lemonade", "beer", "soda", "wine"),
        "toy": ("doll", "teddy bear", "yo-yo"),
        "tool": ("hammer", "screwdriver", "wrench", "saw"),
        "weapon": ("rifle", "pistol", "sword", "dagger"),
        "jewel": ("diamond", "ruby", "emerald", "sapphire"),
        "vehicle": ("truck", "taxi", "van", "motorcycle"),
        "book": ("novel", "dictionary", "cookbook", "textbook"),
        "dog": ("poodle", "bulldog", "beagle", "terrier"),
        "dessert": ("cake", "pudding", "brownie", "cheesecake"),
    },
    places=split_senses(
        "at the shop=at the store, in the garage, at the airport, in the kitchen, at the office, in the"
        " library, at the hotel, at the school, at the museum, in the basement=in the cellar, in the"
        " bedroom, at the bank, at the theater, on the street=on the road, at the hospital=at the clinic,"
        " on the train, at the stadium"
    ),
    times=split_senses(
        "on Monday, on Tuesday, on Friday, on Sunday, last week, last year, in January, in April, in"
        " October, at noon=at midday, in the morning, in the evening=at nightfall, in the fall=in the"
        " autumn, during the holidays=during the vacation, before lunch, after dinner=after supper"
    ),
    rooms=split_senses(
        "shop=store, office, library, hotel, museum, garage, restaurant, theater, bank, bar=pub"
    ),
    surfaces=("by the station", "near the park", "on the corner", "next to the church", "behind the school"),
)

COUNTRY = Lexicon(
    people=split_senses(
        "farmer, hunter, shepherd, sailor, fisherman, miller, gardener, ranger, beekeeper, captain,"
        " blacksmith, hiker, camper, explorer, villager, rider, prince, knight, monk, carpenter, trapper,"
        " surfer, climber, swimmer"
    ),
    deeds=split_senses(
        "chase/chased=pursue/pursued, rescue/rescued=save/saved, scare/scared=frighten/frightened,"
        " fool/fooled=trick/tricked, bless/blessed, guide/guided, attack/attacked, feed/fed,"
        " wake/woke/woken, push/pushed=shove/shoved, warn/warned, admire/admired, betray/betrayed"
    ),
    things=split_senses(
        "boat, rope, tent, fence, wagon=cart, saddle, bucket=pail, net, axe, plow, lantern, canoe, sled,"
        " stone=rock, barrel, gate, raft, kite, backpack"
    ),
    handlings=split_senses(
        "build/built=construct/constructed, fix/fixed=repair/repaired, hide/hid/hidden=conceal/concealed,"
        " paint/painted, drag/dragged=pull/pulled, burn/burned, lose/lost, find/found=discover/discovered,"
        " wash/washed, steal/stole/stolen, kick/kicked, trade/traded"
    ),
    dealings=split_senses(
        "buy/bought=purchase/purchased, find/found=discover/discovered, draw/drew/drawn=sketch/sketched,"
        " photograph/photographed, describe/described, see/saw/seen=spot/spotted, admire/admired"
    ),
    kinds={
        "tree": ("oak", "pine", "birch", "willow"),
        "flower": ("rose", "tulip", "daisy", "lily"),
        "bird": ("sparrow", "eagle", "owl", "robin"),
        "fish": ("salmon", "trout", "tuna", "shark"),
        "insect": ("beetle", "ant", "moth", "wasp"),
        "fruit": ("peach", "pear", "plum", "cherry"),
        "vegetable": ("carrot", "cabbage", "turnip", "onion"),
        "snake": ("cobra", "python", "viper"),
    },
    places=split_senses(
        "in the forest=in the woods, by the sea=by the ocean, on the hill, in the valley, near the river,"
        " in the meadow, by the lake, in the desert, on the island, in the swamp, on the beach=on the"
        " shore, near the cave"
    ),
    times=split_senses(
        "at dawn=at sunrise, at dusk=at sunset, in the winter, in the summer, during the storm, after the"
        " harvest, before the flood, on Saturday, on Thursday, in March, in August, in the afternoon"
    ),
    rooms=split_senses("barn, stable, cabin=hut, cave, mill, tent, lighthouse, cottage, chapel, bridge"),
    surfaces=("by the lake", "near the woods", "on the hill", "across the river", "behind the farm"),
)

STATES_OF_PEOPLE: tuple[tuple[str, str], ...] = (
    ("awake", "asleep"),
    ("present", "absent"),
    ("healthy", "sick"),
    ("guilty", "innocent"),
    ("indoors", "outdoors"),
    ("sober", "drunk"),
    ("married", "single"),
)
STATES_OF_ROOMS: tuple[tuple[str, str], ...] = (
    ("open", "closed"),
    ("clean", "dirty"),
    ("wet", "dry"),
    ("safe", "dangerous"),
    ("quiet", "noisy"),
    ("bright", "dark"),
)
"""Opposites of which exactly one holds, so that denying one is saying the other."""

COMPARISONS = (
    ("tall/taller", "short/shorter"),
    ("old/older", "young/younger"),
    ("rich/richer", "poor/poorer"),
    ("strong/stronger", "weak/weaker"),
    ("fast/faster", "slow/slower"),
    ("smart/smarter", "dumb/dumber"),
    ("heavy/heavier", "light/lighter"),
)

TRANSFERS = (
    ("sell/sold", "buy/bought"),
    ("lend/lent", "borrow/borrowed"),
    ("give/gave", "get/got"),
    ("rent/rented", "rent/rented"),
)
"""Giving `to` and taking `from`: two sides of one event."""
