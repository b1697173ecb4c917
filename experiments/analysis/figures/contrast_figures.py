"""Differences between rows as a forest plot: what answers a question, how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.analysis.figures import BLUE, GREY, VERMILION, save, tidy

BETTER = {"MSE": "left is better", "AUC": "right is better"}


def contrast_figure(
    found: Sequence[Mapping[str, Any]], titles: Mapping[str, str], path: str | Path
) -> None:
    """A line for each contrast, a panel for each metric; filled: it decides.

    Args:
      found: from `contrasts.compare`.
      titles: metric -> title.
      path: of the PNG.
    """
    rows: dict[tuple[str, str], list[Mapping]] = {}
    for test in found:
        rows.setdefault((test["question"], test["meaning"]), []).append(test)
    metrics = {m: t for m, t in titles.items() if any(x["metric"] == m for x in found)}
    figure = Figure(
        figsize=(3.4 + 3.6 * len(metrics), 1.6 + 0.3 * len(rows)), layout="constrained"
    )
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        for y, tests in enumerate(rows.values()):
            for test in (t for t in tests if t["metric"] == metric):
                colour = GREY if test["verdict"] == "undecided" else VERMILION
                colour = BLUE if test["verdict"] == "yes" else colour
                if test["ci95"]:
                    axis.plot(test["ci95"], [y, y], color=colour, lw=1.6)
                filling = colour if test["deciding"] else "white"
                axis.plot(test["difference"], y, "o", color=colour, mfc=filling, ms=6)
        axis.axvline(0, color=GREY, lw=1, ls="--", zorder=0)
        axis.set_xlabel(f"Δ {title} ({BETTER[title.split()[-1]]})")
        axis.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2))
        tidy(axis)
    axes[0].set_yticks(
        range(len(rows)), [f"{question}: {meaning}" for question, meaning in rows]
    )
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(
        "95 % intervals over seeds; filled: decides its question;\nblue: a gain,"
        " vermilion: a loss, grey: undecided (p corrected)",
        size=10,
    )
    save(figure, path)
