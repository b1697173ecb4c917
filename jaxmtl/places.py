"""Where a command writes, looked at before its work begins, and what it keeps."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def default_cache() -> Path:
    """Where prepared data sets and compiled programs live: $JAXMTL_CACHE or
    ~/.cache/jaxmtl.

    In the system's temporary folder where nobody has a home.
    """
    named = os.environ.get("JAXMTL_CACHE")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache" / "jaxmtl"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"jaxmtl-{os.getuid()}"


def check_file(
    option: str, out: Path, endings: Sequence[str], inputs: Mapping[str, Path | None]
) -> None:
    """Refuses a file that a command could not write at its end, or should not.

    Args:
      option: that names it, for the message.
      out: to write, or to replace if it is a file of an earlier command.
      endings: that decide its form.
      inputs: option -> what is read, a file or a folder; None = not given.

    Raises:
      ValueError: it ends with none of the endings, is no file, is no text, is an input
        or lies inside one, or its folder is not there or cannot be written.
    """
    if not out.name.lower().endswith(tuple(endings)):
        raise ValueError(
            f"{option} {out}: a name that ends with {' or '.join(endings)} says what"
            " form the file is to have"
        )
    if out.exists() and not out.is_file():
        raise ValueError(f"{option} {out} is there and no file; give another name")
    check_text(option, out)
    check_apart(option, out, inputs)
    if not out.parent.is_dir():
        raise ValueError(
            f"{option} {out}: there is no folder {out.parent}; make it, or give another"
        )
    _check_writable(option, out, out.parent)


def check_folder(option: str, out: Path, inputs: Mapping[str, Path | None]) -> None:
    """Refuses a folder that cannot be made or written, or that mixes with an input.

    Args:
      option: that names it, for the message.
      out: to write into; need not be there yet, nor the folders above it.
      inputs: as of `check_file`.

    Raises:
      ValueError: it is a file or lies below one, is no text, cannot be written, or is
        an input, lies inside one or holds one.
    """
    check_text(option, out)
    check_apart(option, out, inputs)
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        what = "it" if there == out else str(there)
        raise ValueError(f"{option} {out}: {what} is a file; give a folder")
    _check_writable(option, out, there)


def check_text(option: str, path: Path) -> None:
    """Refuses a path that libraries in C++ could not be told.

    Raises:
      ValueError: a name in it is no UTF-8, or the system's encoding has no signs for
        it and so does not tell.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{option} {ascii(str(path))}: a name in it is no text here, where names"
            f" are read as {sys.getfilesystemencoding()}; rename it, or set"
            " PYTHONUTF8=1"
        ) from error


def check_apart(option: str, out: Path, inputs: Mapping[str, Path | None]) -> None:
    """Refuses an output that is an input, by whatever name, lies in one or holds one.

    Raises:
      ValueError: it would; names both.
    """
    for name, given in inputs.items():
        if given is None or not given.exists():
            continue
        if _is_inside(out, given) or _is_linked_into(out, given):
            where = "lies inside" if given.is_dir() else "is"
            raise ValueError(
                f"{option} {out} {where} {name} {given}, and would replace or mix with"
                " what is read there; give another place"
            )
        if _is_inside(given, out):
            raise ValueError(
                f"{option} {out} holds {name} {given}, which could be replaced by what"
                " is written there; give another place"
            )


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is another one or lies below it, whatever they are called."""
    if not folder.exists():
        return False
    resolved = path.resolve()
    above = (resolved, *resolved.parents)
    return any(place.exists() and place.samefile(folder) for place in above)


def _is_linked_into(out: Path, folder: Path) -> bool:
    """Whether a file is, by another link, one of a folder's."""
    if not (folder.is_dir() and out.is_file() and out.stat().st_nlink > 1):
        return False
    return any(path.is_file() and path.samefile(out) for path in folder.rglob("*"))


def _check_writable(option: str, out: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"{option} {out}: the folder {folder} cannot be written; give another place"
        )
