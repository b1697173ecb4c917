"""Files of the TFDS catalogue (https://www.tensorflow.org/datasets/catalog).

A builder of the catalogue knows where its files are and, for some, their checksums;
TFDS downloads, verifies and keeps them. Two things are done here instead. Archives
are unpacked, for which TFDS needs TensorFlow. And files are parsed, since a builder
stores a row a record in shuffled order: Criteo's fourteen million rows would take
some half an hour, and be split otherwise than the same file read from a disk.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError


def find_or_fetch(
    path: str | Path | None,
    names: Sequence[str],
    make_builder: Callable[..., tfds.core.DatasetBuilder],
    advice: str,
) -> Path:
    """A published file: the one given, one in the folder given, or a download.

    Args:
      path: the file or its folder; None = what the builder downloads.
      names: what the file may be called in a folder; the first that is there counts.
      make_builder: as for `fetch`.
      advice: for the error: where to get the file, and where to put it.

    Raises:
      ValueError: it is not there, or could not be downloaded.
    """
    if path is None:
        return fetch(make_builder, advice)
    path = Path(path)
    files = [path / name for name in names] if path.is_dir() else [path]
    found = [file for file in files if file.is_file()]
    if not found:
        raise ValueError(f"{files[0]}: no such file; {advice}")
    return found[0]


def fetch(
    make_builder: Callable[..., tfds.core.DatasetBuilder], advice: str, **config: str
) -> Path:
    """Downloads what a builder reads, or finds it where that was done before.

    Args:
      make_builder: the builder's class. Its downloads are kept in TFDS's own folder,
        `downloads` in `$TFDS_DATA_DIR` or in `~/tensorflow_datasets`.
      advice: for the error: where else to get the files, and where to put them.
      **config: the builder's configuration.

    Returns:
      The file, gzipped if it is published so; or the folder of an unpacked archive.

    Raises:
      ValueError: the download failed.
    """
    builder = make_builder(**config)
    downloads = _Downloads(
        download_dir=Path(builder.data_dir_root) / "downloads",
        dataset_name=builder.name,
        url_infos=builder.url_infos,
    )
    try:
        builder._split_generators(downloads)  # asks for its files; parses nothing
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise ValueError(
            f"TFDS could not download {builder.name}: {error}; {advice}"
        ) from error
    file = downloads.fetched
    return _unpack(file) if zipfile.is_zipfile(file) else file


class _Downloads(tfds.download.DownloadManager):
    """Fetches a builder's one file, unpacks nothing, and remembers where it is."""

    fetched: Path

    def download_and_extract(self, url: str) -> Path:
        kept = Path(self._download_dir, self._dataset_name)
        if not any(kept.rglob("*.INFO")):
            _reach(url)
        self.fetched = Path(self.download(url))
        return self.fetched


def _reach(url: str) -> None:
    """Raises OSError where there is no connection: TFDS would retry for minutes."""
    request = urllib.request.Request(url, method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):  # that is TFDS's to judge
        urllib.request.build_opener().open(request, timeout=20).close()


def _unpack(archive: Path) -> Path:
    folder = archive.with_suffix("")
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
            # One level down: a temporary folder can be read by its owner alone.
            work = Path(temporary) / folder.name
            try:
                with zipfile.ZipFile(archive) as packed:
                    _refuse_outside(packed)
                    packed.extractall(work)
            except (zipfile.BadZipFile, zlib.error, ValueError) as error:
                raise ValueError(
                    f"{archive}: {error}; delete it to fetch it again"
                ) from error
            try:
                os.replace(work, folder)
            except OSError:
                if not folder.exists():  # else another process unpacked it first
                    raise
    return folder


def _refuse_outside(packed: zipfile.ZipFile) -> None:
    """Raises ValueError where a member would be written elsewhere, or is a link.

    Python would write it inside, under another name, and a link as a plain file.
    """
    for member in packed.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or is_link:
            raise ValueError(f"member {member.filename!r} leads outside the archive")
