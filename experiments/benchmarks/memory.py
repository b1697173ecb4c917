"""Private memory of this process while something runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def watched_memory() -> Iterator[dict[str, float]]:
    """Fills in `before` and `peak`: private bytes, NaN where unknown."""
    before = private_bytes()
    found, done = {"before": before, "peak": before}, threading.Event()

    def watch():
        while not done.wait(0.02):
            found["peak"] = max(found["peak"], private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def private_bytes() -> float:
    """RssAnon, memory of this process that no file stands behind."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return float("nan")
    return 1024.0 * int(status.partition("RssAnon:")[2].split()[0])
