"""Compiled programs, kept on disk: each is compiled once a machine.

JAX's persistent compilation cache finds them by all that a program depends on. Its own
store writes in place, and an entry that was cut short stays as it is for ever; the one
below writes each whole or not at all, and replaces what cannot be read.

A program for one core is another than for two, by which XLA divides its loops, and JAX
gives both one name: so the number of cores is part of the folder's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

FOLDER = "programs"
"""Of all kinds of programs, below that of prepared data sets."""
LIMIT = 1 << 30
"""Bytes of all programs kept, above which those go that were not used for longest."""
ENDING = "-cache"
"""Of an entry's name, as JAX writes it; its content is JAX's too."""
DAY = 86_400


# Where they are kept


def use(folder: Path, say: Callable[[str], None] = lambda line: None) -> None:
    """Keeps the programs that this process compiles from here on, and finds them again.

    Where `JAX_COMPILATION_CACHE_DIR` names a folder, or JAX's configuration does, that
    is used, as JAX does. A folder that cannot be written is read alone.

    Args:
      folder: of what is kept between commands, such as `places.default_cache`. Each
        kind of machine, version and user has programs of its own in it: they are code,
        so nobody else may write there.
      say: is told, once, why nothing can be kept.
    """
    global _used
    given = jax.config.jax_compilation_cache_dir
    if given is not None and (_used is None or given != str(_used / FOLDER / _kind())):
        return
    path = folder.absolute() / FOLDER / _kind()
    store = Store(path, say)
    try:
        path.mkdir(0o700, parents=True, exist_ok=True)
        is_ours = not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
    except OSError as error:
        store.lose(error.strerror)
        return
    if not is_ours:
        store.lose("the folder is another user's")
        return
    tidy(folder)
    keep_in(store)
    _used = folder.absolute()


def keep_in(store: Store) -> None:
    """Has JAX keep every program in a store, however fast it was compiled."""
    jax.config.update("jax_compilation_cache_dir", str(store.path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    # No part of JAX's interface: where it is gone, JAX's store takes the same folder.
    with contextlib.suppress(ImportError):
        from jax._src import compilation_cache as inner

        inner.get_file_cache = lambda path: (store, path)
    # JAX warns of an entry that cannot be read; it is compiled anew, and replaced.
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache")


def used() -> Path | None:
    """The folder in use, for processes that this one starts; None without."""
    return _used


_used: Path | None = None


def _kind() -> str:
    """What programs in one folder have in common, beside what JAX names them by."""
    cores = os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return f"jaxlib-{version('jaxlib')}-{cores}-cores-{_machine()}"


@functools.cache
def _machine() -> str:
    """A digest of the processor, by its instructions where the system tells, and of
    the user."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    about = [platform.machine(), platform.processor(), str(user)]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        names = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
        told = {line for line in lines if line.partition("\t")[0].rstrip() in names}
        about += sorted(told)
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:8]


class Store:
    """Programs in a folder, for any number of processes and threads at a time.

    It has the methods that JAX asks of a cache, which raises no error here: what cannot
    be read or written costs the time to compile it.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = lambda line: None):
        """Looks at nothing yet.

        Args:
          path: the folder.
          say: is told, once, why a program cannot be kept.
        """
        self.path = self._path = path  # JAX asks for the second
        self._say, self._lost = say, False

    def get(self, key: str) -> bytes | None:
        """A program as JAX wrote it, from now on the one used last; None without."""
        entry = self._entry(key)
        try:
            content = entry.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # of a folder that is read alone
            os.utime(entry)
        return content

    def put(self, key: str, value: bytes) -> None:
        """Keeps a program, in the place of one that is there: it could not be read."""
        entry = self._entry(key)
        temporary = self.path / f".{os.getpid()}-{threading.get_ident()}"
        try:
            temporary.write_bytes(value)
            temporary.replace(entry)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self.lose(error.strerror)

    def lose(self, why: str) -> None:
        """Says, once, that what is compiled is not kept."""
        if not self._lost:
            self._say(
                f"{self.path}: {why}; programs are compiled and not kept, which costs"
                " time and nothing else"
            )
        self._lost = True

    def _entry(self, key: str) -> Path:
        return self.path / f"{key}{ENDING}"


def tidy(folder: Path, limit: int = LIMIT) -> None:
    """Deletes what was not used for longest while all programs take more than a limit.

    Args:
      folder: as of `use`; the programs of all kinds of machines count.
      limit: in bytes.
    """
    found = []
    for path in folder.glob(f"{FOLDER}/*/*"):
        with contextlib.suppress(OSError):  # another process deletes as well
            about = path.stat()
            if path.name.endswith(ENDING):
                found.append((about.st_mtime, about.st_size, path))
            elif path.name.startswith(".") and time.time() - about.st_mtime > DAY:
                path.unlink()  # of a process that was killed
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
