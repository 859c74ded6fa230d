"""What the service counts, in Prometheus' format."""

from __future__ import annotations

import time
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.pipeline import Summary
from service.scheduling import Batch, Engine

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800)


class Metrics:
    """The meters of one application, in a registry of its own, so that two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vsg_requests", "HTTP requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "vsg_request_seconds",
            "seconds from the request's first byte to the answer's last",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.errors = Counter("vsg_errors", "problems answered or stored, by code", ["code"], registry=self.registry)
        self.event_streams = Gauge("vsg_event_streams", "streams of events that are open", registry=self.registry)
        self.upload_bytes = Counter("vsg_upload_bytes", "bytes of video received", registry=self.registry)
        self.jobs = Counter("vsg_jobs", "jobs ended, by status", ["status"], registry=self.registry)
        self.job_seconds = Histogram(
            "vsg_job_seconds",
            "seconds from a job's acceptance to its end, by status",
            ["status"],
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        self.jobs_running = Gauge("vsg_jobs_running", "jobs this process works on", registry=self.registry)
        self.queue_up = Gauge("vsg_queue_up", "whether the job queue answers, 1 or 0", registry=self.registry)
        self.queue_depth = Gauge("vsg_queue_depth", "jobs that wait for a worker", registry=self.registry)
        self.queue_oldest_seconds = Gauge(
            "vsg_queue_oldest_seconds", "how long the first job in the queue has waited", registry=self.registry
        )
        self.redeliveries = Counter(
            "vsg_redeliveries", "jobs begun again because their worker had ended", registry=self.registry
        )
        self.webhooks = Counter(
            "vsg_webhooks", "attempts to deliver a webhook, by outcome", ["outcome"], registry=self.registry
        )
        self.frames = Counter("vsg_frames", "frames that went through a model", ["model"], registry=self.registry)
        self.stage_seconds = Histogram(
            "vsg_stage_seconds", "seconds of one video by stage", ["stage"], buckets=_SECONDS, registry=self.registry
        )

        self.batch_size = Histogram(
            "vsg_batch_size",
            "clips in one run of a model's stage, or frames where it takes single ones",
            ["model", "stage"],
            buckets=_SIZES,
            registry=self.registry,
        )
        self.batch_wait_seconds = Histogram(
            "vsg_batch_wait_seconds",
            "seconds that the first clip of a batch has waited for it",
            ["model", "stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.engine_seconds = Counter(
            "vsg_engine_seconds",
            "seconds that engines ran, by stage of the model",
            ["model", "stage"],
            registry=self.registry,
        )

    def count_job(self, status: str, accepted: datetime) -> None:
        """Counts a job that has ended now."""
        self.jobs.labels(status).inc()
        self.job_seconds.labels(status).observe(max(0.0, time.time() - accepted.timestamp()))

    def record(self, summary: Summary) -> None:
        """Counts a finished graph."""
        self.frames.labels(summary.model).inc(summary.frames)
        for stage, seconds in summary.timings.items():
            self.stage_seconds.labels(stage).observe(seconds)

    def watch(self, engine: Engine) -> None:
        """Counts the batches of an engine from now on."""
        model = engine.manifest.name

        def count(batch: Batch) -> None:
            self.batch_size.labels(model, batch.stage).observe(batch.size)
            self.batch_wait_seconds.labels(model, batch.stage).observe(batch.waited)
            self.engine_seconds.labels(model, batch.stage).inc(batch.seconds)

        engine.on_batch = count

    def exposition(self) -> bytes:
        """The text that a Prometheus server scrapes."""
        return generate_latest(self.registry)
