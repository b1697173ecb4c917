"""Runs that are killed end with the bits of one that was left alone."""

import json

import numpy as np
import pytest

from experiments.running.workdir import write_arrays, write_json
from qa import faults

pytestmark = pytest.mark.end_to_end


def make_run(folder, **changes):
    """A work directory with an array, a result and a log."""
    content = {"value": 0.5, "loss": 1.0, "seconds": 1.0} | changes
    write_arrays(folder / "rows" / "a" / "p.npz", {"x": np.full(3, content["value"])})
    write_json(folder / "rows" / "a" / "seed.json", content)
    lines = [json.dumps({"epoch": 1}), json.dumps({"epoch": changes.get("epoch", 2)})]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def test_comparing_counts_what_it_compares_and_leaves_times_out(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", seconds=2.0)
    assert faults.compare(a, b) == (1, 2, [])


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"loss": 1.0000001}, ["rows/a/seed.json ('loss',)"]),
        ({"new": None}, ["rows/a/seed.json ('new',)"]),
        ({"value": 0.25}, ["rows/a/p.npz x", "rows/a/seed.json ('value',)"]),
        ({"epoch": 3}, ["rows/a/seed.json ('epoch',)", "metrics.jsonl"]),
    ],
)
def test_comparing_names_every_difference(tmp_path, changes, differing):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", **changes)
    assert faults.compare(a, b).differing == differing


def test_comparing_notices_what_should_not_have_been_left(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    (b / "rows" / "a" / ".partial.p.npz").write_bytes(b"half")
    assert faults.compare(a, b).differing == [
        "rows/a/.partial.p.npz is in one of them alone"
    ]


@pytest.mark.parametrize("name", ["days/a/seed0/days.json", "cosine/a/seed0.json"])
def test_comparing_looks_at_results_wherever_a_study_keeps_them(tmp_path, name):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    for root, loss in ((a, 0.5), (b, 0.25)):
        write_json(root / name, [{"loss": loss, "cost": {"seconds": loss}}])
        write_json(root / "plan.json", {"updated": loss})
        write_json(root / "daily_cost.json", {"cost.seconds": {"mean": loss}})
        write_arrays(root / "masks.npz", {"m": np.full(2, loss)})
        (root / "events").mkdir()
        (root / "events" / str(loss)).write_text("")
        (root / "report.md").write_text(str(loss))
    found = faults.compare(a, b)
    assert sorted(found.differing) == [f"{name} (0, 'loss')", "masks.npz m"]


def test_comparing_nothing_is_a_failure(tmp_path):
    for name in "ab":
        write_json(tmp_path / name / "config.json", {"name": "x"})
        write_json(tmp_path / name / "plan.json", {"done": 1})
    (line,) = faults.compare(tmp_path / "a", tmp_path / "b").differing
    assert "nothing" in line


def test_a_write_is_noticed_wherever_it_is_made(tmp_path):
    (tmp_path / ".lock").write_text("process 1")
    (tmp_path / "days" / "a").mkdir(parents=True)
    assert not faults._is_writing(tmp_path)
    (tmp_path / "days" / "a" / ".partial.days.json").write_text("")
    assert faults._is_writing(tmp_path)


def test_a_run_that_is_killed_ends_with_the_bits_of_one_left_alone(
    tmp_path, monkeypatch, capsys
):
    """Twice, once while a file is written; the command makes 25 kills of a table."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    settings = ["--name", "lt4rec.base_ctr", "--folder", str(tmp_path)]
    assert faults.main([*settings, "--kills", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("kill ") for line in printed) == 2
    assert printed[-1].endswith("0 differ")
