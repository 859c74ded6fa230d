"""English words for names that a bundle gives none for: nouns of labels, and phrases of predicates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_VOWELS: Final = "aeiou"
_PREPOSITIONS: Final = {
    "about", "above", "across", "against", "ahead", "along", "alongside", "amid", "among", "around", "at", "atop",
    "away", "before", "behind", "below", "beneath", "beside", "besides", "between", "beyond", "by", "close", "down",
    "far", "following", "for", "from", "in", "inside", "into", "left", "near", "next", "of", "off", "on", "onto",
    "opposite", "out", "outside", "over", "past", "right", "through", "to", "together", "touching", "toward",
    "towards", "under", "underneath", "up", "upon", "with", "within",
}  # fmt: skip
_IRREGULAR_PLURALS: Final = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth",
    "mouse": "mice", "sheep": "sheep", "fish": "fish", "deer": "deer", "knife": "knives", "shelf": "shelves",
    "leaf": "leaves", "loaf": "loaves", "scarf": "scarves", "wolf": "wolves",
}  # fmt: skip
_IRREGULAR_VERBS: Final = {"have": "has", "be": "is", "go": "goes", "do": "does"}  # base to third person


def listed(words: Sequence[str], joint: str = "and") -> str:
    """Joins words as "a, b and c"."""
    return f" {joint} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def noun_of(label: str) -> str:
    """Returns a label as a noun: "dining table" of `dining_table`, "mug or jar" of `mug/jar`."""
    names = [" ".join(name.replace("_", " ").split()) for name in label.split("/")]
    return listed([name for name in names if name], "or") or label


def plural_of(noun: str) -> str:
    """Returns the plural of a noun, such as "boxes", "sets of clothes" or "mugs or jars".

    >>> plural_of("cup or policeman"), plural_of("set of dishes")
    ('cups or policemen', 'sets of dishes')
    """
    if " or " in noun or ", " in noun:
        return re.sub(r"(.+?)(, | or |$)", lambda found: plural_of(found[1]) + found[2], noun)
    head, of, rest = noun.partition(" of ")
    before, space, word = head.rpartition(" ")
    return f"{before}{space}{_plural(word)}{of}{rest}"


def with_article(noun: str) -> str:
    """Puts the indefinite article before a noun: "a chair", "an apple"."""
    return f"{'an' if noun[:1].lower() in _VOWELS else 'a'} {noun}"


def phrase_of(predicate: str, *, from_object: bool) -> str:
    """Returns the words of a sentence about the subject, with `{}` for the thing where it does not come last.

    from_object: whether the predicate is said of the thing, as `behind` is in `<table, behind, person>`.

    >>> phrase_of("reaching_for", from_object=False), phrase_of("hold", from_object=False)
    ('is reaching for', 'holds')
    >>> phrase_of("behind", from_object=True), phrase_of("follows", from_object=True)
    ('has {} behind them', 'has {} following them')
    """
    words = predicate.replace("_", " ").split() or [predicate]
    first, rest = words[0], words[1:]
    if first == "no":
        return " ".join(["has", *words, *([] if words[-1] in _PREPOSITIONS else ["with"])])
    if _is_state(words):
        return " ".join(["has {}", *words, "them"] if from_object else ["is", *words])
    base = _base(first) if _is_third_person(first) else first
    if from_object:
        return " ".join(["has {}", _gerund(base), *rest, "them"])
    return " ".join([_third_person(base), *rest])


def _is_state(words: Sequence[str]) -> bool:
    """Whether "is" goes before the words: "sitting on", "covered by", "next to", "taller than", "not on"."""
    first, second = words[0].lower(), "".join(words[1:2])
    is_gerund = first.endswith("ing") and any(letter in f"{_VOWELS}y" for letter in first[:-3])
    is_participle = (first.endswith("ed") and not first.endswith("eed")) or second in ("by", "of", "than")
    return is_gerund or is_participle or first == "not" or first in _PREPOSITIONS


def _is_third_person(word: str) -> bool:
    return word.endswith("s") and not word.endswith("ss")


def _third_person(base: str) -> str:
    return _IRREGULAR_VERBS.get(base) or _with_s(base)


def _base(verb: str) -> str:
    """Returns the base form of a verb: "carry" of "carries"."""
    for base, third_person in _IRREGULAR_VERBS.items():
        if verb == third_person:
            return base
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    return verb[:-2] if verb.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")) else verb[:-1]


def _gerund(base: str) -> str:
    """Returns the gerund of a verb: "riding" of "ride", "hitting" of "hit"."""
    if base.endswith("ie"):
        return f"{base[:-2]}ying"
    if base.endswith("e") and base != "be" and not base.endswith(("ee", "oe", "ye")):
        return f"{base[:-1]}ing"
    # A short word's last consonant is doubled.
    if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base):
        return f"{base}{base[-1]}ing"
    return f"{base}ing"


def _plural(word: str) -> str:
    for singular, plural in _IRREGULAR_PLURALS.items():
        if word == singular or (singular in ("man", "woman") and word.endswith(singular) and word != "human"):
            return word.removesuffix(singular) + plural
    return _with_s(word)


def _with_s(word: str) -> str:
    if not word.isascii():  # most likely of another language
        return word
    if word.endswith("y") and word[-2:-1] not in _VOWELS:
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "z", "ch", "sh", "ato")) else f"{word}s"
