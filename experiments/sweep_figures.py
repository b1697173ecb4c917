"""Figures of sweeps: a metric, or a size, by a setting that is varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import (
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


def sweep_figure(
    result: Mapping[str, Any], path: str | Path, *, x: str, with_params: bool = False
) -> None:
    """Curves over a setting, a panel a metric, with intervals over seeds.

    Args:
      result: `metrics`, metric -> title; `series`, name -> points of `x`, `params`
        and `metrics`; `levels`, name -> one point, drawn dashed from side to side.
      path: of the PNG.
      x: what the axis shows.
      with_params: whether a last panel shows the parameters.
    """
    panels = [*result["metrics"].items(), *([("params", "")] * with_params)]
    figure = Figure(figsize=(3.9 * len(panels), 3.7), layout="constrained")
    for axis, (metric, title) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for colour, (name, points) in zip(
            SERIES, result["series"].items(), strict=False
        ):
            _curve(axis, points, metric, colour, name)
        for style, (name, level) in zip(
            ("--", ":"), result["levels"].items(), strict=False
        ):
            y = _height(level, metric)
            if y is not None:
                axis.axhline(y, color=GREY, ls=style, lw=1.2, label=name)
        is_metric = metric != "params"
        axis.set_ylabel(
            f"{title} ({BETTER[title.split()[-1]]})" if is_metric else "net parameters"
        )
        axis.set_xlabel(x)
        tidy(axis)
    axis.set_ylim(bottom=0 if with_params else None)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
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
    axes[0].set_ylabel(f"{title} ({BETTER[title.split()[-1]]})")
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
