"""Figure: 1 to 4 tasks in one net against a net for each; quality, storage, work.

The paper: with two tasks the computation falls with the weights that remain and
storage "is almost half"; with more tasks "the benefits will be greater". What a table
of embeddings saves, hard sharing saves as well, so it stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.analysis.table import RowResult
from experiments.lt4rec import hard_sharing_trunk, s_weight
from experiments.settings import sizes
from experiments.settings.ablation import Ablation, Row
from experiments.settings.config import Config
from experiments.settings.setup import role
from jaxmtl.sparsity import masks
from jaxmtl.types import Schema

ROWS = (s_weight, hard_sharing_trunk)
SEPARATE = "separate nets"
COSTS = {
    "cost.storage": "storage, MB",
    "cost.net": "storage without tables, kB",
    "cost.work": "multiply-adds of the MLPs, thousands",
}


def run(context: Context) -> str:
    """Trains every number of tasks; writes `tasks.json` and `tasks.png`."""
    schema = context.data.schema
    names = tuple(dict.fromkeys([schema.ctr, schema.cvr, *_names(schema)]))
    counts = range(2, len(names) + 1)
    alone = {
        name: _point(context, context.rows[1], SEPARATE, (name,)) for name in names
    }
    joint = {
        row.row.name: [_point(context, row, row.row.name, names[:n]) for n in counts]
        for row in context.rows
    }
    results = sweeps.train(context, {**joint, SEPARATE: list(alone.values())})
    metrics = {
        f"{role(schema, n)}.{schema.task(n).metric}": _title(schema, n) for n in names
    }
    series = {
        name: [
            _entry(
                n,
                [row],
                metrics,
                _costs(context.rows, name, names[:n], schema, row),
            )
            for n, row in zip(counts, results[name], strict=True)
        ]
        for name in joint
    }
    series[SEPARATE] = [
        _entry(
            n,
            results[SEPARATE][:n],
            metrics,
            _costs(context.rows, SEPARATE, names[:n], schema, None),
        )
        for n in range(1, len(names) + 1)
    ]
    shown = {"x": "tasks", "is_log": False, "with_params": False}
    result = {**shown, "metrics": metrics | COSTS, "series": series, "levels": {}}
    return f"{', '.join(names)}\n\n{sweeps.keep(context, result, 'tasks')}"


def _names(schema: Schema) -> list[str]:
    return [task.name for task in schema.tasks]


def _title(schema: Schema, task: str) -> str:
    name = role(schema, task)
    title = name.upper() if name in ("ctr", "cvr") else name
    return f"{title} {schema.task(task).metric.upper()}"


def _point(
    context: Context, row: Ablation, name: str, names: tuple[str, ...]
) -> sweeps.Point:
    config = replace(row.config, training=replace(row.config.training, tasks=names))
    title = f"{name}-{'-'.join(names)}"
    ablation = Ablation(f"{context.name}.{title}", Row(title), config)
    return sweeps.Point(len(names), ablation, context.data)


def _entry(
    x: int,
    rows: Sequence[RowResult],
    metrics: Mapping[str, str],
    costs: Mapping[str, float],
) -> dict[str, Any]:
    found = {
        name: sweeps.summary(row, name)
        for row in rows
        for name in metrics
        if name in row.metrics
    }
    found |= {n: {"mean": v, "ci95": None, "values": [v]} for n, v in costs.items()}
    return {"x": x, "params": None, "metrics": found}


def _costs(
    rows: Sequence[Ablation],
    name: str,
    names: tuple[str, ...],
    schema: Schema,
    row: RowResult | None,
) -> dict[str, float]:
    """Storage of what serves some tasks, and its multiply-adds for one impression.

    Values take 4 bytes, a task's mask a bit a weight. Each sparse task is a pass of
    its own through the weights it keeps; hard sharing is one pass for all of them.
    """
    ours, dense = (r.config for r in rows)
    config = replace(dense, training=replace(dense.training, tasks=names))
    single = replace(dense, training=replace(dense.training, tasks=names[:1]))
    kernels, maskable = _kernels(single, schema)
    heads = kernels - maskable
    table, net = sizes.table_size(config, schema), sizes.net_size(config, schema)
    if name == SEPARATE:
        alone = sizes.net_size(single, schema)
        net, table = len(names) * alone, len(names) * table
        stored, work = 4 * net, len(names) * kernels
    elif name == rows[0].row.name:
        density = sum(row.density[role(schema, task)] for task in names)
        stored = 4 * row.params + len(names) * maskable / 8
        work = density * maskable + len(names) * heads
    else:
        stored, work = 4 * net, maskable + len(names) * heads
    return {
        "cost.storage": (4 * table + stored) / 1e6,
        "cost.net": stored / 1e3,
        "cost.work": work / 1e3,
    }


def _kernels(config: Config, schema: Schema) -> tuple[int, int]:
    """Weights of all kernels of a net, and of those that masks may prune."""
    net = sizes.net_shapes(config, schema)
    leaves = jax.tree_util.tree_leaves_with_path(net)
    kernels = sum(leaf.size for path, leaf in leaves if path[-1].key == "kernel")
    full = jax.eval_shape(masks.full, net)
    return kernels, int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(full)))
