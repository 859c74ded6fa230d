"""The tools: their names, descriptions and arguments. Errors come back as sentences from which a model can learn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any, Final

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from service.agents.views import ArchiveViews, Description, VideoList, Window
from service.errors import ServiceError
from service.prompt import MIN_TOKENS
from service.search.archive_search import ArchiveSearch
from service.search.documents import LONGEST_QUERY, FoundMoment
from service.search.errors import QueryError
from service.search.words import Words

INSTRUCTIONS: Final = (
    "Scene graphs of videos: who does what with which thing, and when. Everything comes from a model that has seen "
    "sampled frames: say the interval and the ids with every claim, and do not claim what no tool has answered. Begin "
    "with list_vocabulary, then ask with find_moments."
)
QUERY_LANGUAGE: Final = """\
Finds the moments of the videos in which a query holds, the best score first. Translate the question into this language:

SUBJECT PREDICATE OBJECT, in words of list_vocabulary: person drinking_from cup
Spatial predicates run from the thing to the person: chair beneath person
anything, related_to: any object, any predicate. cup|bag: either. furniture, contacting: any of a group.
A thing alone holds while it is seen: dog. video is a whole video.
A letter after a thing is a variable, the same object wherever it stands:
  person a holding phone and a sitting_on bed
At least 2, exactly 2, at most 2 before a thing counts: 2 people holding cup
A and B: while both hold. A or B. A without B: A's moments that share no time with B. not A: the times without A.
video without A: videos in which A never happens.
A before|after|meets|overlaps|during|contains|starts|finishes|equals B: A's moments that stand so to a B.
A then B, A then within 5s B: from the beginning of A to the end of a B that follows.
A for 2s: lasting at least 2 s; for at most 5s. A with score >= 0.5. A in video "kitchen*".
for, with and in belong to the one part before them; then and during bind tighter than and, and tighter than or.
Use parentheses: (person a holding cup and a sitting_on chair) for 2s
A word in quotes is a name with spaces or one that is a keyword: "dining table".

Examples: who drinks while sitting? person a drinking_from cup during a sitting_on chair
Does somebody take a bag and leave? person a holding bag then within 5s a standing_on doorway
An error names the place and the words that are known there: correct the query and ask again.
No moments means that the model saw none, not that nothing happened."""

_READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
Query = Annotated[str, Field(description="the query, such as: person holding cup for 2s", max_length=LONGEST_QUERY)]
Limit = Annotated[int, Field(ge=1, le=100, description="most of them to answer")]
Offset = Annotated[int, Field(ge=0, description="`next` of the page before")]
VideoName = Annotated[str, Field(description="`video` of another answer, or the name of its file")]
Seconds = Annotated[float, Field(ge=0, description="seconds from the first frame")]
Tokens = Annotated[int, Field(ge=MIN_TOKENS, le=20_000, description="most tokens of the answer, about")]


class VocabularyGroup(BaseModel):
    """Predicates that answer one question."""

    name: str
    predicates: list[str]


class KnownWords(BaseModel):
    """The words of queries."""

    subjects: list[str]
    objects: list[str]
    predicates_subject_to_object: list[str] = Field(description="person holding cup")
    predicates_object_to_subject: list[str] = Field(description="chair beneath person")
    predicate_groups: list[VocabularyGroup]
    object_groups: dict[str, list[str]] = Field(description="a word for several objects, such as furniture")
    note: str = Field(description="what is not known")


class MomentAnswer(BaseModel):
    """A page of the moments in which a query holds, the best score first."""

    moments: list[FoundMoment]
    total: int = Field(description="number of all moments")
    next: int | None = Field(description="`offset` of the next page; null on the last one")
    note: str = Field(description="what is not known")


def make_server(
    search: ArchiveSearch, owner_of: Callable[[Context[Any, Any]], Awaitable[str | None]]
) -> MCPServer[None]:
    """A server with all tools.

    owner_of: whose videos a call may see, None for all. It may raise a ServiceError, such as RateLimited.
    """
    server: MCPServer[None] = MCPServer(
        "video-scene-graph", instructions=INSTRUCTIONS, version=version("video-scene-graph"), log_level="WARNING"
    )

    @server.tool(description="The words that queries know: objects, predicates and their groups.", annotations=_READS)
    async def list_vocabulary(context: Context[Any, Any]) -> KnownWords:
        async with _taught():
            return _known(await search.words(await owner_of(context)))

    @server.tool(description=QUERY_LANGUAGE, annotations=_READS)
    async def find_moments(
        query: Query, context: Context[Any, Any], limit: Limit = 20, offset: Offset = 0
    ) -> MomentAnswer:
        async with _taught():
            page = await search.find(query, await owner_of(context), limit=limit, offset=offset)
        found = [FoundMoment.of(moment, moment.path or moment.graph_id or moment.video) for moment in page.moments]
        note = "" if page.total else "nothing is known: the model saw no such moment, which proves nothing"
        return MomentAnswer(moments=found, total=page.total, next=page.next, note=note)

    @server.tool(
        description="Everything that is known of a part of a video: objects with ids, relations with times and scores, "
        "the best ones that fit into max_tokens.",
        annotations=_READS,
    )
    async def graph_window(
        video: VideoName, start: Seconds, end: Seconds, context: Context[Any, Any], max_tokens: Tokens = 1000
    ) -> Window:
        if end <= start:
            raise ToolError(f"end is {end:g} and start {start:g}: give an end after the start")
        async with _taught():
            views = ArchiveViews(search.folder, await owner_of(context))
            return await search.run(lambda: views.window(video, start, end, max_tokens))

    @server.tool(
        description="What a video shows as a whole: its objects, and its most telling relations in words with times.",
        annotations=_READS,
    )
    async def describe(video: VideoName, context: Context[Any, Any], max_tokens: Tokens = 600) -> Description:
        async with _taught():
            views = ArchiveViews(search.folder, await owner_of(context))
            return await search.run(lambda: views.describe(video, max_tokens))

    @server.tool(description="The videos that there are, the newest first.", annotations=_READS)
    async def list_videos(context: Context[Any, Any], limit: Limit = 50, offset: Offset = 0) -> VideoList:
        async with _taught():
            views = ArchiveViews(search.folder, await owner_of(context))
            return await search.run(lambda: views.videos(limit=limit, offset=offset))

    return server


@asynccontextmanager
async def _taught() -> AsyncIterator[None]:
    """Turns errors into those that a model reads: with the place in the query, and what is known there."""
    try:
        yield
    except QueryError as error:
        known = f"\nKnown there: {', '.join(error.expected)}" if error.expected else ""
        raise ToolError(f"{error.detail}\n{error.pointer}{known}") from error
    except ServiceError as error:
        raise ToolError(error.detail) from error


def _known(words: Words) -> KnownWords:
    to_object = [name for name, runs_from_object in words.predicates.items() if runs_from_object is not True]
    to_subject = [name for name, runs_from_object in words.predicates.items() if runs_from_object is not False]
    groups = {}
    for name in words.label_groups:
        labels = [label for word in words.label_groups[name] for label in _labels_of(words, word)]
        if labels:
            groups[name] = labels
    return KnownWords(
        subjects=list(words.subjects),
        objects=list(words.labels),
        predicates_subject_to_object=to_object,
        predicates_object_to_subject=to_subject,
        predicate_groups=[
            VocabularyGroup(name=name, predicates=list(names)) for name, names in words.predicate_groups.items()
        ],
        object_groups=groups,
        note="" if words.labels else "nothing is known: the archive has no video of yours, so queries know no word",
    )


def _labels_of(words: Words, word: str) -> tuple[str, ...]:
    return tuple(label for label in words.labels if word in (label, *label.split("/")))
