"""A benchmark's records as a plot: lines over a size, or a bar for each name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    tidy,
)
from experiments.analysis.report.svg import to_svg

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY)


class Plot(NamedTuple):
    """What is drawn of records.

    Attributes:
      y: key of the number.
      label: what it is, with its unit.
      x: key of what it is drawn over: numbers give lines, names a bar each.
      by: key of the name that tells lines, or neighbouring bars, apart; may be none.
    """

    y: str
    label: str
    x: str
    by: str = ""


def draw(plot: Plot, records: Sequence[Mapping[str, Any]]) -> bytes:
    """The plot as an SVG file, of those records that have the number."""
    groups: dict[str, list[tuple[Any, float]]] = {}
    for record in records:
        if record.get(plot.y) is not None:
            point = record[plot.x], record[plot.y]
            groups.setdefault(str(record.get(plot.by, "")), []).append(point)
    figure = Figure(figsize=(6.4, 3.9), layout="constrained")
    axis = figure.subplots()
    is_named = any(isinstance(x, str) for points in groups.values() for x, _ in points)
    (_bars if is_named else _lines)(axis, groups)
    (axis.set_xlabel if is_named else axis.set_ylabel)(plot.label)
    if not is_named:
        axis.set_xlabel(plot.x)
    if plot.by:
        axis.legend(fontsize=8, framealpha=0.85)
    tidy(axis)
    return to_svg(figure)


def _lines(axis: Axes, groups: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for number, (name, points) in enumerate(groups.items()):
        x, y = zip(*sorted(points), strict=True)
        colour = COLOURS[number % len(COLOURS)]
        axis.plot(x, y, color=colour, marker="o", ms=4, label=name)
    axis.set_xscale("log")
    heights = [y for points in groups.values() for _, y in points]
    if min(heights) > 0 and max(heights) > 10 * min(heights):
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)  # a flat line shall look flat


def _bars(axis: Axes, groups: Mapping[str, Sequence[tuple[str, float]]]) -> None:
    names = list(
        dict.fromkeys(name for points in groups.values() for name, _ in points)
    )
    height = 0.8 / len(groups)
    for number, (group, points) in enumerate(groups.items()):
        at = [names.index(name) + number * height for name, _ in points]
        widths = [value for _, value in points]
        colour = COLOURS[number % len(COLOURS)]
        axis.barh(at, widths, height, color=colour, label=group)
    middle = 0.5 * height * (len(groups) - 1)
    axis.set_yticks([place + middle for place in range(len(names))], names)
    axis.invert_yaxis()
