"""Writes files in the form of the LT4REC authors' sample: gzipped TFRecords."""

import gzip
import struct

from tensorflow_datasets.proto import tf_example_pb2

from jaxmtl.data.reading.tfrecord import masked_crc32c
from jaxmtl.data.sources import lt4rec_sample

START = 1_602_430_000
"""Seconds since 1970."""


def make_example(features: dict[str, list]) -> bytes:
    example = tf_example_pb2.Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        if not values:
            feature.SetInParent()
            continue
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
        getattr(feature, kind[type(values[0])]).value.extend(values)
    return example.SerializeToString(deterministic=True)


def make_record(payload: bytes) -> bytes:
    header = struct.pack("<Q", len(payload))
    sums = (struct.pack("<I", masked_crc32c(data)) for data in (header, payload))
    return header + next(sums) + payload + next(sums)


def make_impression(second: int = START, **changes) -> dict[str, list]:
    """A record as in the authors' file; `changes` replace features by name."""
    example = {
        f"FEA_{f.name.upper()}": [f"{f.vocabulary}-1".encode()]
        for f in lt4rec_sample.FIELDS
    }
    example |= {
        "FEA_DURATION": [b"60"],
        "label": [1],
        "cvrlabel": [0.5],
        "pctr": [b"0.2"],
        "seqnum": [f"ab12@{second}123@7".encode()],
    }
    return example | changes


def write(path, examples) -> None:
    records = b"".join(make_record(make_example(example)) for example in examples)
    path.write_bytes(gzip.compress(records))
