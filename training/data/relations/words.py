"""Translates the words of other data sets into Action Genome's.

A thing that Action Genome lacks keeps its own name. A verb that says nothing in Action Genome's words is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_BOTTLES: Final = dict.fromkeys(
    ("bottle", "cup", "wine glass", "mug", "coffee cup", "beer", "can", "glass"), "cup/glass/bottle"
)
_FOOD: Final = dict.fromkeys(
    ("apple", "banana", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "pretzel"), "food"
)
_CLOTHES: Final = dict.fromkeys(("tie", "shirt", "hat", "pants", "jacket", "coat", "shorts", "jeans"), "clothes")
_BAGS: Final = dict.fromkeys(("backpack", "handbag", "suitcase", "basket", "luggage", "briefcase"), "bag")
_TABLES: Final = dict.fromkeys(("dining table", "desk", "counter", "coffee table"), "table")
OBJECTS: Final[dict[str, str]] = {
    **_BOTTLES,
    **_FOOD,
    **_CLOTHES,
    **_BAGS,
    **_TABLES,
    "bench": "chair",
    "bowl": "dish",
    "plate": "dish",
    "pot": "dish",
    "couch": "sofa/couch",
    "sofa": "sofa/couch",
    "sofa bed": "sofa/couch",
    "tv": "television",
    "monitor": "television",
    "cell phone": "phone/camera",
    "mobile phone": "phone/camera",
    "phone": "phone/camera",
    "camera": "phone/camera",
    "shoes": "shoe",
    "cabinet": "closet/cabinet",
    "lamp": "light",
    "paper": "paper/notebook",
    "medcinebox": "medicine",
    **dict.fromkeys(("man", "woman", "boy", "girl"), "person"),
}
"""Their name to Action Genome's."""

WORN_ON_THE_BACK: Final = frozenset({"backpack"})
BOARDS: Final = frozenset({"skateboard", "surfboard", "snowboard", "skis", "ski"})
"""Classes whose riders stand on them."""
SADDLED: Final = frozenset({"bicycle", "bike", "motorcycle", "horse", "elephant", "cow", "sheep", "giraffe"})
"""Classes whose riders sit on them."""

CONTACTS: Final = frozenset({
    "carrying", "covered_by", "drinking_from", "eating", "have_it_on_the_back", "holding", "leaning_on", "lying_on",
    "sitting_on", "standing_on", "touching", "twisting", "wearing", "wiping", "writing_on",
})  # fmt: skip
"""Predicates of which one is enough to contradict `not_contacting`."""
SPATIAL: Final = ("above", "beneath", "in_front_of", "behind", "on_the_side_of", "in")
INVERSE: Final = {
    "above": "beneath",
    "beneath": "above",
    "behind": "in_front_of",
    "in_front_of": "behind",
    "on_the_side_of": "on_the_side_of",
}
"""The same said from the other side. `in` has no inverse: Action Genome says it of the person who is in a thing."""


def plain(name: str) -> str:
    """A class name in lower case with spaces, as in `dining table`."""
    return name.strip().lower().replace("_", " ")


def object_name(name: str) -> str:
    """The name that a class of another set bears here."""
    return OBJECTS.get(plain(name), plain(name))


def ridden(name: str) -> tuple[str, ...]:
    """Returns the predicates that riding a thing of this class means."""
    if plain(name) in BOARDS:
        return ("standing_on",)
    return ("sitting_on",) if plain(name) in SADDLED else ()


def worn(name: str) -> tuple[str, ...]:
    """Returns the predicates that wearing a thing of this class means."""
    return ("have_it_on_the_back",) if plain(name) in WORN_ON_THE_BACK else ("wearing",)


def in_order(predicates: Iterable[str]) -> tuple[str, ...]:
    """Each once, sorted."""
    return tuple(sorted(set(predicates)))


def uncontradicted(predicates: Iterable[str]) -> tuple[str, ...]:
    """`predicates` without `not_contacting` where one of them is a contact."""
    holds = set(predicates)
    return in_order(holds - {"not_contacting"} if holds & CONTACTS else holds)


def without_doubt(asked: Iterable[str], predicates: Iterable[str]) -> tuple[str, ...]:
    """`asked` without `not_contacting` where an interaction that is no contact leaves open whether they touch."""
    holds = set(predicates)
    if holds & CONTACTS or "not_contacting" in holds:
        return in_order(asked)
    return in_order(set(asked) - {"not_contacting"})
