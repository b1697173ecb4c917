"""Every DCRNN row says what it is, and every study runs from end to end.

Compiling is what takes the time, so tables are cut down to a row of each kind; that
the whole tables hold the paper's rows is tested without training.
"""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest
import tyro
from conftest import assert_same_bits
from trainings import moments

import experiments
from experiments import run
from experiments.analysis import study, sweeps, tables
from experiments.analysis.report import results
from experiments.analysis.table import RowResult
from experiments.dcrnn import (
    aitm,
    ali_ccp_bilstm,
    ali_ccp_mmoe,
    bilstm,
    bilstm_ada,
    bilstm_ada_one_rnn,
    bilstm_ada_tickets,
    choices,
    cross,
    cross_cin,
    esmm,
    interval,
    mmoe,
    mmoe_matched,
    noise,
    table1,
    table2,
    table3,
    table4,
    tickets,
)
from experiments.dcrnn import study as every_table
from experiments.lt4rec import s_weight
from experiments.running import joint, ticket_cache
from experiments.settings import ablation, listing, views
from experiments.settings.config import Config
from experiments.settings.layout import DCRNN
from experiments.settings.options import Options
from experiments.settings.setup import check_trainable, make_setup, task_names
from jaxmtl.data.sources import video_feed
from jaxmtl.data.store import Dataset
from jaxmtl.metrics import Metric
from jaxmtl.training import checkpoint

pytestmark = pytest.mark.end_to_end

SIZE = "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
FEED = f"{SIZE} --data.feed.days 4 --data.feed.history 3000"
NET = "--model.embedding-dim 2 --model.dcrnn.hidden 2 --model.dcrnn.tower 3"
WINDOW = "--model.dcrnn.length 1 --model.dcrnn.interval 1"
ONCE = "--training.epochs 1 --pruning.rounds 1 --pruning.epochs 1"
TINY = f"{FEED} {NET} {WINDOW} --training.batch-size 512 {ONCE} --no-report".split()

TABLES_1_AND_2 = """
MMoE               0.6922  0.6721
DCRNN+GRU+Ada      0.6986  0.6938
DCRNN+BiGRU+Ada    0.6961  0.6883
DCRNN+LSTM+Ada     0.6972  0.6949
DCRNN+BiLSTM+Ada   0.6995  0.6804
DCRNN+BiGRU        0.6952  0.6748
DCRNN+BiLSTM       0.6961  0.6764
DCRNN+GRU          0.6943  0.6977
DCRNN+LSTM         0.6940  0.6827
"""
"""Row, AUC of click and of valid play, typed from the paper."""
TABLE_4 = """
MMoE              0.5991 0.5962  0.6545 0.6530
DCRNN+BiLSTM      0.6068 0.6067  0.6645 0.6635
DCRNN+BiLSTM+Ada  0.6076 0.6064  0.6641 0.6634
"""
"""Row, AUC of click (best, mean) and of conversion (best, mean)."""
TABLE_3 = {"MMoE": 5_786_388, "DCRNN+BiLSTM+Ada": 1_424_452}

NAMES = [name for name in listing.names() if name.startswith("dcrnn.")]
ROWS = [name for name in NAMES if hasattr(ablation.load(name), "ROW")]


def parsed(text: str) -> dict[str, list[float]]:
    lines = [line.split() for line in text.strip().splitlines()]
    return {name: [float(number) for number in numbers] for name, *numbers in lines}


def short(module) -> str:
    return module.__name__.removeprefix("experiments.")


# What the modules say


def test_every_row_has_the_papers_numbers_or_none():
    first, last = parsed(TABLES_1_AND_2), parsed(TABLE_4)
    seen = []
    for name in ROWS:
        row = ablation.load(name).ROW
        if name.startswith("dcrnn.ali_ccp_") and row.name in last:
            best, mean, cvr_best, cvr_mean = last[row.name]
            expected = {"ctr.auc best": best, "ctr.auc": mean}
            expected |= {"ctcvr.auc best": cvr_best, "ctcvr.auc": cvr_mean}
        elif row.name in first and not name.startswith("dcrnn.ali_ccp_"):
            click, play = first[row.name]
            expected = {"ctr.auc": click, "ctcvr.auc": play}
        else:
            expected = {}
        assert row.paper == expected, name
        seen += [(name.startswith("dcrnn.ali_ccp_"), row.name)] * bool(expected)
    whole = [(False, name) for name in first] + [(True, name) for name in last]
    assert sorted(seen) == sorted(whole)


@pytest.mark.parametrize("name", ROWS)
def test_a_rows_first_line_names_it_and_holds_the_papers_numbers(name):
    line, row = listing.names()[name], ablation.load(name).ROW
    if not row.paper:
        kinds = ("Control of Table", "Open choice of the DCRNN:", "Cross networks at")
        assert line.startswith(kinds) or "× LT4REC:" in line
        return
    tables = "Table 4" if "ali_ccp" in name else "Table"
    assert line.startswith(tables) and f"`{row.name}`" in line
    means = [n for metric, n in row.paper.items() if not metric.endswith("best")]
    assert all(f"{number:.4f}" in line for number in means)


def test_tables_hold_the_papers_rows_and_the_control_it_lacks():
    held = {
        part: {module.ROW.name for module in part.ROWS}
        for part in (table1, table2, table3, table4)
    }
    first, last = parsed(TABLES_1_AND_2), parsed(TABLE_4)
    assert {"MMoE", *(name for name in first if "Ada" in name)} <= held[table1]
    assert {name for name in first if "DCRNN" in name} <= held[table2]
    assert set(TABLE_3) <= held[table3] and set(last) <= held[table4]
    for names in held.values():
        assert {"MMoE", "MMoE (DCRNN's size)"} <= names
    counts = {ablation.load(f"dcrnn.{k}").ROW.name: n for k, n in table3.PAPER.items()}
    assert counts == TABLE_3
    assert all(f"{number:,}" in table3.__doc__ for number in TABLE_3.values())


def test_rows_of_a_study_are_told_apart_by_their_names():
    for name in NAMES:
        rows = [module.ROW.name for module in getattr(ablation.load(name), "ROWS", ())]
        if name != "dcrnn.study":  # which writes each table by itself
            assert len(set(rows)) == len(rows), name


def configured(module, preset="paper") -> Config:
    name = short(module)
    return module.configure(ablation.set_up(name, preset))


def test_cells_of_a_row_are_those_its_name_tells():
    for name in ROWS:
        config = configured(ablation.load(name))
        if config.model.architecture != "dcrnn":
            continue
        options, called = config.model.dcrnn, ablation.load(name).ROW.name
        assert options.cell == ("lstm" if "LSTM" in called else "gru"), name
        assert options.bidirectional == ("Bi" in called), name
        assert options.adaptation == ("Ada" in called), name


@pytest.mark.parametrize("name", ROWS)
def test_the_papers_preset_is_the_papers_setting(name):
    config = configured(ablation.load(name))
    is_ali_ccp = "ali_ccp" in name
    window = config.model.dcrnn.length, config.model.dcrnn.interval
    assert window == ((3, 1) if is_ali_ccp else (5, 2))
    training, model = config.training, config.model
    assert (training.epochs, training.batch_size) == (3, 1024)
    assert (model.embedding_dim, config.optimiser.learning_rate) == (32, 1e-4)
    assert config.data.view.split == "random"
    assert (model.mmoe.experts, model.mmoe.expert_hidden) == (8, (128, 64))
    assert training.positive_weight == "rate" and training.schedule == "sum"
    expected = "product" if name == "dcrnn.esmm" else "impression"
    assert training.spaces == expected


# Cut down, everything runs


@pytest.fixture(scope="module")
def small():
    """Studies with a row of each kind, and few levels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table1, "ROWS", (mmoe, bilstm_ada, mmoe_matched, esmm))
        patch.setattr(table2, "ROWS", (bilstm, bilstm_ada, mmoe))
        patch.setattr(table3, "ROWS", (mmoe, bilstm_ada))
        patch.setattr(table4, "ROWS", (ali_ccp_mmoe, ali_ccp_bilstm))
        patch.setattr(choices, "ROWS", (mmoe, bilstm_ada_one_rnn))
        patch.setattr(cross, "ROWS", (mmoe, bilstm_ada, cross_cin))
        patch.setattr(tickets, "ROWS", (mmoe, bilstm_ada_tickets))
        parts = (table1, table2, table4, choices, cross, tickets)
        every = dict.fromkeys(row for part in parts for row in part.ROWS)
        patch.setattr(every_table, "PARTS", parts)
        patch.setattr(every_table, "ROWS", tuple(every))
        patch.setattr(interval, "ROWS", (bilstm_ada, mmoe))
        patch.setattr(interval, "Sharing", Literal["per_step_weights", "one_rnn"])
        patch.setattr(noise, "ROWS", (bilstm, bilstm_ada))
        levels = {"numeric_noise": (0.0, 1.0), "categorical_noise": (0.0, 0.5)}
        patch.setattr(noise, "LEVELS", levels)
        patch.setattr(cross, "FIELDS", (5, 10))
        patch.setattr(cross, "DEPTHS", (1, 2))
        patch.setattr(study, "RESAMPLES", 20)
        yield


@pytest.fixture(scope="module")
def command(cache, small):
    """command(name, folder, *settings) -> its exit code, and what it printed."""

    def call(name: str, folder: Path, *settings: str) -> tuple[int, str, str]:
        where = ("--data.cache", str(cache), "--workdir", str(folder))
        output, errors = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            code = run.main([name, *TINY, "--seeds", "1", *where, *settings])
        return code, output.getvalue(), errors.getvalue()

    return call


def load(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def forbid_training(monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise AssertionError("this should not train")

    monkeypatch.setattr(joint, "fit", fail)
    monkeypatch.setattr(ticket_cache, "fit", fail)


def trainings(folder: Path) -> list[str]:
    """What was trained, in order: one line for the first epoch of each."""
    lines = map(json.loads, (folder / "metrics.jsonl").open(encoding="utf-8"))
    return [line["run"] for line in lines if line["epoch"] == 1]


@pytest.fixture(scope="module")
def every(command, tmp_path_factory) -> Path:
    """The work directory of all tables in one run."""
    folder = tmp_path_factory.mktemp("every")
    code, printed, errors = command("dcrnn.study", folder)
    assert code == 0, errors[-2000:]
    for part in every_table.PARTS:
        assert f"{short(part)} on video_feed" in printed
    return folder


@pytest.mark.parametrize(
    "part", [short(p) for p in (table1, table2, table4, choices, cross, tickets)]
)
def test_a_table_holds_its_rows_in_all_spaces(part, every):
    table = load(every / part.removeprefix("dcrnn.") / "table.json")
    modules = [short(module) for module in ablation.load(part).ROWS]
    *rows, oracle = table["rows"]
    assert [row["module"] for row in rows] == modules
    assert oracle["row"] == "oracle"
    spaces = {"ctr.auc": "impression", "cvr.auc": "click", "ctcvr.auc": "impression"}
    assert table["layout"]["main"].keys() == spaces.keys()
    for row in table["rows"]:
        for metric, space in spaces.items():
            found = row["metrics"][metric]
            assert 0 < found["mean"] < 1 and found["space"] == space
            assert found["mean"] <= oracle["metrics"][metric]["mean"] or row is oracle
    joint = rows[0]["metrics"]["ctcvr.auc"]
    assert joint["n"] == rows[0]["metrics"]["ctr.auc"]["n"] > 500
    assert joint["positives"] == rows[0]["metrics"]["cvr.auc"]["positives"]


def test_rows_that_tables_share_train_once(every):
    trained = trainings(every)
    rows = [name for name in trained if name.startswith("dcrnn.")]
    assert sorted(rows) == sorted(short(module) for module in every_table.ROWS)
    # Two tasks' searches, of one round of pruning each.
    searches = [name for name in trained if not name.startswith("dcrnn.")]
    assert len(searches) == 4 and len(set(searches)) == 2


def test_baselines_are_mmoe_and_the_one_of_the_dcrnns_size(every):
    rows = {row["module"]: row for row in load(every / "table1/table.json")["rows"]}
    tests = rows["dcrnn.bilstm_ada"]["tests"]["ctcvr.auc"]
    assert tests.keys() == {"vs_mmoe", "vs_matched"}
    assert tests["vs_mmoe"]["bootstrap_ci95"] is not None
    params = {module: row["params"] for module, row in rows.items() if module}
    assert abs(params["dcrnn.mmoe_matched"] / params["dcrnn.bilstm_ada"] - 1) < 0.2
    four = {r["module"]: r for r in load(every / "table4/table.json")["rows"]}
    assert "vs_mmoe" in four["dcrnn.ali_ccp_bilstm"]["tests"]["ctr.auc"]


def test_a_ticket_over_a_dcrnn_is_sparse_and_its_net_smaller(every):
    rows = {row["module"]: row for row in load(every / "tickets/table.json")["rows"]}
    found = rows["dcrnn.bilstm_ada_tickets"]
    # A fifth of the weights that each task reads, whatever else the net holds.
    assert found["density"] == pytest.approx({"ctr": 0.2, "cvr": 0.2}, abs=0.01)
    seed = load(every / "rows/dcrnn.bilstm_ada_tickets/seed0/seed.json")
    assert seed["params"]["net kept by any task"] < seed["params"]["net"]
    assert set(seed["chosen_round"]) == {"ctr", "cvr"}


def test_a_table_alone_finds_what_the_study_has_trained(
    every, command, tmp_path, monkeypatch
):
    """The same command trains nothing again, and gives the same table."""
    again = tmp_path / "again"
    shutil.copytree(every, again)
    before = load(every / "table1/table.json")
    forbid_training(monkeypatch)
    assert command("dcrnn.study", again)[0] == 0
    after = load(again / "table1/table.json")
    before.pop("command"), after.pop("command")
    assert after == before


def test_table_4_puts_the_best_seed_beside_the_mean(every):
    text = (every / "table4/table.md").read_text()
    header = text.split("\n\n")[1].splitlines()[0]
    assert header.count("best seed") == header.count("paper's best") == 3
    assert "0.60680" in text and "0.66450" in text
    assert "best seed" not in (every / "table1/table.md").read_text()


def test_table_3_counts_and_trains_nothing(command, tmp_path, monkeypatch):
    forbid_training(monkeypatch)
    code, printed, errors = command("dcrnn.table3", tmp_path)
    assert code == 0, errors
    table = load(tmp_path / "table.json")
    assert table["inputs"] == 20 * 2 + 6
    ours = {row["row"]: row for row in table["rows"]}
    assert {name: row["paper"] for name, row in ours.items()} == TABLE_3
    assert ours["DCRNN+BiLSTM+Ada"]["net"] < ours["MMoE"]["net"]
    assert all(row["multiply-adds"] > row["net"] / 2 for row in ours.values())
    assert "5,786,388" in printed and "5,786,388" in (tmp_path / "table.md").read_text()


def test_the_interval_is_drawn_for_each_reading(command, tmp_path):
    code, printed, errors = command("dcrnn.interval", tmp_path)
    assert code == 0, errors[-2000:]
    found = load(tmp_path / "interval.json")
    assert found["series"].keys() == {"per_step_weights", "one_rnn"}
    assert found["levels"].keys() == {"MMoE"}
    for points in found["series"].values():
        assert [point["x"] for point in points] == [0, 1]
        for point in points:
            assert point["metrics"].keys() == found["metrics"].keys()
            assert 0 < point["metrics"]["ctcvr.auc"]["mean"] < 1
    hard, soft = (p["params"] for p in found["series"]["per_step_weights"])
    assert hard < soft  # a position's cell, twice
    assert (tmp_path / "interval.png").read_bytes().startswith(b"\x89PNG")
    assert "CTCVR AUC\n" in printed and "interval I (0" in printed


def test_noise_of_every_kind_is_tested_with_and_without_adaptation(
    command, tmp_path, monkeypatch
):
    code, printed, errors = command("dcrnn.noise", tmp_path)
    assert code == 0, errors[-2000:]
    found = load(tmp_path / "noise.json")
    kinds = {"inputs": [0.0], "numeric_noise": [0, 1.0], "categorical_noise": [0, 0.5]}
    assert found["panels"].keys() == kinds.keys()
    rows = {"DCRNN+BiLSTM", "DCRNN+BiLSTM+Ada"}
    for kind, levels in kinds.items():
        panel = found["panels"][kind]
        assert panel.keys() == rows
        assert all([p["x"] for p in points] == levels for points in panel.values())
    names = [test["inputs"] for test in found["adaptation"]]
    assert names == [
        "categorical alone",
        "no noise",
        "numeric noise 1",
        "categorical noise 0.5",
    ]
    # Without noise there is one training, whatever the noise would have been.
    assert len(trainings(tmp_path)) == 2 * 4
    clean = [found["panels"][kind]["DCRNN+BiLSTM"][0] for kind in list(kinds)[1:]]
    assert clean[0]["metrics"] == clean[1]["metrics"]
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")
    assert "categorical alone" in printed
    forbid_training(monkeypatch)
    assert command("dcrnn.noise", tmp_path)[0] == 0


def test_noise_is_judged_by_the_last_metric_that_a_log_decides():
    """A log without a binary CVR has no CTCVR; two classes can be missing by chance."""

    def result(value):
        found = {"ctr.auc": [Metric(value, 9, 4)]}
        return RowResult("", "", {}, [0], found, 1, {}, 1.0)

    rows = (bilstm.ROW.name, bilstm_ada.ROW.name)
    points = [
        sweeps.Point(x, ablation.Ablation("", None, None), None) for x in (0.0, 1.0)
    ]
    heights = {rows[0]: (0.6, 0.5), rows[1]: (0.7, None)}
    trained = {
        f"categorical_noise/{name}": [result(value) for value in values]
        for name, values in heights.items()
    }
    series = {f"categorical_noise/{name}": points for name in rows}
    curves = sweeps.as_json(series, trained, list(DCRNN.main))
    measured = {
        "categorical_noise": {n: curves[f"categorical_noise/{n}"] for n in rows}
    }
    found = {"metrics": DCRNN.main, "panels": measured}
    assert (metric := results.noise_metric(found)) == "ctr.auc"
    (test,) = noise.adaptation(measured, metric)
    assert test["inputs"] == "no noise"
    assert test["difference"] == pytest.approx(0.1) and test["p_holm"] is None


def test_the_training_without_noise_is_tested_once():
    """It is level 0 of both kinds, and one of three trainings that are corrected."""
    plain = [0.50, 0.51, 0.52]

    def point(x, *values):
        return {"x": x, "metrics": {"ctr.auc": {"values": list(values)}}}

    def series(level, *adapted):
        points = [point(0.0, 0.51, 0.50, 0.53), point(level, *adapted)]
        names = (bilstm.ROW.name, bilstm_ada.ROW.name)
        base = [point(x, *plain) for x in (0.0, level)]
        return dict(zip(names, (base, points), strict=True))

    panels = {
        "numeric_noise": series(1.0, 0.52, 0.54, 0.55),
        "categorical_noise": series(0.5, 0.53, 0.52, 0.56),
    }
    tests = noise.adaptation(panels, "ctr.auc")
    names = [test["inputs"] for test in tests]
    assert names == ["no noise", "numeric noise 1", "categorical noise 0.5"]
    assert tests[1]["p_holm"] == pytest.approx(3 * tests[1]["p"])


def test_whose_cvr_is_a_quotient_is_said(every):
    def rows(*modules, spaces=None):
        found = []
        for module in modules:
            config = configured(module, "demo")
            if spaces:
                training = dataclasses.replace(config.training, spaces=spaces)
                config = dataclasses.replace(config, training=training)
            found.append(ablation.Ablation("", module.ROW, config))
        return found

    assert tables.quotients(rows(s_weight, esmm)) == []
    (note,) = tables.quotients(rows(mmoe, bilstm, esmm))
    assert note.startswith("The CVR of every row but ESMM is the CTCVR divided by")
    (note,) = tables.quotients(rows(mmoe, s_weight, esmm))
    assert note.startswith("The CVR of MMoE is the CTCVR divided by")
    # Whatever asks for it: the setting, or the architecture alone.
    (note,) = tables.quotients(rows(s_weight, spaces="impression"))
    assert note.startswith("The CVR of every row is")
    (note,) = tables.quotients(rows(aitm, spaces="own"))
    assert note.startswith("The CVR of every row is")
    assert tables.quotients(rows(mmoe))[0] in load(every / "table4/table.json")["notes"]
    sweep = {"x": "I", "figure": "f", "data": "d", "seeds": [0], "metrics": {}}
    sweep |= {"series": {}, "levels": {}, "notes": [note], "tuning": "Not tuned."}
    assert note in results.to_markdown(sweep)


def test_committed_tests_of_noise_are_those_of_its_values():
    folder = Path(experiments.__file__).parent / "results/video_feed/dcrnn/tuned"
    found = load(folder / "noise.json")
    again = noise.adaptation(found["panels"], results.noise_metric(found))
    assert found["adaptation"] == again


def test_growth_of_cross_networks_is_counted(every, command, tmp_path, monkeypatch):
    forbid_training(monkeypatch)
    shutil.copytree(every / "rows", tmp_path / "rows")
    code, printed, errors = command("dcrnn.cross", tmp_path)
    assert code == 0, errors[-2000:]
    growth = load(tmp_path / "growth.json")
    dim = growth["dim"]
    # DCN (eq. 1): a weight and a bias vector as wide as X_0 for each layer.
    layers = growth["fields"]["at"].split()[-1]
    assert growth["fields"]["params"]["dcn"] == [
        2 * fields * dim * int(layers) for fields in (5, 10)
    ]
    assert growth["depth"]["params"]["dcn"] == [2 * 20 * dim, 4 * 20 * dim]
    for part in ("fields", "depth"):
        for kind in cross.KINDS:
            low, high = growth[part]["params"][kind]
            assert low <= high
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "depth, 20 fields" in printed


# Warm starts


def test_a_run_begins_where_another_ended(every, command, tmp_path):
    settings = ("--init-from", str(every / "rows" / "dcrnn.mmoe"))
    code, _, errors = command("dcrnn.mmoe", tmp_path, *settings)
    assert code == 0, errors[-2000:]
    losses = [
        next(
            line["losses"]
            for line in map(json.loads, (folder / "metrics.jsonl").open())
            if line["run"] == "dcrnn.mmoe"
        )
        for folder in (every, tmp_path)
    ]
    assert sum(losses[1].values()) < sum(losses[0].values())
    # A run of one row is as good a place as the row's own folder.
    assert joint.find_checkpoint(tmp_path, 0).parent.parent.name == "dcrnn.mmoe"


@pytest.fixture(scope="module")
def feed(tmp_path_factory) -> Dataset:
    """The rows of the tiny runs, without a cache."""
    config = make_config().data.feed
    log = video_feed.read(config)
    splits = {
        name: jax.tree.map(lambda *columns: np.concatenate(columns), *blocks)
        for name, blocks in log.splits.items()
    }
    data = Dataset(log.schema, splits, log.counts, log.notes, "feed")
    return views.apply(data, make_config().data.view)


def make_config(module=mmoe, **training) -> Config:
    """What `TINY` says, of a row."""
    config = tyro.cli(
        Options,
        args=TINY,
        default=Options(ablation.set_up(short(module), "demo")),
    ).config
    config = module.configure(config)
    return dataclasses.replace(
        config, training=dataclasses.replace(config.training, **training)
    )


def test_a_warm_start_has_the_checkpoints_bits_and_no_moments(every, feed):
    config = make_config(init_from=every / "rows" / "dcrnn.mmoe")
    setup = make_setup(config, feed, task_names(config, feed.schema))
    state = joint.start(config, feed, setup, seed=0)
    kept, _ = checkpoint.restore(
        joint.find_checkpoint(config.training.init_from, 0), setup
    )
    assert_same_bits(state.net, kept.net)
    assert_same_bits(state.tables["shared"].rows, kept.tables["shared"])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(moments(state).mean))
    assert state.step == 0


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        (
            "dcrnn.ple",
            "--init-from {every}/rows/dcrnn.mmoe",
            "cannot be read for a net",
        ),
        ("dcrnn.mmoe", "--init-from {every}", "holds the rows ['dcrnn.ali_ccp_bilstm'"),
        ("dcrnn.mmoe", "--init-from {every}/table1", "no run's work directory"),
        (
            "dcrnn.mmoe",
            "--init-from {every}/rows/dcrnn.mmoe --seeds 2",
            "dcrnn.mmoe has no seed 1; it has ['seed0']",
        ),
    ],
)
def test_a_warm_start_that_cannot_be_is_refused(
    name, settings, words, every, command, tmp_path, monkeypatch
):
    forbid_training(monkeypatch)
    code, _, errors = command(name, tmp_path, *settings.format(every=every).split())
    line = errors.strip().splitlines()[-1]
    assert code == 1 and line.startswith("error: ") and words in line, line


# What cannot be is refused before anything is trained


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("dcrnn.esmm", "--training.schedule alternate", "set training.schedule to sum"),
        ("dcrnn.aitm", "--training.tasks ctr", "aitm needs a declared funnel"),
        ("dcrnn.aitm", "--training.tasks cvr", "'click', which is not trained"),
        ("dcrnn.esmm", "--pruning.masks ticket", "esmm learns a task through those"),
        ("dcrnn.esmm", "--training.binary-loss focal", "set training.binary-loss to"),
        ("dcrnn.mmoe", "--training.positive-weight 0", "positive-weight is 0"),
        ("dcrnn.mmoe", "--data.view.categorical-noise 2", "categorical-noise is 2"),
        ("dcrnn.mmoe", "--model.own-dims cvr 2", "no own views"),
        ("dcrnn.bilstm", "--model.dcrnn.interval 2", "interval 2 is not within 0"),
    ],
)
def test_what_a_model_cannot_learn_is_refused_in_one_line(
    name, settings, words, command, tmp_path, monkeypatch
):
    forbid_training(monkeypatch)
    with contextlib.suppress(SystemExit):  # of the command line's own parser
        code, _, errors = command(name, tmp_path / "run", *settings.split())
        line = errors.strip().splitlines()[-1]
        assert code == 1 and line.startswith("error: ") and words in line, line
    assert not (tmp_path / "run" / "rows").exists()


def test_weights_by_rate_are_the_negatives_for_each_positive(feed):
    config = make_config()
    setup = make_setup(config, feed, task_names(config, feed.schema))
    labels = feed.splits["train"].labels
    play = labels["click"] * labels["valid_play"]
    ratio = lambda y: (1 - y).sum() / y.sum()
    expected = {"click": ratio(labels["click"]), "valid_play": ratio(play)}
    assert setup.numbers.positive_weights == pytest.approx(expected, rel=1e-3)
    assert setup.learned["valid_play"].name == "joint.valid_play"


def test_a_task_without_a_negative_row_has_a_weight_all_the_same(feed):
    """All rows clicked: the weight is small, and its logarithm is still a number."""
    train = feed.splits["train"]
    ones = np.ones_like(train.labels["click"])
    splits = feed.splits | {
        "train": train._replace(labels=train.labels | {"click": ones})
    }
    data = dataclasses.replace(feed, splits=splits)
    config = make_config()
    setup = make_setup(config, data, task_names(config, data.schema))
    assert setup.numbers.positive_weights["click"] == pytest.approx(
        1 / len(ones), rel=1e-3
    )
    check_trainable(config, data)


# Searches in company


def test_a_search_leaves_out_what_its_task_never_reads(feed):
    """Of windows at positions 0, 1 and 1, 2 each task reads two of three positions."""
    config = make_config(bilstm_ada_tickets)
    options = dataclasses.replace(
        config.model.dcrnn, length=2, interval=1, bidirectional=False
    )
    model = dataclasses.replace(config.model, dcrnn=options)
    config = dataclasses.replace(config, model=model)
    for task, positions in (("click", (0, 1)), ("valid_play", (1, 2))):
        setup = ticket_cache.single_setup(config, feed, task)
        assert setup.net_tasks == ("click", "valid_play")
        cells = ticket_cache.read_by(setup, task)["shared"]["rnn"]["forward"]
        read = [
            bool(cells[f"position{t:02d}"]["input"]["kernel"].all()) for t in range(3)
        ]
        assert read == [t in positions for t in range(3)]
        # Before the first step there is nothing to remember.
        recurrent = cells[f"position{positions[0]:02d}"]["recurrent"]["kernel"]
        assert not recurrent.any()


def test_a_ticket_of_a_task_alone_is_searched_in_the_net_of_both(feed):
    """So rows share searches, and its mask fits where the task trains alone."""
    both = make_config(bilstm_ada_tickets)
    alone = make_config(bilstm_ada_tickets, tasks="cvr")
    assert ticket_cache.identity(both, feed, "valid_play") == ticket_cache.identity(
        alone, feed, "valid_play"
    )
    every = make_config(bilstm_ada_tickets, tasks="all")
    assert ticket_cache.identity(every, feed, "valid_play") != ticket_cache.identity(
        both, feed, "valid_play"
    )


# A log of one's own


OWN = Path(experiments.__file__).resolve().parents[1] / "examples" / "own_log"


def own_log(path: Path, schema: Path) -> list[str]:
    given = f"--data.name own_log --data.path {path} --data.schema {schema}"
    return [*given.split(), "--training.batch-size", "32"]


def test_a_log_of_ones_own_trains_without_a_line_of_python(command, tmp_path):
    given = own_log(OWN / "log.csv", OWN / "schema.toml")
    code, printed, errors = command("dcrnn.bilstm_ada", tmp_path, *given)
    assert code == 0, errors[-2000:]
    assert "dcrnn.bilstm_ada on my_shop" in printed
    assert "parameters in the net" in errors and "MiB at the peak" in errors
    (row,) = load(tmp_path / "table.json")["rows"]  # no oracle: its truth is unknown
    assert row["metrics"]["ctr.auc"]["space"] == "impression"
    assert row["metrics"]["ctcvr.auc"]["n"] == row["metrics"]["ctr.auc"]["n"]


def test_a_label_in_disguise_is_refused_and_can_be_allowed(
    command, tmp_path, monkeypatch
):
    """A column that tells how often a row was clicked is no feature of it."""
    forbid_training(monkeypatch)
    monkeypatch.setattr(tables, "write", lambda context: "trains now")
    lines = (OWN / "log.csv").read_text().splitlines()
    click = lines[0].split(",").index("click")
    # So few rows would prove nothing: each stands there several times.
    leaked = [f"{line},{line.split(',')[click]}" for line in 8 * lines[1:]]
    (tmp_path / "log.csv").write_text("\n".join([f"{lines[0]},clicks", *leaked]))
    schema = (OWN / "schema.toml").read_text()
    schema = schema.replace("hour = {}", "hour = {}\nclicks = {}")
    (tmp_path / "schema.toml").write_text(schema)
    given = own_log(tmp_path / "log.csv", tmp_path / "schema.toml")
    code, _, errors = command("dcrnn.mmoe", tmp_path / "run", *given)
    line = errors.strip().splitlines()[-1]
    assert code == 1 and line.startswith("error: my_shop: ")
    assert "'clicks'" in line and "--data.allow-leaks clicks" in line
    assert not (tmp_path / "run").exists()
    allowed = (*given, "--data.allow-leaks", "clicks")
    code, printed, errors = command("dcrnn.mmoe", tmp_path / "run", *allowed)
    assert code == 0 and "trains now" in printed
    assert "'clicks' alone predicts 'click'" in errors and ": allowed" in errors
