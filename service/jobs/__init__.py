"""Jobs: an uploaded video waits in a queue until a worker makes its graph.

The queue is docket's, on Redis Streams. With `memory://`, the default, queue and worker are in one process. With a
Redis URL, the API (`Jobs`) and any number of workers (`JobWorker`) share only Redis and `Storage`.
"""

from service.jobs.job_worker import JobWorker
from service.jobs.jobs import Jobs
from service.jobs.life import Duties, ProcessLife, supervise
from service.jobs.queue import JobQueue
from service.jobs.records import VIDEO_ID, JobRecord, JobState
from service.jobs.storage_health import StorageHealth

__all__ = [
    "VIDEO_ID",
    "Duties",
    "JobQueue",
    "JobRecord",
    "JobState",
    "JobWorker",
    "Jobs",
    "ProcessLife",
    "StorageHealth",
    "supervise",
]
