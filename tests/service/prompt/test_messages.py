from __future__ import annotations

import base64

from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from service.prompt import KeyFrame, build_messages


def test_messages_are_a_system_and_a_user_message() -> None:
    system, user = build_messages("The person holds the bag.", ACTION_GENOME)
    assert system["role"] == "system"
    assert "cannot see" in system["content"]
    assert user == {"role": "user", "content": "The person holds the bag."}


def test_key_frames_follow_the_prompt_each_after_its_time() -> None:
    system, user = build_messages(
        "The person holds the bag.", ACTION_GENOME, [KeyFrame(1.0, b"one"), KeyFrame(12.5, b"two")]
    )
    assert "cannot see" not in system["content"]
    text, first_time, first, second_time, second = user["content"]
    assert text == {"type": "text", "text": "The person holds the bag."}
    assert [first_time["text"], second_time["text"]] == ["The frame at 1.0 s:", "The frame at 12.5 s:"]
    for image, content in ((first, b"one"), (second, b"two")):
        assert image["type"] == "image_url"
        kind, _, data = image["image_url"]["url"].partition(",")
        assert kind == "data:image/jpeg;base64"
        assert base64.b64decode(data) == content


def test_the_task_names_the_subjects_of_the_vocabulary() -> None:
    group = PredicateGroup(name="g", predicates=("lifts",))
    vocabulary = Vocabulary(objects=("crate", "dog", "robot"), subjects=("robot", "dog"), groups=(group,))
    assert "caption of what the person does" in build_messages("…", ACTION_GENOME)[0]["content"]
    assert "caption of what the robot or dog does" in build_messages("…", vocabulary)[0]["content"]
