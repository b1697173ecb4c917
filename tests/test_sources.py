"""What identifies a prepared log: its settings, its files and the code that reads."""

import dataclasses
import os
from pathlib import Path

import pytest
from conftest import make_schema

import experiments
from experiments import sources
from experiments.config import DataConfig
from experiments.running import scores
from jaxmtl.data import leakage
from jaxmtl.types import Task

EXAMPLE = Path(experiments.__file__).resolve().parents[1] / "examples" / "own_log"


def example(cache, schema=EXAMPLE / "schema.toml", **changes) -> DataConfig:
    """The log of the examples, perhaps described otherwise."""
    given = {"name": "own_log", "path": EXAMPLE / "log.csv", "cache": cache}
    return DataConfig(schema=schema, **given | changes)


@pytest.fixture
def long_file(tmp_path, monkeypatch):
    """A file that is not read whole, of a hundred bytes."""
    monkeypatch.setattr(sources, "WHOLE", 64)
    path = tmp_path / "log.csv"
    path.write_bytes(b"a" * 100)
    return path


def test_a_long_file_edited_in_its_middle_is_another(long_file):
    before = sources._checksum(long_file)
    when = long_file.stat().st_mtime_ns
    long_file.write_bytes(b"a" * 50 + b"b" + b"a" * 49)
    os.utime(long_file, ns=(when, when + 1))
    assert sources._checksum(long_file) != before


def test_a_long_file_left_alone_stays_the_same(long_file):
    assert sources._checksum(long_file) == sources._checksum(long_file)


def test_a_short_file_is_its_content(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"a")
    before = sources._checksum(path)
    os.utime(path, ns=(1, 1))
    assert sources._checksum(path) == before
    path.write_bytes(b"b")
    assert sources._checksum(path) != before


def test_code_in_a_subpackage_is_part_of_the_identity(tmp_path):
    for name in ("read.py", "own/read.py", "own/deep/read.py", "own/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = sources._code(tmp_path)
    assert list(found) == ["own/deep/read.py", "own/read.py", "read.py"]
    assert len(set(found.values())) == 3


# Names of tasks


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("ctr"), "'click' and 'ctr' would both be called ctr.*rename 'ctr'"),
        (Task("cvr"), "'watch' and 'cvr' would both be called cvr.*rename 'cvr'"),
        (Task("ctcvr"), "'ctcvr' and 'joint.watch' .* ctcvr.*rename 'ctcvr'"),
        (Task("ctlike"), "'ctlike' and 'joint.like' .*rename 'ctlike' or 'like'"),
        (Task("r", space="click"), "'click' and 'joint.r' .* ctr.*rename 'r'"),
        (Task("all"), "'all' .*rename"),
        (Task("pair"), "'pair' .*rename"),
        (Task("joint.like"), "'joint.like' .*rename"),
    ],
)
def test_names_that_metrics_could_not_tell_apart_are_refused(task, message):
    schema = make_schema()
    scores.check_names(schema)
    wrong = dataclasses.replace(schema, tasks=(*schema.tasks, task))
    with pytest.raises(ValueError, match=f"schema tiny: .*{message}"):
        scores.check_names(wrong)


def test_a_log_whose_tasks_share_a_name_is_refused(cache, tmp_path):
    text = (EXAMPLE / "schema.toml").read_text()
    assert "[tasks]" in text
    schema = tmp_path / "schema.toml"
    schema.write_text(text.replace("[tasks]", '[tasks]\nctr = { space = "click" }'))
    log = tmp_path / "log.csv"
    head, *lines = (EXAMPLE / "log.csv").read_text().splitlines()
    log.write_text("\n".join([f"{head},ctr", *(f"{line},0" for line in lines)]))
    config = example(cache, schema, path=log)
    with pytest.raises(ValueError, match="rename 'ctr'"):
        sources.load(config, say=lambda text: None)


# Leaks


def test_a_log_that_training_has_judged_is_not_judged_again(cache, monkeypatch):
    """So a run whose leaks were allowed, which its settings do not hold, is served."""

    def refuse(*args):
        raise leakage.LeakedLabel("judged")

    monkeypatch.setattr(leakage, "refuse_leaks", refuse)
    with pytest.raises(leakage.LeakedLabel):
        sources.load(example(cache), say=lambda text: None)
    data = sources.load(example(cache), say=lambda text: None, check_leaks=False)
    assert data.schema.name == "my_shop"
