"""Moments as JSON: what GET /search, webhooks of rules and agents' tools answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from service.search.moments import Moment

LONGEST_QUERY: Final = 2000
"""Characters, as `service.search.queries` has it, which needs the extra `archive`."""


class _Found(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class FoundRelation(_Found):
    """A relation that proves a moment, as in the graph, with the labels of its objects."""

    subject: int
    subject_label: str
    predicate: str
    object: int
    object_label: str
    start: float
    end: float
    score: float
    relation_score: float | None


class FoundMoment(_Found):
    """A time of a video in which a query holds; seconds from the first frame, half open."""

    video: str = Field(description="as in `GET /videos/{id}`, which no longer answers once its retention is over")
    start: float
    end: float
    score: float = Field(description="the lowest score of what proves the moment")
    relation_score: float | None = Field(description="the lowest relation score; null where the model has none")
    objects: dict[str, int | list[int]] = Field(
        description="what a thing is called in the query, and the id of its object; several ids where it is counted"
    )
    relations: list[FoundRelation] = Field(description="those that prove the moment, in the order of the query")
    picture: str | None = Field(
        default=None, description="path of a kept frame within the moment, or near it; null without one"
    )

    @classmethod
    def of(cls, moment: Moment, video: str, picture: str | None = None) -> Self:
        """The document of a moment. `video` names its video to the reader."""
        return cls(
            video=video,
            start=moment.start,
            end=moment.end,
            score=moment.score,
            relation_score=moment.relation_score,
            objects={name: list(ids) if isinstance(ids, tuple) else ids for name, ids in moment.objects.items()},
            relations=[FoundRelation.model_validate(relation) for relation in moment.relations],
            picture=picture,
        )


class FoundMoments(_Found):
    """A page of the moments that a search finds, the best score first."""

    moments: list[FoundMoment]
    total: int = Field(description="number of all moments that it finds")
    next: int | None = Field(description="`offset` of the next page; null on the last one")
