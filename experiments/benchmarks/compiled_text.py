"""What a compiled program copies, loops over and sends, read off its text.

A compiled module (`Compiled.as_text()`) is computations of instructions; loops,
branches and fusions name the computations they run. What is asked of it is asked of
one step: of the body of the loop that runs a given number of times, or, where there is
no such loop, of the whole.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SERIAL = 1000
"""A loop, with those inside it, that runs more often than this is a serial one."""
TILES = (8, 128, 1024)
"""A TPU fills sizes up to multiples of these."""
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
BITS = re.compile(r"[a-z]+(\d+)")
ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
NAME = re.compile(r"%([\w.-]+)")
COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.-]+) = (.*)")
CALLED = re.compile(
    r"\b(?:calls|condition|body|to_apply|true_computation|false_computation"
    r"|branch_computations|called_computations)=(\{[^}]*\}|%[\w.-]+)"
)
BODY = re.compile(r"\bbody=%([\w.-]+)")
CONDITION = re.compile(r"\bcondition=%([\w.-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
NOT_MADE = {
    *("parameter", "get-tuple-element", "tuple", "bitcast", "optimization-barrier"),
    *("while", "conditional", "call", "async-start", "async-update"),
}
"""Instructions that only name what others hold, or run others."""
IN_PLACE = {"scatter", "dynamic-update-slice"}
"""They write into their first operand: where that could not be, XLA copies it first."""
MOVED = {"copy-start": 0, "slice-start": 1}
"""Moves between memories -> which of the arrays that they name is the new one."""


class Shape(NamedTuple):
    """The type of an array: of its values, and its sizes."""

    kind: str
    sizes: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        bits = BITS.match(self.kind)
        return -(-self.elements * (int(bits[1]) if bits else 8) // 8)  # `pred` has none


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      name: unique in its module.
      opcode: such as `fusion`.
      shapes: of the arrays that it gives.
      operands: names of instructions of the same computation.
      text: what stands in its parentheses, for a parameter or a constant.
      attributes: what follows, as it stands.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    text: str
    attributes: str

    @property
    def called(self) -> list[str]:
        """Computations that it names."""
        return [
            n for part in CALLED.findall(self.attributes) for n in NAME.findall(part)
        ]


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, and the one whose value it returns."""

    instructions: dict[str, Instruction]
    root: str

    def __getitem__(self, name: str) -> Instruction:
        return self.instructions[name]

    def source(self, name: str) -> Instruction:
        """The instruction that makes a value, whatever it is called on the way."""
        while (found := self[name]).opcode == "bitcast":
            (name,) = found.operands
        return found


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program: its computations, where it begins, and on how many devices
    it runs."""

    computations: dict[str, Computation]
    entry: str
    devices: int

    def __getitem__(self, name: str) -> Computation:
        return self.computations[name]


class Step(NamedTuple):
    """What a step costs beside its arithmetic.

    Attributes:
      sent_bytes: by each device, in collectives.
      table_copies: arrays as large as a table that are made anew.
      serial_loops: loops that run more than `SERIAL` times.
    """

    sent_bytes: float
    table_copies: int
    serial_loops: int


def read_step(
    text: str, steps: int, tables: Sequence[tuple[int, ...]], ids: int
) -> Step:
    """Reads one step of a compiled program.

    Args:
      text: of the module.
      steps: how often the step's loop runs; 0 where the program is one step.
      tables: sizes, on one device, of the arrays that no step shall copy.
      ids: that a step looks up, over all devices.

    Raises:
      ValueError: no loop runs that often.
    """
    module = parse(text)
    start = step_of(module, steps) if steps else module.entry
    return Step(
        sent_bytes(module, start),
        len(table_copies(module, start, tables, ids)),
        len(serial_loops(module, start)),
    )


def parse(text: str) -> Module:
    """The module of a text."""
    computations: dict[str, Computation] = {}
    entry, name, root, found = "", "", "", {}
    for line in text.splitlines():
        if start := COMPUTATION.match(line):
            name, found = start[2], {}
            entry = name if start[1] else entry
        elif line.startswith("}") and name:
            computations[name] = Computation(found, root)
            name = ""
        elif name and (match := INSTRUCTION.match(line)):
            found[match[2]] = _instruction(match[2], match[3])
            root = match[2] if match[1] else root
    partitions = re.search(r"num_partitions=(\d+)", text)
    return Module(computations, entry, int(partitions[1]) if partitions else 1)


def _instruction(name: str, text: str) -> Instruction:
    end = _closed(text, 0) if text.startswith("(") else text.index(" ")
    opening = text.index("(", end)
    closing = _closed(text, opening)
    inside = text[opening + 1 : closing - 1]
    return Instruction(
        name,
        text[end:opening].strip(),
        _shapes(text[:end]),
        tuple(NAME.findall(inside)),
        inside,
        text[closing:],
    )


def _closed(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` has closed."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if not depth:
            return at + 1
    raise ValueError(f"a parenthesis does not close: {text[start : start + 80]}")


def _shapes(text: str) -> tuple[Shape, ...]:
    return tuple(
        Shape(kind, tuple(int(n) for n in sizes.split(",") if n))
        for kind, sizes in ARRAY.findall(text)
    )


def step_of(module: Module, steps: int) -> str:
    """The body of the loop that runs so often; of several, of that which holds most.

    Raises:
      ValueError: none does.
    """
    loops = [
        (sum(shape.bytes for shape in one.shapes), BODY.search(one.attributes)[1])
        for computation, one, _ in walk(module, module.entry)
        if one.opcode == "while" and trips(module, computation, one) == steps
    ]
    if not loops:
        raise ValueError(f"no loop of the compiled program runs {steps} times")
    return max(loops)[1]


def walk(
    module: Module, start: str, times: int = 1, *, into_fusions: bool = False
) -> Iterator[tuple[Computation, Instruction, int]]:
    """All instructions that a computation runs, its loops' and branches' included.

    Yields:
      The computation, the instruction, and how often it runs; a loop whose number of
      turns is not known when it is compiled counts as one turn.
    """
    computation = module[start]
    for one in computation.instructions.values():
        yield computation, one, times
        runs = times
        if one.opcode == "while":
            runs *= trips(module, computation, one) or 1
        inside = one.opcode in ("while", "conditional", "call", "async-start")
        if inside or (into_fusions and one.opcode == "fusion"):
            for called in one.called:
                yield from walk(module, called, runs, into_fusions=into_fusions)


def trips(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """How often a loop runs; None where only its run tells.

    XLA says so, or the loop counts from 0 up to a constant, as JAX's do.
    """
    if said := TRIPS.search(loop.attributes):
        return int(said[1])
    condition = module[CONDITION.search(loop.attributes)[1]]
    test = condition.source(condition.root)
    inner, given = condition, ()
    if test.opcode == "fusion":
        inner, given = module[test.called[0]], test.operands
        test = inner.source(inner.root)
    if test.opcode != "compare" or "direction=LT" not in test.attributes:
        return None
    limit = inner.source(test.operands[1])
    if limit.opcode == "parameter" and given:
        limit = condition.source(given[int(limit.text)])
    if limit.opcode == "get-tuple-element":  # of what the loop carries unchanged
        index = int(re.search(r"index=(\d+)", limit.attributes)[1])
        begun = computation.source(loop.operands[0])
        if begun.opcode == "tuple":
            limit = computation.source(begun.operands[index])
    is_count = limit.opcode == "constant" and limit.text.isdigit()
    return int(limit.text) if is_count else None


def serial_loops(module: Module, start: str) -> list[Instruction]:
    """The loops of a computation that, with those inside them, run serially long."""

    def longest(computation: Computation, loop: Instruction) -> int:
        turns = trips(module, computation, loop) or 1
        (body,) = BODY.findall(loop.attributes)
        return max(times for _, _, times in walk(module, body, turns))

    return [
        one
        for computation, one in _outermost(module, start)
        if longest(computation, one) > SERIAL
    ]


def _outermost(module: Module, start: str) -> Iterator[tuple[Computation, Instruction]]:
    """The loops that lie in no other, in branches and calls too."""
    for one in module[start].instructions.values():
        if one.opcode == "while":
            yield module[start], one
        elif one.opcode in ("conditional", "call", "async-start"):
            for called in one.called:
                yield from _outermost(module, called)


def sent_bytes(module: Module, start: str) -> float:
    """What a device sends in the collectives of a computation.

    In a ring of D devices, where each gives n bytes, an all-gather sends n (D - 1), a
    reduce-scatter and an all-to-all n (D - 1) / D, an all-reduce twice that, and a
    permutation n.
    """
    total = 0.0
    for computation, one, times in walk(module, start, into_fusions=True):
        opcode = one.opcode.removesuffix("-start")
        if opcode in COLLECTIVES:
            total += times * _sent(module, computation, one, opcode)
    return total


def _sent(
    module: Module, computation: Computation, one: Instruction, opcode: str
) -> float:
    # Of a ragged one the second operand is what it writes into.
    operands = one.operands[:1] if opcode.startswith("ragged") else one.operands
    given = sum(s.bytes for name in operands for s in computation[name].shapes)
    devices = _group(module, one)
    share = (devices - 1) / devices
    if opcode == "all-gather":
        return given * (devices - 1)
    if opcode == "all-reduce" and not _is_scattered(computation, one):
        return 2 * given * share
    return given if opcode.startswith("collective") else given * share


def _group(module: Module, one: Instruction) -> int:
    """How many devices take part, with each other, in a collective."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", one.attributes):
        return listed[1].count(",") + 1
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", one.attributes):
        return int(counted[1])
    return module.devices


def _is_scattered(computation: Computation, reduced: Instruction) -> bool:
    """Whether each device keeps a part of a sum alone: a TPU's way to write a
    reduce-scatter is a fusion of an all-reduce and a slice."""
    root = computation.source(computation.root)
    if root.opcode != "dynamic-slice":
        return False
    return computation.source(root.operands[0]).name == reduced.name


def table_copies(
    module: Module, start: str, tables: Sequence[tuple[int, ...]], ids: int
) -> list[Instruction]:
    """The instructions of a computation that make an array as large as a table.

    That is one of half the elements of a table or more, whose sizes are a table's. A
    batch may be larger than a device's part of a table, so elements alone do not tell:
    neighbouring sizes must multiply to a table's lines or elements, or one be its lines
    filled up to a tile. Where a table is several times a batch, half its lines are
    enough.

    Args:
      module: the program.
      start: the computation.
      tables: sizes of the tables on one device, and of what else has a line an id.
      ids: that a step looks up, over all devices.
    """

    def is_large(shape: Shape) -> bool:
        return any(_is_of_table(shape, table, ids) for table in tables)

    return [
        one
        for computation, one, _ in walk(module, start)
        if one.opcode not in NOT_MADE
        and not one.opcode.endswith("-done")
        and any(map(is_large, _made(module, computation, one)))
    ]


def _is_of_table(shape: Shape, table: tuple[int, ...], ids: int) -> bool:
    lines, elements = table[0], math.prod(table)
    if 2 * shape.elements < elements:
        return False
    runs = {
        math.prod(shape.sizes[first:last])
        for first, last in itertools.combinations(range(len(shape.sizes) + 1), 2)
    }
    filled = {-(-lines // tile) * tile for tile in TILES}
    if runs & {lines, elements} or filled & set(shape.sizes):
        return True
    return 4 * ids < lines and any(lines <= 2 * n < 2 * lines for n in shape.sizes)


def _made(
    module: Module, computation: Computation, one: Instruction
) -> tuple[Shape, ...]:
    """The arrays of an instruction that it does not write into what was there."""
    if one.opcode in IN_PLACE or "output_to_operand_aliasing" in one.attributes:
        return ()
    if one.opcode == "fusion":
        return _made_by_fusion(module, module[one.called[0]])
    if one.opcode in MOVED:
        return one.shapes[MOVED[one.opcode] :][:1]
    return one.shapes


def _made_by_fusion(module: Module, inner: Computation) -> tuple[Shape, ...]:
    root = inner.source(inner.root)
    roots = root.operands if root.opcode == "tuple" else (root.name,)
    made = ()
    for name in roots:
        one = inner.source(name)
        if one.opcode in IN_PLACE:
            # Into what the fusion was given; else into what it makes itself.
            one = inner.source(one.operands[0])
        if one.opcode == "fusion":
            made += _made(module, inner, one)
        elif one.opcode != "parameter":
            made += one.shapes
    return made
