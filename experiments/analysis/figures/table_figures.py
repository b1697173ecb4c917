"""Figures of LT4REC: pruning rounds (Fig. 4), a table's rows, masks (Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.analysis.figures import (
    BETTER,
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
from experiments.analysis.statistics import mean_interval
from experiments.analysis.table import row_role
from jaxmtl.types import Mask


def figure4(results: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Validation metric by pruning round, one panel a task (LT4REC, Figure 4).

    Args:
      results: title of a task -> `metric` ("AUC" or "MSE"), `density` [rounds],
        `values` [seeds][rounds] (None = undefined) and `chosen` [seeds], the
        round each seed kept.
      path: of the PNG; its folder is made if it is not there.

    Raises:
      ValueError: there is no task, or lengths do not fit each other.
    """
    if not results:
        raise ValueError("figure 4 has a panel a task; give at least one task")
    figure = Figure(figsize=(5.2 * len(results), 3.9), layout="constrained")
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    for axis, (title, result) in zip(axes, results.items(), strict=True):
        draw_rounds(axis, title, **result)
    save(figure, path)


def draw_rounds(
    axis: Axes,
    title: str,
    *,
    metric: str,
    density: Sequence[float],
    values: Sequence[Sequence[float | None]],
    chosen: Sequence[int],
) -> None:
    """One panel of Figure 4; the arguments are those of `figure4`."""
    curves = np.array(values, np.float64)  # None becomes NaN, which is not drawn
    if curves.shape != (len(chosen), len(density)):
        raise ValueError(
            f"{title}: values have shape {curves.shape}; {len(chosen)} chosen rounds"
            f" and {len(density)} densities ask for {(len(chosen), len(density))}"
        )
    rounds = np.arange(len(density))
    known = [(r, curves[~np.isnan(curves[:, r]), r]) for r in rounds]
    bands = np.array(
        [(r, *mean_interval(v)) for r, v in known if v.size], np.float64
    ).reshape(-1, 4)
    if len(curves) > 1:
        axis.plot(rounds, curves.T, color=GREY, lw=0.7, alpha=0.6)
        axis.plot([], [], color=GREY, lw=0.7, label="single seeds")
    x, mean, low, high = bands.T
    axis.fill_between(x, low, high, color=BLUE, alpha=0.15, lw=0)
    label = "mean, 95 % interval" if len(curves) > 1 else "the one seed"
    axis.plot(x, mean, color=BLUE, lw=2, marker="o", ms=4, label=label)
    seeds = np.arange(len(chosen))
    axis.plot(
        np.array(chosen),
        curves[seeds, chosen],
        ls="",
        marker="o",
        ms=10,
        mfc="none",
        mec=VERMILION,
        mew=1.6,
        label="chosen round, each seed",
    )
    axis.set_xlim(-0.3, len(density) - 0.7)
    axis.set_xticks(rounds, [f"{100 * d:.3g} %" for d in density])
    axis.set_xlabel("weights kept, round by round")
    axis.set_ylabel(f"validation {metric} ({BETTER[metric]})")
    axis.set_title(title)
    if bands.size:
        axis.legend(fontsize=8, framealpha=0.85)
    else:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "undefined", transform=axis.transAxes, ha="center")
    tidy(axis)


def table_figure(table: Mapping[str, Any], path: str | Path) -> None:
    """Forest plot of a table: its main metrics with their 95 % intervals.

    A dashed line stands at the first baseline, a dotted one at the oracle; where
    the oracle would squash the rows, an arrow at the edge names its value.

    Args:
      table: content of `table.json`, from `table.build_table`.
      path: of the PNG; its folder is made if it is not there.
    """
    rows = [r for r in table["rows"] if _role(r) != "oracle"]
    main = table["layout"]["main"]
    size = (2 + 4 * len(main), 1.6 + 0.28 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(main), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, main, strict=True):
        draw_forest(axis, table, name)
    axes[0].set_yticks(range(len(rows)), [row["row"] for row in rows])
    figure.suptitle(
        f"{table['table']} on {table['data']}: 95 % intervals over seeds; dashed,"
        f" {_baseline(table).format(task='…')}",
        size=11,
    )
    save(figure, path)


def _baseline(table) -> str:
    return next(iter(table["layout"]["baselines"].values()))


def draw_forest(axis: Axes, table: Mapping[str, Any], name: str) -> None:
    """One panel of a table's figure: a metric of every row, the first on top."""
    ends = []
    rows = [r for r in table["rows"] if _role(r) != "oracle"]
    for y, row in enumerate(rows):
        metric = row["metrics"].get(name)
        if metric is not None and metric["mean"] is not None:
            low, high = metric["ci95"] or (metric["mean"], metric["mean"])
            ends += [low, high]
            axis.plot([low, high], [y, y], color=BLUE, lw=1.6)
            axis.plot(metric["mean"], y, "o", color=BLUE, ms=5)
        elif metric is not None or row["status"] != "ok":
            axis.text(
                0.02,
                y,
                "undefined" if metric is not None else "not applicable",
                transform=axis.get_yaxis_transform(),
                va="center",
                color=GREY,
                size=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    means = {_role(r): r["metrics"].get(name, {}).get("mean") for r in table["rows"]}
    base = means.get(_baseline(table).format(task=name.split(".")[0]))
    oracle = means.get("oracle")
    if base is not None:
        axis.axvline(base, color=GREY, ls="--", lw=1, zorder=0)
    if not ends:
        axis.set_xticks([])
    elif oracle is not None:
        _oracle(axis, oracle, min(ends), max(ends))
    title = table["layout"]["main"][name]
    axis.set_xlabel(f"{title} ({BETTER[title.split()[-1]]})")
    axis.set_ylim(len(rows) - 0.5, -0.5)
    tidy(axis)


def _oracle(axis: Axes, value: float, low: float, high: float) -> None:
    if low - (high - low) <= value <= high + (high - low):
        # Unlike axvline, a plotted line also gets the axis' margin.
        upright = axis.get_xaxis_transform()
        axis.plot([value, value], [0, 1], ":", color=VERMILION, transform=upright)
        axis.text(
            value,
            1.02,
            f"oracle {value:.4f}",
            transform=upright,
            ha="center",
            va="center",
            color=VERMILION,
            size=8,
        )
        return
    is_left = value < low
    axis.annotate(
        f"oracle {value:.4f}",
        xy=(0 if is_left else 1, 1.02),
        xytext=(0.06 if is_left else 0.94, 1.02),
        xycoords="axes fraction",
        ha="left" if is_left else "right",
        va="center",
        size=8,
        color=VERMILION,
        arrowprops={"arrowstyle": "->", "color": VERMILION},
    )


def mask_maps(masks: Mapping[str, Mask], path: str | Path) -> None:
    """Where two tasks' masks meet, layer by layer (LT4REC, Figure 3).

    Args:
      masks: two tasks' masks over one net: bool [inputs, outputs] at each layer,
        None where nothing is pruned.
      path: of the PNG; its folder is made if it is not there.

    Raises:
      ValueError: there are not two tasks, or no layer that both mask.
    """
    layers = meet(masks)
    figure = Figure(figsize=(3.4 * len(layers), 4.6), layout="constrained")
    axes = figure.subplots(1, len(layers), squeeze=False)[0]
    for axis, (layer, kinds) in zip(axes, layers.items(), strict=True):
        draw_masks(axis, layer, kinds, tuple(masks))
    save(figure, path)


def meet(masks: Mapping[str, Mask]) -> dict[str, np.ndarray]:
    """Layer -> uint8 [inputs, outputs]: 0 dead, 1 or 2 one task's alone, 3 shared.

    A task's own towers are left out. Args and errors are those of `mask_maps`.
    """
    if len(masks) != 2:
        raise ValueError(f"mask maps compare two tasks; got {sorted(masks)}")
    (a, layers_a), (b, layers_b) = ((n, _layers(mask)) for n, mask in masks.items())
    common = [layer for layer in layers_a if layer in layers_b]
    if not common:
        raise ValueError(
            f"masks must hold the same layers; {a!r} has {list(layers_a)}, {b!r} has"
            f" {list(layers_b)}"
        )
    return {layer: layers_a[layer] + 2 * layers_b[layer] for layer in common}


def draw_masks(
    axis: Axes, layer: str, kinds: np.ndarray, tasks: tuple[str, str]
) -> None:
    """One panel of the mask maps: what `meet` found in a layer."""
    names = ["dead", f"only {tasks[0]}", f"only {tasks[1]}", "shared"]
    colours = [PALE, ORANGE, PURPLE, GREEN]
    axis.imshow(
        kinds,
        cmap=ListedColormap(colours),
        vmin=0,
        vmax=3,
        aspect="auto",
        interpolation="nearest",
    )
    inputs, outputs = kinds.shape
    axis.set(title=layer, xlabel=f"{outputs} outputs", ylabel=f"{inputs} inputs")
    axis.set_xticks([])
    axis.set_yticks([])
    parts = np.bincount(kinds.ravel(), minlength=4) / kinds.size
    axis.legend(
        [Patch(facecolor=c, edgecolor=GREY, lw=0.5) for c in colours],
        [f"{n} {100 * p:.1f} %" for n, p in zip(names, parts, strict=True)],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        ncols=2,
        fontsize=8,
        frameon=False,
    )


def _layers(mask: Mask) -> dict[str, np.ndarray]:
    """Layer name -> uint8 [inputs, outputs], 1 = kept; experts stand side by side."""
    layers = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(mask):
        keys = [str(step.key) for step in path]
        name = "/".join(k for k in keys if k not in ("shared", "kernel"))
        kept = np.asarray(leaf).astype(np.uint8)
        layers[name] = kept if kept.ndim == 2 else np.concatenate([*kept], axis=1)
    return layers


def _role(row: Mapping[str, Any]) -> str:
    return row_role(row["row"], row["module"])
