"""From a list of row modules to a table and its figures in a work directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from experiments.analysis import study
from experiments.analysis.context import Context
from experiments.analysis.figures import table_figures
from experiments.analysis.report import searches
from experiments.analysis.report.rendering import grid, to_text, write_table
from experiments.analysis.report.results import rounds_grid
from experiments.analysis.table import RowResult, build_table, describe_environment
from experiments.running import ticket_searches
from experiments.running.workdir import write_json
from experiments.settings import sections
from experiments.settings.ablation import Ablation
from experiments.settings.setup import role, roles
from experiments.tuning import tuned


def train(context: Context) -> list[RowResult]:
    """Trains what is missing of a study's rows, and gathers all of them."""
    what = (context.rows, context.seeds, context.data, context.crew)
    study.expect_rows(*what)
    return study.run_rows(*what, context.layout.main)


def quotients(rows: Sequence[Ablation]) -> list[str]:
    """Whose CVR is a quotient, as a table's note; no note where nobody's is."""
    is_quotient = {r.row.name: r.config.spaces == "impression" for r in rows}
    names = [name for name, is_one in is_quotient.items() if is_one]
    others = [name for name, is_one in is_quotient.items() if not is_one]
    if not names:
        return []
    whose = ", ".join(names)
    if len(others) < len(names):
        whose = f"every row but {', '.join(others)}" if others else "every row"
    return [
        f"The CVR of {whose} is the CTCVR divided by the CTR, both learned on all"
        " impressions, and clipped to the labels' range: a quotient that no loss saw."
    ]


def write(context: Context, folder: Path | None = None) -> str:
    """Trains what is missing; writes, draws and returns the table as text.

    Args:
      context: of the study.
      folder: where the table goes; the work directory by default.
    """
    rows, folder = train(context), folder or context.workdir
    options = sections.by_name(context.rows[0].config.metrics)
    oracle = study.oracle(context.data, options)
    table = build_table(
        context.name,
        context.data.schema.name,
        rows + ([oracle] if oracle else []),
        layout=context.layout,
        notes=[
            *context.data.notes,
            *quotients(context.rows),
            tuned.note(context.tuned),
        ],
        environment=describe_environment(),
        command=context.command,
    )
    table = {**table, "tuned": context.tuned}
    write_table(table, folder)
    if any(row.status == "ok" for row in rows):
        table_figures.table_figure(table, folder / "table.png")
    where = f"written to {folder}: table.json, table.md, table.png, rows/"
    return f"{to_text(table)}\n{where}\n"


def write_rounds(context: Context, module: ModuleType) -> str:
    """Figure 4 of a row's ticket searches, and where the first seed's masks meet."""
    ablation = context.configure(module)
    data, workdir, monitor = context.data, context.workdir, context.monitor
    todo = [(ablation.config, seed) for seed in context.seeds]
    ticket_searches.make_missing(todo, data, context.crew)
    found = [
        ticket_searches.find(ablation.config, seed, data, workdir, monitor)
        for seed in context.seeds
    ]
    panels = {
        f"{role(data.schema, task).upper()} ({task})": searches.panel(
            [tickets[task] for tickets in found], data.schema.task(task).metric.upper()
        )
        for task in found[0]
    }
    write_json(
        workdir / "figure4.json",
        {
            "figure": "lt4rec.figure4",
            "data": data.schema.name,
            "seeds": list(context.seeds),
            "command": context.command,
            "panels": panels,
        },
    )
    table_figures.figure4(panels, workdir / "figure4.png")
    files = ["figure4.json", "figure4.png", "tickets/"]
    parts = roles(data.schema)
    if len(parts) == 2 and all(task in found[0] for task in parts.values()):
        pair = {part.upper(): found[0][task].mask for part, task in parts.items()}
        table_figures.mask_maps(pair, workdir / "masks.png")
        files.append("masks.png")
    parts = [
        f"Figure 4, {title}: validation {panel['metric']} by round\n\n"
        + grid(rounds_grid(title, panel).columns, markdown=False)
        for title, panel in panels.items()
    ]
    parts.append(f"written to {workdir}: {', '.join(files)}")
    return "\n\n".join(parts) + "\n"
