"""The cores that this process may use: those of its affinity, or fewer where its container has a quota of CPU time.

Containers limit CPU time by quotas of control groups (`docker run --cpus`, `limits.cpu` of Kubernetes), which Python
and the engines do not see: on a machine of 64 cores they would start 64 threads for a quota of two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cores(root: Path = Path("/")) -> int:
    """Returns the number of whole cores, at least 1.

    root: of the file tree that has `proc` and `sys`.
    """
    cores = float(len(os.sched_getaffinity(0)))
    return max(1, int(min([cores, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yields the quotas, in cores, of the control groups of this process and of those around them."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:  # version 2
            for folder in _folders(root / "sys/fs/cgroup", group):
                quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
                yield from _cores(quota, period)
        elif "cpu" in controllers.split(","):  # version 1
            for name in {"cpu", controllers}:
                for folder in _folders(root / "sys/fs/cgroup" / name, group):
                    yield from _cores(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _folders(top: Path, group: str) -> Iterator[Path]:
    """Yields the folders of a group and of those around it.

    In a container the group may be named as the host sees it, while its own folder is the top.
    """
    path = PurePosixPath(group.lstrip("/"))
    for each in (path, *path.parents):
        if ".." not in each.parts:
            yield top / each


def _cores(quota: str, period: str) -> Iterator[float]:
    """Yields the quota, if there is one: `max` and -1 stand for none."""
    quota, period = quota.strip(), period.strip()
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
