"""What an ablation module declares, and where to find all of them.

An ablation is one small module in a folder below `experiments/`: a docstring whose
first line says which row of which table it is, a `ROW`, and `configure(config)`,
which changes what all rows of the folder start from, a preset of its `base`. Where
the change depends on the log's inputs it is made by `resize(config, schema)`. A study
module has a `run` instead. Adding the file is all there is to do: its name is its
registration.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Literal, NamedTuple

from experiments.settings import listing
from experiments.settings.config import Config
from experiments.settings.layout import Layout

Preset = Literal["demo", "paper"]


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      name: as the table calls it.
      paper: metric -> the paper's number, such as {"cvr.mse": 0.13226}; empty for
        a control the paper lacks.
    """

    name: str
    paper: dict[str, float] = {}


class Ablation(NamedTuple):
    """One row, ready to run: its module's name, what it is called, its settings."""

    module: str
    row: Row
    config: Config


def load(name: str) -> ModuleType:
    """The module of an ablation or a study.

    Raises:
      ValueError: there is none of that name; suggests the nearest.
    """
    listing.check(name)
    return importlib.import_module(f"experiments.{name}")


def set_up(name: str, preset: Preset) -> Config:
    """What the rows of an ablation's folder start from, with its preset's values."""
    folder = name.split(".")[0]
    return importlib.import_module(f"experiments.{folder}.base").configure(preset)


def layout(name: str) -> Layout:
    """How an experiment's table looks: its own `LAYOUT`, or its folder's."""
    folder = importlib.import_module(f"experiments.{name.split('.')[0]}.base")
    return getattr(load(name), "LAYOUT", folder.LAYOUT)
