"""Figures, and the look they share.

Drawn through `Figure` itself, without pyplot's global state, so that runs and
notebooks do not disturb each other. Colours are those of Okabe and Ito, which
stay apart for colour-blind readers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
VERMILION, GREY, PALE = "#D55E00", "#595959", "#E6E6E6"
LINES = "#E4E4E4"
"""Of grids: not `PALE`, which stands for something where masks are drawn."""
BETTER = {"MSE": "lower is better", "AUC": "higher is better"}


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Inside, figures look as they do here, whatever a user's matplotlibrc says.

    One in the working directory is read too, and could ask for what is not installed,
    such as LaTeX, once there is something to draw.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def tidy(axis: Axes) -> None:
    """The look that all figures share."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="both", color=LINES, lw=0.6)
    axis.set_axisbelow(True)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a PNG; makes its folder if it is not there."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
