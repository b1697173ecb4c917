"""Runs all benchmarks, or those named, and writes what each found.

    python -m experiments.benchmarks
    python -m experiments.benchmarks step peers --out benchmarks
    python -m experiments.benchmarks --quick

Each runs in a process of its own, so that none sees another's memory or threads. One
that fails, for want of an optional extra for instance, is written down with the reason
and does not stop the others.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from experiments.benchmarks import command
from jaxmtl import console

Name = Literal[
    "prune",
    "step",
    "optimisers",
    "crnn",
    "roofline",
    "parts",
    "serving",
    "peers",
    "input",
    "ali_ccp",
    "scaling",
    "compiled",
    "accelerator",
    "study",
]


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
      names: of benchmarks; none = all.
      quick: their short forms, which show that everything works.
      out: folder for the results.
    """

    names: Annotated[tuple[Name, ...], tyro.conf.Positional] = ()
    quick: bool = False
    out: Path = Path("benchmarks")


def run_alone(name: Name, quick: bool, out: Path) -> str | None:
    """Runs one benchmark in a fresh process; says why if it failed."""
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(command.run_named, name, quick, out).result()
    except Exception as error:  # its module does not load, or its process was killed
        return command.write_failure(name, quick, out, error)


def main(options: Options) -> int:
    """Runs them one after the other; 1 if any failed."""
    try:
        command.check_out(options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    failures = {}
    for name in options.names or get_args(Name):
        print(f"== {name} ==", flush=True)
        failure = run_alone(name, options.quick, options.out)
        if failure is not None:
            failures[name] = failure
            print(f"{name} failed: {failure}\n", file=sys.stderr, flush=True)
    done = len(options.names or get_args(Name)) - len(failures)
    print(f"{done} done, {len(failures)} failed; results are in {options.out}")
    for name, failure in failures.items():
        print(f"{name}: {failure}")
    return min(len(failures), 1)


if __name__ == "__main__":
    sys.exit(console.run(lambda: main(tyro.cli(Options))))
