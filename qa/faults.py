"""Kills a run at random moments, again and again, and compares the bits it ends with.

python -m qa.faults --kills 25

One run of a small experiment (by default a row with its two ticket searches, two
seeds) is left alone, another killed by SIGKILL and started again until it is through;
every second kill waits for a file that is being written. Then every array and every
number of the two work directories is compared. A run that gets through before all
kills are made is followed by another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from experiments.analysis.report.study_files import ABOUT
from experiments.running.monitor import LOG, PLAN
from experiments.running.workdir import CONFIG, LOCK, read_arrays, read_json
from jaxmtl import console, places
from jaxmtl.training import checkpoint

TINY = (
    "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
    " --data.feed.days 4 --model.hidden 16 8 --model.embedding-dim 4"
    " --training.batch-size 128 --training.epochs 3 --pruning.rounds 2 --seeds 2"
    " --checkpoint.every 0 --checkpoint.steps 4 --no-report"
)
VOLATILE = {"seconds", "search_seconds", "cost.seconds", "latency", "command"}
"""Keys of results that say when and how, not what."""
SKIPPED = {CONFIG, LOCK, PLAN, ABOUT, LOG, "events"}
"""Files and folders of a work directory that say so; the log is compared by line."""
SHOWN = {".png", ".svg", ".md", ".html"}
"""Endings of what is drawn from results."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is killed, and how often.

    Attributes:
      kills: how many in all.
      name: the experiment, a row or a whole table.
      settings: of it, after those of a tiny log and net, in quotes:
        --settings="--together processes".
      folder: for the work directories and logs; a temporary one by default.
      seed: of the moments.
    """

    kills: int = 25
    name: str = "lt4rec.s_weight"
    settings: str = ""
    folder: Path | None = None
    seed: int = 0


class Comparison(NamedTuple):
    """What two work directories hold: counts, and what differs."""

    arrays: int
    numbers: int
    differing: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line says; returns the exit code."""
    options = tyro.cli(Options, prog="python -m qa.faults", args=argv)
    with contextlib.ExitStack() as stack:
        try:
            folder = options.folder or Path(
                stack.enter_context(tempfile.TemporaryDirectory())
            )
            places.check_folder("--folder", folder, {})
            return 1 if disturb(options, folder) else 0
        except (ValueError, OSError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def disturb(options: Options, folder: Path) -> list[str]:
    """Kills runs as often as asked; says what it did, and returns what differs."""
    # Compiled once and not in each attempt: what is killed should be training.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "undisturbed"
    started = time.monotonic()
    with _attempt(options, folder, whole) as process:
        process.join()
        _check(process, folder)
    span = 1.5 * (time.monotonic() - started) / max(options.kills, 1)
    rng, kills, runs, differing = np.random.default_rng(options.seed), 0, 0, []
    while kills < options.kills:
        runs += 1
        workdir = folder / f"killed{runs}"
        for during_write in _alternating():
            with _attempt(options, folder, workdir) as process:
                is_last = kills == options.kills
                if not is_last and _kill(process, workdir, span, rng, during_write):
                    kills += 1
                    print(f"kill {kills}: {_moment(workdir, during_write)}", flush=True)
                    continue
                process.join()
                _check(process, folder)
                break
        found = compare(whole, workdir)
        differing += found.differing
        print(
            f"run {runs} is through after {kills} kills in all: {found.arrays} arrays"
            f" and {found.numbers} numbers compared, {len(found.differing)} differ"
        )
    for line in differing:
        print(f"differs: {line}")
    return differing


def compare(a: Path, b: Path) -> Comparison:
    """Compares all results that two work directories keep, wherever they lie.

    That they keep none is a difference too: it shows nothing.
    """
    arrays, numbers, differing = 0, 0, []
    names = {_path.relative_to(root) for root in (a, b) for _path in _kept(root)}
    for name in sorted(names):
        pair = [root / name for root in (a, b)]
        if not all(path.exists() for path in pair):
            differing.append(f"{name} is in one of them alone")
        elif name.suffix == ".json":
            left, right = (dict(_leaves(read_json(path))) for path in pair)
            numbers += len(left)
            keys = sorted(left.keys() | right.keys(), key=str)
            differing += [
                f"{name} {k}" for k in keys if left.get(k, ...) != right.get(k, ...)
            ]
        elif name.suffix == ".npz" or pair[0].is_dir():
            read = checkpoint.read_unverified if pair[0].is_dir() else read_arrays
            left, right = (read(path) for path in pair)
            arrays += len(left)
            differing += [
                f"{name} {key}"
                for key in sorted(left.keys() | right.keys())
                if key not in left or key not in right or _differ(left[key], right[key])
            ]
    if _lines(a) != _lines(b):
        differing.append(LOG)
    if not arrays and not numbers:
        differing.append("nothing was compared: no array and no number is in both")
    return Comparison(arrays, numbers, differing)


def _kept(root: Path) -> Iterator[Path]:
    """Result files, checkpoints as a whole, and whatever should not be left."""
    for path in root.rglob("*"):
        *folders, name = path.relative_to(root).parts
        if path.suffix in SHOWN or SKIPPED & {*folders, name}:
            continue
        if "checkpoint" not in folders and (path.is_file() or name == "checkpoint"):
            yield path


def _leaves(value: object, at: tuple = ()) -> Iterator[tuple[tuple, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in VOLATILE:
                yield from _leaves(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*at, index))
    else:
        yield at, value


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    return (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes())


def _lines(root: Path) -> set[str]:
    """Distinct ones: an epoch that a kill took back is logged again, alike."""
    return set(_epochs(root))


@contextlib.contextmanager
def _attempt(options: Options, folder: Path, workdir: Path):
    """A process that runs the command; imports are done before it is forked."""
    argv = [options.name, *TINY.split(), *shlex.split(options.settings)]
    argv += ["--data.cache", str(folder / "data"), "--workdir", str(workdir)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.run"])
    process = context.Process(target=_run, args=(argv, folder / "log.txt"))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _run(argv: list[str], log: Path) -> None:
    from experiments import run

    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(run.main(argv))


def _check(process, folder: Path) -> None:
    if process.exitcode != 0:
        raise RuntimeError(f"a run ended with {process.exitcode}: {folder / 'log.txt'}")


def _alternating() -> Iterator[bool]:
    while True:
        yield False
        yield True


def _kill(process, workdir: Path, span: float, rng, during_write: bool) -> bool:
    """Kills the process at a random moment; False where it was through before.

    Its clock starts when the work directory is claimed, or, of a kill during a write,
    with the first epoch, so that every second attempt gets somewhere.
    """
    epochs = len(_epochs(workdir))
    while process.is_alive() and not (
        len(_epochs(workdir)) > epochs
        if during_write
        else _is_held_by(process.pid, workdir)
    ):
        time.sleep(0.01)
    process.join(rng.uniform(0, span))
    while during_write and process.is_alive() and not _is_writing(workdir):
        time.sleep(0.001)
    if not process.is_alive():
        return False
    process.kill()
    process.join()
    return True


def _is_held_by(pid: int, workdir: Path) -> bool:
    lock = workdir / LOCK
    return lock.exists() and lock.read_text().startswith(f"process {pid} ")


def _is_writing(workdir: Path) -> bool:
    # Not glob: what vanishes while it looks is an error to it, and nothing to walk.
    return any(
        name.startswith(".") and name != LOCK
        for _, folders, files in os.walk(workdir)
        for name in (*folders, *files)
    )


def _epochs(workdir: Path) -> list[str]:
    log = workdir / LOG
    return log.read_text().splitlines() if log.exists() else []


def _moment(workdir: Path, during_write: bool) -> str:
    """How far a run had come when it was killed."""
    rows = len(list(workdir.glob("rows/*/seed*/seed.json")))
    searches = len(list(workdir.glob("tickets/*/seed*/ticket.json")))
    epochs = len(_epochs(workdir))
    saves = sorted(workdir.glob("*/*/seed*/progress*/0*"))
    return (
        ("while writing, " if during_write and _is_writing(workdir) else "")
        + f"{rows} rows and {searches} searches finished, {epochs} epochs logged, "
        + (f"newest save {saves[-1].relative_to(workdir)}" if saves else "no save")
    )


if __name__ == "__main__":
    sys.exit(console.run(main))
