"""Posts a video and prints its prompt with nothing but an HTTP client: what `vsg.Client` does, for other languages.

    .venv/bin/python examples/plain_httpx.py docs/puppets.mp4 http://127.0.0.1:8000

Needs a service (`make serve`) and httpx.
"""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx


def main(video: Path, address: str) -> None:
    """Prints the prompt, or ends with the service's own words where there is none."""
    with httpx.Client(base_url=address, timeout=60) as client:
        answer = post(client, video)
        while answer.is_success and answer.json()["status"] in ("queued", "running"):
            time.sleep(1)
            answer = client.get(f"/videos/{answer.json()['id']}")
    document: dict[str, Any] = answer.json()
    if not answer.is_success:  # a problem document: `code` is for programs, `detail` for people
        raise SystemExit(f"{document['title']}: {document['detail']} ({document['code']})")
    print(document["prompt"])


def post(client: httpx.Client, video: Path) -> httpx.Response:
    """The answer to a post: the graph, or where to ask for it; waits while the service has too much to do."""
    # The key lets the service recognise a video that is posted again.
    headers = {"Prefer": "wait=30", "Idempotency-Key": str(uuid.uuid4())}
    while True:
        with video.open("rb") as file:
            answer = client.post("/videos", files={"video": file}, data={"fps": "2"}, headers=headers)
        if answer.status_code not in (429, 503):
            return answer
        time.sleep(int(answer.headers["retry-after"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
