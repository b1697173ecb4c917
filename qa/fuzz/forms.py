"""What stands inside what: a text in a gzip stream, an array in an archive.

A flipped byte of a packed file is found by the packing and never gets further. So
half of the changes are made inside, and the content is packed again with the right
checksums, as a stranger would who wants his file to be read.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib

import numpy as np

from jaxmtl.data.reading.tfrecord import masked_crc32c
from qa.fuzz.mutations import JSON, TEXT, TOML, Change, mutate

GZIP = b"\x1f\x8b"
CHANGES = {".json": JSON, ".toml": TOML}
"""By a file's ending; others that hold no zero byte are texts."""


def change(rng: np.random.Generator, name: str, content: bytes) -> bytes:
    """A file's content with one to three changes, on its surface or inside."""
    if rng.random() < 0.5:
        if content.startswith(GZIP):
            inside = change(rng, name, gzip.decompress(content))
            return gzip.compress(inside, 1, mtime=0)
        if zipfile.is_zipfile(io.BytesIO(content)):
            return _change_member(rng, content)
        if name.startswith("part-"):
            return _change_record(rng, content)
    kinds = CHANGES.get(name[name.rfind(".") :])
    if kinds is None:
        kinds = TEXT if is_text(content) else ()
    return mutate(rng, content, kinds)


def is_text(content: bytes) -> bool:
    """Whether there is no byte that no text file has."""
    return b"\x00" not in content[:1000] and not content.startswith(GZIP)


def frame(payload: bytes, length: int | None = None) -> bytes:
    """A TFRecord of a payload; `length` is what it claims, by default the truth."""
    header = struct.pack("<Q", len(payload) if length is None else length)
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (header, payload)]
    return header + sums[0] + payload + sums[1]


def _change_record(rng: np.random.Generator, content: bytes) -> bytes:
    records = []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        records.append(content[12 : 12 + length])
        content = content[16 + length :]
    at, lie = int(rng.integers(len(records))), None
    if rng.random() < 0.1:
        lie = int(rng.choice([0, 2**31, 2**62, 2**63 + 1]))
    else:
        # Keep its length, mostly: protobuf's own lengths stand before every part.
        kept = rng.random() < 0.7
        kinds: tuple[Change, ...] = (_same_length,) if kept else ()
        records[at] = mutate(rng, records[at], kinds)
    framed = [frame(r, lie if i == at else None) for i, r in enumerate(records)]
    return b"".join(framed)


def _same_length(rng: np.random.Generator, content: bytes) -> bytes:
    at = int(rng.integers(len(content)))
    return content[:at] + rng.bytes(1) + content[at + 1 :]


def _change_member(rng: np.random.Generator, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if not members:
        return mutate(rng, content, ())
    names = list(members)
    name = names[int(rng.integers(len(names)))]
    how = int(rng.integers(6))
    if how == 0:
        del members[name]
    elif how == 1:
        members[f"x{name}"] = members.pop(name)
    elif how == 2:
        members[name] = members[names[int(rng.integers(len(names)))]]
    else:
        members[name] = _change_array(rng, members[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, its in members.items():
            archive.writestr(zipfile.ZipInfo(member), its)
    return packed.getvalue()


def _change_array(rng: np.random.Generator, content: bytes) -> bytes:
    """The header of a `.npy`, its text of type and shape, or its numbers."""
    if rng.random() < 0.5:
        return mutate(rng, content, ())
    (length,) = struct.unpack("<H", content[8:10])
    header = mutate(rng, content[10 : 10 + length], TEXT)[:60_000]
    return (
        content[:8] + struct.pack("<H", len(header)) + header + content[10 + length :]
    )


def crc(name: str) -> int:
    """A number for a name, the same in every process."""
    return zlib.crc32(name.encode())
