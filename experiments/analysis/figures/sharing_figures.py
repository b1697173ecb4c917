"""Figures of what tasks share: layers, overlap against chance, inputs, gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    VERMILION,
    save,
    tidy,
)

TASKS = (ORANGE, PURPLE, BLUE, VERMILION)
"""Colours of CTR, CVR and further tasks; those of the mask maps."""
MARKERS = ("o", "s", "^", "D")
REGIONS = {
    "overlap": "inside the tickets' overlap",
    "outside": "outside (under s-weight: if it were shared)",
    "embeddings": "embeddings (always shared)",
}


def draw(result: Mapping[str, Any], folder: Path) -> list[str]:
    """Writes every figure that a study of sharing has numbers for; their names.

    Args:
      result: content of `sharing.json`.
      folder: where they go.
    """
    figures = {
        "layers.png": (layers_figure, result["parts"]),
        "overlap.png": (overlap_figure, result["overlap"]),
        "fields.png": (fields_figure, result["fields"]),
        "cosine.png": (cosine_figure, result["cosine"]),
    }
    drawn = {name: about for name, about in figures.items() if about[1]}
    for name, (figure, numbers) in drawn.items():
        figure(numbers, folder / name)
    return list(drawn)


def layers_figure(
    layers: Mapping[str, Sequence[Mapping[str, Any]]], path: str | Path
) -> None:
    """A bar a layer: what both tasks keep, what one keeps alone, what none does."""
    private = list(next(iter(layers.values()))[0]["private"])
    kinds = {"shared": GREEN}
    kinds |= {f"only {n}": c for n, c in zip(private, TASKS, strict=False)}
    kinds |= {"dead": PALE}
    figure = Figure(figsize=(7.2, 1.5 + 0.55 * len(layers)), layout="constrained")
    axis = figure.subplots()
    for y, seeds in enumerate(layers.values()):
        left = 0.0
        for kind, colour in kinds.items():
            of = lambda seed, kind=kind: seed["private"].get(
                kind.removeprefix("only "), seed.get(kind)
            )
            part = float(np.mean([of(seed) for seed in seeds]))
            label = kind if y == 0 else None
            axis.barh(y, part, left=left, color=colour, ec=GREY, lw=0.5, label=label)
            if part >= 0.06:
                middle = left + part / 2
                axis.text(middle, y, f"{part:.0%}", ha="center", va="center", size=8)
            left += part
    axis.set_yticks(range(len(layers)), [_short(name) for name in layers])
    axis.set_ylim(len(layers) - 0.5, -0.5)
    axis.set_xlim(0, 1)
    axis.set_xlabel("fraction of the layer's weights (mean over seeds)")
    tidy(axis)
    figure.legend(loc="outside upper center", ncols=len(kinds), fontsize=8)
    save(figure, path)


def overlap_figure(overlap: Mapping[str, Any], path: str | Path) -> None:
    """Intersection over union by round; dashed, of two random masks as dense."""
    panels = {"between the tasks": {"CTR and CVR": overlap["tasks"]}}
    if overlap["seeds"]:
        panels["between seeds"] = overlap["seeds"]
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        colours = TASKS if len(curves) > 1 else (GREEN,)
        for colour, mark, (name, curve) in zip(
            colours, MARKERS, curves.items(), strict=False
        ):
            _overlap_curve(axis, curve, colour, mark, name)
        curve = next(iter(curves.values()))
        axis.set_xticks(
            range(len(curve)), [f"{100 * p['density']:.3g} %" for p in curve]
        )
        axis.set_xlabel("weights kept, round by round")
        axis.set_title(title)
        axis.legend(fontsize=8, framealpha=0.85)
        tidy(axis)
    axes[0].set_ylabel("intersection over union")
    axes[0].set_ylim(bottom=0)
    save(figure, path)


def _overlap_curve(axis: Axes, curve, colour: str, mark: str, name: str) -> None:
    for x, point in enumerate(curve):
        axis.plot([x] * len(point["values"]), point["values"], ".", color=colour, ms=3)
    axis.plot([p["iou"] for p in curve], color=colour, marker=mark, ms=5, label=name)
    chance = [point["chance"] for point in curve]
    axis.plot(chance, color=colour, ls="--", lw=1.2, label=f"{name}: by chance")


def fields_figure(
    fields: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path
) -> None:
    """The first-layer weights that each input keeps, relative to the whole layer."""
    kept = {
        task: {
            name: np.divide(values, by_input["all"])
            for name, values in by_input.items()
            if name != "all"
        }
        for task, by_input in fields.items()
    }
    names = list(next(iter(kept.values())))
    names.sort(
        key=lambda name: -max(by_input[name].mean() for by_input in kept.values())
    )
    figure = Figure(figsize=(6.2, 1.8 + 0.26 * len(names)), layout="constrained")
    axis = figure.subplots()
    shift = np.linspace(-0.15, 0.15, len(kept))
    for colour, mark, dy, (task, by_input) in zip(
        TASKS, MARKERS, shift, kept.items(), strict=False
    ):
        for y, name in enumerate(names):
            ends = [by_input[name].min(), by_input[name].max()]
            axis.plot(ends, [y + dy, y + dy], color=colour, lw=1.4)
        means, y = [by_input[name].mean() for name in names], np.arange(len(names))
        axis.plot(
            means, y + dy, mark, color=colour, mec=GREY, label=f"ticket of {task}"
        )
    axis.axvline(1, color=GREY, ls="--", lw=1, zorder=0)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(
        "fraction of the input's first-layer weights kept,\n"
        "as a multiple of the layer's (mean and range over seeds)"
    )
    tidy(axis)
    figure.legend(loc="outside upper center", ncols=len(kept), fontsize=8)
    save(figure, path)


def cosine_figure(
    rows: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], path: str | Path
) -> None:
    """The cosine of two tasks' gradients by epoch, a panel for each region."""
    regions = list(next(iter(rows.values()))[0][0])
    figure = Figure(figsize=(3.7 * len(regions), 3.9), layout="constrained")
    axes = figure.subplots(1, len(regions), sharey=True, squeeze=False)[0]
    for axis, region in zip(axes, regions, strict=True):
        for colour, mark, (row, seeds) in zip(
            (BLUE, VERMILION), MARKERS, rows.items(), strict=False
        ):
            _cosine_curve(axis, seeds, region, colour, mark, row)
        axis.axhline(0, color=GREY, lw=1, ls="--", zorder=0)
        axis.set_title(REGIONS.get(region, region), fontsize=10)
        axis.set_xlabel("epoch of joint training")
        axis.xaxis.get_major_locator().set_params(integer=True)
        tidy(axis)
    axes[0].set_ylabel("cosine of CTR's and CVR's gradients\n(below 0: conflict)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)


def _cosine_curve(
    axis: Axes, seeds, region: str, colour: str, mark: str, row: str
) -> None:
    """Thin, single seeds. They stop at different epochs; the mean is over the rest."""
    curves = np.full((len(seeds), max(map(len, seeds))), np.nan)
    for curve, epochs in zip(curves, seeds, strict=True):
        curve[: len(epochs)] = [
            np.nan if (mean := epoch[region]["mean"]) is None else mean
            for epoch in epochs
        ]
    if len(curves) > 1:
        axis.plot(curves.T, color=colour, lw=0.7, alpha=0.5)
    known = np.flatnonzero(~np.isnan(curves).all(axis=0))
    means = np.nanmean(curves[:, known], axis=0)
    axis.plot(known, means, color=colour, lw=2, marker=mark, ms=5, label=row)


def _short(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("shared", "kernel")]
    return "/".join(parts)
