"""Traces of what becomes of a request, in OpenTelemetry's terms; sent where the standard variables name an endpoint.

A trace goes from the request over the queue to the worker's job and its batches. Spans are made with OpenTelemetry's
API, which does nothing as long as no endpoint is named.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from service.errors import SettingsError

if TYPE_CHECKING:
    from docket import Execution

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_MOST_BATCHES = 200
"""Batches of one job that get a span; a long video has thousands, and the first ones tell enough."""
_FLUSH_SECONDS = 2.0

_tracer = trace.get_tracer("vsg")


def configure_tracing(service_name: str) -> None:
    """Sends traces from now on, if a standard variable names an endpoint for OTLP over HTTP.

    service_name  is what the process is called where OTEL_SERVICE_NAME calls it nothing else

    Raises SettingsError when the extra `tracing` is not installed.
    """
    named = [name for name in _ENDPOINTS if os.environ.get(name)]
    if not named:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"{named[0]} is set, but what sends traces is not installed: "
            "pip install 'video-scene-graph[tracing]', or unset it"
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME") or service_name
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush_traces() -> None:
    """Sends what has not been sent yet, for at most 2 seconds; blocks."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        # Its own limit of time does not hold while it tries again.
        flushing = threading.Thread(target=flush, name="vsg-flush", daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)


@contextmanager
def request_span(method: str, headers: Mapping[str, str]) -> Iterator[Span]:
    """The span of a request, in the caller's trace if it has one."""
    with _tracer.start_as_current_span(method, propagate.extract(headers), kind=SpanKind.SERVER) as span:
        yield span


@contextmanager
def job_span(execution: Execution) -> Iterator[None]:
    """The span of a worker's work on a job, in the trace of the request that asked for it.

    The queue makes a span of its own around it, at the beginning of another trace; a link leads there.
    """
    with _tracer.start_as_current_span(
        "job",
        execution.trace_context,
        kind=SpanKind.CONSUMER,
        attributes={"vsg.id": execution.key},
        links=[Link(trace.get_current_span().get_span_context())],
    ):
        yield


def note_end(status: str, code: str | None) -> None:
    """Says in the span of the job at hand how it has ended."""
    span = trace.get_current_span()
    span.set_attribute("vsg.status", status)
    if code is not None:
        span.set_status(Status(StatusCode.ERROR, code))


@contextmanager
def span(name: str) -> Iterator[None]:
    """A span around the context."""
    with _tracer.start_as_current_span(name):
        yield


def add_part(name: str, *, since: float, until: float, busy: float) -> None:
    """Adds the span of what has gone on beside other things.

    since, until  when it began first and ended last, by time.perf_counter
    busy          seconds between them that it really took
    """
    offset = time.time_ns() - int(time.perf_counter() * 1e9)
    part = _tracer.start_span(name, attributes={"vsg.busy_seconds": busy}, start_time=offset + int(since * 1e9))
    part.end(offset + int(until * 1e9))


class JobTrace:
    """Where the spans of a job's batches go, from threads that work for several jobs."""

    def __init__(self) -> None:
        self._context: Context = get_current()
        self.is_on = trace.get_current_span().is_recording()
        self._batches_left = _MOST_BATCHES

    def add_batch(self, model: str, stage: str, *, size: int, frames: int, waited: float, seconds: float) -> None:
        """Adds a batch that has ended now. One that several jobs share is in the trace of each, with its whole time.

        size     clips, or frames, of all jobs
        frames   of this job
        waited   seconds that this job's first clip has waited for the batch
        seconds  that the batch ran
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
