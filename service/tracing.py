"""Traces of requests and their jobs with OpenTelemetry, sent to the endpoint that the standard variables name.

A trace goes from the request through the queue to the worker's job and its batches. Without an endpoint,
OpenTelemetry's API does nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import structlog
from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

if TYPE_CHECKING:
    from docket import Execution

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Batches of one job that get a span. A long video has thousands, and the first ones tell enough.
_MOST_BATCHES = 200
_FLUSH_SECONDS = 2.0

_tracer = trace.get_tracer("vsg")
log = structlog.get_logger(__name__)


def configure_tracing(service_name: str) -> None:
    """Sends traces from now on, if a standard variable names an endpoint for OTLP over HTTP.

    service_name: name of the process, unless OTEL_SERVICE_NAME gives another.

    Tracing that cannot start is a warning in the log: the service does its work without it.
    """
    named = [name for name in _ENDPOINTS if os.environ.get(name)]
    if not named:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning(
            f"nothing is traced: {named[0]} is set, but the extra `tracing` is not installed: "
            "run pip install 'video-scene-graph[tracing]', or unset the variable"
        )
        return
    name = os.environ.get("OTEL_SERVICE_NAME") or service_name
    try:
        exporter = OTLPSpanExporter()
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except Exception as error:  # the SDK reads many OTEL_ variables, and fails in its own ways
        log.warning("nothing is traced: correct the variables OTEL_…", error=repr(error))
        return
    trace.set_tracer_provider(provider)


def flush_traces() -> None:
    """Sends the spans that have not been sent yet. Blocks for at most 2 seconds."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        # Its own time limit does not hold while it tries again.
        flushing = threading.Thread(target=flush, name="vsg-flush", daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)


def request_span(method: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """Traces a request, within the caller's trace if there is one."""
    return _tracer.start_as_current_span(method, propagate.extract(headers), kind=SpanKind.SERVER)


def job_span(execution: Execution) -> AbstractContextManager[Span]:
    """Traces a worker's work on a job, within the trace of the request that posted the video.

    Docket makes a span around it, which begins another trace; a link leads there.
    """
    return _tracer.start_as_current_span(
        "job",
        execution.trace_context,
        kind=SpanKind.CONSUMER,
        attributes={"vsg.id": execution.key},
        links=[Link(trace.get_current_span().get_span_context())],
    )


def note_end(status: str, code: str | None) -> None:
    """Notes in the span of the current job how the job has ended."""
    span = trace.get_current_span()
    span.set_attribute("vsg.status", status)
    if code is not None:
        span.set_status(Status(StatusCode.ERROR, code))


def span(name: str) -> AbstractContextManager[Span]:
    """Traces what runs in the context."""
    return _tracer.start_as_current_span(name)


def add_part(name: str, *, since: float, until: float, busy: float) -> None:
    """Adds a span for a part of the work that runs beside other parts.

    since, until: when it first began and last ended, by `time.perf_counter`.
    busy: seconds in between that it took.
    """
    offset = time.time_ns() - int(time.perf_counter() * 1e9)
    part = _tracer.start_span(name, attributes={"vsg.busy_seconds": busy}, start_time=offset + int(since * 1e9))
    part.end(offset + int(until * 1e9))


class JobTrace:
    """Takes the spans of a job's batches from threads that work for several jobs. Make it in the job's context.

    is_on: whether the job is traced.
    """

    def __init__(self) -> None:
        self._context: Context = get_current()
        self.is_on = trace.get_current_span().is_recording()
        self._batches_left = _MOST_BATCHES

    def add_batch(self, model: str, stage: str, *, size: int, frames: int, waited: float, seconds: float) -> None:
        """Adds a batch that ends now. A batch that several jobs share is in the trace of each, with its whole time.

        size: clips, or frames, of all jobs.
        frames: frames of this job.
        waited: seconds that this job's first clip waited for the batch.
        seconds: duration of the batch.
        """
        if not self.is_on or not self._batches_left:
            return
        self._batches_left -= 1
        now = time.time_ns()
        began = now - int(seconds * 1e9)
        attributes = {"vsg.model": model, "vsg.stage": stage}
        wait = _tracer.start_span(
            f"wait {stage}", self._context, attributes=attributes, start_time=began - int(waited * 1e9)
        )
        wait.end(began)
        run = _tracer.start_span(f"engine {stage}", self._context, attributes=attributes, start_time=began)
        run.set_attribute("vsg.batch.size", size)
        run.set_attribute("vsg.batch.frames_of_job", frames)
        run.end(now)
