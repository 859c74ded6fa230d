"""The classes of a detector: their names, and the objects of a vocabulary that they mean."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from export.errors import ExportError
from models.graph.validation import in_words
from models.graph.vocabulary import Vocabulary

BACKGROUND = frozenset({"", "__background__", "background", "n/a", "no object"})
"""Names of columns that mean nothing, in small letters."""
METADATA_KEYS = ("names", "class_names", "classes", "labels", "id2label")
"""Keys of an ONNX model's metadata that hold the names of its classes."""
_COCO_91: tuple[str, ...] = tuple(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
KNOWN_CLASSES: Mapping[str, tuple[str, ...]] = {
    "coco-80": tuple(name for name in _COCO_91 if name.lower() not in BACKGROUND),
    "coco-90": _COCO_91[1:],
    "coco-91": _COCO_91,
}
"""Lists of names that come with the code. `coco-91` is in the order of COCO's ids, with gaps; `coco-90` begins at 1."""
_NAMES: TypeAdapter[list[str] | dict[Annotated[int, Field(ge=0, le=100_000)], str]] = TypeAdapter(
    list[str] | dict[Annotated[int, Field(ge=0, le=100_000)], str]
)
_TABLE: TypeAdapter[dict[str, str | None]] = TypeAdapter(dict[str, str | None])


def read_class_names(source: str) -> tuple[str, ...]:
    """Reads the names of a detector's classes, in the order of its columns.

    Raises ExportError where the file cannot be read or has no names.

    source: a key of `KNOWN_CLASSES`, or the path of a text file with one name a line. An empty line stands for a
        column that means nothing.
    """
    if source in KNOWN_CLASSES:
        return KNOWN_CLASSES[source]
    try:
        text = Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(
            f"--classes is {source!r}, which cannot be read ({error}): "
            f"give a text file with one name a line, or one of {', '.join(KNOWN_CLASSES)}"
        ) from error
    names = tuple(line.strip() for line in text.splitlines())
    if not any(names):
        raise ExportError(f"{source} has no names: give one class a line")
    return names


def names_in_metadata(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Returns the names of classes in an ONNX model's metadata, None where there are none.

    They are a list, or a mapping from column to name, as JSON or as Python writes it. Columns that a mapping leaves out
    get an empty name. Raises ExportError where the value is neither.
    """
    key = next((key for key in METADATA_KEYS if metadata.get(key)), None)
    if key is None:
        return None
    text = metadata[key]
    try:
        content = json.loads(text)
    except ValueError:
        try:
            content = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            content = text
    try:
        names = _NAMES.validate_python(content)
    except ValidationError as error:
        raise ExportError(
            f"the model's metadata has {key!r} that is neither a list of names nor a mapping from column to name: "
            "give the names with --classes"
        ) from error
    if isinstance(names, dict):
        names = [names.get(column, "") for column in range(max(names, default=-1) + 1)]
    return tuple(names)


def read_table(path: Path) -> dict[str, str | None]:
    """Reads a table from class to object of the vocabulary, null for classes to drop, from a JSON object.

    Raises ExportError where the file is something else.
    """
    try:
        return _TABLE.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ExportError(
            f"{path}: {in_words(error, 'the table')}; give a JSON object from a class to an object or null"
        ) from error


def match_classes(
    names: Sequence[str], vocabulary: Vocabulary, given: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Returns the object of the vocabulary that each class means; classes that mean none are left out.

    The table that is given decides first, then the name, then a word of it (`sofa/couch` has two), then the synonyms of
    `synonyms.yaml`. Capitals, `_` and `-` do not matter. Raises ExportError where the table names a class that the
    detector does not have, or an object that the vocabulary does not have.
    """
    given = given or {}
    for name, meant in given.items():
        if name not in names:
            raise ExportError(f"the table names the class {name!r}, which the detector does not have: {_some(names)}")
        if meant is not None and meant not in vocabulary.object_index:
            raise ExportError(
                f"the table gives {name!r} the object {meant!r}, which the vocabulary does not have: "
                f"{_some(vocabulary.objects)}"
            )
    labels = {_plain(label): label for label in reversed(vocabulary.objects)}
    words = {_plain(word): label for label in reversed(vocabulary.objects) for word in label.split("/")} | labels
    table: dict[str, str] = {}
    for name in names:
        if name in given:
            meant = given[name]
        else:
            plain = _plain(name)
            meant = next((words[each] for each in (plain, *_synonyms().get(plain, ())) if each in words), None)
        if meant is not None and name.lower() not in BACKGROUND:
            table[name] = meant
    return table


def vocabulary_of_classes(names: Sequence[str], subjects: Sequence[str], vocabulary: Vocabulary) -> Vocabulary:
    """Returns the vocabulary with a detector's classes as its objects; its groups of predicates stay.

    Raises ExportError where a subject is not among the classes, or where all classes are subjects.

    subjects: names of the classes that may be subjects; where empty, those of the classes that are in the vocabulary's
        subjects.
    """
    objects = tuple(dict.fromkeys(name for name in names if name.lower() not in BACKGROUND))
    plain = {_plain(name): name for name in reversed(objects)}
    chosen = [plain.get(_plain(name)) for name in subjects or vocabulary.subjects]
    if subjects and None in chosen:
        raise ExportError(
            f"--subject is {subjects[chosen.index(None)]!r}, which is not one of the detector's classes: "
            f"{_some(objects)}"
        )
    known = tuple(name for name in chosen if name is not None)
    if not known:
        raise ExportError(
            f"none of the detector's classes is named {' or '.join(vocabulary.subjects)}: "
            f"say with --subject who acts, one of {_some(objects)}"
        )
    if len(known) == len(objects):
        raise ExportError("every class of the detector is a subject: a pair needs a thing as well")
    nouns = {label: noun for label, noun in vocabulary.nouns.items() if label in objects}
    return replace(vocabulary, objects=objects, subjects=known, nouns=nouns)


def vocabulary_with(names: Sequence[str], further: Sequence[str], vocabulary: Vocabulary) -> Vocabulary:
    """Returns the vocabulary with some of a detector's classes behind its own objects.

    Raises ExportError where one is not the detector's, or an object already.
    """
    for name in further:
        if name not in names:
            raise ExportError(f"further_objects has {name!r}, which the detector does not know: {_some(names)}")
        if name in vocabulary.object_index:
            raise ExportError(f"further_objects has {name!r}, which the vocabulary has already: leave it out")
    return replace(vocabulary, objects=(*vocabulary.objects, *further))


@cache
def _synonyms() -> dict[str, list[str]]:
    """Returns the table of synonyms, class to words."""
    content: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("synonyms.yaml").read_text())
    return content


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _some(names: Sequence[str]) -> str:
    """Returns up to ten names as the end of a message."""
    known = [name for name in names if name.lower() not in BACKGROUND]
    return ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
