"""ROC and calibration of a row, from what `curves.measure` kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION)
STYLES = ("-", "--", "-.", ":")
RARE = 0.01
"""Mean prediction of the lowest bin below which calibration is drawn in logarithms."""


def draw(title: str, roles: Mapping[str, Mapping], rates: Sequence[float]) -> Figure:
    """ROC on the left, calibration on the right, a line a role in each.

    Args:
      title: name of the row.
      roles: as `ctr` -> what `curves.measure` found.
      rates: false positive rates of the ROC curves.
    """
    # Fixed margins: finding them would take longer than all the drawing.
    figure = Figure(figsize=(4.8, 2.9))
    figure.subplots_adjust(0.11, 0.24, 0.985, 0.82, wspace=0.32)
    left, right = figure.subplots(1, 2)
    lowest = [min(r["calibration"]["predicted"]) for r in roles.values() if _has(r)]
    if lowest and 0 < min(lowest) < RARE:
        right.set(xscale="log", yscale="log")
    for number, (role, found) in enumerate(roles.items()):
        look = {
            "color": COLOURS[number % len(COLOURS)],
            "ls": STYLES[number % len(STYLES)],
            "lw": 1.6,
            "label": role.upper(),
        }
        if found["roc"] is not None:
            left.plot(rates, found["roc"], **look)
        if _has(found):
            points = found["calibration"]
            right.plot(
                points["predicted"], points["observed"], marker="o", ms=3, **look
            )
    left.plot([0, 1], [0, 1], color=GREY, lw=0.8, zorder=0)
    _diagonal(right)
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    right.set(xlabel="predicted", ylabel="observed", title="calibration")
    for axis in (left, right):
        axis.xaxis.label.set_size(9)
        axis.yaxis.label.set_size(9)
        axis.tick_params(labelsize=8)
        axis.title.set_size(9)
        tidy(axis)
    handles, labels = right.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=5,
            fontsize=8,
            frameon=False,
        )
    figure.suptitle(title, size=10)
    return figure


def _has(found: Mapping[str, Any]) -> bool:
    return found["calibration"] is not None


def _diagonal(axis: Axes) -> None:
    ends = np.array([*axis.get_xlim(), *axis.get_ylim()])
    low, high = ends.min(), ends.max()
    axis.plot([low, high], [low, high], color=GREY, lw=0.8, zorder=0)
