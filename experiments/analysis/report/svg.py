"""A figure as SVG that follows the reader's scheme, light or dark.

An image in a page cannot inherit the page's colours, but it knows the scheme: the
colours of ink, paper and lines, and the one hue too dark for a dark ground, become
variables that a style inside the image sets. Text stays text, for the smaller file
and the reader's own fonts.
"""

from __future__ import annotations

import io

import matplotlib
from matplotlib.figure import Figure

from experiments.analysis.figures import BLUE, GREY, LINES

DARK = {
    "#000000": "#e8e8e8",
    "#ffffff": "#16181a",
    GREY.lower(): "#a9adb1",
    LINES.lower(): "#33373b",
    BLUE.lower(): "#56b4e9",
}
"""Colour as drawn -> on a dark ground; the last is Okabe and Ito's sky blue."""


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file; equal figures give equal bytes."""
    buffer = io.StringIO()
    # A fixed salt: ids in the file are random numbers otherwise.
    with matplotlib.rc_context({"svg.hashsalt": "jaxmtl", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    light, dark = "", ""
    for number, (colour, instead) in enumerate(DARK.items()):
        text = text.replace(colour, f"var(--c{number})")
        light += f"--c{number}:{colour};"
        dark += f"--c{number}:{instead};"
    # Text in plain black is left without a colour, hence the rule for it.
    style = (
        f"<style>:root{{{light}}}text{{fill:var(--c0)}}"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    )
    head, defs, rest = text.partition("<defs>")
    return f"{head}{style}{defs}{rest}".encode()
