"""Figure: where does which way of sharing pay? A map over conflict and click rate.

On the simulated feed it is known how far the tasks' true preferences are apart
(`--data.feed.conflict`) and how rare clicks are. Every row is trained in each of these
worlds; differences are paired with the single task by seed, and corrected by Holm over
all rows and worlds of a metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments import conflict_figures, sources, study, sweeps, tables
from experiments.ablation import Ablation
from experiments.conflict_figures import BASE
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    dcrnn,
    hard_sharing,
    hard_sharing_trunk,
    mmoe,
    random_masks,
    s_neuron,
    s_weight,
    ticket_ctr,
    ticket_cvr,
)
from experiments.rendering import grid
from experiments.report import RowResult
from experiments.statistics import holm, is_significant, paired_t
from experiments.workdir import write_json
from jaxmtl.data.store import Dataset

ROWS = (
    base_ctr,
    base_cvr,
    ticket_ctr,
    ticket_cvr,
    hard_sharing,
    hard_sharing_trunk,
    mmoe,
    dcrnn,
    random_masks,
    s_weight,
    s_neuron,
)
CONFLICTS = (0.0, 0.25, 0.5, 0.75, 1.0)
CLICK_RATES = (0.4, 0.1, 0.04)
PAIRS = {
    "base ctr": BASE,
    "base cvr": BASE,
    "ticket ctr": "ticket",
    "ticket cvr": "ticket",
}
"""Rows of one task each that are one method."""


def run(context: tables.Context) -> str:
    """Trains every row in every world; writes `conflict.json` and its figures."""
    worlds = {
        (rate, conflict): _world(context, rate, conflict)
        for rate in CLICK_RATES
        for conflict in CONFLICTS
    }
    points = {
        f"{rate:g}/{conflict:g}": [
            _point(context, row, rate, conflict, data) for row in context.rows
        ]
        for (rate, conflict), data in worlds.items()
    }
    trained = sweeps.train(context, points)
    metrics = dict(context.layout.main)
    found = [
        {
            "click_rate": rate,
            "conflict": conflict,
            "oracle": _oracle(data, metrics),
            "rows": by_method(context.rows, trained[f"{rate:g}/{conflict:g}"], metrics),
        }
        for (rate, conflict), data in worlds.items()
    ]
    result = {
        "figure": context.name,
        "data": context.data.schema.name,
        "seeds": list(context.seeds),
        "command": context.command,
        "metrics": metrics,
        "worlds": compare(found, list(metrics)),
    }
    write_json(context.workdir / "conflict.json", result)
    (context.workdir / "conflict.md").write_text(to_markdown(result), encoding="utf-8")
    conflict_figures.draw(result, context.workdir)
    where = (
        f"written to {context.workdir}: conflict.json, conflict.md, conflict.png,"
        " conflict_difference.png, conflict_best.png, rows/"
    )
    return f"{to_text(result)}\n\n{where}\n"


def _world(context: tables.Context, rate: float, conflict: float) -> Dataset:
    config = context.rows[0].config.data
    if config.name != "video_feed":
        raise ValueError(
            f"{context.name} needs a log that knows its truth, --data.name is"
            f" {config.name}; leave it at video_feed"
        )
    feed = replace(config.feed, click_rate=rate, conflict=conflict)
    return sources.load(replace(config, feed=feed), say=lambda text: None)


def _point(
    context: tables.Context, row: Ablation, rate: float, conflict: float, data: Dataset
) -> sweeps.Point:
    name = f"{context.name}.{row.row.name}-rate{rate:g}-conflict{conflict:g}"
    return sweeps.Point(conflict, row._replace(module=name), data)


def _oracle(data: Dataset, metrics: Mapping[str, str]) -> dict[str, float | None]:
    known = study.oracle(data).metrics
    return {metric: known[metric][0].value for metric in metrics}


def by_method(
    rows: Sequence[Ablation], results: Sequence[RowResult], metrics: Mapping[str, str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> metric -> mean, interval and values; both single tasks are one."""
    found: dict[str, dict[str, dict]] = {}
    for row, result in zip(rows, results, strict=True):
        mine = found.setdefault(PAIRS.get(row.row.name, row.row.name), {})
        mine |= {m: sweeps.summary(result, m) for m in metrics if m in result.metrics}
    return found


def compare(
    worlds: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """The worlds with `vs_base` beside each method's values, Holm-corrected.

    Args:
      worlds: each with `rows`, method -> metric -> {"values", ...}.
      metrics: one family of tests each, over all methods and worlds.
    """
    worlds = [
        {**w, "rows": {n: dict(cells) for n, cells in w["rows"].items()}}
        for w in worlds
    ]
    for metric in metrics:
        cells, tests = [], []
        for world in worlds:
            base = world["rows"][BASE][metric]["values"]
            for name, methods in world["rows"].items():
                values = methods[metric]["values"]
                if name != BASE and len(values) > 1 and None not in [*values, *base]:
                    cells.append((methods, metric))
                    tests.append(paired_t(values, base))
        for (methods, _), test, p in zip(
            cells, tests, holm([test.p for test in tests]), strict=True
        ):
            methods[metric] = methods[metric] | {
                "vs_base": {
                    "difference": test.difference,
                    "ci95": [test.low, test.high],
                    "p": test.p,
                    "p_holm": p,
                }
            }
    return worlds


def to_text(result: Mapping[str, Any], *, markdown: bool = False) -> str:
    """A grid a metric: a row a world, a column a method, differences to base."""
    parts = []
    for metric, title in result["metrics"].items():
        worlds = result["worlds"]
        columns = [
            ["click rate", *(f"{w['click_rate']:g}" for w in worlds)],
            ["conflict", *(f"{w['conflict']:g}" for w in worlds)],
            ["oracle", *(f"{w['oracle'][metric]:.4f}" for w in worlds)],
            [BASE, *(f"{w['rows'][BASE][metric]['mean']:.4f}" for w in worlds)],
        ]
        for name in worlds[0]["rows"]:
            if name != BASE:
                cells = [_cell(w["rows"][name][metric]) for w in worlds]
                columns.append([name, *cells])
        parts.append(f"{title}, change to base (* p < .05 after Holm's correction)")
        parts.append(grid(columns, markdown=markdown))
    return "\n\n".join(parts)


def to_markdown(result: Mapping[str, Any]) -> str:
    """The map as `conflict.md`."""
    seeds = ", ".join(map(str, result["seeds"]))
    return (
        f"# {result['figure']} on {result['data']}\n\n{to_text(result, markdown=True)}"
        f"\n\nSeeds {seeds}.\n\n`{result['command']}`\n"
    )


def _cell(found: Mapping[str, Any]) -> str:
    test = found.get("vs_base")
    if test is None:
        return "–" if found["mean"] is None else f"{found['mean']:.4f}"
    star = "*" if is_significant(test["p_holm"]) else ""
    return f"{test['difference']:+.4f}{star}"
