"""Programs for described devices: what is kept, what is missing, what real ones say."""

import importlib.util
import json
import time
from pathlib import Path

import pytest

from experiments.benchmarks import accelerator, command, compiled, study
from experiments.benchmarks.compiled_targets import TARGETS, Target
from experiments.running.workdir import write_json

pytestmark = pytest.mark.end_to_end

KEYS = [
    *("program", "target", "devices", "ids", "batch_per_device", "compile_seconds"),
    *("argument_bytes", "temporary_bytes", "sent_bytes_per_step"),
    *("table_copies_in_step", "serial_loops"),
]


@pytest.fixture
def compilers(monkeypatch):
    """All are there; each writes a record, but for one program."""
    asked = []

    def compile_one(given, limit):
        name, target, ids, scale, path = given
        asked.append((name, target, int(ids), scale))
        if name == "predict":
            return f"longer than {limit:g} s"
        about = [name, target, TARGETS[target].devices, int(ids)]
        write_json(
            Path(path), dict(zip(KEYS, [*about, 64, 1.5, *range(5)], strict=True))
        )
        return None

    monkeypatch.setattr(Target, "missing", lambda self: None)
    monkeypatch.setattr(
        compiled, "_compile", lambda given, limit: compile_one(given, limit)
    )
    return asked


def run(tmp_path, **options):
    options = compiled.Options(
        out=tmp_path / "out", cache=tmp_path / "cache", **options
    )
    failure = command.run("compiled", compiled.measure, options, "said")
    return failure, json.loads((tmp_path / "out" / "compiled.json").read_text())


def test_records_are_a_plain_list_and_kept_for_the_next_run(
    compilers, tmp_path, monkeypatch
):
    targets = ("tpu-v5e-1", "tpu-v5e-8", "cuda-h100-1")
    programs = ("dcrnn.mmoe", "update_adam")
    asked = {"targets": targets, "programs": programs, "update_ids": (10, 20)}
    failure, records = run(tmp_path, **asked)
    assert failure is None and len(records) == len(compilers) == 9
    assert all(list(record) == KEYS for record in records)
    text = (tmp_path / "out" / "compiled.md").read_text()
    assert "TPU v5e" in text and "Table updates compiled for tpu-v5e-8" in text
    assert len(list((tmp_path / "out" / "compiled_figures").glob("*.svg"))) == 5
    assert run(tmp_path, **asked) == (None, records)
    assert len(compilers) == 9  # nothing again


def test_another_version_or_code_is_compiled_again(compilers, tmp_path, monkeypatch):
    asked = {"targets": ("tpu-v5e-1",), "programs": ("dcrnn.mmoe",)}
    run(tmp_path, **asked)
    monkeypatch.setattr(compiled, "version", lambda package: "another")
    run(tmp_path, **asked)
    assert len(compilers) == 2


def test_the_short_form_is_one_small_training_a_target(compilers, tmp_path):
    run(tmp_path, quick=True)
    few = ("lt4rec.s_weight", compiled.FEW_IDS, "quick")
    assert [(name, ids, scale) for name, _, ids, scale in compilers] == 6 * [few]


def test_a_program_that_does_not_compile_is_named_once_the_others_are_there(
    compilers, tmp_path
):
    programs = ("predict", "dcrnn.mmoe")
    failure, records = run(tmp_path, targets=("tpu-v5e-1",), programs=programs)
    assert failure == (
        "RuntimeError: not compiled: predict of 1,000,000 ids for tpu-v5e-1 (longer"
        " than 1200 s)"
    )
    assert [record["program"] for record in records] == ["dcrnn.mmoe"]


def test_one_line_says_how_to_install_a_compiler(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    only = lambda name, *of: None if name == "libtpu" else find(name, *of)
    monkeypatch.setattr(importlib.util, "find_spec", only)
    assert run(tmp_path, targets=("tpu-v5e-8",))[1] == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: no compiler for tpu: pip install -e '.[aot-tpu]'"


@pytest.mark.parametrize("target", ["tpu-v5e-8", "cuda-h100-1"])
def test_a_compiler_takes_a_program_and_its_text_is_read(target, tmp_path):
    if missing := TARGETS[target].missing():
        pytest.skip(missing)
    asked = {"targets": (target,), "programs": ("update_sgd",), "quick": True}
    failure, (record,) = run(tmp_path, **asked)
    assert failure is None
    assert record["devices"] == TARGETS[target].devices
    assert record["argument_bytes"] > 0
    assert (record["sent_bytes_per_step"] > 0) == (record["devices"] > 1)


# A real accelerator


def late():
    time.sleep(60)


def lacking():
    raise ImportError("no torch")


def test_a_part_that_fails_or_takes_too_long_is_left_out():
    found = accelerator.apart(lacking, 60)
    assert found == {"missing": "ImportError: no torch"}
    assert accelerator.apart(late, accelerator.LEAST) == {"missing": "longer than 5 s"}
    assert accelerator.apart(late, 1.0) == {"missing": "no time was left"}


def test_each_part_of_the_script_is_written_before_the_next(tmp_path, monkeypatch):
    there = []

    def here(function, seconds):
        there.append((tmp_path / "accelerator.json").exists())
        return function()

    def seconds(self, name, seeds, way, cache, limit):
        assert (name, seeds) == ("lt4rec.base_ctr", 2) and 0 < limit < 350
        if way == "program":
            raise RuntimeError("no")
        return 2.0

    monkeypatch.setattr(accelerator, "apart", here)
    monkeypatch.setattr(accelerator, "CONTENDERS", ("ours",))
    monkeypatch.setattr(study.Runs, "seconds", seconds)
    options = accelerator.QUICK
    options = accelerator.Options(
        out=tmp_path,
        ids=(1000,),
        batch=8,
        weights=1000,
        name=options.name,
        seeds=options.seeds,
        tests=(),
    )
    assert command.run("accelerator", accelerator.measure, options, "") is None
    tables = json.loads((tmp_path / "accelerator.json").read_text())["tables"]
    step, pruning, of_seeds = (table["records"] for table in tables)
    assert there == [False, True, True, True]
    assert step[0]["seconds"] >= step[0]["least_seconds"] > 0
    assert [record["contender"] for record in pruning] == list(accelerator.SELECTIONS)
    assert of_seeds == [
        {"way": "in_turn", "cold": 2.0, "warm": 2.0},
        {"way": "program", "missing": "RuntimeError: no"},
    ]
