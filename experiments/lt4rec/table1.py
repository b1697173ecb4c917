"""Table 1: users, items, impressions, clicks and conversions of the log at hand."""

from __future__ import annotations

import numpy as np

from experiments.analysis.context import Context
from experiments.analysis.report import results
from jaxmtl.data.store import Dataset

ROWS = ()
PAPER = {
    "users": 10e6,
    "items": 11e6,
    "impressions": 297e6,
    "clicks": 121e6,
    "conversions": 49e6,
}


def run(context: Context) -> str:
    """Counts, and writes `table.json` and `table.md`."""
    parts = {split: count(context.data, (split,)) for split in context.data.splits}
    counted = {
        "table": context.name,
        "data": context.data.schema.name,
        "rows_read": context.data.counts,
        "paper": PAPER,
        "splits": {"all": count(context.data, tuple(parts)), **parts},
        "notes": list(context.data.notes),
        "command": context.command,
    }
    return results.keep(counted, context.workdir, "table") + "\n"


def count(data: Dataset, splits: tuple[str, ...]) -> dict[str, float | None]:
    """The statistics of some splits together; None = no row decides it.

    A conversion is a positive label of the CVR task in its own space; `watch` type
    labels count from 0 up, so their mean is given too.
    """
    schema = data.schema

    def column(read) -> np.ndarray:
        return np.concatenate([np.asarray(read(data.splits[s])) for s in splits])

    users = column(lambda rows: rows.groups["user"])
    items = column(lambda rows: rows.groups["item"])
    labels = {t.name: column(lambda r, n=t.name: r.labels[n]) for t in schema.tasks}
    shown = labels[schema.ctr][~np.isnan(labels[schema.ctr])]
    cvr = labels[schema.cvr][schema.task(schema.cvr).inside(labels)]
    has_cvr = schema.ctr != schema.cvr
    return {
        "users": len(np.unique(users)),
        "items": len(np.unique(items)),
        "impressions": len(users),
        "clicks": int((shown > 0).sum()),
        "conversions": int((cvr > 0).sum()) if has_cvr else None,
        "click rate": float((shown > 0).mean()) if len(shown) else None,
        "mean CVR label": float(cvr.mean()) if has_cvr and len(cvr) else None,
    }
