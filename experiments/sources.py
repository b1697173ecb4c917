"""From a data configuration to a prepared data set."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import jaxmtl.data
from experiments.config import DataConfig
from jaxmtl.data import complete_journey, lt4rec_sample, video_feed
from jaxmtl.data.complete_journey_tables import find_data
from jaxmtl.data.store import Dataset, prepare


def load(config: DataConfig, say: Callable[[str], None] = print) -> Dataset:
    """Prepares a log, or opens it where that was done before.

    What identifies a prepared set are its settings, the checksums of the files
    read and the code that reads them: no stale set is ever opened.

    Raises:
      ValueError: the log is missing, damaged or breaks its schema.
    """
    identity = {"code": _checksums(Path(jaxmtl.data.__file__).parent, "*.py")}
    if config.name == "video_feed":
        identity["feed"] = dataclasses.asdict(config.feed)
        read = lambda: video_feed.read(config.feed)
    elif config.name == "complete_journey":
        path = find_data(config.path)
        identity["files"] = _checksums(path)
        read = lambda: complete_journey.read(path)
    else:
        if config.path is None:
            raise ValueError(
                "--data.name lt4rec_sample needs --data.path: the file"
                " part-r-00002.gz (or its folder) of the authors' repository"
            )
        identity["files"] = _checksums(config.path)
        read = lambda: lt4rec_sample.read(config.path)
    return prepare(config.name, identity, read, config.cache, say)


def _checksums(path: Path, pattern: str = "*") -> dict[str, str]:
    if not path.exists():
        raise ValueError(f"--data.path {path}: no such file or folder")
    files = [path] if path.is_file() else sorted(path.glob(pattern))
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }
