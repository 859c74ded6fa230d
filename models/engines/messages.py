"""Catches the messages that native libraries print, often the only place where they explain an error."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

_ONE_AT_A_TIME = threading.Lock()
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def native_messages() -> Iterator[IO[bytes]]:
    """Redirects standard error of the whole process to the file that it yields."""
    sys.stderr.flush()
    with _ONE_AT_A_TIME, TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def read_messages(file: IO[bytes]) -> str:
    """Returns the text printed so far as one line without colours."""
    file.seek(0)
    lines = _COLOUR.sub("", file.read().decode(errors="replace")).splitlines()
    return " ".join(line.strip() for line in lines if line.strip())
