"""A page of sections with tables and pictures, written as HTML and as Markdown.

The HTML is one file that needs nothing else: pictures are inline, there is no script
and no address to load from. Everything is escaped by the template's engine.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from experiments.analysis import statistics

NONE = "–"
"""Of a cell without a value."""
P = "p (Holm)"
"""Header of the columns of corrected p-values."""


class Grid(NamedTuple):
    """A table: columns of equal length, each its header and its cells as text."""

    columns: Sequence[Sequence[str]]
    caption: str = ""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Row by row; the first holds the headers."""
        return list(zip(*self.columns, strict=True))


class Picture(NamedTuple):
    """An image.

    Attributes:
      name: of its file beside the Markdown, ending included: `.svg` or `.png`.
      content: of that file.
      alt: what it shows, for who cannot see it.
      caption: what to know beside it.
      is_wide: whether it has several panels side by side, so that on a phone it
        scrolls in a box of its own instead of shrinking past reading.
    """

    name: str
    content: bytes
    alt: str
    caption: str = ""
    is_wide: bool = False

    @property
    def address(self) -> str:
        """The image itself as an address."""
        kind = {".svg": "image/svg+xml", ".png": "image/png"}[Path(self.name).suffix]
        return f"data:{kind};base64,{base64.b64encode(self.content).decode()}"


class Section(NamedTuple):
    """A heading and what stands under it, in this order; every part may be missing."""

    title: str
    lead: str = ""
    grids: Sequence[Grid] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    foot: str = ""
    printed: str = ""
    parts: Sequence[Section] = ()
    is_folded: bool = False


class Document(NamedTuple):
    """A page: a title, what it is about, the commands that made it, its sections."""

    title: str
    lead: str
    facts: Mapping[str, str]
    commands: Sequence[str]
    sections: Sequence[Section]


def write(document: Document, folder: Path, name: str) -> None:
    """Writes `<name>.html`, and `<name>.md` with its pictures in `<name>_figures/`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.html").write_text(
        to_html(document), encoding="utf-8", errors="backslashreplace"
    )
    pictures = f"{name}_figures"
    for section in document.sections:
        _write_pictures(section, folder / pictures)
    text = to_markdown(document, pictures)
    (folder / f"{name}.md").write_text(
        text, encoding="utf-8", errors="backslashreplace"
    )


def to_html(document: Document) -> str:
    """The page as one self-contained file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.analysis.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.tests["significant"] = is_significant
    return environment.get_template("page.html.jinja").render(page=document)


def to_markdown(document: Document, pictures: str) -> str:
    """The page as Markdown; `pictures` is the folder its images stand in."""
    parts = [f"# {document.title}", document.lead]
    parts.append("\n".join(f"- {key}: {x}" for key, x in document.facts.items()))
    parts += [f"```\n{command}\n```" for command in document.commands]
    for section in document.sections:
        parts.append(section_markdown(section, 2, pictures))
    return "\n\n".join(part for part in parts if part) + "\n"


def section_markdown(section: Section, level: int, pictures: str = "") -> str:
    """A section and its parts as Markdown, under a heading of that level."""
    parts = [f"{'#' * level} {section.title}", section.lead]
    for table in section.grids:
        parts += [table.caption, grid(table.columns, markdown=True)]
    for picture in section.pictures:
        parts += [f"![{picture.alt}]({pictures}/{picture.name})", picture.caption]
    parts.append("\n".join(f"- {note}" for note in section.notes))
    parts.append(section.foot)
    parts.append(f"```\n{section.printed}\n```" if section.printed else "")
    parts += [section_markdown(part, level + 1, pictures) for part in section.parts]
    return "\n\n".join(part for part in parts if part)


def section_text(section: Section) -> str:
    """A section's tables and notes for a terminal."""
    parts: list[str] = []
    for table in section.grids:
        parts += [table.caption, grid(table.columns, markdown=False)]
    parts.append("\n".join(section.notes))
    return "\n\n".join(part for part in parts if part)


def grid(columns: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Lines of padded columns, each a header with its cells; numbers to the right."""
    if markdown:
        columns = [[cell.replace("|", "\\|") for cell in c] for c in columns]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for cells in zip(*columns, strict=True):
        padded = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |" if markdown else "  ".join(padded))
    rule = [":" + "-" * (widths[0] + 1), *("-" * (w + 1) + ":" for w in widths[1:])]
    text_rule = "  ".join("-" * width for width in widths)
    return "\n".join(
        [lines[0], f"|{'|'.join(rule)}|" if markdown else text_rule, *lines[1:]]
    )


class PText(str):
    """A p as it is shown, with the number, since 0.050 may be either side of it."""

    p: float

    def __new__(cls, p: float) -> PText:
        made = super().__new__(cls, "<0.001" if p < 0.001 else f"{p:.3f}")
        made.p = p
        return made


def p_text(test: Mapping[str, Any] | None) -> str:
    """A test's corrected p, its `p_holm`; a dash where no test was made."""
    if test is None or test["p_holm"] is None:
        return NONE
    return PText(test["p_holm"])


def chance_text(chance: float | None) -> str:
    """A probability of two digits; a dash where it is unknown."""
    return NONE if chance is None else f"{chance:.2f}"


def interval_text(ends: Sequence[float] | None) -> str:
    """An interval of differences; a dash where there is none."""
    return NONE if ends is None else "{:+.5f} … {:+.5f}".format(*ends)


def is_significant(cell: str, header: str) -> bool:
    """Whether a cell is a corrected p that decides; of mere text, what it shows."""
    if header != P:
        return False
    if isinstance(cell, PText):
        return statistics.is_significant(cell.p)
    try:
        return statistics.is_significant(float(cell.removeprefix("<")))
    except ValueError:  # no test was made
        return False


def _write_pictures(section: Section, folder: Path) -> None:
    for picture in section.pictures:
        folder.mkdir(exist_ok=True)
        (folder / picture.name).write_bytes(picture.content)
    for part in section.parts:
        _write_pictures(part, folder)
