"""What is known about a job at one moment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from docket import ExecutionState

from models.graph.scene_graph import Status
from service.jobs.errors import NotFound
from service.pipeline import Progress
from service.storage import StoredResult

VIDEO_ID = re.compile(r"[0-9a-f]{32}")
OVER = (ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED)
_STATUS: dict[ExecutionState, Status] = {
    ExecutionState.SCHEDULED: "queued",
    ExecutionState.QUEUED: "queued",
    ExecutionState.RUNNING: "running",
    ExecutionState.COMPLETED: "succeeded",
    ExecutionState.FAILED: "failed",
    ExecutionState.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class JobState:
    """What is known about a job: `result` is the stored graph or, for a failed job, the stored problem document."""

    id: str
    status: Status
    progress: Progress | None = None
    result: StoredResult | None = None

    @classmethod
    def of_queue(cls, video_id: str, state: ExecutionState, progress: Progress | None) -> JobState:
        """The state as the queue knows it, without a result."""
        status = _STATUS[state]
        return cls(video_id, status, progress if status == "running" else None)

    @classmethod
    def of_result(cls, video_id: str, result: StoredResult) -> JobState:
        """The state of a job that has ended, with what came out of it."""
        return cls(video_id, "failed" if result.failed else "succeeded", result=result)

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.status in ("succeeded", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """The body that reports a job which has not ended."""
        body: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.progress is not None:
            body["progress"] = {"frames": self.progress.frames, "expected": self.progress.expected}
        return body


def not_found(video_id: str) -> NotFound:
    """The error for an id that says nothing, or nothing to this caller."""
    return NotFound(f"no video {video_id[:40]!r}; it was deleted, is kept no longer, or never was")
