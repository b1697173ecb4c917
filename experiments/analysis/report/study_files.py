"""A finished work directory, as the report reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.analysis.report import learning, results
from experiments.running.monitor import LOG
from experiments.running.workdir import read_arrays, read_json

ABOUT = "study.json"
CURVES = "curves.json"
SEARCHES = "searches.json"
MAPS = "searches.npz"


class Study(NamedTuple):
    """What a work directory holds.

    Attributes:
      folder: the work directory.
      config: of `config.json`: `name`, `data`, and each row's settings.
      about: of `study.json`: seeds, command, environment, notes of the log, what it
        counted, tasks, and what the command printed; empty before a run has ended.
      found: path inside the folder -> JSON of a kind that `results` knows.
      rows: module -> `result.json` of a row, in the order of the configuration.
      learning: module -> seed -> joint training, epoch by epoch.
      curves: ROC and calibration, as `curves.measure` made them.
      searches: row -> task -> panel of Figure 4.
      maps: `row/layer` -> where two tasks' masks meet.
      seconds: of all trainings, and of the ticket searches among them.
    """

    folder: Path
    config: Mapping[str, Any]
    about: Mapping[str, Any]
    found: Mapping[str, Any]
    rows: Mapping[str, Any]
    learning: Mapping[str, Mapping[int, learning.Epochs]]
    curves: Mapping[str, Any]
    searches: Mapping[str, Any]
    maps: Mapping[str, np.ndarray]
    seconds: tuple[float, float]

    @property
    def title(self) -> str:
        return f"{self.config['name']} on {self.config['data']['name']}"


def read_study(folder: Path) -> Study:
    """Reads a work directory.

    Raises:
      ValueError: it is none, or a file in it is damaged; names the file.
    """
    if not (folder / "config.json").exists():
        raise ValueError(
            f"{folder}: no config.json, so no work directory of a run; give what"
            " --workdir said, such as runs/lt4rec.table2-video_feed-demo"
        )
    config = read_json(folder / "config.json")
    if "name" not in config:
        raise ValueError(
            f"{folder}: holds a tuning and no study, and a tuning has no report;"
            f" python -m experiments.status {folder} says how far it is"
        )
    maps = folder / MAPS
    return Study(
        folder=folder,
        config=config,
        about=_json(folder / ABOUT),
        found=_results(folder),
        rows=_rows(folder, config),
        learning=learning.read(folder / LOG),
        curves=_json(folder / CURVES),
        searches=_json(folder / SEARCHES),
        maps=read_arrays(maps) if maps.exists() else {},
        seconds=_seconds(folder),
    )


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _results(folder: Path) -> dict[str, Any]:
    """The results beside `config.json`, and those of a study's parts in folders."""
    skipped = {"config.json", ABOUT, CURVES, SEARCHES}
    paths = [p for p in sorted(folder.glob("*.json")) if p.name not in skipped]
    read = {
        path: read_json(path) for path in [*paths, *sorted(folder.glob("*/table.json"))]
    }
    return {
        str(path.relative_to(folder)): result
        for path, result in read.items()
        if isinstance(result, dict) and results.kind(result) is not None
    }


def _rows(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    found = {p.parent.name: p for p in sorted(folder.glob("rows/*/result.json"))}
    order = {module: number for number, module in enumerate(config["rows"])}
    modules = sorted(found, key=lambda module: order.get(module, len(order)))
    return {module: read_json(found[module]) for module in modules}


def _seconds(folder: Path) -> tuple[float, float]:
    def total(pattern: str) -> float:
        return sum(read_json(path)["seconds"] for path in folder.glob(pattern))

    searches = total("tickets/*/*/ticket.json")
    return total("rows/*/*/seed.json") + searches, searches
