"""A setting varied step by step: what is trained, its JSON, its figure, its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.analysis import study
from experiments.analysis.context import Context
from experiments.analysis.figures import sweep_figures
from experiments.analysis.report import results
from experiments.analysis.statistics import mean_interval
from experiments.analysis.table import RowResult
from experiments.analysis.tables import quotients
from experiments.settings.ablation import Ablation, Row
from experiments.settings.config import Config
from jaxmtl.data.store import Dataset


class Point(NamedTuple):
    """One setting: where it stands on the axis, what is trained, and on which log."""

    x: float
    ablation: Ablation
    data: Dataset


Series = Mapping[str, Sequence[Point]]


def vary(
    context: Context,
    row: Ablation,
    values: Sequence[float],
    change: Callable[[Config, Any], Config],
    name: str | None = None,
) -> list[Point]:
    """A row at each value of a setting, on the study's log.

    Args:
      context: of the study.
      row: what is changed.
      values: of the setting, its places on the axis.
      change: (the row's configuration, value) -> that of a point.
      name: of the series; the row's own by default.
    """
    name = name or row.row.name

    def point(value: float) -> Point:
        config = change(row.config, value)
        config.check()
        title = f"{name}-{value:g}"
        return Point(
            value, Ablation(f"{context.name}.{title}", Row(title), config), context.data
        )

    return [point(value) for value in values]


def level(context: Context, row: Ablation) -> Point:
    """A row that the setting leaves as it is, for a line from side to side."""
    return Point(0, row, context.data)


def train(context: Context, series: Series) -> dict[str, list[RowResult]]:
    """Trains every point that is not finished yet: name -> a result for each point."""
    logs: dict[str, Dataset] = {}
    rows: dict[str, dict[str, Ablation]] = {}
    for point in (point for points in series.values() for point in points):
        log = point.data.fingerprint
        logs[log] = point.data
        rows.setdefault(log, {})[point.ablation.module] = point.ablation
    for log, data in logs.items():  # all of them first, so that the time left is known
        study.expect_rows([*rows[log].values()], context.seeds, data, context.crew)
    found: dict[str, RowResult] = {}
    for log, data in logs.items():
        here, crew = [*rows[log].values()], context.crew
        trained = study.run_rows(here, context.seeds, data, crew, main=())
        found |= {row.module: row for row in trained}
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
    found = mean_interval(values)
    return {"mean": found.mean, "ci95": found.ends, "values": values}


def write(
    context: Context,
    series: Series,
    levels: Sequence[Ablation],
    *,
    file: str,
    x: str,
    with_params: bool = False,
    is_log: bool = False,
) -> str:
    """Trains a sweep on one log; writes `<file>.json` and `<file>.png`.

    Args:
      context: of the study; its layout names the metrics.
      series: name -> points.
      levels: rows drawn as lines from side to side.
      file: name of the results, without an ending.
      x: what the axis shows.
      with_params: whether a panel shows the nets' parameters.
      is_log: whether the axis is logarithmic.

    Returns:
      The values as text.
    """
    flat = {row.row.name: [level(context, row)] for row in levels}
    every = {**series, **flat}
    curves = as_json(every, train(context, every), tuple(context.layout.main))
    shown = {"x": x, "is_log": is_log, "with_params": with_params}
    return keep(
        context,
        {
            **shown,
            "metrics": dict(context.layout.main),
            "series": {name: curves[name] for name in series},
            "levels": {name: curves[name][0] for name in flat},
        },
        file,
    )


def keep(context: Context, result: Mapping[str, Any], file: str) -> str:
    """Writes `<file>.json`, `<file>.md` and `<file>.png`; returns the values as text.

    Args:
      context: of the study.
      result: as `sweep_figures.sweep_figure` draws it.
      file: name of the results, without an ending.
    """
    result = {
        **context.about,
        "notes": quotients(context.rows),
        **result,
    }
    text = results.keep(result, context.workdir, file)
    sweep_figures.sweep_figure(result, context.workdir / f"{file}.png")
    where = f"written to {context.workdir}: {file}.json, {file}.md, {file}.png, rows/"
    return f"{text}\n\n{where}\n"
