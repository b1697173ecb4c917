"""From a data configuration to a prepared data set."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import jaxmtl.data
from experiments import views
from experiments.config import DataConfig
from experiments.running import scores
from jaxmtl.data import leakage
from jaxmtl.data.log import Log
from jaxmtl.data.remarks import remarks
from jaxmtl.data.sources import (
    ali_ccp,
    aliexpress,
    complete_journey,
    criteo_uplift,
    hillstrom,
    kuairand,
    lt4rec_sample,
    movielens,
    own_log,
    video_feed,
)
from jaxmtl.data.sources.complete_journey.tables import find_data
from jaxmtl.data.store import Dataset, prepare

PUBLIC: dict[str, ModuleType] = {
    "aliexpress": aliexpress,
    "criteo_uplift": criteo_uplift,
    "hillstrom": hillstrom,
    "kuairand": kuairand,
    "movielens": movielens,
}
"""Logs that are read from their files alone."""
WHOLE = 2**30
"""Bytes: what is longer is not read whole just to see whether it has changed."""


def load(
    config: DataConfig,
    say: Callable[[str], None] = print,
    *,
    check_leaks: bool = True,
) -> Dataset:
    """Prepares a log, or opens it where that was done before; checks it for leaks.

    What identifies a prepared set are its settings, the checksums of the files
    read and the code that reads them: no stale set is ever opened.

    Args:
      config: of the log.
      say: receives what there is to know.
      check_leaks: whether a feature that gives a label away is looked for; a
        training that has been made of the log did so, and knew what was allowed.

    Raises:
      ValueError: the log is missing, damaged or breaks its schema, names of tasks
        would be mistaken for each other, a feature is a label in disguise, or the
        view asks for what the log has not.
    """
    code = _code(Path(jaxmtl.data.__file__).parent)
    identity, read = _source(config)
    try:
        config.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--data.cache {config.cache}: {error.strerror}; give a folder to keep"
            " prepared logs in"
        ) from error
    data = prepare(config.name, {"code": code, **identity}, read, config.cache, say)
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


def _source(config: DataConfig) -> tuple[dict, Callable[[], Log]]:
    """What identifies a log, and what reads it."""
    path = config.path
    _check_options(config)
    if config.name == "video_feed":
        feed = dataclasses.asdict(config.feed)
        return {"feed": feed}, lambda: video_feed.read(config.feed)
    if config.name == "complete_journey":
        folder = find_data(path)
        return {
            "files": _checksums(_inside("--data.path", folder))
        }, lambda: complete_journey.read(folder)
    if config.name in PUBLIC:
        module = PUBLIC[config.name]
        files = _checksums(module.find_files(path))
        return {"files": files}, lambda: module.read(path)
    if path is None:
        wanted = {
            "ali_ccp": "the folder of its four raw files, sample_skeleton_train.csv and"
            " so on, from https://tianchi.aliyun.com/dataset/dataDetail?dataId=408",
            "lt4rec_sample": "the file part-r-00002.gz (or its folder) of the authors'"
            " repository",
            "own_log": "a CSV or Parquet file, or a folder of such",
        }
        raise ValueError(
            f"--data.name {config.name} needs --data.path: {wanted[config.name]}"
        )
    files = {"files": _checksums(_inside("--data.path", path))}
    if config.name == "ali_ccp":
        options = {"options": dataclasses.asdict(config.ali_ccp)}
        return files | options, lambda: ali_ccp.read(path, config.ali_ccp)
    if config.name == "lt4rec_sample":
        return files, lambda: lt4rec_sample.read(path)
    if config.schema is None:
        raise ValueError(
            "--data.name own_log needs --data.schema: a TOML or JSON file that"
            " describes the log; examples/own_log/schema.toml is one"
        )
    if config.schema.is_dir():
        raise ValueError(
            f"--data.schema {config.schema}: a folder; give the TOML or JSON file in"
            " it that describes the log"
        )
    described = {"schema": _checksums(_inside("--data.schema", config.schema))}
    return files | described, lambda: own_log.read(path, config.schema)


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


def _inside(option: str, path: Path) -> list[Path]:
    if not path.exists():
        raise ValueError(f"{option} {path}: no such file or folder")
    files = [path] if path.is_file() else sorted(path.iterdir())
    return [file for file in files if file.is_file()]


def _code(package: Path) -> dict[str, str]:
    """Checksums of a package's modules, by their paths inside it."""
    modules = sorted(package.rglob("*.py"))
    return {p.relative_to(package).as_posix(): _checksum(p) for p in modules}


def _checksums(files: Iterable[Path]) -> dict[str, str]:
    return {path.name: _checksum(path) for path in sorted(files)}


def _checksum(path: Path) -> str:
    """SHA-256 of a file; of a very long one, of its length, ends and time of change.

    So an edit in the middle of a long file is seen, and one that is copied or touched
    is prepared again, which costs time but never opens a stale set.
    """
    about = path.stat()
    size = about.st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size} {about.st_mtime_ns}".encode())
        for start in (0, size - WHOLE // 64):
            file.seek(start)
            digest.update(file.read(WHOLE // 64))
        return digest.hexdigest()
