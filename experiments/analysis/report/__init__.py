"""What a study leaves for people: tables, and one page that shows all of it.

`table` turns results into numbers with intervals and tests, `results` shows every kind
of JSON a study writes, `page` and `comparison` put one or several studies on a page,
and `document` writes a page as HTML and as Markdown.
"""

from experiments.analysis.report.table import (
    RowResult,
    Table,
    build_table,
    describe_environment,
    row_role,
)

__all__ = ["RowResult", "Table", "build_table", "describe_environment", "row_role"]
