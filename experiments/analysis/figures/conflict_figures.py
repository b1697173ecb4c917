"""The map over conflict and click rate, in four figures.

Levels with the oracle, paired differences to a reference such as the single task, their
means over conflicts and over click rates, and which method is best where. All settings
are of one world, as the titles say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
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
from experiments.analysis.statistics import is_significant

STYLES = (
    (ORANGE, "o", "-"),
    (GREEN, "s", "-"),
    (GREEN, "s", ":"),
    (PURPLE, "^", "-"),
    (PURPLE, "v", ":"),
    (GREY, "x", "-"),
    (BLUE, "o", "-"),
    (BLUE, "D", ":"),
    (VERMILION, "P", "-"),
    (VERMILION, "*", ":"),
    (ORANGE, "<", ":"),
    (GREY, ">", ":"),
)
"""A colour, marker and line for each method beside the reference; no two are alike."""
SPREAD = 0.35
"""Of a setting's place, from the first method's marks to the last one's."""
XLABELS = {"conflict": "conflict of the tasks", "click_rate": "click rate"}


def draw(result: Mapping[str, Any], folder: Path, name: str) -> list[str]:
    """Writes the figures of a map; returns the names of their files.

    Args:
      result: the content of its JSON.
      folder: where to.
      name: of the JSON, without its ending.
    """
    _curves(result, folder / f"{name}.png", _levels)
    _curves(result, folder / f"{name}_difference.png", _differences)
    _margins(result, folder / f"{name}_margins.png")
    _best(result, folder / f"{name}_best.png")
    return [f"{name}{end}.png" for end in ("", "_difference", "_margins", "_best")]


def extent(result: Mapping[str, Any]) -> str:
    """`3 click rates × 5 conflicts in one world`."""
    conflicts = {world["conflict"] for world in result["worlds"]}
    counts = (len(_rates(result)), "click rate"), (len(conflicts), "conflict")
    named = " × ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts)
    return f"{named} in one world"


def _rates(result: Mapping[str, Any]) -> list[float]:
    return list(dict.fromkeys(world["click_rate"] for world in result["worlds"]))


def _curves(result: Mapping[str, Any], path: Path, panel: Callable) -> None:
    rates, metrics = _rates(result), result["metrics"]
    figure = Figure(
        figsize=(4.2 * len(rates), 3.5 * len(metrics) + 0.6), layout="constrained"
    )
    axes = figure.subplots(len(metrics), len(rates), squeeze=False, sharex=True)
    for line, (metric, title) in zip(axes, metrics.items(), strict=True):
        for axis, rate in zip(line, rates, strict=True):
            worlds = [w for w in result["worlds"] if w["click_rate"] == rate]
            panel(axis, worlds, result["reference"], metric, title)
            axis.set_title(f"click rate {rate:g}", size=10)
            _name_worlds(axis, worlds, "conflict")
    _finish(figure, axes, result, path)


def _margins(result: Mapping[str, Any], path: Path) -> None:
    """The differences of means over conflicts, and over click rates."""
    metrics, kinds = result["metrics"], result["margins"]
    figure = Figure(figsize=(11, 3.8 * len(metrics) + 0.6), layout="constrained")
    axes = figure.subplots(len(metrics), len(kinds), squeeze=False, sharey="row")
    for line, (metric, title) in zip(axes, metrics.items(), strict=True):
        for axis, (kind, worlds) in zip(line, kinds.items(), strict=True):
            _differences(axis, worlds, result["reference"], metric, title)
            over = "conflicts" if kind == "click_rate" else "click rates"
            axis.set_title(f"means over all {over}", size=10)
            _name_worlds(axis, worlds, kind)
    _finish(figure, axes, result, path)


def _name_worlds(axis: Axes, worlds: Sequence[Mapping], kind: str) -> None:
    axis.set_xticks(range(len(worlds)), [f"{world[kind]:g}" for world in worlds])
    axis.set_xlabel(XLABELS[kind])
    tidy(axis)


def _finish(figure: Figure, axes, result: Mapping[str, Any], path: Path) -> None:
    for line in axes:
        for axis in line[1:]:
            axis.set_ylabel("")
    for line in axes[:-1]:
        for axis in line:
            axis.set_xlabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    seeds = len(result["seeds"])
    figure.suptitle(
        f"{result['figure']}: mean and 95 % interval, {seeds} seeds, {extent(result)}",
        size=11,
    )
    save(figure, path)


def _levels(
    axis: Axes, worlds: Sequence[Mapping], reference: str, metric: str, title: str
) -> None:
    oracle = [world["oracle"][metric] for world in worlds]
    axis.plot(oracle, color="black", ls="--", lw=1, label="oracle")
    level = [world["rows"][reference][metric]["mean"] for world in worlds]
    axis.plot(level, color="black", lw=1.6, label=reference)
    _methods(axis, worlds, reference, metric, lambda cell: (cell["mean"], cell["ci95"]))
    axis.set_ylabel(f"{title} ({BETTER[title.split()[-1]]})")


def _differences(
    axis: Axes, worlds: Sequence[Mapping], reference: str, metric: str, title: str
) -> None:
    axis.axhline(0, color="black", lw=1.6, label=reference)

    def height(cell: Mapping) -> tuple[float | None, Sequence[float] | None]:
        test = cell.get("difference")
        return (test["mean"], test["ci95"]) if test else (None, None)

    _methods(axis, worlds, reference, metric, height)
    axis.set_ylabel(f"{title} minus {reference}'s ({BETTER[title.split()[-1]]})")


def _methods(
    axis: Axes,
    worlds: Sequence[Mapping],
    reference: str,
    metric: str,
    height: Callable,
) -> None:
    names = [name for name in worlds[0]["rows"] if name != reference]
    x = np.arange(len(worlds))
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(names))
    for name, offset, (colour, marker, line) in zip(
        names, offsets, STYLES[: len(names)], strict=True
    ):
        cells = [height(world["rows"][name][metric]) for world in worlds]
        known = [i for i, (mean, _) in enumerate(cells) if mean is not None]
        means = np.array([cells[i][0] for i in known])
        bands = [cells[i][1] or (cells[i][0],) * 2 for i in known]
        low, high = np.array(bands).reshape(-1, 2).T
        axis.errorbar(
            x[known] + offset,
            means,
            yerr=(means - low, high - means),
            color=colour,
            marker=marker,
            ls=line,
            lw=1.1,
            ms=4,
            elinewidth=0.6,
            label=name,
        )


def _best(result: Mapping[str, Any], path: Path) -> None:
    """The best method of each setting; a star if it beats the reference for certain."""
    rates, metrics = _rates(result), result["metrics"]
    conflicts = list(dict.fromkeys(w["conflict"] for w in result["worlds"]))
    names = list(result["worlds"][0]["rows"])
    names.sort(key=lambda name: name != result["reference"])  # black, as in the others
    colours = ["black", *(style[0] for style in STYLES)][: len(names)]
    figure = Figure(
        figsize=(1.75 * len(conflicts) * len(metrics) + 1, 0.8 * len(rates) + 1.8),
        layout="constrained",
    )
    axes = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        sign = 1 if title.endswith("AUC") else -1
        cells = np.zeros((len(rates), len(conflicts)), int)
        for world in result["worlds"]:
            at = (rates.index(world["click_rate"]), conflicts.index(world["conflict"]))
            name, text = best(world, metric, sign)
            cells[at] = names.index(name)
            axis.text(at[1], at[0], text, ha="center", va="center", size=8)
        axis.imshow(
            cells,
            cmap=ListedColormap(colours),
            vmin=-0.5,
            vmax=len(names) - 0.5,
            alpha=0.35,
            aspect="auto",
        )
        axis.set_xticks(range(len(conflicts)), [f"{c:g}" for c in conflicts])
        axis.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axis.set_xlabel("conflict of the tasks")
        axis.set_title(f"{title}: best mean", size=10)
    axes[0].set_ylabel("click rate")
    figure.suptitle(
        f"{extent(result)}; * better than {result['reference']}, p < .05 after Holm's"
        " correction;\n%: the share of its distance to the oracle",
        size=9,
    )
    save(figure, path)


def best(world: Mapping[str, Any], metric: str, sign: int) -> tuple[str, str]:
    """The method with the best mean, and what its cell says."""
    means = {
        name: sign * cells[metric]["mean"]
        for name, cells in world["rows"].items()
        if cells[metric]["mean"] is not None
    }
    name = max(means, key=means.get)
    test, label = world["rows"][name][metric].get("difference"), name.replace(" ", "\n")
    if test is None:
        return name, label
    star = "*" if is_significant(test["p_holm"]) else ""
    return name, f"{label}{star}\n{test['mean']:+.4f}, {test['closed']:.0%}"
