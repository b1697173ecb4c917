"""What a benchmark measures, as tables that are shown in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.analysis.report.document import NONE, Grid, Picture, Section, grid
from experiments.benchmarks import plots

Record = Mapping[str, Any]
"""What was measured of one contender at one size."""


class Column(NamedTuple):
    """How one value of every record is shown.

    Attributes:
      key: of the value; a record without it gets a dash.
      header: what stands above.
      form: the format of a number, and of each number in a list.
      scale: what numbers are multiplied with first: 1e-6 shows bytes as MB.
    """

    key: str
    header: str
    form: str = ""
    scale: float = 1.0

    def text(self, value: Any) -> str:
        """A value as it is shown."""
        if value is None or value != value:
            return NONE
        if isinstance(value, str):
            return value
        if isinstance(value, Sequence):
            return " ".join(map(self.text, value))
        return format(value if self.scale == 1 else self.scale * value, self.form)


class Table(NamedTuple):
    """Records that are shown together.

    Attributes:
      title: what was measured.
      columns: what is shown of each record.
      records: a line each.
      lead: what to know of all lines: units, what was repeated.
      notes: what follows from them, such as whether a target was met.
      plot: what of them is drawn.
    """

    title: str
    columns: Sequence[Column]
    records: Sequence[Record]
    lead: str = ""
    notes: Sequence[str] = ()
    plot: plots.Plot | None = None

    def cells(self) -> list[list[str]]:
        """Of each column that has any value, its header and its cells."""
        return [
            [column.header, *(column.text(r.get(column.key)) for r in self.records)]
            for column in self.columns
            if any(r.get(column.key) is not None for r in self.records)
        ]

    def as_text(self) -> str:
        """For a terminal."""
        head = [text for text in (self.title, self.lead) if text]
        return "\n".join([*head, "", grid(self.cells(), markdown=False), *self.notes])

    def as_section(self, picture: str) -> Section:
        """For a page; `picture` names the plot's file."""
        pictures = []
        if self.plot and any(self.plot.y in record for record in self.records):
            drawn = plots.draw(self.plot, self.records)
            alt = f"{self.title}: the numbers stand in the table"
            pictures.append(Picture(picture, drawn, alt))
        notes = list(self.notes)
        return Section(self.title, self.lead, [Grid(self.cells())], pictures, notes)
