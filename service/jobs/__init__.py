"""Jobs: what was uploaded waits in a queue until a worker has made its graph.

The queue is docket's, on Redis Streams. With `memory://` (the default) queue and worker live in this process; with a
Redis URL the API (`Jobs`) and any number of workers (`JobWorker`) meet only in Redis and in `Storage`.
"""

from service.jobs.jobs import Jobs
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecord
from service.jobs.state import JobState
from service.jobs.supervising import Duties, supervise
from service.jobs.worker import JobWorker, open_pipeline

__all__ = ["Duties", "JobQueue", "JobRecord", "JobState", "JobWorker", "Jobs", "open_pipeline", "supervise"]
