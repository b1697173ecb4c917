"""Readers run in a process of their own, which may hang, crash or eat the memory.

The process reports input by input. Where it falls silent or dies, that input has
failed; another process goes on with the next.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from qa.fuzz.cases import (
    SECONDS,
    Files,
    Outcome,
    judge,
    make_input,
    minimise,
    valid_files,
)
from qa.fuzz.readers import Reader

MOST_MEMORY = 4 << 30
"""Bytes of addresses beyond those that a worker starts with."""
GRACE = 10.0
"""Seconds more, for what a signal cannot interrupt."""
START = 120.0
"""Seconds to import, to write the valid input and to compile what reads it."""
READY = "ready"


class Tally(NamedTuple):
    """What came of a reader's inputs.

    Attributes:
      counts: kind of outcome -> inputs.
      failures: (kind, line) of each distinct failure -> its first input, and how
        many there were.
    """

    counts: Counter[str]
    failures: dict[tuple[str, str], tuple[int, Outcome]]


def examine(
    name: str,
    find: Callable[[str], Reader],
    inputs: int,
    seed: int,
    keep: Path,
    seconds: float = SECONDS,
) -> Tally:
    """Gives a reader its inputs `0 … inputs - 1`.

    Args:
      name: of the reader.
      find: name -> reader; a function that another process can import.
      inputs: how many.
      seed: of all of them.
      keep: where the input of each distinct failure is written, made small.
      seconds: that one may take.
    """
    tally = Tally(Counter(), {})
    start = 0
    while start < inputs:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        todo = range(start, inputs)
        with tempfile.NamedTemporaryFile("r") as stacks:
            tell = (stacks.name, seconds + GRACE / 2)
            arguments = (sender, tell, name, find, todo, seed, keep, seconds)
            process = _context().Process(target=_work, args=arguments, daemon=True)
            process.start()
            sender.close()
            start, outcome = _collect(receiver, tally, start, inputs, seconds)
            process.kill()
            process.join()
            stack = stacks.read()
        if outcome is not None:
            outcome = outcome._replace(text=f"{outcome.text}\n{stack}")
            reader_input = _input_of(name, find, seed, start)
            _record(tally, keep / name, start, outcome, *reader_input)
            start += 1
    return tally


def _collect(
    receiver: Connection, tally: Tally, start: int, inputs: int, seconds: float
) -> tuple[int, Outcome | None]:
    """Counts what a worker reports; the input that it did not survive, and how."""
    if not receiver.poll(START) or _received(receiver) != READY:
        raise RuntimeError("a process did not get as far as its first input")
    wait = seconds + GRACE
    while start < inputs:
        if not receiver.poll(wait):
            return start, Outcome("failure: hang", "", "no signal could end it")
        if (received := _received(receiver)) is None:
            return start, Outcome("failure: crash", "", "the process died")
        outcome, is_new = received
        _count(tally, start, outcome)
        start += 1
        # The first of a kind is made small, by reading it again and again: what
        # happens then is no fault of the next input.
        if is_new and not (
            receiver.poll(200 * seconds + GRACE) and _received(receiver) == READY
        ):
            break
    return start, None


def _received(receiver: Connection) -> object | None:
    try:
        return receiver.recv()
    except EOFError:
        return None


def _count(tally: Tally, number: int, outcome: Outcome) -> None:
    tally.counts[outcome.kind] += 1
    if outcome.is_failure:
        tally.failures.setdefault((outcome.kind, outcome.where), (number, outcome))


def _record(
    tally: Tally, folder: Path, number: int, outcome: Outcome, files: Files, seal: bool
) -> None:
    is_new = (outcome.kind, outcome.where) not in tally.failures
    _count(tally, number, outcome)
    if is_new:
        _write(folder / f"{number}", files, seal, outcome)


def _input_of(name: str, find, seed: int, number: int) -> tuple[Files, bool]:
    with tempfile.TemporaryDirectory() as temporary:
        valid = valid_files(find(name), Path(temporary) / "valid")
    return make_input(name, valid, seed, number)


def _context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qa.fuzz.registry"])
    return context


def _work(
    sender: Connection,
    tell: tuple[str, float],
    name: str,
    find: Callable[[str], Reader],
    numbers: range,
    seed: int,
    keep: Path,
    seconds: float,
) -> None:
    """In the worker: reads inputs, reports each, keeps the first of each failure."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # Orbax's threads tell of every damaged file
    reader, seen = find(name), set()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = Path(temporary) / "input"
        valid = valid_files(reader, Path(temporary) / "valid")
        judge(reader, valid, False, folder, START)  # compiles, imports
        _limit_memory()
        sender.send(READY)
        for number in numbers:
            files, reseal = make_input(name, valid, seed, number)
            with _telling_where(*tell):
                outcome = judge(reader, files, reseal, folder, seconds)
            bug = (outcome.kind, outcome.where)
            is_new = outcome.is_failure and bug not in seen
            sender.send((outcome, is_new))
            if is_new:
                seen.add(bug)
                _write(keep / name / f"{number}", files, reseal, outcome)
                fails = partial(_fails, reader, bug, reseal, folder, seconds)
                small = minimise(files, valid, fails)
                _write(keep / name / f"{number}", small, reseal, outcome)
                sender.send(READY)


@contextlib.contextmanager
def _telling_where(path: str, seconds: float) -> Iterator[None]:
    """Writes the threads' stacks to a file if this takes longer."""
    with open(path, "w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(seconds, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _fails(
    reader: Reader,
    bug: tuple[str, str],
    reseal: bool,
    folder: Path,
    seconds: float,
    files: Files,
) -> bool:
    return judge(reader, files, reseal, folder, seconds)[:2] == bug


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _write(folder: Path, files: Files, reseal: bool, outcome: Outcome) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / ("files" if not reseal else "to_seal") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "outcome.txt").write_text("\n".join(outcome) + "\n", errors="replace")


def read_kept(folder: Path) -> tuple[str, Files, bool]:
    """A failure that was kept: the reader's name, its files, whether to seal them."""
    reseal = (folder / "to_seal").is_dir()
    inside = folder / ("to_seal" if reseal else "files")
    if not inside.is_dir():
        raise ValueError(f"{folder} holds no input; give a folder that a run kept")
    files = {
        str(path.relative_to(inside)): path.read_bytes()
        for path in sorted(inside.rglob("*"))
        if path.is_file()
    }
    return folder.absolute().parent.name, files, reseal
