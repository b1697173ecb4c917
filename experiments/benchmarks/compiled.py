"""What the compilers of accelerators that are not at hand make of our programs.

    python -m experiments.benchmarks.compiled --out benchmarks
    python -m experiments.benchmarks.compiled --quick --targets tpu-v5e-8
    python -m experiments.benchmarks.compiled --programs dcrnn.mmoe update_adam

XLA compiles the programs that studies run (`compiled_programs`) for TPUs and GPUs that
are only described (`compiled_targets`), and the compiled text is read
(`compiled_text`): the memory that a device needs, what it sends in a step, how many
arrays as large as a table a step makes, and its loops over ids one by one. Nothing is
run, so nothing but compilation is timed.

Extras: `aot-tpu` and `aot-cuda`. Each program is compiled in a process of its own, and
what was found is kept beside prepared data: a run that is repeated compiles what other
code, or other versions, may have changed. `--out` writes the records as a plain list.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax

from experiments.benchmarks import command
from experiments.benchmarks.compiled_programs import MAKERS, ROWS_TRAINED, UPDATE
from experiments.benchmarks.compiled_targets import ENVIRONMENT, TARGETS
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from experiments.running.workdir import read_json
from experiments.settings import ablation, fingerprints
from jaxmtl import places

ONE = "experiments.benchmarks.compiled_record"
FEW_IDS = 20_000
"""Of the short form."""
PLATFORMS = {"tpu": "TPU v5e", "cuda": "NVIDIA H100"}
PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin")
"""Whose versions may change what is compiled."""
MEGABYTES = 1e-6
BY = "program"
NEEDED = Column("temporary_bytes", "temporaries, MB", ",.0f", MEGABYTES)
SENT = Column("sent_bytes_per_step", "sent a step, MB", ",.1f", MEGABYTES)
COLUMNS = (
    Column(BY, "program"),
    Column("target", "target"),
    Column("ids", "ids", ",d"),
    Column("batch_per_device", "rows", ",d"),
    Column("compile_seconds", "compiled, s", ".0f"),
    Column("argument_bytes", "arguments, MB", ",.0f", MEGABYTES),
    NEEDED,
    SENT,
    Column("table_copies_in_step", "table copies", "d"),
    Column("serial_loops", "serial loops", "d"),
)


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to compile, and for what.

    Attributes:
      targets: devices; none = all whose compiler is installed.
      programs: by name; none = all, or with `quick` one training.
      ids: over all vocabularies, of all but the table updates.
      update_ids: of the table updates.
      quick: the demonstrations' nets instead of the papers', few ids, small batches.
      limit: seconds that one program may take.
      cache: folder of what was found before.
    """

    targets: tuple[Literal[tuple(TARGETS)], ...] = ()
    programs: tuple[Literal[tuple(MAKERS)], ...] = ()
    ids: int = 1_000_000
    update_ids: tuple[int, ...] = (10**5, 10**6, 10**7)
    quick: bool = False
    limit: float = 1200.0
    cache: Path = dataclasses.field(
        default_factory=lambda: places.default_cache() / "compiled"
    )

    json_is_list: ClassVar[bool] = True

    def sizes(self) -> list[tuple[str, int]]:
        """Programs and their numbers of ids, table updates last."""
        names = self.programs or (("lt4rec.s_weight",) if self.quick else tuple(MAKERS))
        many, few = (self.ids, self.update_ids), (FEW_IDS, (FEW_IDS,))
        ids, of_updates = few if self.quick else many
        rows = [(name, ids) for name in names if not name.startswith(UPDATE)]
        updates = [name for name in names if name.startswith(UPDATE)]
        return [*rows, *itertools.product(updates, of_updates)]


QUICK = Options(quick=True)


def measure(options: Options) -> Iterator[Table]:
    """Keeps JAX from looking for accelerators; the iterator yields the tables."""
    jax.config.update("jax_platforms", ENVIRONMENT["JAX_PLATFORMS"])
    return _tables(options)


def _tables(options: Options) -> Iterator[Table]:
    """A table for each platform, and one of the table updates for each target.

    Raises:
      command.Missing: no compiler is there for what was asked; says how to install it.
      RuntimeError: once all tables are there: programs that did not compile.
    """
    missing = {n: why for n, on in TARGETS.items() if (why := on.missing())}
    names = options.targets or [name for name in TARGETS if name not in missing]
    if lacking := dict.fromkeys(missing[n] for n in names or TARGETS if n in missing):
        raise command.Missing("; ".join(lacking))
    failed: list[str] = []
    by_platform = itertools.groupby(names, lambda name: TARGETS[name].platform)
    for platform, of_platform in by_platform:
        records, of_targets = [], []
        for target in of_platform:
            found = list(_records(options, target, failed))
            is_update = lambda r: r["program"].startswith(UPDATE)
            records += itertools.filterfalse(is_update, found)
            of_targets.append((target, list(filter(is_update, found))))
        title = f"Programs compiled for {PLATFORMS[platform]}"
        sent = Plot(SENT.key, "bytes that a device sends in a step", "devices", BY)
        needed = Plot(NEEDED.key, "bytes of temporaries", "ids", BY)
        if records:
            yield _table(title, records, sent)
        for target, updates in of_targets:
            if updates:
                yield _table(f"Table updates compiled for {target}", updates, needed)
    if failed:
        raise RuntimeError(f"not compiled: {'; '.join(failed)}")


def _table(title: str, records: Sequence[dict], plot: Plot) -> Table:
    lead = (
        "Of one device. Rows are those of a step; a table copy is an array as large as"
        " a table, or half of it, that a step makes anew; a serial loop runs more than"
        " 1,000 times in a step."
    )
    return Table(title, COLUMNS, records, lead, plot=plot)


def _records(
    options: Options, target: str, failed: list[str]
) -> Iterator[dict[str, Any]]:
    scale = "quick" if options.quick else "full"
    folder = options.cache / fingerprints.digest(_code())
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in options.sizes():
        path = folder / f"{name}-{target}-{ids}-{scale}.json"
        if not path.exists():
            print(f"{name} of {ids:,} ids for {target}", file=sys.stderr, flush=True)
            given = [name, target, str(ids), scale, str(path)]
            if why := _compile(given, options.limit):
                failed.append(f"{name} of {ids:,} ids for {target} ({why})")
                continue
        yield read_json(path)


def _compile(given: Sequence[str], limit: float) -> str | None:
    """Has a record written by a process of its own; says why there is none."""
    run = [sys.executable, "-m", ONE, *given]
    try:
        ended = subprocess.run(
            run,
            env=os.environ | ENVIRONMENT,
            timeout=limit,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"longer than {limit:g} s"
    if ended.returncode == 0:
        return None
    lines = ended.stderr.strip().splitlines() or ["no message"]
    return f"exit code {ended.returncode}: {lines[-1][:300]}"


def _code() -> dict[str, Any]:
    """What a record depends on beside its options."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    text = Path(__file__).with_name("h100.txt").read_text(encoding="utf-8")
    settings = [
        ablation.load(name).configure(ablation.set_up(name, "paper"))
        for name in ROWS_TRAINED
    ]
    return {
        "code": [fingerprints.code(ONE), fingerprints.software(*settings)["code"]],
        "versions": versions,
        "h100": text,
        "environment": ENVIRONMENT | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
    }


if __name__ == "__main__":
    command.main("compiled", measure, Options)
