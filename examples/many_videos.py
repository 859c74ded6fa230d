"""Posts many videos at once, is told by signed webhooks when each has ended, and keeps the graphs beside the videos.

    export VSG_WEBHOOK_SECRET="whsec_$(openssl rand -base64 32)"
    VSG_WEBHOOK_HOSTS=127.0.0.1:9000 VSG_URL_NETWORKS=127.0.0.1/32 make serve &
    .venv/bin/python examples/many_videos.py http://127.0.0.1:8000 9000 VIDEO...

9000 is the port on which webhooks arrive. standardwebhooks comes with the service.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from vsg import Client, ProblemError

ended: Queue[dict[str, Any]] = Queue()


class Receiver(BaseHTTPRequestHandler):
    """Takes a webhook when its signature is right."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = Webhook(os.environ["VSG_WEBHOOK_SECRET"]).verify(body, dict(self.headers.items()))
        except WebhookVerificationError:
            self.send_error(401)
            return
        ended.put(event["data"])
        self.send_response(204)
        self.end_headers()


def main(address: str, port: int, videos: list[Path]) -> None:
    """Posts all videos without waiting for any graph, then fetches each graph when it is told that it is there."""
    Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever, daemon=True).start()
    # While the service has too much to do, a post waits as long as it asks for, an hour at most.
    with Client(address, retry_seconds=3600) as client:
        waiting: dict[str, Path] = {}
        for video in videos:
            try:
                waiting[client.submit(video, webhook=f"http://127.0.0.1:{port}/").id] = video
            except ProblemError as problem:
                print(f"{video}: refused {problem.detail}")
        while waiting:
            event = ended.get()
            if event["id"] not in waiting:  # a webhook may come twice
                continue
            video = waiting.pop(event["id"])
            print(f"{video}: {event['status']} {event.get('problem', {}).get('detail', '')}".rstrip())
            if event["status"] == "succeeded":
                video.with_suffix(".json").write_text(client.wait(event["id"]).model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
