"""Logs with odd names, labels all of one kind, one label: trained, or refused at a key.

What is left of such a log is said in a sentence; what cannot be is refused in one line
that names the option, the key or the file, and advises nothing that loses data.
"""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_rows, make_schema, run_quietly

from experiments import export
from experiments.analysis.report import rendering
from experiments.lt4rec import questions, table1
from experiments.running import workdir
from experiments.settings import ablation, options, sources
from experiments.settings.config import Config, DataConfig
from experiments.settings.layout import DCRNN, LT4REC
from experiments.settings.setup import make_setup, not_applicable, role, task_names
from experiments.tuning import tuned
from jaxmtl import sealed
from jaxmtl.data.remarks import remarks
from jaxmtl.types import Task

N = 60
NET = (
    "--model.embedding-dim 4 --model.hidden 8 --training.batch-size 16 --seeds 1"
    " --training.epochs 1 --pruning.rounds 1 --pruning.epochs 1 --together in_turn"
)


def quoted(name: str) -> str:
    """A TOML key, or text: of what JSON escapes, TOML does not know surrogates."""
    return json.dumps(name, ensure_ascii=False)


def write_log(
    folder: Path, click: str = "click", cvr: str = "order", **columns
) -> Path:
    """A log of 60 rows and its schema file, which is returned."""
    rng = np.random.default_rng(0)
    clicks = rng.integers(0, 2, N)
    table = {
        "user": rng.integers(0, 5, N),
        "item": rng.integers(0, 7, N),
        click: clicks,
        "order": clicks * rng.integers(0, 2, N),
        "ts": np.arange(N),
    } | columns
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    order = f"order = {{ space = {quoted(click)} }}" if cvr == "order" else ""
    path = folder / "schema.toml"
    path.write_text(
        f"""
name = "shop"
user = "user"
item = "item"
ctr = {quoted(click)}
cvr = {quoted(cvr)}
fields = {{ user = {{}}, item = {{}} }}
split = {{ by = "time", column = "ts" }}
[tasks]
{quoted(click)} = {{}}
{order}
""",
        encoding="utf-8",
    )
    return path


def config_of(folder: Path, **changes) -> DataConfig:
    config = DataConfig("own_log", folder / "log.csv", folder / "schema.toml")
    return dataclasses.replace(config, **{"cache": folder / "cache", **changes})


def options_of(folder: Path) -> list[str]:
    config = config_of(folder)
    places = {"data.name": "own_log", "data.path": config.path}
    places |= {"data.schema": config.schema, "data.cache": config.cache}
    places |= {"workdir": folder / "run"}
    return [*NET.split(), *(f"--{name}={place}" for name, place in places.items())]


# Names

NAMES = (
    "click/tap",
    "../../click",
    "..",
    ".",
    "/click",
    "a\\b",
    "con",
    "x" * 300,
    "Ünï 🛒",
    "ORDER",  # of another case than a task beside it
    "file",
    "--seeds",
    "a$b$c_{",
    "<b>&|",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_never_becomes_a_path(name, tmp_path):
    inside = tmp_path / "a" / "b" / "c"
    inside.mkdir(parents=True)
    write_log(inside, name)
    data = sources.load(config_of(inside), say=lambda text: None)
    rows = [data.splits[split].labels[name] for split in data.splits]
    with (inside / "log.csv").open(newline="", encoding="utf-8") as file:
        written = [float(row[name]) for row in csv.DictReader(file)]
    np.testing.assert_array_equal(np.concatenate(rows), written)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(inside).parts[0] for path in files} == {
        "log.csv",
        "schema.toml",
        "cache",
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\0b", "tasks: 'a\\x00b' is no name for a column"),
        ("a\nb", "tasks: 'a\\nb' is no name for a column"),
        ("a\u202eb", "tasks: 'a\\u202eb' is no name for a column"),
        ("", "tasks: '' is no name for a column"),
        ("shared", "tasks: 'shared' is no name for a task"),
        ("all", "tasks: 'all' is no name for a task"),
        ("impression", "tasks: 'impression' is no name for a task"),
        ("joint.x", "tasks: 'joint.x' is no name for a task"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_at_its_key(name, words, tmp_path):
    schema = write_log(tmp_path, name)
    text = schema.read_text(encoding="utf-8")
    # TOML has no bare control characters; JSON's escapes are its own.
    schema.write_text(text.replace("\u202e", "\\u202e"), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        sources.load(config_of(tmp_path), say=lambda text: None)
    assert f"{schema}: {words}" in str(error.value)
    assert "rename the column in the log and here" in str(error.value)


def test_arrays_are_kept_by_any_name(tmp_path):
    names = ["file", "allow_pickle", "a", "a.npy", "../a", "a/b", "a.npy.npy"]
    arrays = {name: np.arange(number) for number, name in enumerate(names)}
    for small in (False, True):
        sealed.write_arrays(tmp_path / "x.npz", arrays, small=small)
        found = sealed.read_arrays(tmp_path / "x.npz")
        assert list(found) == names
        for name in names:
            np.testing.assert_array_equal(found[name], arrays[name])


# What a log cannot show


def made(change) -> list[str]:
    """The remarks on the planted log once its rows were changed."""
    splits = {
        split: make_rows(200, seed)
        for seed, split in enumerate(("train", "validation", "test"))
    }
    return remarks(make_schema(), change(splits))


def labels(split: str, **columns):
    def change(splits):
        rows = splits[split]
        new = {n: np.full(200, value, np.float32) for n, value in columns.items()}
        return splits | {split: rows._replace(labels=rows.labels | new)}

    return change


def inputs(**changes):
    def change(splits):
        rows = splits["train"]
        new = {
            name: make(np.array(getattr(rows, name))) for name, make in changes.items()
        }
        return splits | {"train": rows._replace(**new)}

    return change


def fill(columns, value):
    def change(array):
        array[:, columns] = value
        return array

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda splits: splits, []),
        (
            labels("train", click=1),
            ["all 200 labels of 'click' in training are 1: there is nothing to learn"],
        ),
        (
            labels("validation", like=0),
            ["all 81 labels of 'like' in validation where 'click' is above 0 are 0: "],
        ),
        (
            labels("test", click=0),
            [
                "all 200 labels of 'click' in the test are 0: its AUC is undefined",
                "the test has no label of 'watch' where 'click' is above 0: it is not",
                "the test has no label of 'like' where 'click' is above 0: it is not",
                "85 rows hold a label of 'watch' above 0 although 'click', its space",
                "40 rows hold a label of 'like' above 0 although 'click', its space",
            ],
        ),
        (
            labels("test", watch=0.5),
            [
                "all 85 labels of 'watch' in the test where 'click' is above 0 are 0.5"
                ": a constant has the best MSE",
                "115 rows hold a label of 'watch' above 0 although",
            ],
        ),
        (inputs(ids=fill(0, 0)), ["'user': training holds no id often enough"]),
        (inputs(ids=fill(1, 7)), ["'item': the same in every training row"]),
        (inputs(ids=fill([2, 3, 4], -1)), ["'tags': the same in every training row"]),
        (inputs(numeric=fill(0, 0)), ["'hour': the same in every training row"]),
        (
            inputs(ids=fill(slice(None), 0), numeric=fill(0, 0)),
            [
                "'user', 'item', 'tags', 'last_item': training holds no id often",
                "'hour': the same in every training row",
                "no input tells one training row from another",
            ],
        ),
    ],
)
def test_what_a_log_cannot_show_is_said(change, expected):
    found = made(change)
    assert len(found) == len(expected), found
    for line, words in zip(found, expected, strict=True):
        assert line.startswith(words)


def test_a_column_that_changes_after_its_first_rows_is_not_called_constant():
    rows = make_rows(3000, seed=0)
    ids = np.array(rows.ids)
    ids[:2999, 0] = 5
    splits = dict.fromkeys(("train", "validation", "test"), rows._replace(ids=ids))
    assert not remarks(make_schema(), splits)


def test_remarks_are_printed_and_stand_below_the_table(tmp_path):
    write_log(tmp_path, user=["u"] * N)
    said: list[str] = []
    data = sources.load(config_of(tmp_path), say=said.append)
    line = "'user': the same in every training row, and no help"
    assert f"own_log: {line}" in said and line in data.notes


# One label


def test_one_label_is_the_ctr_alone(tmp_path):
    write_log(tmp_path, cvr="click")
    data = sources.load(config_of(tmp_path), say=lambda text: None)
    schema, pair = data.schema, Config()
    assert task_names(pair, schema) == ("click",) and role(schema, "click") == "ctr"
    assert "it is trained as the CTR, and there is no CVR" in data.notes[-1]
    assert list(LT4REC.fitted(schema).main) == list(DCRNN.fitted(schema).main)
    assert list(LT4REC.fitted(schema).main) == ["ctr.auc"]
    weighted = dataclasses.replace(pair.training, weights=(("ctr", 2.0),), batch_size=8)
    setup = make_setup(dataclasses.replace(pair, training=weighted), data, ("click",))
    assert setup.start.task_weights == {"click": 2.0}
    counted = table1.count(data, ("train",))
    assert counted["conversions"] is None and counted["clicks"] > 0


@pytest.mark.parametrize(
    "name",
    [
        "base_cvr",
        "ticket_cvr",
        "s_weight_taskbalance",
        "s_weight_gradientconflict",
        "s_weight_multiview",
        "swapped_tickets",
        "ctr_ticket_for_both",
    ],
)
def test_a_row_about_the_cvr_does_not_apply_to_one_label(name):
    module = f"lt4rec.{name}"
    config = options.starting_config(module, "demo")
    one = dataclasses.replace(make_schema(), tasks=(Task("click"),), cvr="click")
    assert "this row is about the CVR" in not_applicable(config, one)
    assert (
        not_applicable(options.starting_config("lt4rec.s_weight", "demo"), one) is None
    )


def test_a_model_of_funnels_does_not_apply_where_no_task_has_a_space():
    tasks = (Task("click"), Task("watch"))
    flat = dataclasses.replace(make_schema(), tasks=tasks)
    esmm = options.starting_config("lt4rec.esmm", "demo")
    assert "none lives in another's space" in not_applicable(esmm, flat)
    assert not_applicable(esmm, make_schema()) is None
    # What the command line leaves out is the command line's mistake.
    alone = dataclasses.replace(esmm.training, tasks="ctr")
    assert not_applicable(dataclasses.replace(esmm, training=alone), flat) is None


@pytest.mark.end_to_end
def test_one_label_with_a_path_for_a_name_trains_and_is_exported(tmp_path):
    write_log(tmp_path, "click/../tap", cvr="click/../tap")
    code, text = run_quietly("lt4rec.s_weight", *options_of(tmp_path))
    assert code == 0
    assert "CTR AUC" in text and "CVR MSE" not in text
    (row,) = json.loads((tmp_path / "run" / "table.json").read_text())["rows"]
    assert set(row["density"]) == {"ctr"} and "ctr.auc" in row["metrics"]
    made = export.main(
        [
            str(tmp_path / "run"),
            f"--out={tmp_path / 'out'}",
            f"--cache={tmp_path}/cache",
        ]
    )
    assert made == 0


# A continuous CTR


def test_a_continuous_ctr_is_judged_by_mse():
    click = Task("click", "continuous", metric="mse")
    tasks = (click, *make_schema().tasks[1:])
    schema = dataclasses.replace(make_schema(), tasks=tasks)
    assert LT4REC.fitted(schema).main == {"cvr.mse": "CVR MSE", "ctr.mse": "CTR MSE"}
    assert "ctcvr.mse" in DCRNN.fitted(schema).main
    assert LT4REC.fitted(make_schema()) == LT4REC
    splits = dict.fromkeys(("train", "validation", "test"), make_rows(200, seed=0))
    assert "is continuous: it is judged by MSE" in remarks(schema, splits)[0]


# What is undefined


@pytest.mark.parametrize(
    ("n", "positives", "why"),
    [
        (0, 0, "the test has no labelled click row"),
        (9, 0, "it needs labels of both kinds, and all 9 in the test are alike"),
        (9, 9, "it needs labels of both kinds, and all 9 in the test are alike"),
    ],
)
def test_a_table_says_why_a_metric_is_undefined(n, positives, why):
    metric = {"mean": None, "n": n, "positives": positives, "space": "click"}
    row = {"row": "a", "module": "m", "status": "ok", "metrics": {"cvr.mse": metric}}
    table = {"rows": [row], "layout": LT4REC.as_json(), "seeds": [0]}
    captions = rendering._captions(table)
    assert f"CVR MSE is undefined: {why}." in captions
    assert "CTR AUC on no rows, as no row of the table predicts it" in captions[0]


def test_no_answer_is_relative_to_a_metric_of_0():
    panel = {"metric": "AUC", "density": [1.0, 0.2], "values": [[0.0, 0.5], [0.0, 0.4]]}
    (answer,) = questions.judge({"rows": []}, {"CTR (click)": panel})
    assert answer["relative"] is None
    assert " – " in questions.to_text([answer], "command").splitlines()[2]


# Words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "video_feed"}, "--data.path log.csv: --data.name video_feed is sim"),
        (
            {"name": "movielens"},
            "--data.schema schema.toml: --data.name movielens has a schema of its own",
        ),
        ({"path": Path("no.csv")}, "--data.path no.csv: no such file or folder"),
        ({"schema": Path("no.toml")}, "--data.schema no.toml: no such file or folder"),
        ({"schema": Path()}, "--data.schema .: a folder; give the TOML or JSON file"),
        ({"cache": Path("log.csv")}, "--data.cache log.csv: File exists; give a"),
    ],
)
def test_an_option_of_the_data_that_cannot_be_is_named(
    changes, words, tmp_path, monkeypatch
):
    write_log(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        sources.load(config_of(Path(), **changes), say=lambda text: None)
    assert str(error.value).startswith(words)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("optimiser", {"learning_rate": float("inf")}),
        ("optimiser", {"weight_decay": float("nan")}),
        ("training", {"cvr_passes": float("inf")}),
        ("training", {"conflict_threshold": -1.0}),
        ("checkpoint", {"every": float("nan")}),
    ],
)
def test_a_setting_that_is_no_number_is_refused(section, change):
    changed = dataclasses.replace(getattr(Config(), section), **change)
    (name,) = change
    option = f"--{section}.{name.replace('_', '-')} is "
    with pytest.raises(ValueError, match=option):
        dataclasses.replace(Config(), **{section: changed}).check()


def test_tasks_that_a_log_has_not_are_answered_with_the_nearest():
    training = dataclasses.replace(Config().training, tasks=("clik",))
    config = dataclasses.replace(Config(), training=training)
    with pytest.raises(
        ValueError, match=r"--training\.tasks clik; did you mean 'click'"
    ):
        task_names(config, make_schema())


def test_more_devices_than_there_are_is_refused_by_option(tmp_path):
    write_log(tmp_path)
    data = sources.load(config_of(tmp_path), say=lambda text: None)
    mesh = dataclasses.replace(Config().mesh, devices=4096)
    with pytest.raises(ValueError, match=r"^--mesh\.devices 4096: a mesh of 4096"):
        make_setup(dataclasses.replace(Config(), mesh=mesh), data, ("click",))


def test_no_advice_loses_data(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n")
    with pytest.raises(ValueError) as error:
        tuned.read(tmp_path / "log.csv")
    said = [str(error.value)]
    assert said[0].startswith(f"--tuned {tmp_path / 'log.csv'}: not a file of")
    run_ = tmp_path / "run"
    workdir.claim(run_, {"a": 1}).close()
    for config, resume in (({"a": 2}, "auto"), ({"a": 1}, "never")):
        with pytest.raises(ValueError) as error:
            workdir.claim(run_, config, resume)
        said.append(str(error.value))
    (run_ / "config.json").write_text("{")
    with pytest.raises(ValueError) as error:
        workdir.read_json(run_ / "config.json")
    said.append(str(error.value))
    assert f"move {run_} away" in said[-1]
    assert not any("delete" in text for text in said), said


def test_tuned_settings_of_other_rows_are_refused(tmp_path):
    row = ablation.load("lt4rec.s_weight")
    mine = [ablation.Ablation("lt4rec.s_weight", row.ROW, Config())]
    other = tuned.Tuned(tmp_path / "t.json", {"dcrnn.mmoe": {}}, {})
    with pytest.raises(ValueError, match=r"no row like lt4rec\.s_weight; it has"):
        tuned.check_rows(other, mine)
    tuned.check_rows(other._replace(rows={"lt4rec.s_weight": {}}), mine)
    tuned.check_rows(other, [])


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        (None, [], "RUN {run}: no run's work directory"),
        ("{}", [], "config.json: does not say how lt4rec.s_weight was trained"),
        ("[1]", [], "config.json: does not say how lt4rec.s_weight was trained"),
        ("{}", ["--seed=7"], "RUN {run}: lt4rec.s_weight has no seed 7; it has"),
        ("{}", ["--platforms", "gpu"], "--platforms gpu: give some of cpu, cuda, tpu"),
        ("{}", ["--platforms"], "--platforms names none: give some of cpu, cuda"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    config, arguments, words, tmp_path, capsys
):
    where = tmp_path / "run"
    if config is not None:
        seed = where / "rows" / "lt4rec.s_weight" / "seed0"
        (seed / "checkpoint").mkdir(parents=True)
        (seed / "seed.json").write_text("{}")
        (where / "config.json").write_text(config)
    code = export.main([str(where), f"--out={tmp_path / 'out'}", *arguments])
    lines = capsys.readouterr().err.splitlines()
    assert code == 1 and len(lines) == 1 and lines[0].startswith("error: ")
    assert words.format(run=where) in lines[0]
