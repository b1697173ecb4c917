"""Figure of the simulated online test: Table 3, and offline quality against online."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.analysis.figures import BETTER, BLUE, GREY, ORANGE, save, tidy

COLOURS = (BLUE, ORANGE)


def draw(found: Mapping[str, Any], path: str | Path) -> None:
    """Writes a panel for the pairs of Table 3 and one for each offline metric.

    Args:
      found: the content of `online.json`.
      path: of the PNG.
    """
    weightings = found["weightings"]
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    pairs, *scatters = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    for number, (name, part) in enumerate(weightings.items()):
        _pairs(pairs, part["pairs"], number, name)
    pairs.axvline(0, color=GREY, lw=1)
    pairs.set_yticks(range(len(part["pairs"])), list(part["pairs"]))
    pairs.set_ylim(len(part["pairs"]) - 0.5, -0.5)
    pairs.set_xlabel(
        "view time against base / base, %\nthick: over sessions, thin: over seeds"
    )
    pairs.set_ylabel("CTR / CVR")
    pairs.legend(fontsize=8, framealpha=0.85)
    tidy(pairs)
    name, part = next(iter(weightings.items()))
    for axis, (metric, offline) in zip(scatters, part["offline"].items(), strict=True):
        _scatter(axis, metric, offline)
        axis.set_ylabel(f"view time a session, s ({name})")
    figure.suptitle(f"{found['figure']} on {found['data']}, simulated users", size=11)
    save(figure, path)


def _pairs(axis: Axes, pairs: Mapping[str, Any], number: int, name: str) -> None:
    """Relative changes of the pairs, one weighting beside the other."""
    base = next(iter(pairs.values()))["mean"]
    colour, label = COLOURS[number], name
    for place, pair in enumerate(pairs.values()):
        versus = pair.get("vs_base")
        if versus is None:
            continue
        y = place + 0.24 * (number - 0.5)
        for interval, width in (("ci95", 1), ("ci95_sessions", 4)):
            if versus[interval]:
                ends = 100 * np.array(versus[interval]) / base
                axis.plot(ends, [y, y], color=colour, lw=width, solid_capstyle="butt")
        at = 100 * versus["relative"]
        axis.plot(at, y, "o", color=colour, ms=7, mec="white", label=label)
        label = None


def _scatter(axis: Axes, metric: str, offline: Mapping[str, Any]) -> None:
    """A point a row and seed, small; its mean, joined with the row's name."""
    by_view = sorted(offline["models"], key=lambda model: np.mean(model["view"]))
    for place, model in zip(
        np.linspace(0.03, 0.97, len(by_view)), by_view, strict=True
    ):
        axis.plot(model["offline"], model["view"], ".", color=GREY, ms=4, alpha=0.5)
        at = np.mean(model["offline"]), np.mean(model["view"])
        axis.plot(*at, "o", color=BLUE, ms=5)
        # In a column of their own, in the order of the points: none hides another.
        axis.annotate(
            model["row"],
            at,
            xytext=(1.03, place),
            textcoords="axes fraction",
            size=8,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": GREY,
                "lw": 0.5,
                "relpos": (0, 0.5),
                "shrinkB": 3,
            },
        )
    axis.xaxis.set_major_locator(MaxNLocator(5))
    title = metric.replace(".", " ").upper()
    axis.set_xlabel(f"test {title} ({BETTER[title.split()[-1]]})")
    of_means = offline["of_means"]
    if of_means and of_means["value"] is not None:
        ends = of_means["ci95"]
        axis.set_title(
            f"Spearman {of_means['value']:+.2f}"
            + (" ({:+.2f} … {:+.2f})".format(*ends) if ends else ""),
            size=10,
        )
    tidy(axis)
