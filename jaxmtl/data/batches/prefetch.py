"""Makes the next thing while the present one is used: double buffering."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The items in their order, each made in a thread while the one before is used.

    Two exist at a time at most. Close it, by `contextlib.closing`, where you may stop
    early: it waits for the item under way, makes no other, and its thread ends.

    Raises:
      Exception: whatever making an item raised, when its turn comes.
    """
    making, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        ahead = thread.submit(next, making, end)
        while (item := ahead.result()) is not end:
            ahead = thread.submit(next, making, end)
            yield item
            del item  # else it would live while the next but one is made
