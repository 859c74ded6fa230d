"""The route /search: asks the archive when something happens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BeforeValidator, Field

from models.graph.validation import check_digits
from models.graph.vocabulary import Vocabulary
from service.errors import SearchOff, Unavailable
from service.http import openapi
from service.http.access import owner_of
from service.http.request import Service, address_of, known_parameters, limit_rate, service_of
from service.search.documents import LONGEST_QUERY, FoundMoment, FoundMoments

MOST_MOMENTS = 100
_FARTHEST = 1_000_000

Text = Annotated[
    str, Query(min_length=1, max_length=LONGEST_QUERY, description="the query, such as `person holding cup`")
]
Limit = Annotated[
    Annotated[int, Field(ge=1, le=MOST_MOMENTS)], BeforeValidator(check_digits), Query(description="most moments")
]
Offset = Annotated[
    Annotated[int, Field(ge=0, le=_FARTHEST)], BeforeValidator(check_digits), Query(description="moments to pass over")
]

router = APIRouter(tags=["search"], responses=openapi.PROBLEM_RESPONSES, dependencies=[Depends(known_parameters)])


@router.get("/search", summary="The moments in which a query holds", dependencies=[Depends(limit_rate)])
async def search(request: Request, q: Text, limit: Limit = 20, offset: Offset = 0) -> FoundMoments:
    """Asks all videos of the caller that are in the archive, in the language of docs/search.md."""
    service, owner = service_of(request), owner_of(request)
    if service.search is None:
        raise SearchOff("this service keeps no archive to search: its operator can name one with VSG_ARCHIVE")
    page = await service.search.find(
        q, owner, limit=limit, offset=offset, else_known=await served_vocabularies(service)
    )
    ids = [moment.graph_id or moment.video for moment in page.moments]
    kept = await _kept_moments(service, owner, sorted(set(ids)))
    moments = []
    for video_id, moment in zip(ids, page.moments, strict=True):
        index = _nearest(kept.get(video_id, {}), moment.start, moment.end)
        picture = None if index is None else f"{address_of(request, video_id)}/frames/{index}.jpg"
        moments.append(FoundMoment.of(moment, video_id, picture))
    return FoundMoments(moments=moments, total=page.total, next=page.next)


async def served_vocabularies(service: Service) -> Sequence[Vocabulary]:
    """The vocabularies of the models that are served; none while no worker has come."""
    try:
        return [model.vocabulary for model in await service.jobs.catalog.models()]
    except Unavailable:
        return []


async def _kept_moments(service: Service, owner: str, ids: Sequence[str]) -> dict[str, dict[int, float]]:
    """The times of the frames that are kept, by video and index; none where the operator has none kept."""
    if not service.settings.keep_frames:
        return {}
    reading = [asyncio.to_thread(service.storage.kept_frames(video_id, owner).moments) for video_id in ids]
    return dict(zip(ids, await asyncio.gather(*reading), strict=True))


def _nearest(kept: Mapping[int, float], start: float, end: float) -> int | None:
    """Index of the kept frame that shows a moment best: within it, and near its middle. None where none is kept."""
    middle = (start + end) / 2
    return min(kept, key=lambda index: (not start <= kept[index] < end, abs(kept[index] - middle)), default=None)
