"""The work directory: one configuration, one run at a time, files written whole."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from experiments.settings.config import Resume
from jaxmtl import sealed

CONFIG = "config.json"
PLACES = "places"
"""Its key that says where things lie: kept for who looks for them, never compared."""
LOCK = ".lock"
LOOKS = 3
"""Before a lock counts as another run's: `holder` has it for an instant."""


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON so that the path holds all of it or what it held before."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with _replacing(path) as temporary:
        # Half a character, in a path that is no UTF-8, becomes JSON's escape for it.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote.

    Raises:
      ValueError: the file is damaged, or cannot be read; names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an `.npz` whole or not at all."""
    with _replacing(path) as temporary:
        sealed.write_arrays(temporary, arrays, small=True)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name to write under, which takes the place of `path` once that is done.

    What a killed run leaves under it is overwritten by the next attempt.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk
            error.filename = str(path)
        raise


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote.

    Raises:
      ValueError: the file is damaged, or cannot be read; names it.
    """
    try:
        return sealed.read_arrays(path)
    except sealed.Unreadable:  # names it itself
        raise
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    """One file alone cannot be made again: what stands beside it was made with it."""
    if sealed.is_refused(error):
        return sealed.Unreadable(path, error)
    reason = str(error).partition("\n")[0]
    return ValueError(f"{path}: {reason}; move {path.parent} away to make it again")


def claim(folder: Path, config: dict, resume: Resume = "auto") -> TextIO:
    """Makes the folder this configuration's and this process's alone, or refuses.

    Args:
      folder: of the run; made if it is not there.
      config: JSON-able, without seeds: all that numbers depend on, and `PLACES`,
        which may differ and then takes the place of what is held.
      resume: whether the folder may (`auto`), `must` or must `never` hold a run.

    Returns:
      The lock, to be used in a `with`. It is the system's and ends with the process,
      however that ends.

    Raises:
      ValueError: the folder holds another configuration (names the differing
        keys), is in use (names by whom), is no folder, cannot be written, or holds
        a run or none against `resume`.
    """
    path = folder / CONFIG
    _check_resume(folder, path.exists(), resume)
    with contextlib.ExitStack() as stack:
        try:
            if folder.exists() and not folder.is_dir():
                raise NotADirectoryError("it is a file")
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError("it cannot be written")
            lock = stack.enter_context(_lock(folder / LOCK))
            if not path.exists():
                write_json(path, config)
        except OSError as error:
            raise ValueError(
                f"work directory {folder}: {error.strerror or error}; give another"
                " with --workdir"
            ) from error
        held, wanted = read_json(path), json.loads(json.dumps(config))
        _check_config(folder, held, wanted)
        if held != wanted:  # in places alone
            write_json(path, config)
        stack.pop_all()  # from here on the caller closes it
        return lock


def _check_config(folder: Path, held: Any, wanted: Any) -> None:
    if isinstance(held, dict):
        held = held | {PLACES: wanted.get(PLACES)}
    wanted = {PLACES: None} | wanted
    differing = sorted(_differing(held, wanted))
    if differing:
        shown = "; ".join(differing[:5]) + ("; …" if len(differing) > 5 else "")
        raise ValueError(
            f"work directory {folder} holds another configuration: {shown}. Give"
            " another with --workdir"
        )


def _check_resume(folder: Path, holds_run: bool, resume: Resume) -> None:
    if resume == "must" and not holds_run:
        raise ValueError(
            f"work directory {folder} holds no run to go on with, as --resume must"
            " demands; use --resume auto"
        )
    if resume == "never" and holds_run:
        raise ValueError(
            f"work directory {folder} holds a run, and --resume never goes on with"
            " none; give another with --workdir"
        )


def holder(folder: Path) -> str | None:
    """Which process is at work in a work directory; None where none is."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read() or "a process"
    except FileNotFoundError:
        pass
    return None


def _lock(path: Path) -> TextIO:
    """The file, locked; it says by whom."""
    file = path.open("a+", encoding="utf-8")
    for attempt in range(LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if attempt < LOOKS - 1:
                time.sleep(0.05)
                continue
            with file:
                file.seek(0)
                raise BlockingIOError(f"{file.read()} is at work in it") from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _differing(held: Any, wanted: Any, at: str = "") -> list[str]:
    if isinstance(held, dict) and isinstance(wanted, dict):
        found = []
        for key in held.keys() | wanted.keys():
            path = f"{at}.{key}" if at else key
            if key not in held or key not in wanted:
                found.append(f"{path} is {'new' if key in wanted else 'gone'}")
            else:
                found += _differing(held[key], wanted[key], path)
        return found
    return [] if held == wanted else [f"{at} is {held!r} there and {wanted!r} here"]
