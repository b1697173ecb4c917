"""From a list of row modules to a table and its figures in a work directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from experiments import figures, study
from experiments.ablation import Ablation
from experiments.layout import Layout
from experiments.monitor import Monitor
from experiments.rendering import grid, to_text, write_table
from experiments.report import RowResult, build_table, describe_environment
from experiments.setup import role
from experiments.workdir import write_json
from jaxmtl.data.store import Dataset
from jaxmtl.tickets import Ticket


class Context(NamedTuple):
    """What a study module needs to run.

    Attributes:
      name: of the study or ablation, `lt4rec.table2`.
      rows: its rows, configured as the command line says.
      configure: a row module -> the same for a row that is not among them.
      seeds: to train.
      data: the log.
      workdir: claimed for this configuration.
      monitor: watches.
      command: what reproduces the run.
      layout: of the paper's table.
    """

    name: str
    rows: Sequence[Ablation]
    configure: Callable[[ModuleType], Ablation]
    seeds: Sequence[int]
    data: Dataset
    workdir: Path
    monitor: Monitor
    command: str
    layout: Layout


def train(context: Context) -> list[RowResult]:
    """Trains what is missing of a study's rows, and gathers all of them."""
    return study.run_rows(
        context.rows,
        context.seeds,
        context.data,
        context.workdir,
        context.monitor,
        context.layout.main,
    )


def write(context: Context, folder: Path | None = None) -> str:
    """Trains what is missing; writes, draws and returns the table as text.

    Args:
      context: of the study.
      folder: where the table goes; the work directory by default.
    """
    rows, folder = train(context), folder or context.workdir
    oracle = study.oracle(context.data)
    table = build_table(
        context.name,
        context.data.schema.name,
        rows + ([oracle] if oracle else []),
        layout=context.layout,
        notes=context.data.notes,
        environment=describe_environment(),
        command=context.command,
    )
    write_table(table, folder)
    if any(row.status == "ok" for row in rows):
        figures.table_figure(table, folder / "table.png")
    where = f"written to {folder}: table.json, table.md, table.png, rows/"
    return f"{to_text(table)}\n{where}\n"


def write_rounds(context: Context, module: ModuleType) -> str:
    """Figure 4 of a row's ticket searches, and where the first seed's masks meet."""
    ablation = context.configure(module)
    data, workdir, monitor = context.data, context.workdir, context.monitor
    todo = [(ablation.config, seed) for seed in context.seeds]
    study.expect_tickets(todo, data, workdir, monitor)
    found = [
        study.find_tickets(ablation.config, seed, data, workdir, monitor)
        for seed in context.seeds
    ]
    panels = {
        f"{role(data.schema, task).upper()} ({task})": _panel(
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
    figures.figure4(panels, workdir / "figure4.png")
    files = ["figure4.json", "figure4.png", "tickets/"]
    roles = {"CTR": data.schema.ctr, "CVR": data.schema.cvr}
    if all(task in found[0] for task in roles.values()):
        pair = {name: found[0][task].mask for name, task in roles.items()}
        figures.mask_maps(pair, workdir / "masks.png")
        files.append("masks.png")
    parts = [
        f"Figure 4, {title}: validation {panel['metric']} by round\n\n"
        + _rounds_text(panel)
        for title, panel in panels.items()
    ]
    parts.append(f"written to {workdir}: {', '.join(files)}")
    return "\n\n".join(parts) + "\n"


def _panel(tickets: Sequence[Ticket], metric: str) -> dict:
    return {
        "metric": metric,
        "density": [found.density for found in tickets[0].rounds],
        "values": [[found.value for found in ticket.rounds] for ticket in tickets],
        "chosen": [ticket.chosen for ticket in tickets],
    }


def _rounds_text(panel: dict) -> str:
    rounds = range(len(panel["density"]))
    columns = [
        ["round", *(str(number) for number in rounds)],
        ["weights kept", *(f"{density:.1%}" for density in panel["density"])],
    ]
    values = np.array(panel["values"], float)  # None becomes NaN
    means = [
        "undefined" if np.isnan(mean) else f"{mean:.5f}" for mean in values.mean(axis=0)
    ]
    columns.append([f"mean {panel['metric']}", *means])
    times = [panel["chosen"].count(number) for number in rounds]
    columns.append(["chosen by", *(f"{n} of {len(values)}" for n in times)])
    return grid(columns, markdown=False)
