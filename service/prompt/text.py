"""A scene graph in words, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from models.graph.scene_graph import Relation
from models.graph.vocabulary import PERSON
from service.prompt.appearances import Appearances, Entity, entities_of
from service.prompt.events import Event, events_of
from service.prompt.forms import DEFAULT_FORM, FORMS, FormName
from service.prompt.tokens import count_tokens
from service.prompt.words import amount_of, count_labels, length_of, names_of

MIN_TOKENS = 60
_ROOMY = 150  # tokens, from where on there is room to say where the sentences come from


@dataclass(frozen=True)
class Telling:
    """A prompt, and the events that it states."""

    text: str
    events: tuple[Event, ...]


def build_prompt(
    appearances: Appearances,
    relations: Sequence[Relation],
    *,
    duration: float | None,
    max_tokens: int = 400,
    form: FormName = DEFAULT_FORM,
) -> str:
    """Says in sentences what happens in the video and when, for a language model to caption; see `tell`."""
    return tell(appearances, relations, duration=duration, max_tokens=max_tokens, form=form).text


def tell(
    appearances: Appearances,
    relations: Sequence[Relation],
    *,
    duration: float | None,
    max_tokens: int = 400,
    form: FormName = DEFAULT_FORM,
) -> Telling:
    """The prompt, and what it states.

    The most telling events are told first, until `max_tokens` (by `count_tokens`) are used up; what room is left names
    the things that no event is about. Nothing is ever cut in the middle. Two things of one label are told apart ("the
    first chair") when they are there at the same time. `duration` is in seconds; None where unknown.

    Raises ValueError when `max_tokens` is under 60, in which not even the request for a caption and one event fit.
    """
    if max_tokens < MIN_TOKENS:
        raise ValueError(f"max_tokens must be at least {MIN_TOKENS}, not {max_tokens}")
    video = "video" if duration is None else f"{length_of(duration)} video"
    if not appearances.labels:
        text = f"No people or relations were found in this {video}, so there is nothing to write a caption from."
        return Telling(text, ())

    entities = entities_of(appearances)
    events = events_of(relations, entities)
    story = FORMS[form](names_of(entities.values()), duration)
    request, heading = f"Write one short caption for this {video}.", "What happens:"
    if max_tokens >= _ROOMY:
        heading = story.heading
        request = (
            f"The following was read from a {video} by a scene-graph model. Write one short caption for the video."
        )
    if not events:
        heading = "No relations between people and things were found."
    room = max_tokens - count_tokens(f"{request}\n{heading}")

    told = []
    for event in events:
        if cost := story.add(event, room):
            room -= cost
            told.append(event)
    rest = _rest(entities.values(), told, appearances.scores, room - count_tokens("\n"))
    text = "\n".join([request, heading, *story.lines(), *rest])
    return Telling(text, tuple(told))


def _rest(entities: Collection[Entity], told: Sequence[Event], scores: dict[str, float], max_tokens: int) -> list[str]:
    """A line with the labels that no event names, people and what is seen best first, as many as fit; or no line."""
    named = {entity.label for event in told for entity in (event.person, event.thing)}
    counts = {label: count for label, count in count_labels(entities).items() if label not in named}
    line = ""
    amounts: list[str] = []
    for label in sorted(counts, key=lambda label: (label != PERSON, -scores[label])):
        amounts.append(amount_of(label, counts[label]))
        longer = f"{'Also there' if told else 'There are'}: {', '.join(amounts)}."
        if count_tokens(longer) > max_tokens:
            break
        line = longer
    return [line] if line else []
