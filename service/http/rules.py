"""The routes under /rules: webhooks for new videos in which a query holds."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, ValidationError

from models.graph.validation import first_mistake, in_words
from service.errors import InvalidOption
from service.http import openapi
from service.http.access import owner_of
from service.http.errors import MalformedUpload, UnsupportedContentType
from service.http.request import known_parameters, limit_rate, service_of
from service.http.search import served_vocabularies
from service.http.uploads import check_names, has_url, read_json
from service.jobs.queue import in_time
from service.jobs.rules import Rule, RuleRequest, check_query
from service.settings import Settings

router = APIRouter(tags=["rules"], responses=openapi.PROBLEM_RESPONSES, dependencies=[Depends(known_parameters)])
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": RuleRequest.model_json_schema()}},
    }
}


class RuleList(BaseModel):
    """The rules of the caller."""

    rules: list[Rule] = Field(description="by id")


@router.post(
    "/rules",
    summary="Be told of new videos in which a query holds",
    status_code=201,
    dependencies=[Depends(limit_rate)],
    openapi_extra=_BODY,
)
async def post_rule(request: Request) -> Rule:
    """Adds a rule for the videos that the caller posts from now on."""
    service = service_of(request)
    asked = await _read(request, service.settings)
    service.check_webhook(asked.webhook)
    check_query(asked.query, await served_vocabularies(service))
    async with in_time():
        return await service.rules.add(owner_of(request), asked)


@router.get("/rules", summary="The rules of the caller")
async def get_rules(request: Request) -> RuleList:
    """The rules that the caller has posted and not deleted; those of the operator are not among them."""
    async with in_time():
        return RuleList(rules=await service_of(request).rules.of_owner(owner_of(request)))


@router.delete("/rules/{rule_id}", summary="Delete a rule", status_code=204)
async def delete_rule(request: Request, rule_id: str) -> Response:
    """Deletes a rule; videos that are being made may still tell of it."""
    async with in_time():
        await service_of(request).rules.delete(owner_of(request), rule_id)
    return Response(status_code=204)


async def _read(request: Request, settings: Settings) -> RuleRequest:
    """The JSON of the body. Raises UnsupportedContentType, MalformedUpload and InvalidOption."""
    if not has_url(request):
        raise UnsupportedContentType("send a rule as application/json, an object with query and webhook")
    body = await read_json(request, settings, remedy="send query and webhook alone")
    try:
        asked = RuleRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        mistake = first_mistake(error)
        if not mistake.path:
            raise MalformedUpload(f"the body is not a JSON object: {mistake.reason}") from error
        name = str(mistake.path[0])[:80]
        raise InvalidOption(name, in_words(error)) from error
    check_names(body)
    return asked
