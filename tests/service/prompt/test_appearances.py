from __future__ import annotations

from service.prompt import Appearances
from service.prompt.moments import Entity, entities_of
from tests.support.relations import frame


def test_labels_times_and_scores_are_gathered_frame_by_frame() -> None:
    assert Appearances.of([frame("person"), frame(index=1), frame("person", "bag", index=2)]) == Appearances(
        labels={1: "person", 2: "bag"},
        first={1: 0, 2: 2},
        last={1: 2, 2: 2},
        scores={"person": 1.8, "bag": 0.9},
        frame_count=3,
    )


def test_objects_of_one_label_that_never_appear_together_are_one_entity() -> None:
    frames = [frame("person", "chair"), frame("person", "chair", "chair", index=1, first_id=3)]
    assert entities_of(Appearances.of(frames)) == {
        1: Entity("person", 1),
        2: Entity("chair", 1),
        3: Entity("person", 1),
        4: Entity("chair", 1),
        5: Entity("chair", 2),
    }
