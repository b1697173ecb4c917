"""Processes that take turns."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # not a Unix: nobody waits
    fcntl = None

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What some network file systems answer."""


@contextlib.contextmanager
def taking_turns(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Of all processes that ask for a file's lock, lets one at a time go on.

    The lock is the system's and ends with the process, however that ends. The file is
    deleted at the end. Where the system or the file system has no locks, nobody waits.

    Args:
      path: of the file; its folder is made if it is not there.
      wait: called before another process is waited for.
    """
    if fcntl is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path, wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, wait: Callable[[], None]) -> TextIO:
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return file
        if _is_at(file, path):
            return file
        file.close()  # its holder has deleted it: others lock a new one


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
