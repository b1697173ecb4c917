"""What a terminal, a pipe or a shell may do to a command, borne.

A sign that the terminal's encoding lacks, a reader that goes away (`| head`), a stream
that is closed from the start: none of them ends a training or hides what it found.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

NARROWEST = 20
"""Columns of a terminal: tyro lays out a command's settings in fewer for ever."""


def run(main: Callable[[], int]) -> int:
    """Carries out a command, for a process that does nothing else.

    Args:
      main: of the command; returns its exit code.

    Returns:
      The exit code; 1 where what was printed could not be written.
    """
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    _open_closed()
    sys.stdout, sys.stderr = _bearing(1), _bearing(2)
    code = main()
    sys.stdout.flush()
    lost = sys.stdout.buffer.raw.lost
    if lost is not None:
        print(f"error: what is printed cannot be written: {lost}", file=sys.stderr)
        return code or 1
    return code


def as_typed(words: Sequence[str]) -> str:
    """A command as one line that any file can hold.

    Words that the terminal's encoding could not tell are read as UTF-8.
    """
    raw = shlex.join(words).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


class _Patient(io.FileIO):
    """A stream whose reader may go away, and whose disk may be full.

    Attributes:
      lost: the last error by which something was lost that somebody waits for.
    """

    lost: OSError | None = None

    def write(self, content) -> int | None:
        try:
            return super().write(content)
        except BrokenPipeError:
            pass
        except OSError as error:
            self.lost = error
        return len(content)


def _bearing(number: int) -> TextIO:
    """A standard stream, with a question mark for what its encoding lacks."""
    was = {1: sys.stdout, 2: sys.stderr}[number]
    if was is not None:
        with contextlib.suppress(OSError):
            was.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Patient(number, "w", closefd=False)),
        "utf-8" if was is None else was.encoding,
        "replace",
        line_buffering=was is None or was.line_buffering or was.write_through,
    )


def _open_closed() -> None:
    """Opens those of the three streams that are closed, on nothing.

    Their numbers would go to the next files opened, and errors of native code with
    them.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
