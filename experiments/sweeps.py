"""A setting varied step by step: what is trained, its JSON and its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments import study
from experiments.ablation import Ablation
from experiments.report import RowResult
from experiments.statistics import mean_interval
from experiments.tables import Context
from jaxmtl.data.store import Dataset


class Point(NamedTuple):
    """One setting: where it stands on the axis, what is trained, and on which log."""

    x: float
    ablation: Ablation
    data: Dataset


Series = Mapping[str, Sequence[Point]]


def train(context: Context, series: Series) -> dict[str, list[RowResult]]:
    """Trains every point that is not finished yet: name -> a result for each point.

    Points that share a log are trained together, so that the time left is known.
    """
    found: dict[str, RowResult] = {}
    points = [point for points in series.values() for point in points]
    for fingerprint in dict.fromkeys(point.data.fingerprint for point in points):
        here = {
            point.ablation.module: point
            for point in points
            if point.data.fingerprint == fingerprint
        }
        rows = study.run_rows(
            [point.ablation for point in here.values()],
            context.seeds,
            next(iter(here.values())).data,
            context.workdir,
            context.monitor,
            main=(),
        )
        found |= {row.module: row for row in rows}
    return {
        name: [found[point.ablation.module] for point in points]
        for name, points in series.items()
    }


def as_json(
    series: Series, results: Mapping[str, Sequence[RowResult]], metrics: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Name -> for each point its place, its parameters and its metrics."""
    return {
        name: [
            {
                "x": point.x,
                "params": row.params,
                "metrics": {m: summary(row, m) for m in metrics if m in row.metrics},
            }
            for point, row in zip(points, results[name], strict=True)
        ]
        for name, points in series.items()
    }


def summary(row: RowResult, metric: str) -> dict[str, Any]:
    """Mean, 95 % interval over seeds and the seeds' values; None where undefined."""
    values = [m.value for m in row.metrics[metric]]
    if None in values:
        return {"mean": None, "ci95": None, "values": values}
    mean, low, high = mean_interval(values)
    return {"mean": mean, "ci95": low and [low, high], "values": values}
