"""The work directory: one configuration, finished parts, files written whole."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON so that the path holds all of it or what it held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote.

    Raises:
      ValueError: the file is damaged; names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an `.npz` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote.

    Raises:
      ValueError: the file is damaged; names it.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    """One file alone cannot be made again: what stands beside it was made with it."""
    reason = str(error).partition("\n")[0]
    return ValueError(f"{path}: {reason}; delete {path.parent} to make it again")


def claim(folder: Path, config: dict) -> None:
    """Makes the folder this configuration's, or refuses.

    Args:
      folder: of the run; made if it is not there.
      config: JSON-able, without seeds.

    Raises:
      ValueError: the folder holds another configuration (names the differing
        keys), is no folder or cannot be written.
    """
    path = folder / "config.json"
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError("it is a file")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it cannot be written")
        if not path.exists():
            write_json(path, config)
    except OSError as error:
        raise ValueError(
            f"work directory {folder}: {error.strerror or error}; give another with"
            " --workdir"
        ) from error
    held = read_json(path)
    wanted = json.loads(json.dumps(config))
    differing = sorted(_differing(held, wanted))
    if differing:
        shown = "; ".join(differing[:5]) + ("; …" if len(differing) > 5 else "")
        raise ValueError(
            f"work directory {folder} holds another configuration: {shown}. Give"
            " another with --workdir, or delete it"
        )


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
