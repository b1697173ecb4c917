"""Draws every table and figure of a folder of results again, from their JSON alone.

python -m experiments.redraw
python -m experiments.redraw experiments/results/video_feed --out elsewhere

For each `table2.json`, `figure4.json`, `interval.json`, … the Markdown and the PNG of
its name, beside it; for maps (`conflict.json`) what they say, and for analyses
(`sharing.json`, `online.json`) their figures. `answers.json` and `contrasts.json` are
judged anew, from the table (and the figure 4) beside them. A picture of masks needs the
masks themselves, which are in a run's work directory and not among results: `masks.png`
stays as it is, and so do intervals over test users, which need the predictions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.analysis import contrasts
from experiments.analysis.figures import (
    conflict_figures,
    contrast_figures,
    online_figures,
    own_style,
    sharing_figures,
    sweep_figures,
    table_figures,
)
from experiments.analysis.report import results
from experiments.lt4rec import conflict, controls, questions
from experiments.running.workdir import read_json, write_json
from jaxmtl import console, places

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Redraws; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.redraw",
        description="Draws tables and figures again from the JSON of results.",
    )
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, help="folder to write to; default: beside")
    options = parser.parse_args(argv)
    try:
        if options.out is not None:
            places.check_folder("--out", options.out, {})
        paths = sorted(options.results.rglob("*.json"))
        if not paths:
            raise ValueError(f"{options.results}: no JSON in this folder")
        for path in paths:
            folder = path.parent
            if options.out:
                folder = options.out / folder.relative_to(options.results)
            written = redraw(path, folder)
            print(f"{path.relative_to(options.results)}: {', '.join(written)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


@own_style()
def redraw(path: Path, folder: Path) -> list[str]:
    """Writes the Markdown and, where it has one, the PNG of a result.

    Args:
      path: of its JSON.
      folder: to write to; made if it is not there.

    Returns:
      The files' names.

    Raises:
      ValueError: the file is damaged; names it.
    """
    result = read_json(path)
    folder.mkdir(parents=True, exist_ok=True)
    if "answers" in result or "contrasts" in result:
        return judge_again(result, path, folder)
    if results.kind(result) is None:
        return draw_analysis(result, path.stem, folder)
    markdown, picture = folder / f"{path.stem}.md", folder / f"{path.stem}.png"
    write_text(results.to_markdown(result), markdown)
    return [markdown.name] + ([picture.name] if draw(result, picture) else [])


def draw(result: Mapping[str, Any], path: Path) -> bool:
    """Draws the figure of a result; False where its kind has none."""
    kind = results.kind(result)
    if kind == "table" and any(row["metrics"] for row in result["rows"]):
        table_figures.table_figure(result, path)
    elif kind == "rounds":
        table_figures.figure4(result["panels"], path)
    elif kind == "sweep":
        sweep_figures.sweep_figure(result, path)
    elif kind == "noise":
        panels = {n: p for n, p in result["panels"].items() if n != "inputs"}
        metric = results.noise_metric(result)
        title = result["metrics"][metric]
        sweep_figures.noise_figure(panels, metric, title, path)
    elif kind == "growth":
        growth = {name: result[name] for name in ("fields", "depth")}
        sweep_figures.growth_figure(growth, path)
    else:
        return False
    return True


def draw_analysis(result: Mapping[str, Any], name: str, folder: Path) -> list[str]:
    """Draws the figures of a study that answers a question of its own, and what it
    says in words; their names."""
    if "worlds" in result:
        write_text(conflict.to_markdown(result), folder / f"{name}.md")
        return [f"{name}.md", *conflict_figures.draw(result, folder, name)]
    if "weightings" in result:
        online_figures.draw(result, folder / f"{name}.png")
        return [f"{name}.png"]
    if "cosine" in result:
        return sharing_figures.draw(result, folder)
    return ["nothing to draw"]


def judge_again(result: Mapping[str, Any], path: Path, folder: Path) -> list[str]:
    """Writes what a table's rows say of claims or contrasts; the files' names.

    Args:
      result: what was said of them; keeps all but the tests.
      path: of its JSON, which stands beside the table.
      folder: to write to.

    Raises:
      ValueError: the table or the figure 4 is not there.
    """
    name = path.stem
    written = [folder / f"{name}.json", folder / f"{name}.md"]
    if "answers" in result:
        panels = read_json(_beside(path, "figure4"))["panels"]
        found = questions.judge(read_json(_beside(path, "table2", "table")), panels)
        write_json(written[0], {**result, "answers": found})
        write_text(questions.to_text(found, result["command"]), written[1])
    else:
        table = read_json(_beside(path, "controls", "table"))
        found = contrasts.compare(table, controls.QUESTIONS)
        write_json(written[0], {**result, "found": found})
        write_text(controls.to_markdown(table, found), written[1])
        if found:
            written.append(folder / f"{name}.png")
            contrast_figures.contrast_figure(found, result["metrics"], written[-1])
    return [file.name for file in written]


def _beside(path: Path, *names: str) -> Path:
    """The first of these JSON files that there is: among results, or of a run."""
    paths = [path.with_name(f"{name}.json") for name in names]
    found = next(filter(Path.exists, paths), None)
    if found is None:
        raise ValueError(
            f"{path}: what it says is judged from {' or '.join(p.name for p in paths)}"
            " beside it, which is not there; copy it there from the run"
        )
    return found


def write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(console.run(main))
