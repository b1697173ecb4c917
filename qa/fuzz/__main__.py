"""Damages small valid files in thousands of ways, and reads every one of them.

python -m qa.fuzz --inputs 10000

What a reader makes of an input is right, or an error that names the file, or a
failure: another exception, a result that breaks the reader's own schema, rows that are
lost in silence, a hang, a crash, memory without bound, something left behind. The
first input of each distinct failure is made small and kept; `--replay` reads it again.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import tyro

from jaxmtl import console, places
from qa.fuzz.cases import RIGHT, judge
from qa.fuzz.registry import READERS, find_reader
from qa.fuzz.workers import Tally, examine, read_kept


@dataclasses.dataclass(frozen=True)
class Options:
    """Which readers are given how many inputs.

    Attributes:
      reader: some of them by name; by default all.
      inputs: for each.
      seed: an input follows from it, the reader and its number.
      keep: folder of the inputs that failed.
      replay: a folder below `keep`: read its input again, and nothing else.
    """

    reader: tuple[str, ...] = ()
    inputs: int = 10_000
    seed: int = 0
    keep: Path = Path("fuzz-failures")
    replay: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line says; 1 where an input failed."""
    options = tyro.cli(Options, prog="python -m qa.fuzz", args=argv)
    try:
        return _replay(options.replay) if options.replay else _run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: Options) -> int:
    places.check_folder("--keep", options.keep, {})
    names = options.reader or tuple(READERS)
    for name in names:
        find_reader(name)
    failed = 0
    for name in names:
        started = time.monotonic()
        tally = examine(name, find_reader, options.inputs, options.seed, options.keep)
        seconds = time.monotonic() - started
        print(describe(name, tally, seconds, options.keep), flush=True)
        failed += len(tally.failures)
    print(f"{len(names)} readers, {options.inputs:,} inputs each, {failed} failures")
    return 1 if failed else 0


def describe(name: str, tally: Tally, seconds: float, keep: Path) -> str:
    """A line of counts, and one for each distinct failure."""
    counts = dict(tally.counts.most_common())
    right = counts.pop(RIGHT, 0)
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in counts.items()) or "no error"
    lines = [
        f"{name:21} {tally.counts.total():7,} inputs in {seconds:5.0f} s:"
        f" {right:,} right; {kinds}"
    ]
    for (kind, where), (number, outcome) in tally.failures.items():
        lines.append(f"  {kind} at {where or '?'}: {outcome.text[:200]}")
        lines.append(f"    kept in {keep / name / str(number)}")
    return "\n".join(lines)


def _replay(folder: Path) -> int:
    name, files, reseal = read_kept(folder)
    with tempfile.TemporaryDirectory() as temporary:
        outcome = judge(find_reader(name), files, reseal, Path(temporary) / "input")
    print("\n".join(filter(None, outcome)))
    return 1 if outcome.is_failure else 0


if __name__ == "__main__":
    sys.exit(console.run(main))
