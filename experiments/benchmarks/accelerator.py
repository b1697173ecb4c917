"""What a real accelerator does with our programs, in six minutes.

    python -m experiments.benchmarks.accelerator --out benchmarks
    python -m experiments.benchmarks accelerator --quick

Four parts, each with its table, written before the next begins: the tests of tables and
pruning; MMoE's step (`mmoe_contenders`) beside PyTorch with SparseAdam on the same
device; pruning beside a sort and top-k; five seeds of a row in one program against in
turn. It takes the machine as it is: what is not installed (PyTorch, pytest) is left out
and said, and what would not end in time is stopped. Every part has a process of its
own, since a process may claim the whole device; this one claims none.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import multiprocessing
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import jax

from experiments.benchmarks import command, mmoe_contenders, prune, study
from experiments.benchmarks.results import Column, Record, Table

TESTS = ("tests/tables", "tests/sparsity/test_pruning.py")
NEEDED = ("pytest", "coverage", "hypothesis")
"""By the tests."""
CONTENDERS = ("ours", "torch")
SELECTIONS = (prune.OURS, prune.SORT, "lax.top_k")
LEAST = 5.0
"""Seconds that are left for a part that is still begun."""
WHERE = Column("device", "device")
MISSING = Column("missing", "missing")


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to run.

    Attributes:
      limit: seconds of all parts together.
      ids: of MMoE's tables.
      batch: rows of its steps.
      weights: to prune.
      name: of the row whose seeds are trained.
      seeds: how many.
      settings: further flags of those runs, in quotes.
      tests: files and folders of tests; none leaves them out.
    """

    limit: float = 350.0
    ids: tuple[int, ...] = (10**6, 10**7)
    batch: int = 8192
    weights: int = 10**7
    name: str = "lt4rec.s_weight"
    seeds: int = 5
    settings: str = "--data.feed.impressions 40000 --training.epochs 2"
    tests: tuple[str, ...] = TESTS


QUICK = Options(
    ids=(2000,),
    batch=64,
    weights=10**5,
    name="lt4rec.base_ctr",
    seeds=2,
    settings=study.QUICK.settings,
    tests=TESTS[1:],
)


def measure(options: Options) -> Iterator[Table]:
    """Keeps this process off the device; the iterator yields a table for each part."""
    jax.config.update("jax_platforms", "cpu")
    return _tables(options)


def _tables(options: Options) -> Iterator[Table]:
    end = time.monotonic() + options.limit
    left = lambda: max(end - time.monotonic(), 0.0)
    if options.tests:
        yield run_tests(options.tests, left())
    yield Table(
        f"A step of MMoE, {options.batch:,} rows",
        (
            WHERE,
            Column("ids", "ids", ","),
            Column("contender", "contender"),
            Column("seconds", "ms", ".2f", 1e3),
            Column("least_seconds", "least", ".2f", 1e3),
            MISSING,
        ),
        [
            {"ids": ids, "contender": name}
            | apart(functools.partial(time_step, name, ids, options.batch), left())
            for ids in options.ids
            for name in CONTENDERS
        ],
    )
    yield Table(
        f"Pruning {options.weights:,} weights to {prune.DENSITY:.0%}",
        (WHERE, *prune.COLUMNS),
        [
            {"weights": options.weights, "contender": name}
            | apart(functools.partial(time_pruning, name, options.weights), left())
            for name in SELECTIONS
        ],
    )
    yield seeds(options, left)


def run_tests(tests: Sequence[str], seconds: float) -> Table:
    """What pytest says of some tests, where JAX computes by default."""
    record: dict[str, Any] = {"tests": " ".join(tests)}
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        record["missing"] = f"not installed: {', '.join(lacking)}"
    else:
        run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
        try:
            ended = subprocess.run(
                run,
                cwd=study.ROOT,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
            lines = (ended.stdout.strip() or ended.stderr.strip()).splitlines()
            record["result"] = lines[-1] if lines else f"exit code {ended.returncode}"
        except subprocess.TimeoutExpired:
            record["missing"] = f"longer than {seconds:.0f} s"
    columns = (Column("tests", "tests"), Column("result", "result"), MISSING)
    return Table("Tests", columns, [record])


def time_step(name: str, ids: int, batch: int, steps: int = 10) -> Record:
    """Times steps of a contender, on the device that its library takes."""
    device = f"{jax.default_backend()}: {jax.devices()[0].device_kind}"
    wait = lambda: None
    if name == "torch":
        torch = importlib.import_module("torch")
        device = "cpu"
        if torch.cuda.is_available():
            torch.set_default_device("cuda")
            device, wait = (
                f"cuda: {torch.cuda.get_device_name()}",
                torch.cuda.synchronize,
            )
    log = mmoe_contenders.make_log(ids, "uniform", batch, steps)
    run, _ = mmoe_contenders.MAKERS[name](log)

    def once() -> float:
        started = time.perf_counter()
        run()
        wait()
        return (time.perf_counter() - started) / steps

    once()
    seconds = [once() for _ in range(10)]
    least = min(seconds)
    return {"device": device, "seconds": median(seconds), "least_seconds": least}


def time_pruning(name: str, weights: int) -> Record:
    """Times one way to select weights."""
    device = f"{jax.default_backend()}: {jax.devices()[0].device_kind}"
    seconds, repeats = prune.timed(prune.contenders(weights)[name], 10)
    return {"device": device, "seconds": seconds, "repeats": repeats}


def seeds(options: Options, left: Callable[[], float]) -> Table:
    """Wall time of a row's seeds, in turn and in one program.

    Each way runs twice: the first run compiles, the second has its programs.
    """
    records = []
    with tempfile.TemporaryDirectory() as folder:
        runs = study.Runs(Path(folder), shlex.split(options.settings))
        for way in ("in_turn", "program"):
            record: dict[str, Any] = {"way": way}
            records.append(record)
            for key in ("cold", "warm"):
                if left() < LEAST:
                    record["missing"] = "no time was left"
                    break
                try:
                    record[key] = runs.seconds(
                        options.name, options.seeds, way, way, left()
                    )
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    record["missing"] = command.reason(error)
                    break
    title = f"{options.name}, {options.seeds} seeds"
    return Table(title, (*study.SEEDS_TOGETHER[:3], MISSING), records)


def apart(function: Callable[[], Record], seconds: float) -> Record:
    """What a function returns in a process of its own; why not, where it does not."""
    if seconds < LEAST:
        return {"missing": "no time was left"}
    spawn = multiprocessing.get_context("spawn")
    answers, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_serve, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    try:
        if not answers.poll(seconds):
            return {"missing": f"longer than {seconds:.0f} s"}
        return answers.recv()
    except EOFError:
        return {"missing": "its process was killed"}
    finally:
        process.terminate()
        process.join()


def _serve(answers: Connection, function: Callable[[], Record]) -> None:
    try:
        answers.send(function())
    except Exception as error:
        answers.send({"missing": command.reason(error)})


if __name__ == "__main__":
    command.main("accelerator", measure, Options)
