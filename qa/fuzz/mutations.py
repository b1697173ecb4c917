"""One change to a file's content, of the kinds that break readers.

Bytes are flipped, cut, inserted and doubled whatever they mean; a text also loses
separators and lines and gains numbers that are none, and JSON and TOML change by
what they say. Every change is drawn from a generator and from nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

Change = Callable[[np.random.Generator, bytes], bytes]

MOST_BYTES = 1 << 20
"""What doubling may come to."""
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
SEPARATORS = b",\t|;:=\"'[]{}\x01\x02\x03"
DEEP = 100_000
"""Brackets in brackets: more than any reader may follow by recursion."""
STRANGE_CELLS = (
    *(b"", b"nan", b"inf", b"-inf", b"NaN", b"null", b"-1", b"-0", b"0", b"1", b"2"),
    *(b"1e400", b"1e308", b"-1e39", b"1e-320", b"0.5", b"1.0", b"007", b" 1", b"+1"),
    *(b"2147483648", b"-2147483649", b"9223372036854775808", b"9" * 30, b"9" * 5000),
    *(b"True", b"1e+06", b'"a"b', b"2026-01-01T00:00:00.123456789Z", b"12:30"),
    *(b"9223372036854775809", b"00000000-0000-0000-0000-00000000000A", b"NULL"),
    *(b"true", b"1,5", b"1_000", b"0x10", b"\xff\xfe", "１２".encode(), b"\x00", b'"'),
)
STRANGE_VALUES = (
    *(None, True, False, "", "x", "../x", "/", "\x00", [], {}, [[]], [None], {"": 0}),
    *(0, -1, 1, 2, 2**31, 2**53, 2**64, 10**300, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "nan", "\ud800", "9" * 100),
)


def flip(rng: np.random.Generator, content: bytes) -> bytes:
    """A few bits of a byte, or the whole byte."""
    at, mask = int(rng.integers(len(content))), int(rng.choice([1, 4, 128, 255]))
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def cut(rng: np.random.Generator, content: bytes) -> bytes:
    """The end, or the beginning, or a piece in between is lost."""
    start, end = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    how = int(rng.integers(3))
    return (content[:end], content[start:], content[:start] + content[end:])[how]


def insert(rng: np.random.Generator, content: bytes) -> bytes:
    """Some bytes more, random or zero."""
    at, n = int(rng.integers(len(content) + 1)), int(rng.integers(1, 33))
    return (
        content[:at] + (rng.bytes(n) if rng.random() < 0.7 else bytes(n)) + content[at:]
    )


def double(rng: np.random.Generator, content: bytes) -> bytes:
    """A piece stands twice, perhaps elsewhere."""
    start, end = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    at = int(rng.integers(len(content) + 1)) if rng.random() < 0.5 else end
    return content[:at] + content[start:end] + content[at:]


def overwrite(rng: np.random.Generator, content: bytes) -> bytes:
    """A few bytes become a number that a length or an offset should not be."""
    at, n = int(rng.integers(len(content))), int(rng.choice([1, 2, 4, 8]))
    number = (b"\x00" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\x01" + b"\x00" * 7)
    return content[:at] + number[int(rng.integers(4))][-n:] + content[at + n :]


def strange_cell(rng: np.random.Generator, content: bytes) -> bytes:
    """A number of the text becomes one that is none, or too large, or missing."""
    found = list(NUMBER.finditer(content))
    if not found:
        return insert(rng, content)
    where = found[int(rng.integers(len(found)))]
    new = STRANGE_CELLS[int(rng.integers(len(STRANGE_CELLS)))]
    return content[: where.start()] + new + content[where.end() :]


def separator(rng: np.random.Generator, content: bytes) -> bytes:
    """One is lost, doubled, or another one."""
    places = [at for at, byte in enumerate(content) if byte in SEPARATORS]
    if not places:
        return insert(rng, content)
    at = places[int(rng.integers(len(places)))]
    other = SEPARATORS[int(rng.integers(len(SEPARATORS)))]
    new = (b"", content[at : at + 1] * 2, bytes([other]))[int(rng.integers(3))]
    return content[:at] + new + content[at + 1 :]


def lines(rng: np.random.Generator, content: bytes) -> bytes:
    """A line is lost, doubled, empty, cut, at another place, or not ended."""
    parts = content.split(b"\n")
    at, other = rng.integers(len(parts), size=2).tolist()
    line, how = parts[at], int(rng.integers(6))
    if how == 0:
        del parts[at]
    elif how == 1:
        parts.insert(other, line)
    elif how == 2:
        parts.insert(at, b"")
    elif how == 3:
        parts[at] = line[: int(rng.integers(len(line) + 1))]
    elif how == 4:
        parts[at], parts[other] = parts[other], line
    else:
        parts[at : at + 2] = [b"".join(parts[at : at + 2])]
    return b"\n".join(parts)


def encoding(rng: np.random.Generator, content: bytes) -> bytes:
    """Another encoding, a byte order mark, or the ends of lines of another system."""
    text, how = content.decode("latin1"), int(rng.integers(6))
    if how < 2:
        return b"\xef\xbb\xbf" + content
    if how == 2:
        return text.encode("utf-16")
    return content.replace(b"\n", (b"\r\n", b"\r", b"\n\n")[how - 3])


def json_value(rng: np.random.Generator, content: bytes) -> bytes:
    """A value of another type or size, a key lost, renamed or new; brackets."""
    if rng.random() < 0.02:
        return (b"[" * DEEP, b'{"a":' * DEEP)[int(rng.integers(2))]
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return flip(rng, content) if content else content
    places = list(_places(tree))
    if not places:
        return insert(rng, content)
    holder, key = places[int(rng.integers(len(places)))]
    how, other = int(rng.integers(6)), places[int(rng.integers(len(places)))]
    if how == 0:
        del holder[key]
    elif how == 1:
        _add(holder, holder[key], "x")
    elif how == 2:
        holder[key] = other[0][other[1]]
    else:
        holder[key] = STRANGE_VALUES[int(rng.integers(len(STRANGE_VALUES)))]
    try:
        return json.dumps(tree, indent=1).encode()
    except (ValueError, RecursionError):  # a part was put into itself
        return content


def toml_value(rng: np.random.Generator, content: bytes) -> bytes:
    """What stands behind a `=` becomes something else, or its line stands elsewhere."""
    if rng.random() < 0.02:
        return content + b"\ndeep = " + b"[" * DEEP
    parts = content.split(b"\n")
    at = int(rng.integers(len(parts)))
    name, equals, _ = parts[at].partition(b"=")
    if not equals:
        return lines(rng, content)
    strange = (
        b"{}",
        b"[]",
        b"true",
        b"-1",
        b"0",
        b"nan",
        b"inf",
        b'""',
        b'"x"',
        b"1.5",
    )
    strange += (b"9223372036854775808", b"9" * 5000, b"[[1], 2]", b"1979-05-27", b"")
    parts[at] = name + b"= " + strange[int(rng.integers(len(strange)))]
    return b"\n".join(parts)


def _places(tree: Any):
    """Every (container, key) of a JSON tree."""
    keys = tree if isinstance(tree, dict) else range(len(tree))
    for key in keys if isinstance(tree, dict | list) else ():
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def _add(holder: dict | list, value: Any, key: str) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    else:
        holder.append(value)


BYTES: tuple[Change, ...] = (flip, cut, insert, double, overwrite)
TEXT: tuple[Change, ...] = (strange_cell, strange_cell, separator, lines, encoding)
JSON: tuple[Change, ...] = (json_value, json_value, json_value, separator, strange_cell)
TOML: tuple[Change, ...] = (toml_value, toml_value, strange_cell, separator, lines)


def mutate(
    rng: np.random.Generator, content: bytes, changes: tuple[Change, ...]
) -> bytes:
    """One to three changes, drawn from those given and, less often, from `BYTES`."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        kinds = changes if changes and rng.random() < 0.75 else BYTES
        changed = kinds[int(rng.integers(len(kinds)))](rng, content or b"\n")
        content = changed[:MOST_BYTES]
    return content
