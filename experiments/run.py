"""The one command: every ablation, table and figure by name.

python -m experiments.run --list
python -m experiments.run lt4rec.table2
python -m experiments.run lt4rec.s_neuron --pruning.final-density 0.1
python -m experiments.run lt4rec.table2 --help
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.settings import listing
from jaxmtl import console

PRESETS = ("demo", "paper")
"""`ablation.Preset`, which cannot be looked at without JAX."""


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
        listing.check(known.name)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return _run(known.name, known.preset, rest, argv)


def _run(name: str, preset: str, rest: Sequence[str], argv: Sequence[str]) -> int:
    # Here, so that a list of names and a wrong one start no JAX, and help no study.
    import tyro

    from experiments.settings.options import Options, starting_config

    options = tyro.cli(
        Options,
        prog=f"python -m experiments.run {name}",
        args=rest,
        default=Options(starting_config(name, preset)),
    )
    from experiments.analysis import experiment
    from experiments.running import stopping
    from jaxmtl.training.guard import NonFiniteLoss
    from jaxmtl.training.resume import Stopped

    try:
        experiment.carry_out(name, options, preset, argv)
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


if __name__ == "__main__":
    sys.exit(console.run(main))
