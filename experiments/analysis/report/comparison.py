"""Several studies on one page: what differs between them, and every row of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.analysis import figures
from experiments.analysis.report.document import NONE, Document, Grid, Picture, Section
from experiments.analysis.report.page import duration
from experiments.analysis.report.study_files import Study
from experiments.analysis.report.svg import to_svg
from experiments.analysis.statistics import mean_interval
from experiments.settings import ablation

COLOURS = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE)
MARKS = "osD^v"


def make_page(studies: Sequence[Study], command: str = "") -> Document:
    """The page that compares studies.

    Args:
      studies: at least two, each with finished rows.
      command: what makes the page again.

    Raises:
      ValueError: a study has no finished row.
    """
    for study in studies:
        if not _ok(study):
            raise ValueError(
                f"{study.folder}: no row of it is finished; nothing to compare"
            )
    names = _names(studies)
    metrics = _shared(studies)
    sections = [_studies(studies, names), _differences(studies, names)]
    sections += _results(studies, names, metrics)
    title = f"{len(studies)} studies compared"
    lead = "Every row of every study, with the metrics that all of them measured."
    return Document(title, lead, {}, [command] if command else [], sections)


def differences(studies: Sequence[Study]) -> dict[str, list[str]]:
    """Setting -> its value in each study, for those that are not the same in all.

    Rows are compared where all studies have them; without a common one, all rows. A
    setting that differs between a study's rows is the list of its values.
    """
    common = set.intersection(*(set(study.config["rows"]) for study in studies))
    found: dict[str, list[str]] = {}
    for number, study in enumerate(studies):
        settings = {"experiment": [study.config["name"]]}
        about = {key: study.config.get(key, {}) for key in ("data", "software")}
        for key, value in _flat(about):
            settings.setdefault(key, []).append(value)
        for module, row in study.config["rows"].items():
            if not common or module in common:
                for key, value in _flat(row):
                    settings.setdefault(key, []).append(value)
        for key, values in settings.items():
            cells = found.setdefault(key, [NONE] * len(studies))
            cells[number] = ", ".join(dict.fromkeys(map(str, values)))
    return {key: cells for key, cells in found.items() if len(set(cells)) > 1}


def _flat(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{at}.{key}" if at else key
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            yield path, value


def _names(studies: Sequence[Study]) -> list[str]:
    """The folders' names, with their parents' where they would be the same."""
    short = [study.folder.name for study in studies]
    if len(set(short)) == len(short):
        return short
    return [str(study.folder) for study in studies]


def _ok(study: Study) -> dict[str, Any]:
    return {module: row for module, row in study.rows.items() if row["seeds"]}


def _shared(studies: Sequence[Study]) -> list[str]:
    """Metrics of the whole test set that every study has, its tables' first."""
    every = [
        [name for row in _ok(study).values() for name in row["metrics"]]
        for study in studies
    ]
    shared = [
        name
        for name in dict.fromkeys(every[0])
        if all(name in names for names in every[1:])
        and "@" not in name
        and not name.endswith("_own_epoch")
    ]
    first = [name for name in _main(studies) if name in shared]
    return first + [name for name in shared if name not in first]


def _main(studies: Sequence[Study]) -> list[str]:
    """The metrics that the studies' tables show first."""
    layouts = [ablation.layout(study.config["name"]) for study in studies]
    return list(dict.fromkeys(name for layout in layouts for name in layout.main))


def _studies(studies: Sequence[Study], names: Sequence[str]) -> Section:
    seeds = [
        sorted({s for r in _ok(study).values() for s in r["seeds"]})
        for study in studies
    ]
    columns = [
        ["Study", *names],
        ["experiment", *(study.config["name"] for study in studies)],
        ["log", *(study.config["data"]["name"] for study in studies)],
        ["rows", *(str(len(_ok(study))) for study in studies)],
        ["seeds", *(", ".join(map(str, found)) for found in seeds)],
        ["training time", *(duration(study.seconds[0]) for study in studies)],
    ]
    commands = [study.about["command"] for study in studies if "command" in study.about]
    return Section("Studies", grids=[Grid(columns)], printed="\n".join(commands))


def _differences(studies: Sequence[Study], names: Sequence[str]) -> Section:
    found = differences(studies)
    title = "What differs in their configuration"
    if not found:
        return Section(title, "Nothing but the work directory.")
    cells = [found[key] for key in found]
    columns = [["Setting", *found]] + [
        [name, *column]
        for name, column in zip(names, zip(*cells, strict=True), strict=True)
    ]
    lead = ""
    if "data.fingerprint" in found:
        lead = (
            "Their logs are not the same, so levels are not comparable between them,"
            " only what changes from row to row."
        )
    return Section(title, lead, grids=[Grid(columns)])


def _results(
    studies: Sequence[Study], names: Sequence[str], metrics: Sequence[str]
) -> Iterator[Section]:
    note = "Mean ± half width of the 95 % t-interval over seeds."
    if not metrics:
        yield Section("Rows", "No metric is measured by all of these studies.")
        return
    drawn = [name for name in metrics if name in _main(studies)]
    pictures = [_picture(studies, names, metric) for metric in drawn]
    parts = [
        Section(name, grids=[_grid(study, metrics)])
        for study, name in zip(studies, names, strict=True)
    ]
    yield Section("Rows", pictures=pictures, notes=[note], parts=parts)


def _grid(study: Study, metrics: Sequence[str]) -> Grid:
    rows = _ok(study).values()
    columns = [["Row", *(row["row"] for row in rows)]]
    columns.append(["seeds", *(str(len(row["seeds"])) for row in rows)])
    for metric in metrics:
        columns.append([metric, *(_cell(row, metric) for row in rows)])
    params = ["–" if row["params"] is None else f"{row['params']:,}" for row in rows]
    columns += [["params", *params], ["s", *(f"{row['seconds']:.0f}" for row in rows)]]
    return Grid(columns)


def _values(row: Mapping[str, Any], metric: str) -> list[float] | None:
    """A metric's value for each seed; None where one of them has none."""
    values = [part["value"] for part in row["metrics"].get(metric, ())]
    return None if not values or None in values else values


def _cell(row: Mapping[str, Any], metric: str) -> str:
    if metric not in row["metrics"]:
        return NONE
    values = _values(row, metric)
    if values is None:
        return "undefined"
    mean, low, _ = mean_interval(values)
    return f"{mean:.5f}" + ("" if low is None else f" ± {mean - low:.5f}")


def _picture(studies: Sequence[Study], names: Sequence[str], metric: str) -> Picture:
    """Every row's mean and interval, a colour and a mark a study."""
    known = [
        (number, row["row"], mean_interval(values))
        for number, study in enumerate(studies)
        for row in _ok(study).values()
        if (values := _values(row, metric)) is not None
    ]
    figure = Figure(figsize=(4.8, 1.4 + 0.24 * len(known)), layout="constrained")
    axis = figure.subplots()
    for y, (number, _, (mean, low, high)) in enumerate(known):
        colour = COLOURS[number % len(COLOURS)]
        if low is not None:
            axis.plot([low, high], [y, y], color=colour, lw=1.6)
        axis.plot(mean, y, MARKS[number % len(MARKS)], color=colour, ms=5)
    for number in dict.fromkeys(number for number, *_ in known):
        look = {"color": COLOURS[number % len(COLOURS)], "ls": ""}
        mark = MARKS[number % len(MARKS)]
        axis.plot([], [], mark, label=names[number], **look)
    axis.set_yticks(range(len(known)), [row for _, row, _ in known], size=8)
    axis.set_ylim(len(known) - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=8)
    axis.locator_params(axis="x", nbins=5)
    axis.set_xlabel(metric)
    figures.tidy(axis)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    said = ", ".join(f"{names[n]}: {row} {found.mean:.4f}" for n, row, found in known)
    return Picture(
        f"{metric}.svg", to_svg(figure), f"{metric} of every row: {said}", metric
    )
