"""How many programs a process compiled, and how long that took."""

from __future__ import annotations

import operator
import threading
from typing import NamedTuple

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
FOUND = "/jax/compilation_cache/cache_hits"
READ = "/jax/compilation_cache/cache_retrieval_time_sec"
"""Events of JAX. The first tells of a program that was found as well."""


class Programs(NamedTuple):
    """Programs that a process needed.

    Attributes:
      compiled: how many were.
      compiling: seconds it took.
      found: how many were kept from before.
      reading: seconds it took.
    """

    compiled: int = 0
    compiling: float = 0.0
    found: int = 0
    reading: float = 0.0

    def __add__(self, other: Programs) -> Programs:
        return Programs(*map(operator.add, self, other))

    def __sub__(self, other: Programs) -> Programs:
        return Programs(*map(operator.sub, self, other))

    def describe(self) -> str:
        """One line."""
        text = f"programs: {self.compiled} compiled in {self.compiling:.1f} s"
        if self.found:
            text += f", {self.found} kept from before read in {self.reading:.1f} s"
        return text


_turn = threading.Lock()
_total = [Programs()]


def total() -> Programs:
    """Of this process, since this module was imported."""
    return _total[0]


def _add(**more: float) -> None:
    with _turn:
        _total[0] = _total[0] + Programs(**more)


def _on_duration(name: str, seconds: float, **_) -> None:
    if name == COMPILED:
        _add(compiled=1, compiling=seconds)
    elif name == READ:
        _add(compiling=-seconds, reading=seconds)


def _on_event(name: str, **_) -> None:
    if name == FOUND:
        _add(compiled=-1, found=1)


jax.monitoring.register_event_duration_secs_listener(_on_duration)
jax.monitoring.register_event_listener(_on_event)
