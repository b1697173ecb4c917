"""One input: made from (reader, seed, number) alone, read, and judged."""

from __future__ import annotations

import contextlib
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qa.fuzz.forms import change, crc
from qa.fuzz.readers import Reader

RIGHT = "right"
SECONDS = 10.0
"""A reader may take, of some kilobytes."""

Files = dict[str, bytes]
"""Path in a folder -> content."""


class Outcome(NamedTuple):
    """What came of an input.

    Attributes:
      kind: `RIGHT`, the name of the error that refused it, or `failure: …`.
      where: of a failure, the innermost line of the project; one bug, one line.
      text: of the error.
    """

    kind: str
    where: str = ""
    text: str = ""

    @property
    def is_failure(self) -> bool:
        return self.kind.startswith("failure")


class Hung(BaseException):
    """A reader took too long. No `Exception`, lest the reader catch it."""


def valid_files(reader: Reader, folder: Path) -> Files:
    """What the reader's `write` writes into a folder that is not there yet."""
    folder.mkdir(parents=True)
    reader.write(folder)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_input(name: str, valid: Files, seed: int, number: int) -> tuple[Files, bool]:
    """Input `number` of a reader: one file of the valid ones changed or missing.

    Returns:
      The files, and whether their checksums are to be made true again.
    """
    rng = np.random.default_rng([seed, crc(name), number])
    files = dict(valid)
    names = sorted(name for name in files if not Path(name).name.startswith("."))
    which = names[int(rng.integers(len(names)))]
    if rng.random() < 0.01:
        del files[which]
    else:
        files[which] = change(rng, Path(which).name, files[which])
    return files, bool(rng.random() < 0.7)


def lay_out(reader: Reader, files: Files, reseal: bool, folder: Path) -> None:
    """Makes a folder hold the files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if reseal and reader.reseal is not None:
        reader.reseal(folder)


def judge(
    reader: Reader, files: Files, reseal: bool, folder: Path, seconds: float = SECONDS
) -> Outcome:
    """Reads files with a time limit, and says what came of it.

    Args:
      reader: under test.
      files: what it is given.
      reseal: whether checksums are made true first.
      folder: where; afterwards it is gone.
      seconds: the limit.
    """
    lay_out(reader, files, reseal, folder)
    before = _beside(folder)
    try:
        with _limited(seconds), warnings.catch_warnings():
            # An overflow that NumPy only warns of has spoilt a column.
            warnings.simplefilter("error", RuntimeWarning)
            reader.read(folder)
        outcome = Outcome(RIGHT)
    except (ValueError, OSError) as error:
        outcome = _refusal(error, files, folder)
    except Hung:
        outcome = Outcome("failure: hang", "", f"took over {seconds:g} s")
    except Exception as error:
        kind = f"failure: {type(error).__name__}"
        outcome = Outcome(kind, _innermost(error), str(error)[:500])
    left = _beside(folder) - before
    if left and not outcome.is_failure:
        outcome = Outcome("failure: left behind", "", f"{sorted(left)}")
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


def minimise(files: Files, valid: Files, fails: Callable[[Files], bool]) -> Files:
    """Takes pieces out of the changed file for as long as it still fails.

    Args:
      files: that fail.
      valid: what they were made of.
      fails: whether files fail in the same way.

    Returns:
      Files of which no piece tried can be spared; at most some 200 are tried.
    """
    changed = [n for n in files if files[n] != valid.get(n)]
    budget = 200
    for name in changed:
        size = len(files[name]) // 2
        while size and budget > 0:
            at = 0
            while at < len(files[name]) and budget > 0:
                content = files[name][:at] + files[name][at + size :]
                budget -= 1
                if fails(files | {name: content}):
                    files = files | {name: content}
                else:
                    at += size
            size //= 2
    return files


def _refusal(error: Exception, files: Files, folder: Path) -> Outcome:
    text = str(error)
    names = {Path(name).name for name in files} | {str(folder)}
    if any(name in text for name in names):
        return Outcome(type(error).__name__, "", text[:500])
    return Outcome("failure: no file named", _innermost(error), text[:500])


def _innermost(error: BaseException) -> str:
    """The last line of ours, file:line, that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "jaxmtl" in f.filename or "experiments" in f.filename]
    last = (ours or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _beside(folder: Path) -> set[str]:
    """What stands next to the folder: readers leave nothing there."""
    return {path.name for path in folder.parent.iterdir()} - {folder.name}


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_):
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
