"""The one command: every ablation, table and figure by name.

python -m experiments.run --list
python -m experiments.run lt4rec.table2
python -m experiments.run lt4rec.s_neuron --pruning.final-density 0.1
python -m experiments.run lt4rec.table2 --help
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated

import tyro

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.analysis.figures import own_style
from experiments.analysis.report import reporting
from experiments.running import crew, hosts, joint, stopping
from experiments.running.monitor import Monitor
from experiments.running.workdir import PLACES, claim
from experiments.settings import ablation, fingerprints, listing, sizes, sources
from experiments.settings.ablation import Ablation, Preset
from experiments.settings.config import Config, as_json, paths_of
from experiments.settings.setup import check_trainable
from experiments.tuning import tuned
from jaxmtl import console, places
from jaxmtl.data.store import Dataset
from jaxmtl.training.fit import NonFiniteLoss
from jaxmtl.training.resume import Stopped
from jaxmtl.types import Schema

PRESETS = ("demo", "paper")


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of a run; the defaults below are those of its preset.

    `--preset demo` is the default, `--preset paper` the other one. In a table a
    setting changes what all rows start from; each row's own change comes on top.

    Attributes:
      config: the experiment.
      seeds: how many to train, 0, 1, …
      workdir: of the run; default runs/<name>-<data>-<preset>, with -tuned at
        its end for tuned rows.
      tuned: what `experiments.tune` wrote; a row's tuned settings come on top of
        the command line's and its own.
      report: whether report.html and report.md are written at the end.
      together: whether trainings go on `in_turn`, in several `processes`, or a
        row's seeds in one `program`; `auto` takes processes on a CPU and the program
        on an accelerator. Results differ in last bits at most.
      processes: how many; 0 = one for each core, at most 8.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    seeds: int = 3
    workdir: Path | None = None
    tuned: Path | None = None
    report: bool = True
    together: crew.How = "auto"
    processes: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line says; returns the exit code.

    1 for what is wrong, 2 for a command that cannot be read, 75 for a run that was
    asked to stop and has saved, 130 for one that was interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        usage="%(prog)s [--list] NAME [--preset {demo,paper}] [settings]",
        description="Runs an ablation, a table or a figure of the papers.",
        epilog="NAME --help shows every setting of an experiment.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", help="such as lt4rec.table2")
    parser.add_argument("--list", action="store_true", help="name everything there is")
    parser.add_argument("--preset", choices=PRESETS, default="demo")
    known, rest = parser.parse_known_args(argv)
    if known.list:
        width = max(len(name) for name in listing.names())
        for name, line in listing.names().items():
            print(f"{name:{width}}  {line}")
        return 0
    if known.name is None:
        parser.print_help()
        return 0 if set(argv) & {"-h", "--help"} else 2
    try:
        _run(known.name, known.preset, rest, argv)
    except (ValueError, OSError, NonFiniteLoss) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print("stopped; the same command goes on to the same bits", file=sys.stderr)
        return stopping.EXIT_CODE
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


@own_style()
def _run(name: str, preset: Preset, rest: Sequence[str], argv: Sequence[str]) -> None:
    module = ablation.load(name)
    options = tyro.cli(
        Options,
        prog=f"python -m experiments.run {name}",
        args=rest,
        default=Options(starting_config(name, preset)),
    )
    if options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}; give 1 or more")

    options.config.check()
    data_config = options.config.data
    folder = f"{name}-{data_config.name}-{preset}" + "-tuned" * bool(options.tuned)
    workdir = options.workdir or Path("runs") / folder
    inputs = inputs_of(options.config) | {"--tuned": options.tuned}
    places.check_folder("--workdir", workdir, inputs)
    places.check_text("--data.cache", data_config.cache)
    hosts.start(options.config.mesh)
    hosts.check_jax()
    chosen = tuned.read(options.tuned) if options.tuned else tuned.NOTHING
    tuned.check_seeds(chosen, range(options.seeds))
    lent = getattr(module, "TUNED_AS", {})
    chosen = tuned.lend(chosen, {short_name(r): short_name(o) for r, o in lent.items()})
    data = sources.load(data_config, say=_say)

    def configure(row: ModuleType) -> Ablation:
        settings = chosen.settings(short_name(row))
        return configure_row(module, row, options.config, data.schema, settings)

    ablations = [configure(row) for row in getattr(module, "ROWS", (module,))]
    tuned.check_rows(chosen, ablations)
    for line in tuned.describe(chosen, ablations):
        _say(line)
    for row in ablations:
        check_trainable(row.config, data)
        if row.config.training.init_from is not None:
            for seed in range(options.seeds):
                joint.find_checkpoint(row.config.training.init_from, seed)
    together = crew.choose(
        options.together,
        options.processes,
        trainings=len(ablations) * options.seeds,
        examples=options.seeds * sum(sizes.examples(r.config, data) for r in ablations),
        devices=options.config.mesh.devices,
    )
    described = _describe(name, options.config, ablations, data)
    claimed = hosts.claimed(
        workdir, lambda: claim(workdir, described, options.config.resume)
    )
    with claimed as workdir, stopping.on_signals():
        for row in ablations:
            _say(f"{row.module}: {sizes.describe(row.config, data)}")
        monitor = Monitor(workdir, range(options.seeds))
        hands = crew.Crew(workdir, monitor, *together)
        context = Context(
            name=name,
            rows=ablations,
            configure=configure,
            seeds=range(options.seeds),
            data=data,
            crew=hands,
            command=console.as_typed(["python", "-m", "experiments.run", *argv]),
            layout=ablation.layout(name).fitted(data.schema),
            tuned=tuned.record(chosen, ablations),
        )
        with contextlib.closing(monitor), contextlib.closing(hands):
            text = getattr(module, "run", tables.write)(context)
            if options.report:  # before anything can happen to what is printed
                reporting.write(context, text)
            print(text)
            if options.report:
                print(f"the report: {workdir / 'report.html'}")


def short_name(module: ModuleType) -> str:
    """`lt4rec.s_weight`, as the command line and a table call a module."""
    return module.__name__.removeprefix("experiments.")


def inputs_of(config: Config) -> dict[str, Path | None]:
    """Option -> what a run reads from where the user keeps it."""
    return {
        "--data.path": config.data.path,
        "--data.schema": config.data.schema,
        "--init-from": config.training.init_from,
    }


def starting_config(name: str, preset: Preset) -> Config:
    """What the command line of an experiment changes.

    The base of its folder, with the row's own change where it is a row.
    """
    module, config = ablation.load(name), ablation.set_up(name, preset)
    return module.configure(config) if hasattr(module, "ROW") else config


def configure_row(
    module: ModuleType,
    row: ModuleType,
    config: Config,
    schema: Schema,
    settings: Mapping[str, tuned.Value],
) -> Ablation:
    """A row as it is trained.

    Args:
      module: the experiment it is trained in, itself or a study.
      row: the row's module.
      config: what the command line says.
      schema: of the log, which may decide sizes.
      settings: its tuned ones, by dotted name.

    Raises:
      ValueError: no run could use a value.
    """
    if row is not module:  # a row alone leaves the command line the last word
        config = row.configure(config)
    config = tuned.tuned_config(config, settings)
    if hasattr(row, "resize"):
        config = row.resize(config, schema)
    config.check()
    return Ablation(short_name(row), row.ROW, config)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _describe(
    name: str, config: Config, ablations: Sequence[Ablation], data: Dataset
) -> dict:
    """What `config.json` holds; the rows differ in everything but their data.

    Also what computes, and where things lie, which is not compared; of rows that start
    from an earlier run what that was, since its path may come to hold another.
    """
    rows = {row.module: as_json(row.config) for row in ablations}
    for settings in rows.values():
        del settings["data"]
    source = as_json(config)["data"] | {"fingerprint": data.fingerprint}
    starts = {row.module: row.config.training.init_from for row in ablations}
    known = {m: joint.started_from(run) for m, run in starts.items() if run is not None}
    described = {
        "name": name,
        "data": source,
        "rows": rows,
        "software": fingerprints.software(config.data.name),
        PLACES: paths_of(config),
    }
    return described | ({"started_from": known} if known else {})


if __name__ == "__main__":
    sys.exit(console.run(main))
