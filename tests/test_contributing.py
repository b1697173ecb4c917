"""CONTRIBUTING.md is followed to the letter; the citation."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "--seeds 1 --no-report --data.feed.users 60 --data.feed.videos 60"
    " --data.feed.impressions 3000 --data.feed.days 4 --model.hidden 16 8"
    " --model.embedding-dim 4 --model.init-scale 0.05 --training.batch-size 256"
    " --training.epochs 1 --pruning.rounds 1 --pruning.epochs 1"
)
"""The shapes of test_experiments.py, which one walk runs: programs are shared."""
FENCE = re.compile(
    r"^```(?P<kind>\w+)(?: title=\"(?P<file>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
DRIVER = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    try:
        if words[1] == "-m":
            sys.argv = words[2:]
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words[1:]
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as stopped:
        if stopped.code:
            sys.exit(f"{' '.join(words)}: {stopped.code}")
"""
"""Runs commands one after another in one process, which imports JAX once."""


class Block(NamedTuple):
    """A fenced block: its language, the file it is of ("" without), its text."""

    kind: str
    file: str
    text: str


def walk(title: str) -> list[Block]:
    """The blocks of one section of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, rest = text.partition(f"\n## {title}\n")
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = [
        Block(m["kind"], m["file"] or "", m["text"]) for m in FENCE.finditer(section)
    ]
    assert blocks, f"CONTRIBUTING.md has no section {title!r}"
    return blocks


def write(block: Block, folder: Path) -> None:
    """Writes a file, which is not there yet."""
    path = folder / block.file
    assert not path.exists(), f"{block.file} is there already"
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """Path -> content, of all code."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.py")
    }


def commands(block: Block) -> list[list[str]]:
    lines = [line.split() for line in block.text.splitlines()]
    for words in lines:
        if "experiments.run" in words and "--list" not in words:
            words += TINY.split()
    return lines


WALKS = (
    "Add an ablation",
    "Add a loss weighting",
    "Add a gradient surgery",
    "Add an optimiser",
    "Add a learning-rate schedule",
    "Add a model",
    "Add a way to find masks",
    "Add a metric",
    "Add a data set",
)


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Path, str]:
    """A copy in which all walks were followed: its folder and what was printed."""
    folder = tmp_path_factory.mktemp("checkout")
    unwanted = shutil.ignore_patterns("__pycache__", "results")
    for name in ("jaxmtl", "experiments", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", folder)
    before, todo, written = contents(folder), [], set()
    for block in [block for title in WALKS for block in walk(title)]:
        if block.kind == "sh":
            todo += commands(block)
        else:
            assert block.kind == "python", f"{block.file}: a walk adds files alone"
            write(block, folder)
            written.add(block.file)
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "JAXMTL_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(todo)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    after = contents(folder)
    assert before.items() <= after.items(), "a walk changed a file"
    assert set(after) - set(before) == written
    return folder, done.stdout


def row_of(folder: Path, run: str, module: str) -> dict:
    table = json.loads((folder / "runs" / run / "table.json").read_text())
    (row,) = [row for row in table["rows"] if row["module"] == module]
    return row


def test_the_ablations_walk_adds_a_row_with_its_own_setting(followed):
    folder, printed = followed
    name = "lt4rec.s_weight_two_passes"
    assert re.search(rf"^{name} +Control of Table 2: ", printed, re.MULTILINE)
    row = row_of(folder, f"{name}-video_feed-demo", name)
    assert row["status"] == "ok"
    run = json.loads(
        (folder / "runs" / f"{name}-video_feed-demo/config.json").read_text()
    )
    assert run["rows"][name]["training"]["cvr_passes"] == 2


def test_the_models_walk_adds_a_model_that_trains_and_agrees_with_its_oracle(followed):
    folder, printed = followed
    assert "$ python -m pytest tests/models/test_linear.py\n" in printed
    assert "2 passed" in printed
    row = row_of(folder, "dcrnn.linear-video_feed-demo", "dcrnn.linear")
    shared = row_of(
        folder, "dcrnn.shared_bottom-corner_shop-demo", "dcrnn.shared_bottom"
    )
    assert row["status"] == shared["status"] == "ok"
    assert row["params"] < 1_000


RUNS = {
    "random_weights": ("Add a loss weighting", "dcrnn.mmoe", "balance"),
    "smallest_norm": ("Add a gradient surgery", "lt4rec.s_weight_sum", "balance"),
    "signum": ("Add an optimiser", "lt4rec.base_ctr", "optimiser"),
    "movement": ("Add a way to find masks", "lt4rec.ticket_ctr", "finder"),
    "sparse_evolution": ("Add a way to find masks", "lt4rec.ticket_cvr", "finder"),
}
"""Method -> its walk, the row that this trains, and the section that names it."""


@pytest.mark.parametrize("method", RUNS)
def test_a_walks_method_is_what_its_run_is_made_of(followed, method):
    folder, printed = followed
    title, name, section = RUNS[method]
    (words,) = [
        words
        for block in walk(title)
        if block.kind == "sh"
        for words in commands(block)
        if "experiments.run" in words and method in words
    ]
    assert f"$ {' '.join(words)}" in printed
    path = folder / "runs" / f"{name}-video_feed-demo" / "config.json"
    settings = json.loads(path.read_text())["rows"][name]
    settings = settings["pruning"] if section == "finder" else settings
    assert settings[section]["name"] == method and method in settings[section]


def test_the_schedules_walk_lowers_the_rate(followed):
    _, printed = followed
    assert "--optimiser.schedule.name polynomial" in printed


def test_the_metrics_walk_adds_it_to_what_is_measured(followed):
    folder, _ = followed
    row = row_of(folder, "lt4rec.hard_sharing-video_feed-demo", "lt4rec.hard_sharing")
    assert "ctr.normalised_entropy" in row["metrics"]


def test_the_data_sets_walk_adds_a_log_in_which_looks_can_be_learned(followed):
    folder, _ = followed
    row = row_of(folder, "dcrnn.shared_bottom-corner_shop-demo", "dcrnn.shared_bottom")
    assert row["metrics"]["ctr.auc"]["n"] == 300
    assert {"ctr.auc", "cvr.auc", "ctcvr.auc"} <= set(row["metrics"])


def test_the_walks_code_is_formatted_and_linted_as_ours_is(followed):
    folder, _ = followed
    blocks = [block for title in WALKS for block in walk(title)]
    files = sorted({block.file for block in blocks if block.file})
    for command in (("check",), ("format", "--check")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *files],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_the_citation_names_the_project_its_version_and_both_papers():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["cff-version"] == "1.2.0"
    assert cited["title"].startswith(project["name"])
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]["text"]
    titles = [reference["title"].split(":")[0] for reference in cited["references"]]
    assert titles == ["LT4REC", "DCRNN"]
    for entry in (cited, *cited["references"]):
        assert entry["authors"] and all(entry["authors"])


def test_the_changelogs_newest_version_is_the_projects():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert project["version"] in versions or len(versions) == 1
