"""The committed tables and figures are those that their JSON gives."""

import json
from pathlib import Path

import pytest

from experiments import redraw
from experiments.analysis import statistics
from experiments.analysis.report import results

SHOWN = {
    kind: path
    for path in sorted(redraw.RESULTS.rglob("*.json"))
    if (kind := results.kind(json.loads(path.read_text("utf-8")))) is not None
}
"""A committed result of each kind."""


@pytest.mark.parametrize("kind", SHOWN)
def test_markdown_drawn_again_is_the_committed_one(kind, tmp_path):
    path = SHOWN[kind]
    written = redraw.redraw(path, tmp_path)
    committed = path.with_suffix(".md")
    assert committed.exists(), "run python -m experiments.redraw, and commit it"
    committed = committed.read_text(encoding="utf-8")
    assert (tmp_path / f"{path.stem}.md").read_text(encoding="utf-8") == committed
    assert all((tmp_path / name).stat().st_size > 100 for name in written)
    assert (f"{path.stem}.png" in written) == (kind not in ("counts", "sizes"))


def families(result: dict) -> dict[tuple, list[dict]]:
    """The tests that a page says it corrects together."""
    found: dict[tuple, list[dict]] = {}

    def add(test, *key):
        if test is not None:
            found.setdefault(key, []).append(test)

    for test in result.get("answers", []):
        add(test, test["metric"])
    for test in result.get("found", []):
        add(test, test["metric"], test["deciding"])
    for test in result.get("adaptation", []):
        add(test)
    for row in result["rows"] if "layout" in result else []:
        for metric, against in row["tests"].items():
            for name, test in against.items():
                add(test, metric, name)
    maps = (
        {"worlds": result["worlds"], **result["margins"]} if "worlds" in result else {}
    )
    for name, worlds in maps.items():
        for cells in (cells for world in worlds for cells in world["rows"].values()):
            for metric, cell in cells.items():
                add(cell.get("difference"), name, metric)
    for total in result.get("totals", {}).values():
        for metric in result["metrics"]:
            add(total[metric].get("vs_kept"), metric)
    for name, part in result.get("weightings", {}).items():
        for pair in part["pairs"].values():
            add(pair.get("vs_base"), name)
    return found


def with_tests() -> list[Path]:
    paths = sorted(redraw.RESULTS.rglob("*.json"))
    return [path for path in paths if '"p_holm"' in path.read_text("utf-8")]


@pytest.mark.parametrize(
    "path", with_tests(), ids=lambda path: str(path.relative_to(redraw.RESULTS))
)
def test_the_ps_of_a_page_are_those_of_one_correction(path):
    made = families(json.loads(path.read_text("utf-8")))
    assert made
    for tests in made.values():
        expected = statistics.holm([test["p"] for test in tests])
        assert [test["p_holm"] for test in tests] == pytest.approx(expected)


JUDGED = sorted(
    path
    for name in ("answers", "contrasts")
    for path in redraw.RESULTS.rglob(f"{name}.json")
)


@pytest.mark.parametrize(
    "path", JUDGED, ids=lambda path: str(path.relative_to(redraw.RESULTS))
)
def test_verdicts_are_those_of_the_table_beside_them(path, tmp_path):
    assert redraw.redraw(path, tmp_path)[:2] == [path.name, f"{path.stem}.md"]
    again = (tmp_path / f"{path.stem}.md").read_text("utf-8")
    committed = path.with_suffix(".md").read_text("utf-8")
    assert again == committed, "run python -m experiments.redraw, and commit it"


def test_answers_without_their_table_are_refused_by_name(tmp_path, capsys):
    write(tmp_path, "answers.json", {"answers": [], "command": "x"})
    assert redraw.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "answers.json" in error and "figure4.json" in error


GROWTH = {
    name: {"x": [1, 2], "at": "depth 3", "params": {"dcn": [1000, 2000]}}
    for name in ("fields", "depth")
}
SIZES = {
    "table": "dcrnn.table3",
    "data": "video_feed",
    "inputs": 140,
    "rows": [
        {"row": "MMoE", "net": 200, "tables": 50, "multiply-adds": 400, "paper": 9},
        {"row": "GRU", "net": 100, "tables": 50, "multiply-adds": 100, "paper": None},
    ],
    "command": "python -m experiments.run dcrnn.table3",
}


def write(folder: Path, name: str, result: dict) -> Path:
    path = folder / name
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def test_growth_and_sizes_are_drawn_too(tmp_path):
    growth = write(tmp_path, "growth.json", GROWTH)
    assert redraw.redraw(growth, tmp_path / "new") == ["growth.md", "growth.png"]
    assert "| 2,000 |" in (tmp_path / "new" / "growth.md").read_text("utf-8")
    sizes = write(tmp_path, "table3.json", SIZES)
    assert redraw.redraw(sizes, tmp_path) == ["table3.md"]
    text = (tmp_path / "table3.md").read_text("utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("| GRU")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["GRU", "100", "0.50", "50", "100", "0.25", "–"]
    assert SIZES["command"] in text


def test_the_command_keeps_the_folders_and_passes_over_what_it_does_not_know(
    tmp_path, capsys
):
    (tmp_path / "results" / "feed").mkdir(parents=True)
    write(tmp_path / "results" / "feed", "table3.json", SIZES)
    write(tmp_path / "results", "other.json", {"something": 1})
    arguments = [str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    assert redraw.main(arguments) == 0
    assert (tmp_path / "out" / "feed" / "table3.md").exists()
    assert "other.json: nothing to draw" in capsys.readouterr().out


def test_a_folder_without_results_and_a_damaged_file_end_in_one_line(tmp_path, capsys):
    assert redraw.main([str(tmp_path)]) == 1
    assert "no JSON" in capsys.readouterr().err
    (tmp_path / "table2.json").write_text('{"table":', encoding="utf-8")
    assert redraw.main([str(tmp_path)]) == 1
    assert "table2.json" in capsys.readouterr().err
