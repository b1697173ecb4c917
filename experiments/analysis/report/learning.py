"""Learning curves from `metrics.jsonl`, a figure a row: loss and validation metric.

TensorBoard shows the same numbers under the same names, `loss/<task>` and
`validation/<task>`, in a run for each row and seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.analysis.figures import BLUE, GREY, VERMILION, tidy
from experiments.running.monitor import JOINT

Epochs = list[dict[str, Any]]
"""The lines of `metrics.jsonl` of one training, epoch by epoch."""


def read(path: Path) -> dict[str, dict[int, Epochs]]:
    """Row -> seed -> its joint training.

    A training that was stopped and begun again has written epochs twice: from where
    it began again, the later ones count.

    Raises:
      ValueError: a line is no JSON; names file and line. A last line cut short by a
        killed run is passed over.
    """
    found: dict[str, dict[int, Epochs]] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: {error}; remove it") from error
        if line["phase"] == JOINT:
            epochs = found.setdefault(line["run"], {}).setdefault(line["seed"], [])
            epochs[:] = [e for e in epochs if e["epoch"] < line["epoch"]] + [line]
    return found


def draw(
    title: str,
    seeds: Mapping[int, Epochs],
    kept: Mapping[int, int],
    metrics: Mapping[str, str],
) -> Figure:
    """Training loss above validation metric, a column a task.

    Args:
      title: name of the row.
      seeds: seed -> its training.
      kept: seed -> the epoch whose snapshot was kept.
      metrics: task -> what validation shows, as "AUC".
    """
    first = next(iter(seeds.values()))
    tasks = list(first[0]["losses"])
    # Fixed margins: finding them would take longer than all the drawing.
    width = max(2.4 * len(tasks), 3.2)
    figure = Figure(figsize=(width, 3.7))
    left, right = 0.56 / width, 1 - 0.08 / width
    figure.subplots_adjust(left, 0.12, right, 0.86, wspace=0.36, hspace=0.28)
    axes = figure.subplots(2, len(tasks), squeeze=False, sharex="col")
    for column, task in zip(axes.T, tasks, strict=True):
        for axis, kind in zip(column, ("losses", "validation"), strict=True):
            _curves(axis, seeds, kept, kind, task)
            axis.tick_params(labelsize=8)
            tidy(axis)
        column[0].set_title(f"loss/{task}", size=9)
        name = metrics.get(task, "")
        column[1].set_title(f"validation/{task} {name}".rstrip(), size=9)
        column[1].set_xlabel("epoch", size=9)
        column[1].xaxis.get_major_locator().set_params(integer=True, nbins=5)
    figure.suptitle(title, size=10, y=0.985)
    return figure


def _curves(axis, seeds, kept, kind: str, task: str) -> None:
    curves = [
        np.array(
            [
                (e["epoch"], np.nan if e[kind][task] is None else e[kind][task])
                for e in epochs
            ],
            np.float64,
        )
        for epochs in seeds.values()
    ]
    if len(curves) > 1:
        for curve in curves:
            axis.plot(*curve.T, color=GREY, lw=0.7, alpha=0.6)
    # Beyond the first seed to stop, a mean would be one of ever fewer seeds.
    common = min(map(len, curves))
    mean = np.mean([curve[:common, 1] for curve in curves], axis=0)
    axis.plot(curves[0][:common, 0], mean, color=BLUE, lw=2, marker="o", ms=3)
    for seed, curve in zip(seeds, curves, strict=True):
        is_kept = curve[:, 0] == kept.get(seed)
        axis.plot(*curve[is_kept].T, "o", ms=8, mfc="none", mec=VERMILION, mew=1.4)


def describe(seeds: Mapping[int, Epochs], kept: Sequence[int]) -> str:
    """What the figure shows, in words."""
    lengths = sorted({len(epochs) for epochs in seeds.values()})
    epochs = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else f"{lengths[0]}"
    text = (
        f"{len(seeds)} seeds, {epochs} epochs" if len(seeds) > 1 else f"{epochs} epochs"
    )
    return text + (f"; kept: epoch {', '.join(map(str, kept))}" if kept else "")
