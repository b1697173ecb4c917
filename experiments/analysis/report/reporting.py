"""What a study leaves for its report, and the report itself, once it has ended.

The report is made of files alone, so that `python -m experiments.report RUN` makes it
again, anywhere, without the log. What only a run knows is written here.
"""

from __future__ import annotations

from experiments.analysis.context import Context
from experiments.analysis.report import curves, document, page, searches
from experiments.analysis.report.study_files import ABOUT, CURVES, read_study
from experiments.analysis.table import describe_environment
from experiments.running.workdir import write_json
from jaxmtl import spaces
from jaxmtl.data.store import Dataset


def write(context: Context, printed: str) -> None:
    """Writes `report.html` and `report.md` into the work directory.

    Args:
      context: of the study, which has run.
      printed: what it says at its end.
    """
    rows, seeds, data, workdir = (
        context.rows,
        list(context.seeds),
        context.data,
        context.workdir,
    )
    about = {
        "seeds": seeds,
        "command": context.command,
        "environment": describe_environment(),
        "notes": list(data.notes),
        "counts": {split: part.num_rows for split, part in data.splits.items()},
        "tasks": _metrics(data),
        "printed": printed,
    }
    write_json(workdir / ABOUT, about)
    write_json(workdir / CURVES, curves.measure(rows, seeds, data, workdir))
    searches.write(rows, seeds, data, workdir, context.monitor)
    document.write(page.make_page(read_study(workdir)), workdir, "report")


def _metrics(data: Dataset) -> dict[str, str]:
    """Task, joint ones too -> the metric that validation judges it by."""
    tasks = data.schema.tasks
    joint = map(spaces.joint_task, filter(spaces.is_nested, tasks))
    return {task.name: task.metric.upper() for task in (*tasks, *joint)}
