"""Figures of sweeps: a metric, or a size, by a setting that is varied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.figures import (
    BETTER,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    save,
    tidy,
)

SERIES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION)
COLUMNS = 3
LEVELS = ("--", ":", "-.", (0, (1, 3)))


def sweep_figure(result: Mapping[str, Any], path: str | Path) -> None:
    """Curves over a setting, a panel a metric, with intervals over seeds.

    Args:
      result: what `sweeps.write` keeps: `metrics`, metric -> title; `series`, name ->
        points of `x`, `params` and `metrics`; `levels`, name -> one point, drawn
        dashed from side to side; `x`, what the axis shows, and whether it `is_log`;
        `with_params`, whether a last panel shows the parameters.
      path: of the PNG.
    """
    with_params = result["with_params"]
    panels = [*result["metrics"].items(), *([("params", "")] * with_params)]
    columns = min(len(panels), COLUMNS)
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.9 * columns, 3.3 * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    places = sorted({p["x"] for points in result["series"].values() for p in points})
    for (metric, title), axis in zip(panels, axes, strict=False):
        for colour, (name, points) in zip(
            SERIES, result["series"].items(), strict=False
        ):
            _curve(axis, points, metric, colour, name)
        for style, (name, level) in zip(LEVELS, result["levels"].items(), strict=False):
            y = _height(level, metric)
            if y is not None:
                axis.axhline(y, color=GREY, ls=style, lw=1.2, label=name)
        axis.set_ylabel("net parameters" if metric == "params" else _label(title))
        axis.set_xlabel(result["x"])
        if result["is_log"]:
            axis.set_xscale("log")
        axis.set_xticks(places, [f"{place:g}" for place in places], minor=False)
        axis.set_xticks([], minor=True)
        tidy(axis)
    if with_params:
        axis.set_ylim(bottom=0)
    for empty in list(axes):
        empty.remove()
    known = {}
    for axis in figure.axes:  # a single task stands in one panel alone
        handles, labels = axis.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    figure.legend(
        known.values(), known, loc="outside lower center", ncols=5, fontsize=8
    )
    figure.suptitle(f"{result['figure']} on {result['data']}", size=11)
    save(figure, path)


def noise_figure(
    panels: Mapping[str, Mapping[str, Sequence[Mapping]]],
    metric: str,
    title: str,
    path: str | Path,
) -> None:
    """One panel a kind of noise: a metric by its level, a curve a row."""
    figure = Figure(figsize=(4.6 * len(panels), 3.7), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (kind, series) in zip(axes, panels.items(), strict=True):
        for colour, (name, points) in zip(SERIES, series.items(), strict=False):
            _curve(axis, points, metric, colour, name)
        axis.set_xlabel(kind.replace("_", " "))
        tidy(axis)
    axes[0].set_ylabel(_label(title))
    axes[0].legend(fontsize=8, framealpha=0.85)
    save(figure, path)


def growth_figure(growth: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Parameters of cross networks, a panel for what makes them grow."""
    figure = Figure(figsize=(4.4 * len(growth), 3.7), layout="constrained")
    axes = figure.subplots(1, len(growth), sharey=True, squeeze=False)[0]
    for axis, (name, part) in zip(axes, growth.items(), strict=True):
        for colour, (kind, sizes) in zip(SERIES, part["params"].items(), strict=False):
            axis.plot(part["x"], sizes, "o-", color=colour, ms=4, label=kind.upper())
        axis.set_yscale("log")
        axis.set_xlabel(f"{name} ({part['at']})")
        tidy(axis)
    axes[0].set_ylabel("parameters of the cross network")
    axes[0].legend(fontsize=8, framealpha=0.85)
    save(figure, path)


def _label(title: str) -> str:
    better = BETTER.get(title.split()[-1])
    return f"{title} ({better})" if better else title


def _height(point: Mapping[str, Any], metric: str) -> float | None:
    if metric == "params":
        return point["params"]
    return point["metrics"].get(metric, {}).get("mean")


def _curve(axis: Axes, points, metric: str, colour: str, name: str) -> None:
    known = [point for point in points if _height(point, metric) is not None]
    x = [point["x"] for point in known]
    heights = [_height(point, metric) for point in known]
    axis.plot(x, heights, "o-", color=colour, ms=4, lw=1.6, label=name)
    bands = [point["metrics"].get(metric, {}).get("ci95") for point in known]
    if known and all(bands):
        axis.fill_between(x, *zip(*bands, strict=True), color=colour, alpha=0.15, lw=0)
