"""Action Genome's vocabulary: 36 object classes and 26 predicates in three groups.

An index into `OBJECT_CLASSES` is the field's class index minus one (there is no background class here);
an index into `PREDICATES` is the field's global predicate id. Raw annotation files spell most names without
separators (`cupglassbottle`, `lookingat`); `RAW_OBJECT_CLASSES` and `RAW_PREDICATES` keep that spelling and order,
because the order on disk decides what every stored index means.
"""

from typing import Final, Literal

PredicateGroup = Literal["attention", "spatial", "contacting"]

PERSON: Final = "person"

OBJECT_CLASSES: Final[tuple[str, ...]] = (
    PERSON,
    "bag",
    "bed",
    "blanket",
    "book",
    "box",
    "broom",
    "chair",
    "closet/cabinet",
    "clothes",
    "cup/glass/bottle",
    "dish",
    "door",
    "doorknob",
    "doorway",
    "floor",
    "food",
    "groceries",
    "laptop",
    "light",
    "medicine",
    "mirror",
    "paper/notebook",
    "phone/camera",
    "picture",
    "pillow",
    "refrigerator",
    "sandwich",
    "shelf",
    "shoe",
    "sofa/couch",
    "table",
    "television",
    "towel",
    "vacuum",
    "window",
)

ATTENTION: Final[tuple[str, ...]] = ("looking_at", "not_looking_at", "unsure")
SPATIAL: Final[tuple[str, ...]] = ("above", "beneath", "in_front_of", "behind", "on_the_side_of", "in")
CONTACTING: Final[tuple[str, ...]] = (
    "carrying",
    "covered_by",
    "drinking_from",
    "eating",
    "have_it_on_the_back",
    "holding",
    "leaning_on",
    "lying_on",
    "not_contacting",
    "other_relationship",
    "sitting_on",
    "standing_on",
    "touching",
    "twisting",
    "wearing",
    "wiping",
    "writing_on",
)
PREDICATES: Final[tuple[str, ...]] = ATTENTION + SPATIAL + CONTACTING

PREDICATES_OF_GROUP: Final[dict[PredicateGroup, tuple[str, ...]]] = {
    "attention": ATTENTION,
    "spatial": SPATIAL,
    "contacting": CONTACTING,
}
GROUPS: Final[tuple[PredicateGroup, ...]] = ("attention", "spatial", "contacting")

OBJECT_INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(OBJECT_CLASSES)}
PREDICATE_INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(PREDICATES)}
GROUP_OF_PREDICATE: Final[dict[str, PredicateGroup]] = {
    predicate: group for group, predicates in PREDICATES_OF_GROUP.items() for predicate in predicates
}
GROUP_SLICE: Final[dict[PredicateGroup, slice]] = {
    "attention": slice(0, 3),
    "spatial": slice(3, 9),
    "contacting": slice(9, 26),
}

RAW_OBJECT_CLASSES: Final[tuple[str, ...]] = tuple(name.replace("/", "") for name in OBJECT_CLASSES)
RAW_PREDICATES: Final[tuple[str, ...]] = tuple(name.replace("_", "") for name in PREDICATES)


def runs_from_object(predicate: str) -> bool:
    """Whether the triplet reads `<object, predicate, person>`, as spatial ones do in Action Genome."""
    return GROUP_OF_PREDICATE[predicate] == "spatial"
