"""Stopping on request: SIGTERM and the first Ctrl-C let a training save itself first.

Machines that may be taken away announce it by SIGTERM. The run goes on to the end of
its chunk of steps, saves, and exits with a code of its own, so that whoever started
it can tell "start me again" from a failure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from jaxmtl.devices.distributed import any_of_all
from jaxmtl.training.resume import Stopped

EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: not an error, try again."""
_asked = threading.Event()
"""A signal is the whole process's, and so is this."""


def requested() -> bool:
    """Whether a signal asked the run to stop."""
    return _asked.is_set()


def ask() -> None:
    """Asks, as a signal would."""
    _asked.set()


def check() -> None:
    """Raises Stopped where a signal asked for it; for places with nothing to save.

    A signal to any process of a run is one to all.
    """
    if any(any_of_all(requested())):
        raise Stopped


@contextlib.contextmanager
def on_signals() -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C only ask to stop; a second Ctrl-C interrupts.

    Signals belong to the main thread: in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def ask(number: int, frame: object) -> None:
        _asked.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        # Not print: a signal may arrive while another print holds its buffer.
        with contextlib.suppress(OSError):  # nobody may be there to read it
            os.write(2, b"\nstopping at the next save\n")

    for number in _SIGNALS:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])
        _asked.clear()


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
