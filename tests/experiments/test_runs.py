"""What a run is: all that changes numbers, compared when it goes on or is served.

One small training of two seeds; then the log, what computes and the run's own files are
changed one at a time.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil

import numpy as np
import pytest

from experiments import export, run
from experiments.running.hosts import MeshConfig
from experiments.settings import fingerprints
from experiments.settings.config import Config, as_json, paths_of
from jaxmtl.serving import scoring

pytestmark = pytest.mark.end_to_end

SCHEMA = """name = "labels"
user = "user"
item = "item"
ctr = "click"
cvr = "order"
[fields]
user = {}
item = {}
[tasks]
click = {}
order = { space = "click" }
[split]
by = "time"
column = "ts"
"""
TINY = (
    "lt4rec.s_weight --seeds 2 --model.embedding-dim 2 --model.hidden 6 4"
    " --training.epochs 1 --training.batch-size 64 --pruning.rounds 1"
    " --pruning.epochs 1 --data.name own_log"
)


def write_log(path):
    random, lines = np.random.default_rng(0), ["user,item,click,order,ts"]
    for second in range(600):
        user, item = random.integers(12), random.integers(9)
        click = int(random.random() < 0.2 + 0.05 * user)
        order = click * int(random.random() < 0.5)
        lines.append(f"u{user:02},{item},{click},{order},{second}")
    path.write_text("\n".join(lines) + "\n")


def quietly(main, *arguments):
    """Exit code and what was said of what is wrong."""
    errors = io.StringIO()
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
    ):
        code = main([*map(str, arguments)])
    return code, errors.getvalue()


class Run:
    """A log, its schema, and the work directory of what was trained on it."""

    def __init__(self, folder, cache):
        self.log, self.schema = folder / "log.csv", folder / "schema.toml"
        self.workdir, self.cache, self.folder = folder / "run", cache, folder

    def train(self, *settings):
        places = ("--data.path", self.log, "--data.schema", self.schema)
        places += ("--data.cache", self.cache, "--workdir", self.workdir)
        return quietly(run.main, *TINY.split(), *places, *settings)

    def export(self, *settings, out="out"):
        places = ("--out", self.folder / out, "--cache", self.cache)
        return quietly(
            export.main, self.workdir, *places, "--platforms", "cpu", *settings
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    made = Run(tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("cache"))
    write_log(made.log)
    made.schema.write_text(SCHEMA)
    code, errors = made.train()
    assert code == 0, errors
    return made


@pytest.fixture
def copied(trained, tmp_path):
    """The run, its log and its cache in another place, to be changed."""
    shutil.copytree(trained.folder, tmp_path / "there")
    copy = Run(tmp_path / "there", tmp_path / "cache")
    shutil.copytree(trained.cache, copy.cache)
    config = copy.workdir / "config.json"
    text = config.read_text().replace(str(trained.folder), str(copy.folder))
    config.write_text(text)
    return copy


def row_of(made):
    return made.workdir / "rows" / "lt4rec.s_weight"


# The log


def test_a_log_that_was_edited_after_the_training_is_not_served(copied):
    text = copied.log.read_text()
    copied.log.write_text(text.replace("u05,", "u05x,"))
    code, errors = copied.export()
    assert code == 1 and "is not the one that was trained on" in errors, errors
    assert str(copied.log) in errors and not (copied.folder / "out").exists()
    code, errors = copied.train()
    assert code == 1 and "data.fingerprint is" in errors, errors
    copied.log.write_text(text)  # what was trained on
    assert copied.export() == (0, "")


def test_a_log_is_served_from_where_it_lies_now(copied, monkeypatch):
    moved = copied.log.rename(copied.folder / "moved.csv")
    os.utime(moved, ns=(1, 1))
    code, errors = copied.export()
    assert code == 1 and f"{copied.log}, which was trained on, is no longer" in errors
    assert "--log" in errors
    assert copied.export("--log", moved) == (0, "")
    # A command that goes on from the new place tells the next export of it.
    copied.log = moved
    code, errors = copied.train()
    assert code == 0, errors
    monkeypatch.chdir("/")
    assert copied.export(out="again") == (0, "")


def test_a_schema_that_says_something_else_is_refused_and_a_comment_is_not(copied):
    copied.schema.write_text(f"# Ours.\n{SCHEMA}")
    assert copied.export() == (0, "")
    copied.schema.write_text(SCHEMA.replace('by = "time"', 'by = "time"\ntest = 0.2'))
    code, errors = copied.export(out="again")
    assert code == 1 and "is not the one that was trained on" in errors
    assert str(copied.schema) in errors


def test_a_log_whose_prepared_rows_were_deleted_is_prepared_again(copied):
    shutil.rmtree(copied.cache)
    assert copied.export() == (0, "")
    assert list(copied.cache.glob("own_log-*"))


def test_a_log_that_changes_while_its_ids_are_read_is_not_served(copied, monkeypatch):
    read = export.read_encoding

    def late(*given):
        copied.log.write_text(copied.log.read_text().replace("u05,", "u05x,"))
        return read(*given)

    monkeypatch.setattr(export, "read_encoding", late)
    code, errors = copied.export()
    assert code == 1 and "is not the one that was trained on" in errors, errors


# What computes


@pytest.mark.parametrize(
    ("flags", "is_same"),
    [("--xla_dump_to=nowhere", True), ("--xla_cpu_enable_fast_math=true", False)],
)
def test_a_run_goes_on_under_the_flags_it_began_with(
    trained, monkeypatch, flags, is_same
):
    # Too late for XLA, which has started.
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {flags}")
    code, errors = trained.train()
    assert (code == 0) is is_same
    assert is_same or "software.xla_flags is [" in errors, errors


def test_a_run_goes_on_with_the_versions_it_began_with(trained, monkeypatch):
    monkeypatch.setattr(fingerprints, "_version", lambda name: "0.0.1")
    code, errors = trained.train()
    assert code == 1 and "software.jax is " in errors, errors


def test_other_versions_serve_what_predicts_the_same(copied, monkeypatch):
    monkeypatch.setattr(fingerprints, "_version", lambda name: "0.0.1")
    assert copied.export() == (0, "")


def test_fewer_seeds_devices_and_saves_are_no_other_run(trained):
    code, errors = trained.train("--seeds", "1", "--checkpoint.every", "7")
    assert code == 0, errors


def test_how_a_run_goes_is_no_part_of_what_it_is():
    config = Config()
    other = dataclasses.replace(
        config, mesh=MeshConfig(devices=8), resume="must", on_nonfinite="skip"
    )
    assert as_json(other) == as_json(config)
    assert paths_of(other) == paths_of(config)


def test_tuned_settings_that_were_edited_since_are_another_run(trained, tmp_path):
    held = json.loads((trained.workdir / "config.json").read_text())
    rate = held["rows"]["lt4rec.s_weight"]["optimiser"]["learning_rate"]
    path = tmp_path / "tuned.json"

    def train(value, **more):
        settings = {"optimiser.learning_rate": value}
        content = {
            "budget": {"trials": 1, "seeds": [1000], "anchors": [""]} | more,
            "space": {"optimiser.learning_rate": [rate, 2 * rate]},
            "rows": {"lt4rec.s_weight": {"settings": settings}},
        }
        path.write_text(json.dumps(content))
        return trained.train("--tuned", path)

    assert train(rate)[0] == train(rate, seconds=3.0)[0] == 0
    code, errors = train(2 * rate)
    assert code == 1 and "s_weight.optimiser.learning_rate is" in errors, errors


# The run's own files


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("checkpoint", "is not the one that this training left"),
        ("predictions.npz", "are not the predictions that this training left"),
        ("seed.json", "is not the one that this training left"),
    ],
)
def test_a_file_of_another_seed_is_refused_by_name(copied, name, words):
    ours, theirs = (row_of(copied) / f"seed{seed}" / name for seed in (0, 1))
    if ours.is_dir():
        shutil.rmtree(ours)
        shutil.copytree(theirs, ours)
    else:
        shutil.copy(theirs, ours)
    code, errors = copied.export()
    assert code == 1 and words in errors and "seed0" in errors, errors


def test_a_ticket_of_another_seed_is_refused_by_name(copied):
    shutil.rmtree(row_of(copied))  # so that the row is trained anew, from its tickets
    for search in (copied.workdir / "tickets").iterdir():
        shutil.copy(search / "seed1" / "round1.npz", search / "seed0" / "round1.npz")
    code, errors = copied.train()
    assert code == 1 and "round1.npz is not the mask that this search found" in errors
    for search in (copied.workdir / "tickets").iterdir():
        shutil.copytree(search / "seed1", search / "seed0", dirs_exist_ok=True)
    code, errors = copied.train()
    assert code == 1 and "ticket.json is of another search: its seed" in errors


def test_what_others_leave_beside_a_runs_files_is_passed_over(copied):
    for folder in [copied.workdir, *copied.workdir.rglob("*/")]:
        if folder.is_dir():
            (folder / ".DS_Store").write_text("?")
            (folder / ".nfs0001").write_text("?")
    assert copied.export() == (0, "")
    out = copied.folder / "out"
    (out / ".DS_Store").write_text("?")
    assert scoring.load(out).program.tasks == ("click", "order")
    code, errors = copied.train()
    assert code == 0, errors


def test_a_seed_that_is_not_finished_is_not_called_damaged(copied):
    (row_of(copied) / "seed1" / "seed.json").unlink()  # a killed run writes it last
    code, errors = copied.export("--seed", "1")
    assert code == 1 and "seed 1 of lt4rec.s_weight is not finished" in errors, errors
    assert "delete" not in errors
    assert copied.export("--seed", "0") == (0, "")


def test_a_run_that_an_earlier_version_made_is_not_said_to_have_another_log(copied):
    path = copied.workdir / "config.json"
    held = json.loads(path.read_text())
    del held["places"], held["software"]
    path.write_text(json.dumps(held))
    code, errors = copied.export()
    assert code == 1 and "is of an earlier version" in errors, errors
