"""A table's rows as strict JSON: intervals, and tests against the baselines.

There is a family of tests for each baseline of the table's layout (`vs_base`);
Holm's correction runs over the rows of the table for one metric against one baseline.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.analysis.statistics import (
    holm,
    mean_interval,
    paired_t,
    percentile_interval,
)
from experiments.settings.layout import LT4REC, Layout
from jaxmtl.metrics import Metric

Table = Mapping[str, Any]
"""The content of `table.json`."""

SECONDS = (
    "s: time of all seeds' trainings and of all ticket searches that the row needs,"
    " shared or not; a compilation counts where it came first."
)
"""What a table says of its times."""


class RowResult(NamedTuple):
    """What one row of a table measured.

    Attributes:
      row: its name in the table.
      module: the ablation it comes from; the last part of a dotted name plays
        the role (`base_ctr`, `base_cvr`, `hard_sharing`).
      paper: metric -> the published number.
      seeds: what was trained; empty for a row without chance, as the oracle.
      metrics: `<role or task>.<metric>[@<segment>]` -> one Metric a seed, or a
        single one where there are no seeds.
      params: weights of the nets as deployed; None where there is none.
      density: role or task -> fraction of the maskable weights kept.
      seconds: spent on the row, all seeds together.
      status: `ok` or `not applicable: <why>`.
      bootstrap: metric -> [n_resamples] from `statistics.bootstrap_users`, on
        draws common to all rows of the table.
    """

    row: str
    module: str
    paper: dict[str, float]
    seeds: list[int]
    metrics: dict[str, list[Metric]]
    params: int | None
    density: dict[str, float]
    seconds: float
    status: str = "ok"
    bootstrap: Mapping[str, Sequence[float]] | None = None


def build_table(
    table: str,
    data: str,
    rows: Sequence[RowResult],
    *,
    layout: Layout = LT4REC,
    notes: Iterable[str] = (),
    environment: Mapping[str, Any] | None = None,
    command: str = "",
) -> Table:
    """Builds the content of `table.json`: strict JSON, no NaN anywhere.

    Args:
      table: its name, as in `lt4rec.table2`.
      data: name of the data set.
      rows: in the order to show them.
      layout: its columns and baselines.
      notes: provenance and licence of the data.
      environment: versions and machine, from `describe_environment`.
      command: what reproduces the table.

    Raises:
      ValueError: a row's values do not match its seeds, a value is not finite,
        or two rows scored a metric on different rows of the log.
    """
    _check(rows)
    tests = _tests(rows, layout.baselines)
    return {
        "table": table,
        "layout": layout.as_json(),
        "data": data,
        "seeds": sorted({seed for row in rows for seed in row.seeds}),
        "command": command,
        "environment": dict(environment or {}),
        "notes": list(notes),
        "seconds": SECONDS,
        "resamples": _resamples(rows),
        "rows": [
            {
                "row": row.row,
                "module": row.module,
                "status": row.status,
                "paper": dict(row.paper),
                "metrics": {n: _metric_json(m) for n, m in row.metrics.items()},
                "tests": tests[row.row],
                "params": row.params,
                "density": {task: float(d) for task, d in row.density.items()},
                "seconds": float(row.seconds),
            }
            for row in rows
        ],
    }


def _resamples(rows: Sequence[RowResult]) -> int:
    """How often test users were drawn for the rows; 0 where they were not."""
    return max(
        (len(draws) for row in rows for draws in (row.bootstrap or {}).values()),
        default=0,
    )


def describe_environment() -> dict[str, Any]:
    """Versions, devices, processor and threads: what bits and times depend on."""
    # Threads this process may use; not every system can tell.
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "threads": len(allowed(0)),
        "machine": platform.machine(),
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's own name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    return next(names, platform.processor() or platform.machine())


def row_role(row: str, module: str) -> str:
    return (module or row).rsplit(".", 1)[-1]


def _check(rows: Sequence[RowResult]) -> None:
    scored: dict[str, tuple[str, str, tuple]] = {}
    for row in rows:
        for name, metrics in row.metrics.items():
            if len(metrics) != max(len(row.seeds), 1):
                raise ValueError(
                    f"row {row.row!r}: {name} has {len(metrics)} values for seeds"
                    f" {row.seeds}; give one a seed, or one alone without seeds"
                )
            for metric in metrics:
                if metric.value is not None and not np.isfinite(metric.value):
                    raise ValueError(
                        f"row {row.row!r}: {name} is {metric.value}; a metric is"
                        " finite, or None where it is undefined"
                    )
                first, *on = scored.setdefault(name, (row.row, *metric[1:]))
                if on != list(metric[1:]):
                    raise ValueError(
                        f"{name} of row {first!r} was scored on {on} (rows,"
                        f" positives, space, users), of row {row.row!r} on"
                        f" {list(metric[1:])}; rows of a table need one test set,"
                        " so train those of older data again"
                    )


def _metric_json(metrics: Sequence[Metric]) -> dict[str, Any]:
    first = metrics[0]
    about = {"n": first.n, "positives": first.positives, "space": first.space}
    if first.users is not None:
        about["users"] = first.users
    if any(metric.value is None for metric in metrics):
        return {"mean": None, "undefined": first.counts, **about}
    mean, low, high = mean_interval([m.value for m in metrics])
    return {
        "mean": mean,
        "ci95": None if low is None else [low, high],
        "values": [float(m.value) for m in metrics],
        **about,
    }


def _tests(
    rows: Sequence[RowResult], baselines: Mapping[str, str]
) -> dict[str, dict[str, dict]]:
    """Row -> metric -> `vs_<baseline>` -> the comparison."""
    tests: dict[str, dict[str, dict]] = {row.row: {} for row in rows}
    by_role = {row_role(row.row, row.module): row for row in rows}
    for metric in dict.fromkeys(name for row in rows for name in row.metrics):
        task = metric.split(".")[0]
        for name, role in baselines.items():
            against, baseline = f"vs_{name}", by_role.get(role.format(task=task))
            found = {
                row.row: _compare(row, baseline, metric)
                for row in rows
                if baseline is not None
                and row is not baseline
                and _is_defined(row, metric)
                and _is_defined(baseline, metric)
            }
            corrected = holm([test["p"] for test in found.values()])
            for (row, test), p in zip(found.items(), corrected, strict=True):
                tests[row].setdefault(metric, {})[against] = {**test, "p_holm": p}
    return tests


def _is_defined(row: RowResult, metric: str) -> bool:
    return metric in row.metrics and None not in [m.value for m in row.metrics[metric]]


def _compare(row: RowResult, baseline: RowResult, metric: str) -> dict[str, Any]:
    ours, theirs = (
        dict(zip(r.seeds, (m.value for m in r.metrics[metric]), strict=False))
        for r in (row, baseline)
    )
    common = [seed for seed in ours if seed in theirs]
    if common:
        test = paired_t([ours[s] for s in common], [theirs[s] for s in common])
        difference, low, high, p = test
    else:
        means = [np.mean([m.value for m in r.metrics[metric]]) for r in (row, baseline)]
        difference, low, high, p = float(means[0] - means[1]), None, None, None
    draws = [(r.bootstrap or {}).get(metric) for r in (row, baseline)]
    interval = None
    if draws[0] is not None and draws[1] is not None:
        interval = percentile_interval(np.subtract(*draws))
    return {
        "difference": difference,
        "ci95": None if low is None else [low, high],
        "p": p,
        "bootstrap_ci95": None if interval is None else list(interval),
    }
