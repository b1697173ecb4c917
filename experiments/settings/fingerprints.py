"""What numbers depend on beside the settings: files, code, versions, precision.

A fingerprint covers what is read and nothing else: neither where a file lies, what it
is called or when it was written, nor comments in the code.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxmtl import discovery

PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax")
"""Whose versions may change what a training computes."""
JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)
"""Those of JAX that change bits or draws, set by the environment for instance."""
HARMLESS_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count")
"""Beginnings of flags of XLA that change no number."""
TRAINS = ("experiments.running.joint", "experiments.settings.views")
"""What a row's seed is trained with; with all that these import."""
METRICS = "jaxmtl.metrics.methods"
"""Folder of what a row's predictions are judged by, all of its files."""
READS = ("jaxmtl.data.store",)
"""What prepares a log, beside its source; likewise."""
LONG = 1 << 30
"""Bytes of a file whose checksum is remembered while the system says it is the same."""
SETTLED = 2.0
"""Seconds after a change in which another one may bear the same time."""


def software(*settings: Any, judged: bool = False) -> dict[str, Any]:
    """What computes: a run goes on to the same bits where this is the same.

    The number of devices and of threads is no part of it: a training may go on with
    others, and only last bits differ. Nor is a method that is not in use: a new file
    leaves what was begun before it as it is.

    Args:
      settings: the configurations of what is trained.
      judged: whether predictions are judged too, by all metrics.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    metrics = [f"{METRICS}.{name}" for name in discovery.files(METRICS)]
    return {
        **{name: _version(name) for name in PACKAGES},
        "platform": jax.default_backend(),
        **{name: getattr(jax.config, name) for name in JAX_SETTINGS},
        "xla_flags": sorted(f for f in flags if not f.startswith(HARMLESS_FLAGS)),
        "code": code(*TRAINS, *READS, *_in_use(settings), *(metrics if judged else ())),
    }


_version = functools.cache(version)


def _in_use(settings: Iterable[Any]) -> list[str]:
    """The modules of the methods that settings choose, their logs' sources included."""
    found: set[str] = set()
    waiting = list(settings)
    while waiting:
        section = waiting.pop()
        if hasattr(section, "CHOICE"):
            found.add(f"{section.FOLDER}.{getattr(section, section.CHOICE)}")
        values = (getattr(section, f.name) for f in dataclasses.fields(section))
        waiting += [value for value in values if dataclasses.is_dataclass(value)]
    return sorted(found)


def reads(source: str) -> tuple[str, ...]:
    """The modules that prepare a log."""
    return (*READS, f"jaxmtl.data.sources.{source}")


def digest(value: Any) -> str:
    """Of JSON-able values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Code


@functools.cache
def code(*modules: str) -> str:
    """Of modules and all they import of this project, without comments and docstrings.

    Args:
      modules: their full names.

    Raises:
      ModuleNotFoundError: one of them is not there, and would be left out in silence.
    """
    for name in modules:
        if _module_file(name) is None:
            raise ModuleNotFoundError(f"{name}: no module of this project")
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = None if name in found else _module_file(name)
        if path is None:  # of another project, or a name inside a module
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name] = digest(_running_text(tree))
        waiting += [name.rpartition(".")[0], *_imported(tree)]  # its package runs first
    return digest(found)


def _module_file(name: str) -> Path | None:
    root, *parts = name.split(".")
    if root not in ("jaxmtl", __name__.partition(".")[0]):
        return None
    folder, _, last = name.rpartition(".")
    base = Path(_root(root), *parts)
    files = (base / "__init__.py", base.with_suffix(".py"))
    found = next((file for file in files if file.is_file()), None)
    if found is None and hasattr(sys.modules.get(folder), "__path__"):
        found = discovery.files(folder).get(last)  # folders may have been added to it
    return found


@functools.cache
def _root(package: str) -> Path:
    return Path(importlib.util.find_spec(package).origin).parent


def _imported(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _running_text(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # texts that stand alone are for readers
            node.body = [part for part in body if not _is_text(part)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


# Files


def files(
    paths: Iterable[Path], memory: Path, folder: Path | None = None
) -> list[list[str]]:
    """What tells logs apart that are read from files: their forms and content.

    Args:
      paths: of the files that are read, in that order.
      memory: folder where checksums of long files are kept.
      folder: of the log, where a file's place below it may be read (`day=3/1.csv`).
        The names of files give their order alone.
    """
    return [[_below(p, folder), _form(p), checksum(p, memory)] for p in paths]


def _below(path: Path, folder: Path | None) -> str:
    if folder not in path.parents:
        return "."
    return path.parent.relative_to(folder).as_posix()


def _form(path: Path) -> str:
    """The ending that decides how a file is read."""
    endings = [ending.lower() for ending in path.suffixes]
    return "".join(endings[-2:] if endings[-1:] == [".gz"] else endings[-1:])


def checksum(path: Path, memory: Path) -> str:
    """SHA-256 of a file's content.

    That of a long one is read again from `memory` as long as the system says that
    nobody has written to it since: its time of change, unlike that of modification,
    is set by nobody's wish.
    """
    about = path.stat()
    if about.st_size <= LONG:
        return _sha256(path)
    is_now = [about.st_dev, about.st_ino, about.st_size, about.st_ctime_ns]
    kept = memory / f"{digest(str(path.resolve()))}.json"
    try:
        was, found = json.loads(kept.read_text(encoding="utf-8"))
        if was == is_now:
            return str(found)
    except (OSError, ValueError, TypeError):  # none yet, or not what was written
        pass
    found, read = _sha256(path), path.stat()
    is_same = [read.st_dev, read.st_ino, read.st_size, read.st_ctime_ns] == is_now
    if is_same and time.time() - read.st_ctime > SETTLED:
        with contextlib.suppress(OSError):  # of a cache that is read alone
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps([is_now, found]), encoding="utf-8")
            temporary.replace(kept)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
