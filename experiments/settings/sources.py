"""From a data configuration to a prepared data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.settings import fingerprints, scores, sections, views
from experiments.settings.config import SOURCES, DataConfig
from jaxmtl import discovery
from jaxmtl.data import leakage
from jaxmtl.data.log import Log
from jaxmtl.data.reading.files import find_parts
from jaxmtl.data.remarks import remarks
from jaxmtl.data.sources import (
    ali_ccp,
    complete_journey,
    lt4rec_sample,
    own_log,
    video_feed,
)
from jaxmtl.data.sources.complete_journey.tables import TABLES, find_data
from jaxmtl.data.sources.own_log import description
from jaxmtl.data.store import Dataset, fingerprint_of, prepare


class Source(NamedTuple):
    """A log that is there to be read.

    Attributes:
      identity: all that its rows depend on, beside code: its settings, and what the
        files hold that are read.
      read: reads it.
    """

    identity: dict[str, Any]
    read: Callable[[], Log]


def load(
    config: DataConfig,
    say: Callable[[str], None] = print,
    *,
    check_leaks: bool = True,
) -> Dataset:
    """Prepares a log, or opens it where that was done before; checks it for leaks.

    A prepared set is opened for the same settings, content of the files read and code
    that reads them: no stale one ever is.

    Args:
      config: of the log.
      say: receives what there is to know.
      check_leaks: whether a feature that gives a label away is looked for; a
        training that has been made of the log did so, and knew what was allowed.

    Raises:
      ValueError: the log is missing, damaged, breaks its schema or is being written,
        names of tasks would be mistaken for each other, a feature is a label in
        disguise, or the view asks for what the log has not.
    """
    source = find(config)
    try:
        config.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--data.cache {config.cache}: {error.strerror}; give a folder to keep"
            " prepared logs in"
        ) from error
    data = prepare(
        config.name,
        source.identity,
        source.read,
        config.cache,
        say,
        code=fingerprints.code(*fingerprints.reads(config.name)),
        find_again=lambda: find(config).identity,
    )
    scores.check_names(data.schema)
    if check_leaks:
        train = data.splits["train"]
        for warning in leakage.refuse_leaks(data.schema, train, config.allow_leaks):
            say(warning)
    data = views.apply(data, config.view)
    found = remarks(data.schema, data.splits)
    for line in found:
        say(f"{config.name}: {line}")
    return dataclasses.replace(data, notes=(*data.notes, *found))


def fingerprint(config: DataConfig) -> str:
    """What `load` would give the log, of which nothing is prepared for it.

    Raises:
      ValueError: the log is missing, or its description is none.
    """
    log = fingerprint_of(config.name, find(config).identity)
    return views.fingerprint(log, config.view)


def find(config: DataConfig) -> Source:
    """The files of a log and its settings.

    Raises:
      ValueError: a file is missing, or the description of the log is none.
    """
    path, name = config.path, config.name
    _check_options(config)
    if name == "video_feed":
        feed = dataclasses.asdict(config.feed)
        return Source({"feed": feed}, lambda: video_feed.read(config.feed))

    def held(files: Iterable[Path], folder: Path | None = None) -> dict[str, Any]:
        memory = config.cache / "checksums"
        return {"files": fingerprints.files(files, memory, folder)}

    if name == "complete_journey":
        folder = find_data(path)
        files = filter(Path.is_file, (folder / f"{table}.parquet" for table in TABLES))
        return Source(held(files), lambda: complete_journey.read(folder))
    if name not in ("ali_ccp", "lt4rec_sample", "own_log"):
        module, options = discovery.load(SOURCES, name), sections.chosen(config)
        given = (path,) if options is None else (path, options)
        identity = held(module.find_files(*given))
        if options is not None:
            identity |= {"options": dataclasses.asdict(options)}
        return Source(identity, lambda: module.read(*given))
    if path is None:
        wanted = {
            "ali_ccp": "the folder of its four raw files, sample_skeleton_train.csv and"
            " so on, from https://tianchi.aliyun.com/dataset/dataDetail?dataId=408",
            "lt4rec_sample": "the file part-r-00002.gz (or its folder) of the authors'"
            " repository",
            "own_log": "a CSV or Parquet file, or a folder of such",
        }
        raise ValueError(f"--data.name {name} needs --data.path: {wanted[name]}")
    if not path.exists():
        raise ValueError(f"--data.path {path}: no such file or folder")
    if name == "ali_ccp":
        options = {"options": dataclasses.asdict(config.ali_ccp)}
        read = lambda: ali_ccp.read(path, config.ali_ccp)
        return Source(held(ali_ccp.files_of(path)) | options, read)
    if name == "lt4rec_sample":
        parts = lt4rec_sample.find_parts(path)
        return Source(held(parts), lambda: lt4rec_sample.read(path))
    if config.schema is None:
        raise ValueError(
            "--data.name own_log needs --data.schema: a TOML or JSON file that"
            " describes the log; examples/own_log/schema.toml is one"
        )
    if not config.schema.exists():
        raise ValueError(f"--data.schema {config.schema}: no such file or folder")
    if config.schema.is_dir():
        raise ValueError(
            f"--data.schema {config.schema}: a folder; give the TOML or JSON file in"
            " it that describes the log"
        )
    described = {"schema": _plain(description.load(config.schema))}
    read = lambda: own_log.read(path, config.schema)
    return Source(held(find_parts(path), path) | described, read)


def _plain(value: Any) -> Any:
    """A description as JSON: what it says, however it is written."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {f.name: _plain(getattr(value, f.name)) for f in fields}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _check_options(config: DataConfig) -> None:
    """Refuses what would be passed over: a path, or a schema, that nothing reads."""
    if config.name == "video_feed" and config.path is not None:
        raise ValueError(
            f"--data.path {config.path}: --data.name video_feed is simulated and reads"
            " no file; for a log of your own give --data.name own_log"
        )
    if config.name != "own_log" and config.schema is not None:
        raise ValueError(
            f"--data.schema {config.schema}: --data.name {config.name} has a schema of"
            " its own; for a log of your own give --data.name own_log"
        )
