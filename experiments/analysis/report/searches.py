"""Where a study searched tickets: each search's rounds, and where two masks meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.figures import table_figures
from experiments.analysis.report.study_files import MAPS, SEARCHES
from experiments.running import ticket_cache, ticket_searches
from experiments.running.monitor import Monitor
from experiments.running.workdir import write_arrays, write_json
from experiments.settings.ablation import Ablation
from experiments.settings.setup import role, roles, task_names
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity.tickets import Ticket


def panel(tickets: Sequence[Ticket], metric: str) -> dict[str, Any]:
    """What a panel of Figure 4 shows of one task's tickets, one a seed."""
    return {
        "metric": metric,
        "density": [found.density for found in tickets[0].rounds],
        "values": [[found.value for found in ticket.rounds] for ticket in tickets],
        "chosen": [ticket.chosen for ticket in tickets],
    }


def write(
    rows: Sequence[Ablation],
    seeds: Sequence[int],
    data: Dataset,
    workdir: Path,
    monitor: Monitor,
) -> None:
    """Writes every finished search of the rows once, under the first row that has it.

    `searches.json`: row -> task -> panel of Figure 4. `searches.npz`: `row/layer` ->
    uint8 [inputs, outputs], what `table_figures.meet` finds between the first seed's
    masks of CTR and CVR. Writes nothing where no row trains with tickets.
    """
    panels, maps, seen = {}, {}, set()
    for row in rows:
        if row.config.pruning.masks != "ticket":
            continue
        tasks = task_names(row.config, data.schema)
        if any(
            ticket_cache.missing(workdir, row.config, data, task, seed)
            for task in tasks
            for seed in seeds
        ):
            continue
        where = {
            task: ticket_cache.folder(workdir, row.config, data, task, seeds[0])
            for task in tasks
        }
        new = [task for task in tasks if where[task] not in seen]
        if not new:
            continue
        seen |= set(where.values())
        found = [
            ticket_searches.find(row.config, s, data, workdir, monitor) for s in seeds
        ]
        panels[row.row.name] = {
            f"{role(data.schema, task).upper()} ({task})": panel(
                [tickets[task] for tickets in found],
                data.schema.task(task).metric.upper(),
            )
            for task in new
        }
        pair = roles(data.schema)
        if len(pair) == 2 and set(pair.values()) <= set(tasks):
            masks = {part.upper(): found[0][task].mask for part, task in pair.items()}
            for layer, kinds in table_figures.meet(masks).items():
                maps[f"{row.row.name}/{layer}"] = np.asarray(kinds, np.uint8)
    if panels:
        write_json(workdir / SEARCHES, panels)
        write_arrays(workdir / MAPS, maps)
