"""What identifies a log: its settings and what the files hold that are read."""

import dataclasses
import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest
from conftest import make_schema

import experiments
from experiments.settings import fingerprints, scores, sources
from experiments.settings.config import DataConfig
from experiments.settings.views import View
from jaxmtl.data import leakage
from jaxmtl.data.sources import own_log
from jaxmtl.types import Task

EXAMPLE = Path(experiments.__file__).resolve().parents[1] / "examples" / "own_log"


def example(cache, schema=EXAMPLE / "schema.toml", **changes) -> DataConfig:
    """The log of the examples, perhaps described otherwise."""
    given = {"name": "own_log", "path": EXAMPLE / "log.csv", "cache": cache}
    return DataConfig(schema=schema, **given | changes)


def quietly(text):
    """Says nothing."""


def fingerprint(cache, **changes) -> str:
    return sources.fingerprint(example(cache, **changes))


@pytest.fixture
def parts(tmp_path):
    """The log of the examples as a folder of two parts."""
    head, *lines = (EXAMPLE / "log.csv").read_text().splitlines()
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, rows in {"a.csv": lines[:150], "b.csv": lines[150:]}.items():
        (folder / name).write_text("\n".join([head, *rows]) + "\n")
    return folder


def test_a_log_is_the_same_wherever_it_lies_and_whenever_it_was_written(
    cache, tmp_path, monkeypatch
):
    log = tmp_path / "elsewhere" / "other.csv"
    log.parent.mkdir()
    shutil.copy(EXAMPLE / "log.csv", log)
    os.utime(log, ns=(1, 1))
    log.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    relative = Path("elsewhere", "other.csv")
    found = {fingerprint(cache, path=path) for path in (log, relative)}
    assert found == {fingerprint(cache)}


def test_what_lies_beside_the_parts_and_is_not_read_changes_nothing(cache, parts):
    before = fingerprint(cache, path=parts)
    for name in ("README.md", ".DS_Store", "_SUCCESS", ".a.csv.crc", ".nfs0001.csv"):
        (parts / name).write_text("?")
    assert fingerprint(cache, path=parts) == before
    (parts / "b.csv").rename(parts / "part-2.csv")  # the order is what it was
    assert fingerprint(cache, path=parts) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: shutil.copy(parts / "b.csv", parts / "c.csv"),
        lambda parts: (parts / "b.csv").unlink(),
        lambda parts: (parts / "b.csv").write_bytes(
            (parts / "b.csv").read_bytes().replace(b"1", b"2", 1)
        ),
        # Its rows may be the same; that its bytes are is what is known of a file.
        lambda parts: (parts / "b.csv").write_bytes(
            (parts / "b.csv").read_bytes().replace(b"\n", b"\r\n")
        ),
        lambda parts: (parts / "b.csv").rename(parts / "0.csv"),
        lambda parts: (parts / "b.csv").rename(parts / "b.tsv"),
    ],
    ids=[
        "added",
        "removed",
        "edited",
        "line ends",
        "in another order",
        "read otherwise",
    ],
)
def test_other_parts_are_another_log(cache, parts, change):
    before = fingerprint(cache, path=parts)
    change(parts)
    assert fingerprint(cache, path=parts) != before


def test_a_schema_is_what_it_says_and_not_how_it_is_written(cache, tmp_path):
    before, text = fingerprint(cache), (EXAMPLE / "schema.toml").read_text()
    schema = tmp_path / "schema.toml"
    schema.write_text("# ours\n\n" + text.replace(" = ", "  =  ") + "\n")
    assert fingerprint(cache, schema=schema) == before
    as_json = tmp_path / "schema.json"
    as_json.write_text(json.dumps(tomllib.loads(text), indent=7))
    assert fingerprint(cache, schema=as_json) == before
    schema.write_text(f"min_count = 2\n{text}")  # what it is without the key
    assert fingerprint(cache, schema=schema) == before
    schema.write_text(f"min_count = 3\n{text}")
    assert fingerprint(cache, schema=schema) != before


def test_a_view_of_a_log_is_another_and_known_before_it_is_prepared(cache):
    seen = example(cache, view=View("random"))
    data = sources.load(seen, say=quietly)
    assert data.fingerprint == sources.fingerprint(seen) != fingerprint(cache)


def test_what_other_code_prepared_is_prepared_again(tmp_path, monkeypatch):
    first, said = sources.load(example(tmp_path), say=quietly), []
    monkeypatch.setattr(fingerprints, "code", lambda *modules: "another")
    again = sources.load(example(tmp_path), say=said.append)
    assert any("prepared own_log" in text for text in said)
    assert again.fingerprint == first.fingerprint  # the log is the same


def test_a_log_that_is_written_to_while_it_is_read_is_refused(tmp_path, monkeypatch):
    log, read = tmp_path / "log.csv", own_log.read
    shutil.copy(EXAMPLE / "log.csv", log)

    def slowly(*given):
        with log.open("a") as file:
            file.write(log.read_text().splitlines()[-1] + "\n")
        return read(*given)

    monkeypatch.setattr(own_log, "read", slowly)
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match="own_log: its files were written to while"):
        sources.load(example(cache, path=log), say=quietly)
    assert not list(cache.glob("own_log-*"))
    monkeypatch.undo()
    assert sources.load(example(cache, path=log), say=quietly).schema.name == "my_shop"


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
