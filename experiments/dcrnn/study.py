"""Tables 1, 2 and 4 in one run, in which the rows they share are trained once."""

from __future__ import annotations

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.dcrnn import table1, table2, table4
from experiments.settings.layout import DCRNN

PARTS = (table1, table2, table4)
ROWS = tuple(dict.fromkeys(row for part in PARTS for row in part.ROWS))


def run(context: Context) -> str:
    """Trains all rows, then writes each table into a folder of its own."""
    tables.train(context)  # all at once, so that the time left is that of the study
    by_module = {row.module: row for row in context.rows}
    texts = []
    for part in PARTS:
        short = part.__name__.rsplit(".", 1)[-1]
        modules = [row.__name__.removeprefix("experiments.") for row in part.ROWS]
        table = context._replace(
            name=f"dcrnn.{short}",
            rows=[by_module[module] for module in modules],
            layout=getattr(part, "LAYOUT", DCRNN),
        )
        texts.append(tables.write(table, context.workdir / short))
    return "\n\n".join(texts)
