"""Figure: the interval I from 0 to L, in all three readings of what windows share."""

from __future__ import annotations

from typing import get_args

from experiments import sweep_figures, sweeps, tables
from experiments.ablation import Ablation, Row
from experiments.dcrnn import bilstm_ada, mmoe, mmoe_matched, variants
from experiments.rendering import grid
from experiments.workdir import write_json
from jaxmtl.models.dcrnn import Sharing

ROWS = (bilstm_ada, mmoe, mmoe_matched)


def run(context: tables.Context) -> str:
    """Trains every interval; writes `interval.json` and `interval.png`."""
    ours, *rivals = context.rows
    length = ours.config.model.dcrnn.length

    def point(sharing: str, interval: int) -> sweeps.Point:
        name = f"{sharing}-I{interval}"
        config = variants.dcrnn(ours.config, sharing=sharing, interval=interval)
        ablation = Ablation(f"{context.name}.{name}", Row(name), config)
        return sweeps.Point(interval, ablation, context.data)

    series = {
        sharing: [point(sharing, interval) for interval in range(length + 1)]
        for sharing in get_args(Sharing)
    }
    levels = {
        rival.row.name: [sweeps.Point(0, rival, context.data)] for rival in rivals
    }
    every = series | levels
    metrics = tuple(context.layout.main)
    curves = sweeps.as_json(every, sweeps.train(context, every), metrics)
    result = {
        "figure": context.name,
        "data": context.data.schema.name,
        "seeds": list(context.seeds),
        "command": context.command,
        "length": length,
        "metrics": dict(context.layout.main),
        "series": {name: curves[name] for name in series},
        "levels": {name: curves[name][0] for name in levels},
    }
    write_json(context.workdir / "interval.json", result)
    sweep_figures.sweep_figure(
        result,
        context.workdir / "interval.png",
        x=f"interval I (0: hard sharing, {length}: soft)",
        with_params=True,
    )
    where = f"written to {context.workdir}: interval.json, interval.png, rows/"
    return f"{_text(result)}\n\n{where}\n"


def _text(result: dict) -> str:
    parts = []
    for metric, title in result["metrics"].items():
        points = result["series"]
        intervals = [str(point["x"]) for point in next(iter(points.values()))]
        columns = [[f"{title}, I =", *intervals]]
        for name, curve in points.items():
            columns.append([name, *(_cell(point, metric) for point in curve)])
        levels = ", ".join(
            f"{name} {_cell(level, metric)}" for name, level in result["levels"].items()
        )
        parts.append(f"{grid(columns, markdown=False)}\n{levels}")
    return "\n\n".join(parts)


def _cell(point: dict, metric: str) -> str:
    found = point["metrics"].get(metric)
    if found is None or found["mean"] is None:
        return "–"
    half = found["ci95"] and (found["ci95"][1] - found["ci95"][0]) / 2
    return f"{found['mean']:.4f}" + (f" ± {half:.4f}" if half else "")
