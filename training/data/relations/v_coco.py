"""V-COCO: COCO photographs of people, with 24 verbs; the files `instances_vcoco_*.json` of fredzzhang/vcoco.

All verbs were asked of every person. The set lists which classes a verb can have as its thing (`action_to_object`), so
a pair of another class says nothing of that verb.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data.relations.boxes import Scene, has_area
from training.data.relations.record import Record
from training.data.relations.words import object_name, plain, ridden, without_doubt
from training.errors import DataError

_FIELDS = {"annotations", "classes", "objects", "action_to_object"}
_VERBS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("hold obj", "talk_on_phone instr", "cut instr", "eat instr"), ("holding",)),
    **dict.fromkeys(("hit instr", "throw obj"), ("holding",)),
    **dict.fromkeys(("skateboard instr", "surf instr", "ski instr", "snowboard instr"), ("standing_on",)),
    "sit instr": ("sitting_on",),
    "look obj": ("looking_at",),
    "eat obj": ("eating",),
    "lay instr": ("lying_on",),
    "carry obj": ("carrying",),
    "cut obj": ("touching",),
    "work_on_computer instr": ("touching", "looking_at"),
    "drink instr": ("drinking_from",),
    "read obj": ("holding", "looking_at"),
}  # fmt: skip


def read_v_coco(files: Sequence[Path]) -> Iterator[Record]:
    """Records of annotation files. Raises DataError where one is none of V-COCO's."""
    for path in files:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (
            not isinstance(content, dict)
            or not {"annotations", "classes", "objects", "action_to_object"} <= content.keys()
        ):
            raise DataError(f"{path} is no annotation file of fredzzhang/vcoco: it lacks annotations or classes")
        verbs, names = content["classes"], [plain(name) for name in content["objects"]]
        asked_of: dict[str, set[str]] = {}
        for verb, classes in zip(verbs, content["action_to_object"], strict=True):
            for index in classes:
                asked_of.setdefault(names[index], set()).update(predicates_of(verb, names[index]))
        for annotation in content["annotations"]:
            scene = Scene()
            rows = (annotation[field] for field in ("boxes_h", "boxes_o", "actions", "objects"))
            for person_box, thing_box, verb, label in zip(*rows, strict=True):
                if not thing_box or not has_area(person_box) or not has_area(thing_box):
                    continue  # an action without a thing
                holds = predicates_of(verbs[verb], names[label])
                person, thing = scene.find(person_box, "person"), scene.find(thing_box, object_name(names[label]))
                asked = {*holds, *without_doubt(asked_of.get(names[label], ()), holds)}
                scene.add(person, thing, holds, tuple(asked), related=True)
            if scene.boxes:
                yield scene.record(source="v_coco", image=annotation["file_name"])


def predicates_of(verb: str, label: str) -> tuple[str, ...]:
    """Returns the predicates that a verb means for a class of thing; empty where it means none."""
    return ridden(label) if verb == "ride instr" else _VERBS.get(verb, ())
