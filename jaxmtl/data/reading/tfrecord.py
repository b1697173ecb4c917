"""TFRecord files of `tf.train.Example`, read without TensorFlow.

A record is a little-endian uint64 length, the masked CRC-32C of those eight
bytes, the payload, and the payload's masked CRC-32C
(https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format
details"). Both checksums are verified. The message is TensorFlow Datasets'
compiled copy of `Example`, which needs protobuf only.
"""

from __future__ import annotations

import gzip
import itertools
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

GZIP_MAGIC = b"\x1f\x8b\x08"
DEFLATE_MOST = 1032
"""Bytes that a byte of a gzip stream can stand for (https://zlib.net/zlib_tech.html)."""


def read_examples(path: str | Path) -> Iterator[dict[str, list]]:
    """Yields the examples of a TFRecord file, plain or gzipped.

    Args:
      path: of the file; whether it is gzipped is read from its first bytes.

    Yields:
      Feature name -> its values: bytes, ints or floats as they were stored; an
      empty list for a feature without a value.

    Raises:
      ValueError: the file is missing, cut short, or damaged; names the file
        and the record, counted from 0.
    """
    try:
        raw = open(path, "rb")  # noqa: SIM115, closed below
    except OSError as error:
        raise ValueError(f"cannot open {path}: {error.strerror}") from error
    with raw:
        is_gzipped = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        most = raw.seek(0, os.SEEK_END) * (DEFLATE_MOST if is_gzipped else 1)
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if is_gzipped else raw
        for number in itertools.count():
            try:
                payload = _read_payload(file, most)
                if payload is None:
                    return
                example = tf_example_pb2.Example.FromString(payload)
            except (EOFError, OSError, zlib.error, ValueError, DecodeError) as error:
                raise ValueError(f"{path}, record {number}: {error}") from error
            features = example.features.feature
            yield {name: _values(feature) for name, feature in features.items()}


def _read_payload(file: BinaryIO, most: int) -> bytes | None:
    header = file.read(8)
    if not header:
        return None
    _check(header, file.read(4), "length: the file is damaged or no TFRecord")
    (length,) = struct.unpack("<Q", header)
    if length > most:  # reading as much would first make room for it
        raise ValueError(
            f"claims {length:,} bytes; the file ends after {most:,} at most"
        )
    payload = file.read(length)
    _check(payload, file.read(4), "payload: the file is damaged, fetch it again")
    return payload


def _check(data: bytes, stored: bytes, what: str) -> None:
    if len(stored) < 4:
        raise ValueError(f"the file ends before the checksum of the {what}")
    (given,) = struct.unpack("<I", stored)
    if given != masked_crc32c(data):
        raise ValueError(f"wrong checksum of the {what}")


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated right by 15 bits plus a constant: what TFRecord stores."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _values(feature: tf_feature_pb2.Feature) -> list:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []
