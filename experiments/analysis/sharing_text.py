"""What a study of sharing found, as tables for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.analysis.report.rendering import NONE, grid
from experiments.analysis.report.results import tuning_notes

Columns = list[list[str]]


def to_markdown(result: Mapping[str, Any]) -> str:
    """A section a finding.

    Args:
      result: content of `sharing.json`.
    """
    parts = [f"# {result['figure']} on {result['data']}"]
    for title, columns in _tables(result):
        parts.append(f"## {title}\n\n{grid(columns, markdown=True)}")
    notes = [*tuning_notes(result), f"`{result['command']}`"]
    return "\n\n".join([*parts, *notes]) + "\n"


def to_text(result: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    parts = [
        f"{title}\n\n{grid(columns, markdown=False)}"
        for title, columns in _tables(result)
    ]
    return "\n\n".join([*parts, *tuning_notes(result)]) + "\n"


def _tables(result: Mapping[str, Any]) -> Iterator[tuple[str, Columns]]:
    overlap = result["overlap"]
    yield "How each layer's weights are used", _layers(result["parts"])
    yield "Overlap of the tickets by layer", _overlap("layer", overlap["layers"])
    yield "Overlap of both tasks' masks by round", _rounds(overlap["tasks"])
    for name, curve in overlap["seeds"].items():
        yield f"Overlap of the {name} masks of two seeds by round", _rounds(curve)
    if result["fields"]:
        yield "First-layer weights kept of each input", _fields(result["fields"])
    yield "Cosine of the tasks' gradients", _cosines(result["cosine"])


def _layers(layers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Columns:
    private = next(iter(layers.values()))[0]["private"]
    used = [[part["private"] for part in seeds] for seeds in layers.values()]
    return [
        ["layer", *layers],
        ["shared", *(_percent(seeds, "shared") for seeds in layers.values())],
        *([f"only {n}", *(_percent(seeds, n) for seeds in used)] for n in private),
        ["dead", *(_percent(seeds, "dead") for seeds in layers.values())],
    ]


def _rounds(curve: Sequence[Mapping[str, Any]]) -> Columns:
    by_density = {f"{point['density']:.1%}": point for point in curve}
    return _overlap("weights kept", by_density)


def _overlap(header: str, points: Mapping[str, Mapping[str, Any]]) -> Columns:
    return [
        [header, *points],
        ["IoU", *(f"{point['iou']:.3f}" for point in points.values())],
        ["by chance", *(f"{point['chance']:.3f}" for point in points.values())],
    ]


def _fields(fields: Mapping[str, Mapping[str, Sequence[float]]]) -> Columns:
    names = list(next(iter(fields.values())))
    kept = lambda values: f"{np.mean(values):.1%}"
    return [
        ["input", *(name if name != "all" else "the whole layer" for name in names)],
        *(
            [f"{task} ticket", *(kept(by_input[name]) for name in names)]
            for task, by_input in fields.items()
        ),
    ]


def _cosines(rows: Mapping[str, Sequence[Sequence[Mapping]]]) -> Columns:
    """The start and the end of training; the figure shows all epochs."""
    columns = [["row, weights"], ["at the start"], ["at the end"], ["batches < 0"]]
    for name, seeds in rows.items():
        for region in seeds[0][0]:
            first, last = ([e[at][region] for e in seeds] for at in (0, -1))
            cells = _mean(first), _mean(last), _percent(last, "negative")
            for column, cell in zip(
                columns, (f"{name}, {region}", *cells), strict=True
            ):
                column.append(cell)
    return columns


def _mean(points: Sequence[Mapping[str, float | None]]) -> str:
    values = [point["mean"] for point in points]
    return NONE if None in values else f"{np.mean(values):+.3f}"


def _percent(points: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [point[key] for point in points]
    return NONE if None in values else f"{np.mean(values):.1%}"
