"""Ali-CCP's raw text, read once: raw ids on disk, and how often training shows each.

A line of a skeleton is an impression: its labels, what it says of the item, and the
MD5 of the line of common features (all that is known of the user) that it shares
with others. Both files of a part, `train` or `test`, become columns:

    <part>.md5, <part>.users      a line of common features a row
    <part>.order                  the rows in the order of their MD5s: the index
    train.uses                    how many training impressions name each of them
    <split>.common                an impression a row: the number of its line,
    <split>.{ids,click,buy}       the raw ids of its own fields, and its labels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from jaxmtl.data.reading.counting import Counts
from jaxmtl.data.sources.ali_ccp.protocol import (
    BLOCK_ROWS,
    COMBINED,
    CONTEXT,
    HISTORY,
    ITEM,
    PROFILE,
    AliCcpOptions,
    Selection,
    is_validation,
    make_fields,
)
from jaxmtl.data.sources.ali_ccp.scratch import Scratch
from jaxmtl.data.sources.ali_ccp.text import (
    count_lines,
    parse_features,
    place,
    read_batches,
)
from jaxmtl.types import PADDING, Field

SKELETON = {
    "sample_id": pa.int64(),
    "click": pa.bool_(),
    "buy": pa.bool_(),
    "common_feature_md5": pa.binary(),
    "num": pa.int32(),
    "features": pa.binary(),
}
COMMON = {name: SKELETON[name] for name in ("common_feature_md5", "num", "features")}
MD5 = "S32"
"""Of common features: 16 hexadecimal digits in the true files, 32 in a whole MD5."""


class Stage:
    """Takes in the text of one part after the other.

    Attributes:
      scratch: where the columns lie.
      users: the fields of the common features.
      own: the fields of an impression itself.
      counts: rows read, kept and dropped.
      strange: field -> how many features were left out, as it is none of these.
    """

    def __init__(self, scratch: Scratch, options: AliCcpOptions):
        self.scratch = scratch
        self.users = make_fields((*PROFILE, *HISTORY), options.slots)
        self.own = make_fields((*ITEM, *COMBINED, *CONTEXT), options.slots)
        self.counts: Counter[str] = Counter()
        self.strange: Counter[str] = Counter()
        self._options = options
        self._seen = {field.name: Counts() for field in (*self.users, *self.own)}

    def add(self, folder: Path, part: str) -> None:
        """Reads the two files of a part.

        Raises:
          ValueError: a line is damaged or names no common features, or the sample
            is larger than the file; names file and line.
        """
        self._add_common(folder / f"common_features_{part}.csv", part)
        self._add_impressions(folder / f"sample_skeleton_{part}.csv", part)
        if part == "train":
            self._count_users()

    def known(self) -> dict[str, np.ndarray]:
        """Field -> the raw ids that training shows often enough, sorted."""
        return {n: seen.known(self._options.least) for n, seen in self._seen.items()}

    def _add_common(self, path: Path, part: str) -> None:
        for line, block in read_batches(path, COMMON):
            lines = line + np.arange(len(block["num"]))
            ids = self._parse(path, lines, block, self.users)
            md5 = np.array(block["common_feature_md5"].to_pylist(), np.bytes_)
            digits = np.char.str_len(md5)
            wrong = (digits == 0) | (digits > np.dtype(MD5).itemsize)
            if wrong.any():
                raise ValueError(
                    f"{path}, line {lines[np.argmax(wrong)]}: its MD5 is empty or"
                    f" longer than {np.dtype(MD5).itemsize} digits"
                )
            self.scratch.append(f"{part}.md5", md5.astype(MD5))
            self.scratch.append(f"{part}.users", ids)
        # Of lines with one MD5 the last is found, as in a dictionary filled in order.
        order = np.argsort(self.scratch.open(f"{part}.md5", MD5), kind="stable")
        self.scratch.append(f"{part}.order", order.astype(np.int64))
        self.scratch.append(f"{part}.uses", np.zeros(order.size, np.int64))

    def _add_impressions(self, path: Path, part: str) -> None:
        rows = None if self._options.sample is None else count_lines(path)
        selection = Selection(self._options, rows, path.name)
        uses = self.scratch.open(f"{part}.uses", np.int64)
        for line, block in read_batches(path, SKELETON):
            kept = selection.keep(_bools(block["click"]), _bools(block["buy"]))
            lines = line + np.flatnonzero(kept)
            block = {name: c.filter(pa.array(kept)) for name, c in block.items()}
            columns = {
                "ids": self._parse(path, lines, block, self.own),
                "common": self._find(path, lines, block["common_feature_md5"], part),
                "click": _bools(block["click"]),
                "buy": _bools(block["buy"]),
            }
            for split, here in self._splits(part, block["sample_id"].to_numpy()):
                for name, column in columns.items():
                    self.scratch.append(f"{split}.{name}", column[here])
                if split == "train":
                    self._count(self.own, columns["ids"][here])
                    np.add.at(uses, columns["common"][here], 1)
        self.counts.update(selection.counts)

    def _splits(
        self, part: str, sample_id: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        if part == "test":
            yield "test", np.ones(sample_id.size, bool)
        else:
            held = is_validation(sample_id, self._options)
            yield "train", ~held
            yield "validation", held

    def _parse(
        self, path: Path, lines: np.ndarray, block: dict, fields: tuple[Field, ...]
    ) -> np.ndarray:
        features = parse_features(path, lines, block["num"], block["features"])
        known = {field.name for field in fields}
        self.strange.update(
            {name: n for name, n in features.count().items() if name not in known}
        )
        return place(fields, features, lines.size)

    def _find(
        self, path: Path, lines: np.ndarray, md5: pa.Array, part: str
    ) -> np.ndarray:
        """int64 [n]: the numbers of the common features that MD5s name.

        They are compared whole, and once for each that occurs in the block.
        """
        md5 = md5.dictionary_encode()
        named = np.array(md5.dictionary.to_pylist(), np.bytes_)
        which = md5.indices.to_numpy()
        known = self.scratch.open(f"{part}.md5", MD5)
        order = self.scratch.open(f"{part}.order", np.int64)
        at = np.searchsorted(known, named, side="right", sorter=order) - 1
        rows = order[np.maximum(at, 0)]
        wrong = (known[rows] != named)[which]
        if wrong.any():
            first = int(np.argmax(wrong))
            absent = named[which[first]].decode(errors="replace")
            raise ValueError(
                f"{path}, line {lines[first]}: common_features_{part}.csv holds no line"
                f" with the MD5 {absent!r}; the two files must come from one archive,"
                " whole"
            )
        return rows[which]

    def _count(
        self,
        fields: tuple[Field, ...],
        ids: np.ndarray,
        times: np.ndarray | None = None,
    ) -> None:
        """Counts raw ids [n, slots], each row once or `times` [n]."""
        at = 0
        for field in fields:
            for column in ids[:, at : at + field.slots].T:
                full = column != PADDING
                weights = None if times is None else times[full]
                self._seen[field.name].add(column[full], weights)
            at += field.slots

    def _count_users(self) -> None:
        uses = self.scratch.open("train.uses", np.int64)
        users = self.scratch.open_ids("train.users", self.users)
        for start in range(0, len(users), BLOCK_ROWS):
            times = uses[start : start + BLOCK_ROWS]
            used = users[start : start + BLOCK_ROWS][times > 0]
            self._count(self.users, used, times[times > 0])


def _bools(column: pa.Array) -> np.ndarray:
    return column.to_numpy(zero_copy_only=False)
