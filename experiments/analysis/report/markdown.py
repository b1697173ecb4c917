"""Markdown that a study wrote, as a section: its tables, lists and paragraphs.

What our own writers make, and no more: pipe tables, bullet points, plain paragraphs,
headings.
"""

from __future__ import annotations

import re

from experiments.analysis.report.document import Grid, Section

CELLS = re.compile(r"(?<!\\)\|")
"""What parts cells: a bar that is not escaped."""


def read(text: str, title: str) -> Section:
    """The text as a section of that title, a part a heading."""
    parts: list[tuple[str, list[str]]] = [(title, [])]
    for block in re.split(r"\n\s*\n", text.strip()):
        first, _, rest = block.strip().partition("\n")
        if first.startswith("#"):
            parts.append((first.lstrip("# "), []))
            block = rest
        if block.strip():
            parts[-1][1].append(block.strip())
    head, *others = [_section(name, blocks) for name, blocks in parts]
    return head._replace(parts=others)


def _section(title: str, blocks: list[str]) -> Section:
    grids, notes = [], []
    for block in blocks:
        lines = block.splitlines()
        if lines[0].startswith("|"):
            grids.append(_grid(lines))
        elif lines[0].startswith("- "):
            notes += [line.removeprefix("- ") for line in lines]
        else:
            notes.append(" ".join(lines))
    return Section(title, grids=grids, notes=notes)


def _grid(lines: list[str]) -> Grid:
    rows = [
        [cell.strip().replace("\\|", "|") for cell in CELLS.split(line.strip())[1:-1]]
        for line in lines
    ]
    return Grid(list(zip(rows[0], *rows[2:], strict=True)))  # rows[1] is the rule
