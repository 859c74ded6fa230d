"""The paths of what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Area = Literal["uploads", "results"]
AREAS: tuple[Area, ...] = ("uploads", "results")
SHARE = ".share"
"""The ending of an empty file that says which graph answers for a video besides its own: `VIDEO.GRAPH.share`."""
LEFT = ".left"
"""The ending of a graph whose own video was deleted, but that answers for others: `GRAPH.left`."""
FRAMES = ".frames.zip"
"""The ending of the frames that are kept beside a graph: `GRAPH.frames.zip`."""


@dataclass(frozen=True)
class Places:
    """Paths within a storage.

    root: path of the storage.
    """

    root: str

    def path(self, area: Area, name: str) -> str:
        """The path of a file, or of an owner's folder, in an area."""
        return f"{self.root}/{area}/{name}"

    def result(self, video_id: str, owner: str, *, failed: bool) -> str:
        """The path of a graph, or of the problem document of a failed job."""
        return self.path("results", f"{owner}/{video_id}.problem.json" if failed else f"{owner}/{video_id}.json")

    def frames(self, graph_id: str, owner: str) -> str:
        """The path of the frames that are kept beside a graph."""
        return self.path("results", f"{owner}/{graph_id}{FRAMES}")

    def share(self, graph_id: str, video_id: str, owner: str) -> str:
        """The path of the note that a graph answers for another video."""
        return self.path("results", f"{owner}/{video_id}.{graph_id}{SHARE}")

    def left(self, graph_id: str, owner: str) -> str:
        """The path of a graph whose own video was deleted."""
        return self.path("results", f"{owner}/{graph_id}{LEFT}")
