"""The one command: every ablation, table and figure by name.

python -m experiments.run --list
python -m experiments.run lt4rec.table2
python -m experiments.run lt4rec.s_neuron --pruning.final-density 0.1
python -m experiments.run lt4rec.table2 --help
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated

import tyro

from experiments import ablation, sizes, sources, study, tables
from experiments.ablation import Ablation, Preset
from experiments.config import Config, as_json
from experiments.monitor import Monitor
from experiments.setup import check_trainable
from experiments.workdir import claim
from jaxmtl.data.store import Dataset
from jaxmtl.fit import NonFiniteLoss

PRESETS = ("demo", "paper")


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of a run; the defaults below are those of its preset.

    `--preset demo` is the default, `--preset paper` the other one. In a table a
    setting changes what all rows start from; each row's own change comes on top.

    Attributes:
      config: the experiment.
      seeds: how many to train, 0, 1, …
      workdir: of the run; default runs/<name>-<data>-<preset>.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    seeds: int = 3
    workdir: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line says; returns the exit code."""
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
        width = max(len(name) for name in ablation.names())
        for name, line in ablation.names().items():
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
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _run(name: str, preset: Preset, rest: Sequence[str], argv: Sequence[str]) -> None:
    module = ablation.load(name)
    config = ablation.set_up(name, preset)
    if hasattr(module, "ROW"):
        config = module.configure(config)
    options = tyro.cli(
        Options,
        prog=f"python -m experiments.run {name}",
        args=rest,
        default=Options(config),
    )
    if options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}; give 1 or more")

    options.config.check()
    data_config = options.config.data
    workdir = options.workdir or Path("runs") / f"{name}-{data_config.name}-{preset}"
    data = sources.load(data_config, say=_say)

    def configure(row: ModuleType) -> Ablation:
        short = row.__name__.removeprefix("experiments.")
        is_alone = row is module  # then the command line had the last word
        config = options.config if is_alone else row.configure(options.config)
        if hasattr(row, "resize"):
            config = row.resize(config, data.schema)
        config.check()
        return Ablation(short, row.ROW, config)

    ablations = [configure(row) for row in getattr(module, "ROWS", (module,))]
    for row in ablations:
        check_trainable(row.config, data)
        if row.config.training.init_from is not None:
            for seed in range(options.seeds):
                study.find_checkpoint(row.config.training.init_from, seed)
    claim(workdir, _describe(name, options.config, ablations, data))
    for row in ablations:
        _say(f"{row.module}: {sizes.describe(row.config, data)}")
    monitor = Monitor(workdir)
    context = tables.Context(
        name=name,
        rows=ablations,
        configure=configure,
        seeds=range(options.seeds),
        data=data,
        workdir=workdir,
        monitor=monitor,
        command=shlex.join(["python", "-m", "experiments.run", *argv]),
        layout=ablation.layout(name),
    )
    try:
        text = getattr(module, "run", tables.write)(context)
    finally:
        monitor.close()
    print(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _describe(
    name: str, config: Config, ablations: Sequence[Ablation], data: Dataset
) -> dict:
    """What `config.json` holds; the rows differ in everything but their data."""
    rows = {row.module: as_json(row.config) for row in ablations}
    for settings in rows.values():
        del settings["data"]
    source = as_json(config)["data"] | {"fingerprint": data.fingerprint}
    return {"name": name, "data": source, "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
