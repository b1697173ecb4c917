"""How a benchmark is run: from its command line, and by `experiments.benchmarks`.

A benchmark is a module with

- `Options`, a dataclass over `Output` whose defaults are the full form;
- `QUICK`, options under which it ends within a minute or two;
- `measure(options)`, which returns an iterator that yields each `Table` once it is
  complete.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tyro

from experiments.analysis.figures import own_style
from experiments.analysis.report.document import Document, write
from experiments.analysis.table import describe_environment
from experiments.benchmarks.results import Table
from experiments.running.workdir import write_json
from jaxmtl import console, places

Measure = Callable[[Any], Iterator[Table]]


class Missing(ImportError):
    """An optional extra is not installed; says how to install it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Where the numbers go besides the terminal.

    Attributes:
      out: a folder for NAME.json, NAME.md and NAME.html with their plots.
    """

    out: Path | None = None

    json_is_list: ClassVar[bool] = False
    """Whether NAME.json is the records of all tables, without what they hang on."""


def main(name: str, measure: Measure, options: type[Output]) -> None:
    """The command line of one benchmark; ends with 1 if it fails.

    Args:
      name: of its module.
      measure: yields its tables.
      options: the class of what `measure` takes.
    """
    words = ["python", "-m", f"experiments.benchmarks.{name}", *sys.argv[1:]]
    said = console.as_typed(words)

    def measured() -> int:
        given = tyro.cli(options)
        try:
            check_out(given.out)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return int(run(name, measure, given, said) is not None)

    sys.exit(console.run(measured))


def check_out(out: Path | None) -> None:
    """Raises ValueError where results could not be written to a folder."""
    if out is not None:
        places.check_folder("--out", out, {})


@own_style()
def run(name: str, measure: Measure, options: Output, said: str) -> str | None:
    """Prints a benchmark's tables as they come, and writes them where asked.

    They are written after each table, so one that fails or is killed leaves what it had
    measured until then; where it fails, with the reason.

    Args:
      name: of the benchmark.
      measure: yields its tables.
      options: what it is measured with.
      said: the command that does it again.

    Returns:
      Why it failed; None if it did not.
    """
    # First of all: a benchmark may set up JAX before JAX looks for its devices.
    measured = measure(options)
    about = start(name, said)
    plain = json.dumps(dataclasses.asdict(options), default=str)
    about["options"] = json.loads(plain)
    tables, began = [], time.perf_counter()
    print(", ".join(f"{key} {x}" for key, x in facts(about).items()), end="\n\n")

    def write_what_is_there() -> None:
        about["seconds"] = round(time.perf_counter() - began, 1)
        if options.out is not None:
            write_results(options.out, about, tables, options.json_is_list)

    try:
        for table in measured:
            tables.append(table)
            print(table.as_text(), end="\n\n", flush=True)
            write_what_is_there()
    except Missing as error:
        print(f"error: {error}", file=sys.stderr)
        about["failure"] = str(error)
    except Exception as error:
        traceback.print_exc()
        about["failure"] = reason(error)
    write_what_is_there()
    return about.get("failure")


def run_named(name: str, quick: bool, out: Path) -> str | None:
    """Runs a benchmark in its full or short form; says why if it failed."""
    module = importlib.import_module(f"experiments.benchmarks.{name}")
    options = dataclasses.replace(module.QUICK if quick else module.Options(), out=out)
    return run(name, module.measure, options, _said(name, quick))


def write_failure(name: str, quick: bool, out: Path, error: Exception) -> str:
    """Writes why a benchmark did not even begin, or was killed; returns it."""
    about = start(name, _said(name, quick)) | {"failure": reason(error)}
    write_results(out, about, [])
    return about["failure"]


def _said(name: str, quick: bool) -> str:
    return f"python -m experiments.benchmarks {name}{' --quick' * quick}"


def start(name: str, said: str) -> dict[str, Any]:
    """What is known of a run before it: when, on what, and how busy that is."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "benchmark": name,
        "command": said,
        "started": now.isoformat(timespec="seconds"),
        "load": [round(load, 2) for load in os.getloadavg()],
        "environment": describe_environment(),
    }


def facts(about: Mapping[str, Any]) -> dict[str, str]:
    """What a reader has to know of a run, by name."""
    known = {name: str(x) for name, x in about["environment"].items()}
    known["load"] = " ".join(map(str, about["load"]))
    later = {"started": "{}", "seconds": "{} s", "failure": "{}"}
    known |= {n: form.format(about[n]) for n, form in later.items() if n in about}
    return known


def reason(error: BaseException) -> str:
    """Why something failed, on one line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def write_results(
    folder: Path,
    about: Mapping[str, Any],
    tables: Sequence[Table],
    json_is_list: bool = False,
) -> None:
    """Writes NAME.json, and NAME.md and NAME.html with a plot for each table."""
    folder.mkdir(parents=True, exist_ok=True)
    name = about["benchmark"]
    found = [
        {"title": t.title, "records": _known(t.records), "notes": list(t.notes)}
        for t in tables
    ]
    records = [record for table in found for record in table["records"]]
    content = records if json_is_list else {**about, "tables": found}
    write_json(folder / f"{name}.json", content)
    sections = [
        table.as_section(f"{number}.svg") for number, table in enumerate(tables, 1)
    ]
    lead = f"**It failed**: {about['failure']}" if "failure" in about else ""
    title, commands = f"Benchmark {name}", [about["command"]]
    write(Document(title, lead, facts(about), commands, sections), folder, name)


def _known(value: Any) -> Any:
    """The value with None for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _known(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [_known(x) for x in value]
    return None if value != value else value
