"""The data sets that can be read, by name, and what a file of relations holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from training.data.relations.action_genome import read_action_genome
from training.data.relations.cad120 import read_cad120
from training.data.relations.corrected import read_cvat, read_label_studio
from training.data.relations.hico_det import read_hico_det
from training.data.relations.open_images import read_open_images
from training.data.relations.record import Record, read_records
from training.data.relations.v_coco import read_v_coco
from training.data.relations.vrd import read_vrd
from training.errors import DataError

FormatName = Literal["action-genome", "cad120", "cvat", "hico-det", "label-studio", "open-images", "v-coco", "vrd"]
FORMATS: Final[dict[FormatName, Callable[[Sequence[Path]], Iterator[Record]]]] = {
    "action-genome": read_action_genome,
    "cad120": read_cad120,
    "cvat": read_cvat,
    "hico-det": read_hico_det,
    "label-studio": read_label_studio,
    "open-images": read_open_images,
    "v-coco": read_v_coco,
    "vrd": read_vrd,
}


@dataclass
class RelationCounts:
    """The content of a file of relations, counted.

    pictures: records, photographs and moments of videos.
    holding: pairs by predicate that holds.
    asked: pairs by predicate that was asked, whether it holds or not.
    problem: the first thing that is wrong with the file; None where nothing is.
    """

    pictures: int = 0
    videos: int = 0
    pairs: int = 0
    unrelated: int = 0
    holding: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        predicates = {name: {"holds": self.holding[name], "asked": self.asked[name]} for name in sorted(self.asked)}
        return {
            "ok": self.problem is None, "problem": self.problem, "pictures": self.pictures, "videos": self.videos,
            "pairs": self.pairs, "unrelated": self.unrelated, "predicates": predicates,
        }  # fmt: skip


def count_relations(path: Path) -> RelationCounts:
    """Reads a file of relations to its end, or to the first thing that is wrong with it."""
    counts, videos = RelationCounts(), set()
    try:
        for record in read_records(path):
            counts.pictures += 1
            videos.add((record.source, record.video))
            counts.pairs += len(record.pairs)
            for pair in record.pairs:
                counts.unrelated += pair.related is False
                counts.holding.update(pair.predicates)
                counts.asked.update(pair.asked)
    except DataError as error:
        counts.problem = str(error)
    counts.videos = len({key for key in videos if key[1] is not None})
    return counts
