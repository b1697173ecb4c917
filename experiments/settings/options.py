"""What a command line may say of an experiment, and what it changes.

It imports no study: help on a table of twenty rows starts as fast as on one.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Annotated

import tyro

from experiments.settings import listing
from experiments.settings.ablation import Preset, set_up
from experiments.settings.config import Config, How


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
      compile_cache: whether compiled programs are kept in --data.cache and found
        again, by later commands too.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    seeds: int = 3
    workdir: Path | None = None
    tuned: Path | None = None
    report: bool = True
    together: How = "auto"
    processes: int = 0
    compile_cache: bool = True


def starting_config(name: str, preset: Preset) -> Config:
    """What the command line of an experiment changes.

    The base of its folder, with the row's own change where it is a row.

    Raises:
      ValueError: there is no experiment of that name; suggests the nearest.
    """
    listing.check(name)
    config = set_up(name, preset)
    if not listing.is_row(name):
        return config
    return importlib.import_module(f"experiments.{name}").configure(config)
