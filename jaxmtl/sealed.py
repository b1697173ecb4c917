"""Named arrays in a folder that is there whole or not at all, and proves what it holds.

A file is written, its SHA-256 beside it, and the folder gets its name last; what is
read is verified before anything parses it. For what one process writes for itself
alone: one file in NumPy's format, where Orbax starts threads and an event loop for
each save, restores flipped bits without complaint and has no place for a checksum
ahead of its commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

ARRAYS = "arrays.npz"
SEAL = "sha256.json"


class Unreadable(ValueError):
    """The system does not hand over a file that is there, and that may be sound."""

    def __init__(self, path: Path, error: Exception):
        reason = getattr(error, "strerror", None) or error
        super().__init__(
            f"{path} cannot be read: {reason}; see that it can be, then try again"
        )


def is_refused(error: Exception) -> bool:
    """Whether an error tells nothing of what a file holds: rights, a failing disk."""
    none = FileNotFoundError, IsADirectoryError, NotADirectoryError
    # Readers raise some without a number of their own, for what they do not like.
    is_systems = isinstance(error, OSError) and error.errno is not None
    return is_systems and not isinstance(error, none)


def write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays and waits until the disk has them.

    Args:
      folder: is not there yet. What an attempt that was killed left under its
        temporary name is replaced.
      arrays: by name.

    Raises:
      OSError: it cannot be written, the disk being full for instance; then nothing
        is left behind.
    """
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with (temporary / ARRAYS).open("wb") as file:
            write_arrays(file, arrays)
            _sync(file)
        seal = {ARRAYS: digest(temporary / ARRAYS)}
        with (temporary / SEAL).open("w", encoding="utf-8") as file:
            json.dump(seal, file)
            _sync(file)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read(folder: Path) -> dict[str, np.ndarray]:
    """Reads what `write` wrote.

    Raises:
      Unreadable: the system refuses to read a file.
      ValueError: a file is missing or is not what was written; names it.
    """
    wrong = SEAL
    try:
        seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        wrong = ARRAYS
        if seal == {ARRAYS: digest(folder / ARRAYS)}:
            return read_arrays(folder / ARRAYS)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        if is_refused(error):
            raise Unreadable(folder / wrong, error) from error
        raise ValueError(f"{folder / wrong} cannot be read: {error}") from error
    raise ValueError(f"{folder / wrong} is not what was written")


def write_arrays(
    file: BinaryIO | Path, arrays: Mapping[str, np.ndarray], *, small: bool = False
) -> None:
    """Writes an `.npz` of arrays by any name.

    `np.savez` takes them as keywords, and so none that is called `file`.

    Args:
      file: to write to.
      arrays: by name.
      small: whether they are compressed.
    """
    how = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), None, False)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads an `.npz`, whoever wrote it; nothing is unpickled.

    Raises:
      Unreadable: the system refuses to read it.
      ValueError: it is damaged, or holds something else than arrays; says why.
    """
    try:
        if not zipfile.is_zipfile(path):  # NumPy would speak of unsafe ways to read it
            raise ValueError("it is no whole archive of arrays")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            # By the members' own names: of a.npy and a.npy.npy, NumPy's names for
            # them, a and a.npy, the second is the first one's.
            members = archive.zip.namelist()
            arrays = {name.removesuffix(".npy"): archive[name] for name in members}
    except Exception as error:  # what a header may be is left to Python's own parser
        if is_refused(error):
            raise Unreadable(path, error) from error
        raise ValueError(str(error).partition("\n")[0] or repr(error)) from error
    strange = [n for n, array in arrays.items() if not isinstance(array, np.ndarray)]
    if strange:  # NumPy hands over the bytes of what is no array
        raise ValueError(f"{strange} are no arrays")
    return arrays


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
