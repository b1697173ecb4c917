"""Scores raw rows with an exported folder, and with nothing of what trained it.

The folder holds compiled-anywhere programs (`jax.export`), the bundle they read, and
how raw rows become ids and numbers. No model, no training and no experiment code is
imported here: of JAX only what runs the program. Everything is verified by checksum
before it is used.

    scorer = load("exported")
    scorer.score({"user_id": pa.array(["u1"]), ...})
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.export
import numpy as np
import pyarrow as pa

from jaxmtl.data.encoding import Encoding
from jaxmtl.data.reading.files import read_blocks
from jaxmtl.data.reading.texts import BadValue
from jaxmtl.serving import bundle, compact, foreign
from jaxmtl.serving.bundle import Bundle, DamagedBundle
from jaxmtl.types import PADDING

SCHEMA, PROGRAMS = "schema.json", "programs.json"
CHUNK = 4096
"""Rows at once, at most. Fewer are padded to a power of two: a program is compiled
once for each number of rows that it meets."""
_CALL = re.compile(
    r"(?:custom_call\s*@|call_target_name\s*=\s*)([\w.$-]+|\"[^\"]*\")"
    r"|stablehlo\.(infeed|outfeed|send|recv)\b"
)
"""What leaves a program, in its text."""
HARMLESS_CALLS = frozenset({"shape_assertion"})
"""Of an exported program of any batch size; XLA resolves them as it compiles."""
Kind = Literal["net", "subnets", "chains"]
"""What a program reads of the bundle: one net for all its tasks; each task's masked
net; or each task's chain of layers, made small (`compact`)."""


class Program(NamedTuple):
    """One entry of `programs.json`.

    Attributes:
      file: name of the serialised program.
      tasks: those it predicts.
      kind: what it reads of the bundle.
      fields: categorical features that it looks up; the others are dead.
    """

    file: str
    tasks: tuple[str, ...]
    kind: Kind
    fields: tuple[str, ...]


def read_net(held: Bundle, kind: Kind, tasks: Sequence[str]) -> dict[str, Any]:
    """A program's second argument: plain containers of arrays."""
    if kind == "net":
        return {"net": held.net}
    seen = {task: held.seen(task) for task in tasks}
    if kind == "subnets":
        return seen
    chains = {n: compact.compact(compact.layers_of(net, n)) for n, net in seen.items()}
    layers = {n: [list(layer) for layer in c.layers] for n, c in chains.items()}
    return {
        "shared": held.net["shared"],
        "chains": {
            n: {"inputs": c.inputs, "layers": layers[n]} for n, c in chains.items()
        },
    }


class Scorer:
    """A loaded folder.

    Attributes:
      encoding: of raw rows.
      program: what it runs.
    """

    def __init__(self, encoding: Encoding, program: Program, exported, tables, net):
        self.encoding, self.program = encoding, program
        self._arguments = jax.device_put((tables, net))
        self._call = jax.jit(exported.call)

    def predict(self, ids: np.ndarray, numeric: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions of encoded rows.

        Args:
          ids: int32 [n, slots], local to each field's vocabulary, -1 = padding.
          numeric: float32 [n, numerics], scaled.

        Returns:
          Name -> float32 [n]: tasks, and `joint.<task>` for what is known of the
          event of a nested task among all impressions.

        Raises:
          DamagedBundle: the program cannot be compiled or run here; names it.
        """
        parts = [
            self._predict_chunk(ids[at : at + CHUNK], numeric[at : at + CHUNK])
            for at in range(0, max(len(ids), 1), CHUNK)
        ]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _predict_chunk(self, ids, numeric) -> dict[str, np.ndarray]:
        n = len(ids)
        more = (1 << max(n - 1, 0).bit_length()) - n
        ids = np.pad(ids, ((0, more), (0, 0)), constant_values=PADDING)
        numeric = np.pad(numeric, ((0, more), (0, 0)))
        try:
            found = self._call(*self._arguments, ids, numeric)
        except (ValueError, jax.errors.JaxRuntimeError) as error:
            raise DamagedBundle(
                f"{self.program.file} cannot be run: {str(error).splitlines()[0]}"
            ) from error
        return {name: np.asarray(column)[:n] for name, column in found.items()}

    def score(self, rows: Mapping[str, pa.Array]) -> dict[str, np.ndarray]:
        """Predictions of raw rows.

        Args:
          rows: column -> its values, [n], such as a record batch or a table.

        Returns:
          As `predict`.

        Raises:
          ValueError: a column is missing, or a value cannot be used; names it.
        """
        tables = pa.RecordBatch, pa.Table
        names = rows.schema.names if isinstance(rows, tables) else list(rows)
        missing = [name for name in self.encoding.columns if name not in names]
        if missing:
            raise ValueError(
                f"rows lack the columns {missing}; given are {names}: add them, empty"
                " where there is no value"
            )
        return self.predict(*self.encoding.encode(rows))

    def score_file(self, path: str | Path) -> Iterator[dict[str, np.ndarray]]:
        """Predictions of a file's rows, block by block, in its order.

        Args:
          path: of a file that ends with one of `files.ENDINGS`, or a folder of such.

        Raises:
          ValueError: a file is missing or damaged, lacks a column, or holds a value
            that cannot be used; names the file, the column and the row.
        """
        for part, first, batch in read_blocks(Path(path), self.encoding.columns):
            try:
                yield self.score(batch)
            except BadValue as error:
                at = "" if error.at is None else f", row {first + error.at}"
                raise ValueError(f"{part}{at}, {error}") from error


def load(folder: str | Path, tasks: Sequence[str] | None = None) -> Scorer:
    """Verifies a folder and makes it ready to score.

    Args:
      folder: what an export wrote.
      tasks: which to predict: all, the default, or one of them.

    Raises:
      DamagedBundle: a file is missing or not what was exported; names it.
      ValueError: there is no program for these tasks; names those that exist.
    """
    folder = Path(folder)
    bundle.verify(folder)
    held = bundle.read(folder)
    encoding, programs = read_encoding(folder / SCHEMA), read_programs(folder)
    wanted = tuple(tasks) if tasks is not None else tuple(held.masks)
    found = [program for program in programs if set(program.tasks) == set(wanted)]
    if not found:
        known = [list(program.tasks) for program in programs]
        raise ValueError(
            f"{folder}: no program predicts {list(wanted)}; one of {known}"
        )
    path = folder / found[0].file
    exported = read_program(path)
    try:
        net = read_net(held, found[0].kind, found[0].tasks)
        _check_fits(exported, encoding, held.tables, net)
    except Exception as error:  # of parts that were never written for each other
        raise DamagedBundle(
            f"{path} does not fit what lies beside it: {error!r}; export it again"
        ) from error
    return Scorer(encoding, found[0], exported, held.tables, net)


def read_encoding(path: Path) -> Encoding:
    """How raw rows become ids and numbers.

    Raises:
      DamagedBundle: the file is missing or says nothing of the kind; names it.
    """
    try:
        return Encoding.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedBundle(f"{path}: {error}; export it again") from error


def read_program(path: Path) -> jax.export.Exported:
    """A serialised program, which computes and does nothing else.

    Raises:
      DamagedBundle: the file is missing, no program, or calls something beyond XLA's
        own operations: code of this process or of a library.
    """
    try:
        content = path.read_bytes()
        text = foreign.program_text(content)
        exported = jax.export.deserialize(bytearray(content))  # all but the program
    except Exception as error:  # whatever a parser meets in bytes that are no program
        raise DamagedBundle(f"{path}: {error}; export it again") from error
    calls = {m[1] or m[2] for m in _CALL.finditer(text)}
    if calls - HARMLESS_CALLS:
        raise DamagedBundle(
            f"{path} calls {sorted(calls - HARMLESS_CALLS)}, which no export writes;"
            " do not trust the folder"
        )
    return dataclasses.replace(exported, mlir_module_serialized=text.encode())


def _check_fits(exported, encoding: Encoding, tables, net) -> None:
    """Refuses, before anything is compiled, a program of other arguments."""
    schema, n = encoding.schema, 1
    ids = np.zeros((n, schema.slots), np.int32)
    numeric = np.zeros((n, len(schema.numeric)), np.float32)
    jax.eval_shape(exported.call, tables, net, ids, numeric)


def read_programs(folder: Path) -> list[Program]:
    """The programs of a folder, that of all tasks first.

    Raises:
      DamagedBundle: the file that lists them is none, or names a file elsewhere.
    """
    path = folder / PROGRAMS
    try:
        programs = [
            Program(p["file"], tuple(p["tasks"]), p["kind"], tuple(p["fields"]))
            for p in json.loads(path.read_text(encoding="utf-8"))["programs"]
        ]
        is_inside = [Path(program.file).name == program.file for program in programs]
        is_known = [program.kind in get_args(Kind) for program in programs]
        [set(program.tasks) for program in programs]  # raises where they are no names
    except bundle.MALFORMED as error:
        raise DamagedBundle(f"{path}: {error!r}; export it again") from error
    if not all(is_inside + is_known):
        raise DamagedBundle(
            f"{path} names a program outside the folder or of an unknown kind; export"
            " it again"
        )
    return programs
