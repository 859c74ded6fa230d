"""The metrics of the service, for Prometheus."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.pipeline import Summary
from service.scheduling import Batch

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800)


class Metrics:
    """The metrics of one application. Each has its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, buckets=_SECONDS, registry=self.registry)
        of_request, of_stage = ["method", "route"], ["model", "stage"]
        self.requests = counter("vsg_requests", "HTTP requests answered", [*of_request, "status"])
        self.request_seconds = histogram(
            "vsg_request_seconds", "seconds from the first byte of the request to the last of the answer", of_request
        )
        self.errors = counter("vsg_errors", "problems in answers and results, by code", ["code"])
        self.event_streams = gauge("vsg_event_streams", "open streams of events")
        self.upload_bytes = counter("vsg_upload_bytes", "bytes of video received")
        self.jobs = counter("vsg_jobs", "jobs ended, by status", ["status"])
        self.job_seconds = histogram(
            "vsg_job_seconds", "seconds from taking a job in to its end, by status", ["status"], buckets=_JOB_SECONDS
        )
        self.jobs_running = gauge("vsg_jobs_running", "jobs that this process works on")
        self.process = gauge("vsg_process", "1 for each task of this process: api, worker, agents", ["role"])
        self.workers = gauge("vsg_workers", "workers that live, by what they announce in the job queue")
        self.queue_up = gauge("vsg_queue_up", "1 if the job queue answers, 0 if not")
        self.storage_up = gauge("vsg_storage_up", "1 if the storage of videos and graphs answers, 0 if not")
        self.queue_depth = gauge("vsg_queue_depth", "jobs that wait for a worker")
        self.queue_oldest_seconds = gauge(
            "vsg_queue_oldest_seconds", "seconds that the first job in the queue has waited"
        )
        self.redeliveries = counter("vsg_redeliveries", "jobs begun again after their worker ended")
        self.webhooks = counter("vsg_webhooks", "attempts to deliver a webhook, by outcome", ["outcome"])
        # From 0 on, so that the first of each is an increase for alerts.
        for outcome in ("delivered", "failed", "given_up"):
            self.webhooks.labels(outcome)
        for status in ("succeeded", "failed", "cancelled", "reused"):
            self.jobs.labels(status)
        self.frames = counter("vsg_frames", "frames that went through a model", ["model"])
        self.stage_seconds = histogram("vsg_stage_seconds", "seconds of one video in each stage", ["stage"])
        self.batch_size = histogram(
            "vsg_batch_size",
            "clips in one batch of a model's stage, or frames if the stage takes single frames",
            of_stage,
            buckets=_SIZES,
        )
        self.batch_wait_seconds = histogram(
            "vsg_batch_wait_seconds", "seconds that the first clip of a batch waited", of_stage
        )
        self.engine_seconds = counter("vsg_engine_seconds", "seconds that the model ran, by stage", of_stage)

    def count_job(self, status: str, seconds: float | None) -> None:
        """Counts a job that ends now.

        seconds: since it was accepted; None where nobody knows.
        """
        self.jobs.labels(status).inc()
        if seconds is not None:
            self.job_seconds.labels(status).observe(max(0.0, seconds))

    def record(self, summary: Summary) -> None:
        """Counts a finished graph."""
        self.frames.labels(summary.model).inc(summary.frames)
        for stage, seconds in summary.timings.items():
            self.stage_seconds.labels(stage).observe(seconds)

    def count_batch(self, model: str, batch: Batch) -> None:
        """Counts a batch that has run. Thread-safe."""
        self.batch_size.labels(model, batch.stage).observe(batch.size)
        self.batch_wait_seconds.labels(model, batch.stage).observe(batch.waited)
        self.engine_seconds.labels(model, batch.stage).inc(batch.seconds)

    def exposition(self) -> bytes:
        """All metrics as the text that a Prometheus server reads."""
        return generate_latest(self.registry)
