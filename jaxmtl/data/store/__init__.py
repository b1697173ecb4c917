"""From a source to memory-mapped columns, once.

A source's rows become a TFDS data set (ArrayRecord, blocks of rows a record:
the interchange) and from it one `.npy` a column and split (the training
format). Both are written under a temporary name and renamed when whole, so what
carries the final name is complete.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from jaxmtl import spaces
from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.schema_text import MALFORMED, read_schema
from jaxmtl.data.store.blocks import open_split, write_split
from jaxmtl.data.store.locking import taking_turns
from jaxmtl.types import Rows, Schema

FORMAT = 3
"""Of the columns on disk; part of their folder's name."""
FULL = os.strerror(errno.ENOSPC)
"""In the words of OSError, and of array_record's RuntimeError."""
RESIDENT = 2 << 30
"""Bytes of the largest split that is copied to a device. The rows' order depends on it,
so it is the same for every device."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared log.

    Attributes:
      schema: what the rows hold.
      splits: name -> rows, memory-mapped.
      counts: rows read, kept, and dropped by reason.
      notes: provenance and licence.
      fingerprint: of the source and its settings.
    """

    schema: Schema
    splits: dict[str, Rows]
    counts: dict[str, int]
    notes: tuple[str, ...]
    fingerprint: str

    def is_large(self, split: str) -> bool:
        """Whether a split stays on disk, to be read as it is used."""
        columns = jax.tree.leaves(self.splits[split])
        return sum(column.nbytes for column in columns) > RESIDENT

    def on_device(self, split: str) -> Rows:
        """The split as JAX arrays: the fast path for sets that fit; copied once."""
        if split not in self._copies:
            copy = jax.tree.map(jax.numpy.asarray, self.splits[split])
            self._copies[split] = copy
        return self._copies[split]

    @functools.cached_property
    def _copies(self) -> dict[str, Rows]:
        return {}

    @functools.cached_property
    def rates(self) -> dict[str, tuple[float, int]]:
        """Task, joint ones too -> sum of its training labels, and their number."""
        labels = {n: np.asarray(c) for n, c in self.splits["train"].labels.items()}
        labels = spaces.with_joint(self.schema, labels)
        tasks = self.schema.tasks
        joint = map(spaces.joint_task, filter(spaces.is_nested, tasks))
        known = {t.name: labels[t.name][t.inside(labels)] for t in (*tasks, *joint)}
        return {
            n: (float(np.sum(c, dtype=np.float64)), c.size) for n, c in known.items()
        }


def prepare(
    name: str,
    identity: dict,
    make_log: Callable[[], Log],
    cache: Path,
    say: Callable[[str], None] = print,
    *,
    code: str = "",
    find_again: Callable[[], dict] | None = None,
) -> Dataset:
    """Opens the prepared data set, or prepares it first, or waits for who does.

    Args:
      name: of the data set; the start of its folder's name.
      identity: JSON-able; everything its rows depend on beside code (settings,
        checksums). With the name it makes the fingerprint.
      make_log: reads the source; only called where nothing is prepared yet.
      cache: folder of all prepared sets.
      say: receives the counts of rows read, kept and dropped, and that it waits.
      code: of what reads the source: what another version prepared is not opened.
      find_again: the identity of the source as it is after it was read.

    Raises:
      ValueError: the source's rows break their schema, a split is empty, the source
        changed while it was read, prepared files are damaged (names the file), or the
        cache cannot be written.
    """
    fingerprint = fingerprint_of(name, identity)
    written = {"format": FORMAT, "code": code}
    folder = Path(cache) / f"{name}-{fingerprint}-{_digest(written)[:8]}"
    if not folder.exists():
        _check_writable(Path(cache))
        lock = folder.with_name(f".{folder.name}.lock")
        wait = lambda: say(f"{name}: another process prepares it; waiting")
        with taking_turns(lock, wait):
            if not folder.exists():
                about = written | {"name": name, **identity}
                is_same = lambda: find_again is None or find_again() == identity
                log = _write_once(folder, name, make_log, about, is_same)
                counts = ", ".join(f"{key} {n:,}" for key, n in log.counts.items())
                say(f"prepared {name}: rows {counts}")
    return open_columns(folder, fingerprint)


def _check_writable(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        raise ValueError(
            f"prepared data cannot be kept in {cache}: {error.strerror}; give another"
            " folder with --data.cache, or in JAXMTL_CACHE"
        ) from error


def fingerprint_of(name: str, identity: dict) -> str:
    """Of a log of some name: of all its rows depend on, beside code."""
    return _digest({"name": name, **identity})[:16]


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write_once(
    folder: Path,
    name: str,
    make_log: Callable[[], Log],
    identity: dict,
    is_same: Callable[[], bool],
) -> Log:
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as temporary:
        # One level down: a temporary folder can be read by its owner alone.
        work, log = Path(temporary) / folder.name, make_log()
        try:
            _write(work, name, log, identity)
        except (OSError, RuntimeError) as error:
            if FULL not in str(error):  # of the source, which is read here
                raise
            reason = str(error).partition(";")[0]
            raise ValueError(
                f"prepared data cannot be written to {folder.parent}: {reason}; make"
                " room there, or give another folder with --data.cache"
            ) from error
        if not is_same():
            raise ValueError(
                f"{name}: its files were written to while they were read; try again"
                " when they are whole"
            )
        try:
            os.replace(work, folder)
        except OSError:
            if not folder.exists():  # else another process, without locks, was first
                raise
    return log


def _write(work: Path, name: str, log: Log, identity: dict) -> None:
    # Here, since TFDS takes half a second, which opening a prepared log can spare.
    from jaxmtl.data.store.tfds_builder import build, read_blocks

    rows = build(work / "tfds", name, log)
    for split in SPLITS:
        write_split(work / split, rows[split], read_blocks(work / "tfds", split))
    about = {
        "schema": json.loads(log.schema.to_json()),
        "counts": log.counts,
        "rows": rows,
        "notes": list(log.notes),
        "identity": identity,
    }
    (work / "about.json").write_text(json.dumps(about, indent=1))


def open_columns(folder: Path, fingerprint: str) -> Dataset:
    """Maps a prepared set into memory.

    Raises:
      ValueError: a file is missing, damaged or of another length; names it.
    """
    try:
        about = json.loads((folder / "about.json").read_text())
        schema = read_schema(about["schema"])
        counts, notes = dict(about["counts"]), tuple(map(str, about["notes"]))
        rows = {split: int(about["rows"][split]) for split in SPLITS}
    except (*MALFORMED, OSError) as error:
        raise ValueError(
            f"{folder / 'about.json'}: {error}; delete {folder} to prepare it again"
        ) from error
    splits = {split: open_split(folder / split, schema, rows[split]) for split in rows}
    return Dataset(schema, splits, counts, notes, fingerprint)
