"""Frequencies of the contacts that each thing takes part in, after Action Genome's counts."""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from models.graph.vocabulary import ACTION_GENOME
from training.data.puppets.things import THINGS

Table = npt.NDArray[np.float64]

CONTACTING: Final = ACTION_GENOME.groups[2].predicates

OBJECT_COUNTS: Final[tuple[int, ...]] = (
    13042, 8362, 10797, 15346, 8387, 6291, 24164, 11934, 16723, 25298, 15515, 11849, 3023, 11343, 15610, 29641, 3192,
    11065, 1488, 3371, 6172, 9003, 15089, 3409, 7067, 3405, 10625, 8606, 5987, 10397, 30046, 3021, 11019, 2545, 3651,
)  # fmt: skip
"""Action Genome's training instances of each of `THINGS`."""

ATTENTION_COUNTS: Final = (144546, 193213, 38724)
SPATIAL_COUNTS: Final = (4643, 58176, 254476, 46368, 69810, 12921)
CONTACTING_COUNTS: Final = (
    4008, 4076, 4377, 3214, 314, 156897, 11506, 3395, 105067, 8743, 40545, 7606, 52165, 86, 6761, 772, 1102,
)  # fmt: skip
"""Action Genome's training labels of each predicate, in the vocabulary's order."""

PORTABLE: Final = frozenset((
    "bag", "blanket", "book", "box", "broom", "clothes", "cup/glass/bottle", "dish", "food", "groceries", "laptop",
    "light", "medicine", "paper/notebook", "phone/camera", "picture", "pillow", "sandwich", "shoe", "towel", "vacuum",
))  # fmt: skip
"""Things that a hand can lift."""

_COMMON: Final[dict[str, dict[str, float]]] = {
    "carrying": {
        "bag": 1, "box": 1, "groceries": 1, "clothes": 0.6, "blanket": 0.6, "laptop": 0.4, "towel": 0.3,
        "book": 0.3, "pillow": 0.4, "dish": 0.2, "vacuum": 0.3, "broom": 0.2,
    },
    "covered_by": {"blanket": 1, "towel": 0.3, "clothes": 0.06},
    "drinking_from": {"cup/glass/bottle": 1, "medicine": 0.1},
    "eating": {"food": 1, "sandwich": 1, "groceries": 0.05, "medicine": 0.1},
    "have_it_on_the_back": {"bag": 1, "blanket": 0.15, "towel": 0.1, "clothes": 0.1, "box": 0.1},
    "holding": {**dict.fromkeys(PORTABLE, 1.0), "light": 0.3},
    "leaning_on": {
        "door": 0.5, "doorway": 0.4, "closet/cabinet": 0.5, "refrigerator": 0.4, "table": 0.6,
        "sofa/couch": 0.5, "bed": 0.4, "chair": 0.5, "shelf": 0.4, "window": 0.4, "pillow": 0.2,
    },
    "lying_on": {"bed": 1, "sofa/couch": 0.6, "floor": 0.6, "pillow": 0.1, "blanket": 0.2},
    "not_contacting": {
        **dict.fromkeys(THINGS, 0.35), "television": 1, "window": 1, "picture": 0.8, "mirror": 1, "light": 0.8,
        "shelf": 0.6, "door": 0.5, "doorway": 0.8, "floor": 0.05,
    },
    "other_relationship": {
        "box": 0.4, "shoe": 0.3, "pillow": 0.3, "bag": 0.3, "door": 0.3, "broom": 0.3, "vacuum": 0.4,
        "clothes": 0.2, "towel": 0.2, "food": 0.05, "table": 0.2, "blanket": 0.2,
    },
    "sitting_on": {
        "chair": 1, "sofa/couch": 1, "bed": 0.7, "floor": 0.7, "table": 0.2, "box": 0.1, "pillow": 0.1,
        "blanket": 0.1,
    },
    "standing_on": {"floor": 1, "chair": 0.15, "box": 0.15, "table": 0.08, "bed": 0.1, "blanket": 0.1},
    "touching": {
        "table": 1, "door": 1, "doorknob": 0.8, "closet/cabinet": 1, "refrigerator": 1, "shelf": 0.9,
        "mirror": 0.6, "window": 0.7, "television": 0.5, "laptop": 0.5, "chair": 0.3, "bed": 0.3, "sofa/couch": 0.3,
        "floor": 0.02, "picture": 0.5, "light": 0.5, "paper/notebook": 0.2, "book": 0.2, "pillow": 0.2,
        "box": 0.3, "bag": 0.2, "blanket": 0.2, "clothes": 0.2, "towel": 0.2, "shoe": 0.2, "dish": 0.2, "food": 0.15,
        "vacuum": 0.2, "doorway": 0.3, "phone/camera": 0.1, "cup/glass/bottle": 0.1, "sandwich": 0.05,
        "medicine": 0.1,
    },
    "twisting": {"cup/glass/bottle": 1, "doorknob": 0.8, "towel": 0.5, "medicine": 0.5, "clothes": 0.2},
    "wearing": {"clothes": 1, "shoe": 1, "towel": 0.05, "blanket": 0.05},
    "wiping": {
        "table": 1, "window": 1, "mirror": 1, "shelf": 0.5, "refrigerator": 0.4, "closet/cabinet": 0.3,
        "door": 0.3, "television": 0.4, "dish": 0.3,
    },
    "writing_on": {"paper/notebook": 1, "book": 0.3, "box": 0.05, "table": 0.03},
}  # fmt: skip

_POSSIBLE: Final[dict[str, frozenset[str]]] = {
    "carrying": PORTABLE,
    "covered_by": frozenset(("blanket", "towel", "clothes", "bag", "pillow")),
    "drinking_from": frozenset(("cup/glass/bottle", "dish", "food", "groceries", "box")),
    "eating": PORTABLE - {"vacuum", "broom", "light", "picture"},
    "have_it_on_the_back": PORTABLE - {"dish", "phone/camera", "cup/glass/bottle"},
    "holding": PORTABLE,
    "leaning_on": frozenset(THINGS) - PORTABLE - {"floor", "doorknob"},
    "lying_on": frozenset(("bed", "sofa/couch", "floor", "table", "blanket", "pillow")),
    "not_contacting": frozenset(THINGS),
    "other_relationship": frozenset(THINGS) - {"doorknob", "picture", "window", "light", "mirror", "floor"},
    "sitting_on": frozenset(("chair", "sofa/couch", "bed", "floor", "table", "box", "pillow", "blanket", "bag")),
    "standing_on": frozenset(("floor", "chair", "box", "table", "bed", "blanket", "sofa/couch")),
    "touching": frozenset(THINGS) - {"floor"},
    "twisting": PORTABLE - {"vacuum", "broom", "blanket"},
    "wearing": frozenset(("clothes", "shoe", "towel", "blanket", "bag")),
    "wiping": frozenset(THINGS) - {"floor", "food", "sandwich"},
    "writing_on": frozenset(("paper/notebook", "book", "box", "table", "door", "shoe")),
}

_CROWDED_OUT: Final[dict[str, float]] = {
    "carrying": 2.2, "covered_by": 1.7, "sitting_on": 1.2, "wearing": 1.25, "have_it_on_the_back": 1.3, "twisting": 1.2,
    "writing_on": 1.3,
}  # fmt: skip
"""Contacts that a body often cannot combine with another drawn one.

They are drawn more often by these factors, to reach their shares.
"""


def contacting_shares(rarest: float) -> Table:
    """Returns the wanted share of each contacting predicate, (17,): Action Genome's, but at least `rarest`."""
    counts = np.array(CONTACTING_COUNTS, dtype=np.float64)
    shares = np.maximum(counts / counts.sum(), rarest)
    for contact, boost in _CROWDED_OUT.items():
        shares[CONTACTING.index(contact)] *= boost
    return np.asarray(shares / shares.sum())


@cache
def joint_shares(unusual: float, rarest: float) -> Table:
    """Returns the probability of each pair of thing and main contact, (35, 17).

    The weights above are fitted to Action Genome's frequencies of classes and of contacts at once, by proportional
    fitting of rows and columns in turn. A contact's column is met exactly, a class's row as far as the ties allow.
    """
    table = np.zeros((len(THINGS), len(CONTACTING)))
    for column, contact in enumerate(CONTACTING):
        for row, thing in enumerate(THINGS):
            if thing in _POSSIBLE[contact]:
                table[row, column] = unusual
            table[row, column] = _COMMON[contact].get(thing, table[row, column])
    rows = np.array(OBJECT_COUNTS, dtype=np.float64)
    rows /= rows.sum()
    columns = contacting_shares(rarest)
    for _ in range(60):
        table *= (rows / table.sum(axis=1))[:, None]
        table *= (columns / table.sum(axis=0))[None, :]
    return table
