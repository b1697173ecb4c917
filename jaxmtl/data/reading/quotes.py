"""Quotes of a CSV file, looked at while it is read.

Arrow, as most parsers, lets a quote that opens a cell swallow everything up to the
next one, wherever that stands: lines are lost without a word. In RFC 4180 a cell ends
where its quote closes.
"""

from __future__ import annotations

import io
import re
from typing import BinaryIO

_MARK = b"\xef\xbb\xbf"
_INSIDE = re.compile(rb'(?:[^"]|"")*+')
_ENDS = (b",", b"\r", b"\n", b"")
_OUTSIDE = re.compile(
    rb'(?:[^",\r\n][^,\r\n]*+|"(?:[^"]|"")*+"(?=[,\r\n]|\Z)|[,\r\n])*+'
)
"""Whole cells. A quote in a cell that does not begin with one stands for itself."""


class BadQuote(ValueError):
    """A quote that closes in the middle of a cell, or never; says in which line."""


class CheckedQuotes(io.RawIOBase):
    """The bytes of a CSV file; reading them raises BadQuote where a quote is wrong."""

    def __init__(self, file: BinaryIO):
        """Reads `file` from its beginning."""
        self._file = file
        self._rest = b""
        """What was read after the last whole line."""
        self._line = 1
        """Where `_rest` begins."""
        self._opened = 0
        """The line of a quote that is open there; 0 if none is."""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer) -> int:
        """As `io.RawIOBase.readinto`; looks at all lines that are then complete."""
        block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        lines = self._rest + block
        end = lines.rfind(b"\n") + 1 if block else len(lines)
        self._rest = lines[end:]
        self._look(lines[:end])
        if not block and self._opened:
            raise BadQuote(f"line {self._opened}: a quote opens and never closes")
        return len(block)

    def _look(self, lines: bytes) -> None:
        at = len(_MARK) if self._line == 1 and lines.startswith(_MARK) else 0
        while b'"' in lines and at < len(lines):
            if not self._opened:
                at = _OUTSIDE.match(lines, at).end()
                if at == len(lines):
                    break
                self._opened = self._line + lines.count(b"\n", 0, at)
                at += 1
            at = _INSIDE.match(lines, at).end()
            if at == len(lines):
                break  # it goes on
            if lines[at + 1 : at + 2] not in _ENDS:
                line = self._line + lines.count(b"\n", 0, at)
                begins = "" if line == self._opened else f"of line {self._opened} "
                raise BadQuote(
                    f"line {line}: the quote {begins}closes in the middle of a cell;"
                    " double the quotes that belong to a text, or write the file as"
                    " .tsv, which has none"
                )
            self._opened, at = 0, at + 1
        self._line += lines.count(b"\n")
