"""The report of one study: everything in its work directory, on one page."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.analysis.figures import table_figures
from experiments.analysis.report import judgement, learning, markdown, results
from experiments.analysis.report.document import Document, Picture, Section
from experiments.analysis.report.study_files import Study
from experiments.analysis.report.svg import to_svg

DRAWN = {"table.png", "figure4.png", "masks.png"}
"""Images beside the JSON that the page draws anew, one panel a picture."""


def make_page(study: Study) -> Document:
    """The page of a finished study."""
    sections = [*_results(study), *_texts(study), *_other_images(study)]
    sections += [*_searches(study), *_maps(study)]
    sections += [*_learning(study), *_judgement(study)]
    sections += [*_printed(study), *_environment(study)]
    command = study.about.get("command")
    return Document(
        study.title, "", _facts(study), [command] if command else [], sections
    )


def duration(seconds: float) -> str:
    """`48 s`, `12 min 3 s`, `2 h 5 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def forest(table: Mapping[str, Any], metric: str) -> Picture:
    """A metric of every row of a table with its interval."""
    rows = [r for r in table["rows"] if r["row"] != "oracle"]
    figure = Figure(figsize=(4.8, 1.2 + 0.24 * len(rows)), layout="constrained")
    axis = figure.subplots()
    table_figures.draw_forest(axis, table, metric)
    axis.set_yticks(range(len(rows)), [row["row"] for row in rows], size=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.locator_params(axis="x", nbins=5)
    title = table["layout"]["main"][metric]
    means = {r["row"]: r["metrics"].get(metric, {}).get("mean") for r in rows}
    known = ", ".join(f"{row} {mean:.4f}" for row, mean in means.items() if mean)
    return Picture(
        f"{table['table']}-{metric}.svg",
        to_svg(figure),
        f"{title} of {table['table']}, a dot and an interval a row: {known}",
        f"{title}: mean and 95 % interval over seeds.",
    )


def _facts(study: Study) -> dict[str, str]:
    about = study.about
    total, searches = study.seconds
    facts = {"Log": study.config["data"]["name"]}
    if "counts" in about:
        facts["Rows of the log"] = ", ".join(
            f"{split} {rows:,}" for split, rows in about["counts"].items()
        )
    if "seeds" in about:
        facts["Seeds"] = ", ".join(map(str, about["seeds"]))
    if total:
        part = f", of which ticket searches {duration(searches)}" if searches else ""
        facts["Training time"] = f"{duration(total)}, all rows and seeds{part}"
    facts["Work directory"] = study.folder.name
    return facts


def _results(study: Study) -> Iterator[Section]:
    """Tables and sweeps with their numbers; a table's metrics as pictures too."""
    for result in study.found.values():
        section, kind = results.section(result), results.kind(result)
        if kind == "rounds" and study.searches:
            continue  # its searches stand among all of the study's
        pictures = []
        if kind == "table" and any(row["metrics"] for row in result["rows"]):
            pictures = [forest(result, metric) for metric in result["layout"]["main"]]
        elif kind == "rounds":
            pictures = [_rounds(t, p) for t, p in result["panels"].items()]
        yield section._replace(pictures=pictures)


def _texts(study: Study) -> Iterator[Section]:
    """What else a study wrote for people, as the answers of a table of contrasts."""
    known = {Path(name).stem for name in study.found} | {"report"}
    for path in sorted(study.folder.glob("*.md")):
        if path.stem not in known:
            yield markdown.read(
                path.read_text(encoding="utf-8"), path.stem.capitalize()
            )


def _searches(study: Study) -> Iterator[Section]:
    if study.searches:
        parts = [
            Section(
                row,
                grids=[results.rounds_grid(title, p) for title, p in panels.items()],
                pictures=[_rounds(f"{row}: {title}", p) for title, p in panels.items()],
            )
            for row, panels in study.searches.items()
        ]
        lead = (
            "Validation metric of each round of pruning (LT4REC, Figure 4). A search"
            " that several rows share stands under the first of them."
        )
        yield Section("Ticket searches", lead, parts=parts)


def _rounds(title: str, panel: Mapping[str, Any]) -> Picture:
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    table_figures.draw_rounds(figure.subplots(), title, **panel)
    grid = results.rounds_grid(title, panel)
    rounds = "; ".join(" ".join(cells[1:3]) for cells in grid.rows[1:])
    # A title holds a task's name, which may be long, or plain as another's is.
    digest = zlib.crc32(title.encode())
    return Picture(
        f"rounds-{_plain(title)[:40]}-{digest:08x}.svg",
        to_svg(figure),
        f"{title}: validation {panel['metric']} by weights kept: {rounds}",
    )


def _maps(study: Study) -> Iterator[Section]:
    rows: dict[str, list[Picture]] = {}
    for name, kinds in study.maps.items():
        row, _, layer = name.partition("/")
        figure = Figure(figsize=(3.4, 4.2), layout="constrained")
        table_figures.draw_masks(figure.subplots(), layer, kinds, ("CTR", "CVR"))
        picture = Picture(
            f"masks-{_plain(name)}.svg",
            to_svg(figure),
            f"Masks of {row}, layer {layer}: which weights CTR and CVR share,"
            f" {(kinds == 3).mean():.1%}, and which neither keeps,"
            f" {(kinds == 0).mean():.1%}",
        )
        rows.setdefault(row, []).append(picture)
    if rows:
        parts = [Section(row, pictures=pictures) for row, pictures in rows.items()]
        lead = "Weights of each layer that a task's ticket keeps, for the first seed."
        yield Section("Where the masks of two tasks meet", lead, parts=parts)


def _other_images(study: Study) -> Iterator[Section]:
    paths = [p for p in sorted(study.folder.glob("*.png")) if p.name not in DRAWN]
    if paths:
        pictures = [
            Picture(
                path.name,
                path.read_bytes(),
                f"Figure {path.stem} of {study.title}; its numbers stand in the tables",
                is_wide=True,
            )
            for path in paths
        ]
        yield Section("Figures", pictures=pictures)


def _learning(study: Study) -> Iterator[Section]:
    pictures = []
    for module, row in study.rows.items():
        if module in study.learning:
            seeds = study.learning[module]
            kept = {part["seed"]: part["best_epoch"] for part in row.get("by_seed", ())}
            figure = learning.draw(
                row["row"], seeds, kept, study.about.get("tasks", {})
            )
            said = f"{module}: {learning.describe(seeds, list(kept.values()))}"
            alt = f"Learning curves of {row['row']}, {said}"
            pictures.append(
                Picture(f"learning-{module}.svg", to_svg(figure), alt, said)
            )
    if pictures:
        lead = (
            "Mean training loss and validation metric of each epoch: grey, single"
            " seeds; blue, their mean as long as all of them train; rings, the epochs"
            " whose snapshots were kept. TensorBoard shows the same numbers under the"
            f" same names: tensorboard --logdir {study.folder.name}/events"
        )
        yield Section("Learning curves", lead, pictures=pictures)


def _judgement(study: Study) -> Iterator[Section]:
    pictures = []
    for module, roles in study.curves.get("rows", {}).items():
        row = next(iter(roles.values()))["row"]
        figure = judgement.draw(row, roles, study.curves["rates"])
        said = "; ".join(
            f"{role.upper()} on {r['n']:,} rows" for role, r in roles.items()
        )
        alt = f"ROC and calibration of {row}: {said}"
        pictures.append(Picture(f"judgement-{module}.svg", to_svg(figure), alt, module))
    if pictures:
        lead = (
            "On the test split, means over seeds. Calibration: mean label by mean"
            " prediction in ten bins of equally many rows, logarithmic where"
            " predictions are rare; on the grey line they agree."
        )
        yield Section("ROC and calibration", lead, pictures=pictures)


def _printed(study: Study) -> Iterator[Section]:
    """What a study of an unknown kind printed, so that its numbers stand here."""
    text = study.about.get("printed", "").strip()
    if text and not study.found:
        yield Section("What the command printed", printed=text)


def _environment(study: Study) -> Iterator[Section]:
    about = study.about
    versions = [
        f"{key}: {value}" for key, value in about.get("environment", {}).items()
    ]
    if versions:
        yield Section("Environment", notes=versions)
    if about.get("notes"):
        yield Section("Notes of the log", notes=about["notes"])


def _plain(name: str) -> str:
    """A name as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
