"""Every LT4REC ablation trains; a table is whole, repeatable, and shares searches."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_rows, make_schema, run_quietly
from tiny import ONCE, TINY

from experiments import run
from experiments.lt4rec import s_weight_gradientconflict, table2
from experiments.running import joint, ticket_cache
from experiments.settings import ablation, listing, setup, sources
from jaxmtl.data.log import Log
from jaxmtl.data.sources.complete_journey.tables import find_data
from jaxmtl.data.store import prepare

pytestmark = pytest.mark.end_to_end

STEPS = 6  # of such an epoch: 1,500 training rows
MAIN = {"ctr": {"ctr.auc"}, "cvr": {"cvr.mse"}, "pair": {"ctr.auc", "cvr.mse"}}
PAPER = {
    "base ctr": {"ctr.auc": 0.78572},
    "base cvr": {"cvr.mse": 0.13688},
    "hard sharing": {"cvr.mse": 0.13563, "ctr.auc": 0.78808},
    "s-weight": {"cvr.mse": 0.13226, "ctr.auc": 0.78874},
    "s-neuron": {"cvr.mse": 0.13531, "ctr.auc": 0.78346},
    "s-weight-taskbalance": {"cvr.mse": 0.13193, "ctr.auc": 0.78740},
    "s-weight-gradientconflict": {"cvr.mse": 0.13181, "ctr.auc": 0.78801},
    "s-weight-multiview": {"cvr.mse": 0.13242, "ctr.auc": 0.78762},
    "s-weight-biggernet": {"cvr.mse": 0.13251, "ctr.auc": 0.78525},
    "s-weight-tuning": {"cvr.mse": 0.13171, "ctr.auc": 0.78689},
}
"""LT4REC, Table 2, typed from the paper."""
ROWS = [name for name in listing.names() if hasattr(ablation.load(name), "ROW")]
LT4REC_ROWS = [name for name in ROWS if name.startswith("lt4rec.")]
TABLE_2 = [module.__name__.removeprefix("experiments.") for module in table2.ROWS]


@pytest.fixture(scope="module")
def command(cache):
    """command(name, folder, *settings) runs a tiny experiment, returns its table."""

    def call(name: str, folder: Path, *settings: str) -> dict:
        data = ("--data.cache", str(cache), "--workdir", str(folder))
        code, call.text = run_quietly(name, *TINY, *data, *settings)
        assert code == 0
        return load(folder / "table.json")

    return call


def load(path: Path):
    """Strict JSON: NaN and infinity are errors."""

    def refuse(constant: str):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def row_of(table: dict, module: str) -> dict:
    (row,) = [row for row in table["rows"] if row["module"] == module]
    return row


def mask_bits(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as packed:
        return {name: np.unpackbits(packed[name]) for name in packed.files}


def forbid_training(monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise AssertionError("this should not train again")

    monkeypatch.setattr(joint, "fit", fail)
    monkeypatch.setattr(ticket_cache, "fit", fail)


def test_a_rows_passes_over_the_cvr_reach_no_search(cache, tmp_path, monkeypatch):
    """Rows that differ in them share tickets, so these must not depend on the row."""
    plans, make_plan = [], ticket_cache.make_plan

    def look(*arguments):
        plans.append(make_plan(*arguments))
        raise ValueError("seen")

    monkeypatch.setattr(ticket_cache, "make_plan", look)
    for passes in ("1", "3"):
        data = ("--data.cache", str(cache), "--workdir", str(tmp_path / passes))
        settings = ("--training.cvr-passes", passes, "--seeds", "1")
        assert run_quietly("lt4rec.ticket_cvr", *TINY, *data, *settings)[0] == 1
    one, three = (plan.orders(0, 1)["watch"] for plan in plans)
    np.testing.assert_array_equal(one, three)


def test_every_row_of_the_papers_table_is_there_with_the_papers_numbers():
    found = {ablation.load(name).ROW.name: name for name in LT4REC_ROWS}
    assert set(PAPER) <= set(found)
    for row, name in found.items():
        assert ablation.load(name).ROW.paper == PAPER.get(row, {}), name


@pytest.mark.parametrize("name", LT4REC_ROWS)
def test_an_ablations_first_line_names_its_row_and_the_papers_numbers(name):
    line, row = listing.names()[name], ablation.load(name).ROW
    if row.paper:
        assert line.startswith("Table 2,") and f"`{row.name}`" in line
        assert all(f"{number:.5f}" in line for number in row.paper.values())
    else:
        assert line.startswith(("Control of Table 2:", "Rival of Table 2:"))


@pytest.mark.parametrize("preset", run.PRESETS)
@pytest.mark.parametrize("name", ROWS)
def test_both_presets_of_an_ablation_are_valid(name, preset):
    ablation.load(name).configure(ablation.set_up(name, preset)).check()


@pytest.mark.parametrize("name", [n for n in LT4REC_ROWS if ablation.load(n).ROW.paper])
def test_the_papers_preset_is_the_papers_net(name):
    config = ablation.load(name).configure(ablation.set_up(name, "paper"))
    wider = 2 if name.endswith("biggernet") else 1
    assert config.model.embedding_dim == 32
    assert config.model.hidden == (512 * wider, 256 * wider, 128 * wider)
    assert config.optimiser.learning_rate == 1e-4
    assert config.training.batch_size == 4096
    assert (config.pruning.final_density, config.pruning.rounds) == (0.2, 4)


@pytest.fixture(scope="module")
def table(command, tmp_path_factory):
    """All of Table 2 with two seeds: its folder and its content."""
    folder = tmp_path_factory.mktemp("table2")
    content = command("lt4rec.table2", folder, "--seeds", "2")
    return folder, content, command.text


@pytest.mark.parametrize("name", LT4REC_ROWS)
def test_an_ablation_trains_and_scores_its_tasks(name, command, tmp_path, request):
    """Those of Table 2 in the run of the whole table."""
    if name in TABLE_2:
        content = request.getfixturevalue("table")[1]
    else:
        content = command(name, tmp_path, *ONCE.split(), "--seeds", "1")
    row = row_of(content, name)
    tasks = ablation.load(name).configure(ablation.set_up(name, "demo")).training.tasks
    assert row["status"] == "ok"
    for metric in MAIN[tasks]:
        assert 0 < row["metrics"][metric]["mean"] < 1
        assert row["metrics"][metric]["n"] > 200
    assert set(row["density"]) == {metric.split(".")[0] for metric in MAIN[tasks]}


def test_a_table_leaves_every_file_of_its_run(table):
    folder, _, text = table
    for name in ("config.json", "metrics.jsonl", "table.json", "table.md"):
        assert (folder / name).stat().st_size > 100, name
    for name in ("table.png", "figure4.png", "masks.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG"), name
    for name in ("config.json", "figure4.json"):
        load(folder / name)
    for name in TABLE_2:
        row = folder / "rows" / name
        assert load(row / "result.json")["seeds"] == [0, 1]
        for seed in (0, 1):
            assert (row / f"seed{seed}" / "checkpoint").is_dir()
            assert load(row / f"seed{seed}" / "seed.json")["seed"] == seed
    assert list((folder / "events").rglob("events.out.tfevents*"))
    assert f"written to {folder}" in text


def test_a_table_has_the_promised_shape(table):
    _, content, _ = table
    assert set(content) >= {"table", "data", "seeds", "rows", "command"}
    assert content["table"] == "lt4rec.table2" and content["data"] == "video_feed"
    assert content["seeds"] == [0, 1]
    assert [row["module"] for row in content["rows"]] == [*TABLE_2, ""]
    for row, module in zip(content["rows"], table2.ROWS, strict=False):
        assert row["row"] == module.ROW.name
        assert row["paper"] == PAPER.get(row["row"], {})
        assert isinstance(row["params"], int) and row["seconds"] > 0
        assert all(0 < density <= 1 for density in row["density"].values())
        for metric in row["metrics"].values():
            assert set(metric) >= {"mean", "n", "space"}
            if metric["mean"] is not None:
                low, high = metric["ci95"]
                assert low <= metric["mean"] <= high
                assert len(metric["values"]) == 2
                assert metric["mean"] == pytest.approx(np.mean(metric["values"]))
    assert content["rows"][0]["metrics"]["ctr.auc"]["space"] == "impression"
    assert content["rows"][1]["metrics"]["cvr.mse"]["space"] == "click"


def test_no_row_beats_the_oracle(table):
    *rows, oracle = table[1]["rows"]
    assert oracle["row"] == "oracle" and oracle["params"] is None
    for row in rows:
        for name, sign in (("ctr.auc", 1), ("cvr.mse", -1)):
            if name in row["metrics"]:
                best = oracle["metrics"][name]["mean"]
                assert sign * row["metrics"][name]["mean"] < sign * best


def test_what_a_table_sets_is_changed_by_its_rows_and_not_undone(table):
    folder, content, _ = table
    settings = load(folder / "config.json")["rows"]
    assert settings["lt4rec.s_weight"]["model"]["hidden"] == [16, 8]
    assert settings["lt4rec.s_weight_biggernet"]["model"]["hidden"] == [32, 16]
    params = {row["module"]: row["params"] for row in content["rows"]}
    assert params["lt4rec.s_weight_biggernet"] > params["lt4rec.s_weight"]
    assert params["lt4rec.hard_sharing"] > params["lt4rec.hard_sharing_trunk"]


def test_rows_share_the_ticket_searches_they_have_in_common(table):
    folder, content, _ = table
    searches = sorted(path.name for path in (folder / "tickets").iterdir())
    kinds = [name.rsplit("-", 1)[0] for name in searches]
    # A wider net is searched anew for both tasks, the CVR's own view for the CVR.
    assert kinds == ["ctr-neuron"] + 2 * ["ctr-weight"] + ["cvr-neuron"] + 3 * [
        "cvr-weight"
    ]
    trained = [line["phase"] for line in log_of(folder) if line["epoch"] == 1]
    assert len(trained) - trained.count("joint") == len(searches) * 3 * 2
    assert trained.count("joint") == len(table2.ROWS) * 2
    density = {row["module"]: row["density"] for row in content["rows"]}
    for name in ("random_masks", "s_weight_leaky", "s_weight_tuning", "s_weight_sum"):
        assert density[f"lt4rec.{name}"] == density["lt4rec.s_weight"]
    for role in ("ctr", "cvr"):
        alone = density[f"lt4rec.ticket_{role}"][role]
        assert alone == density["lt4rec.s_weight"][role]


def test_a_searchs_masks_shrink_round_by_round_to_the_final_density(table):
    for folder in (table[0] / "tickets").glob("*-weight-*/seed*"):
        rounds = [mask_bits(folder / f"round{number}.npz") for number in range(3)]
        kept = [sum(int(bits.sum()) for bits in found.values()) for found in rounds]
        assert kept[1:] == [round(kept[0] * 0.2**0.5), round(kept[0] * 0.2)]
        for before, after in zip(rounds, rounds[1:], strict=False):
            assert all((after[name] <= before[name]).all() for name in before)


def test_figure_4_tells_rounds_and_choices_of_both_tasks(table):
    figure = load(table[0] / "figure4.json")
    metrics = {title: panel["metric"] for title, panel in figure["panels"].items()}
    assert metrics == {"CTR (click)": "AUC", "CVR (watch)": "MSE"}
    for panel in figure["panels"].values():
        assert panel["density"] == pytest.approx([1, 0.447, 0.2], abs=1e-3)
        assert np.shape(panel["values"]) == (2, 3)
        better = np.argmax if panel["metric"] == "AUC" else np.argmin
        # The dense round is above --pruning.max-density, so never chosen.
        best = [1 + int(better(values[1:])) for values in panel["values"]]
        assert panel["chosen"] == best


def test_a_table_run_again_trains_nothing(table, command, monkeypatch, capsys):
    folder, content, _ = table
    before = (folder / "metrics.jsonl").read_bytes()
    forbid_training(monkeypatch)
    assert command("lt4rec.table2", folder, "--seeds", "2") == content
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert "training/s" not in capsys.readouterr().err  # no bar of nothing either


AGAIN = (
    table2.base_ctr,
    table2.base_cvr,
    table2.hard_sharing,
    table2.s_weight_tuning,
    table2.s_neuron,
    table2.s_weight_multiview,
    table2.dcrnn,
)
"""What a row is tested against, and rows of each kind."""


def test_rows_made_again_elsewhere_are_the_same_to_the_bit(
    table, command, tmp_path, monkeypatch
):
    """All but what Holm's correction makes of the other rows' tests."""

    def chosen(content):
        keys = ("row", "metrics", "density", "params", "tests")
        rows = {row["module"]: {key: row[key] for key in keys} for row in content}
        for row in rows.values():
            for against in row["tests"].values():
                for test in against.values():
                    test.pop("p_holm")
        return rows

    whole = chosen(copy.deepcopy(table[1]["rows"]))
    monkeypatch.setattr(table2, "ROWS", AGAIN)
    again = chosen(command("lt4rec.table2", tmp_path, "--seeds", "2")["rows"])
    assert len(again) == len(AGAIN) + 1  # the oracle's
    assert again == {module: whole[module] for module in again}


def test_more_seeds_later_train_only_what_is_new(command, tmp_path):
    one = command("lt4rec.s_weight", tmp_path, "--seeds", "1")
    trained = len(log_of(tmp_path))
    two = command("lt4rec.s_weight", tmp_path, "--seeds", "2")
    new = log_of(tmp_path)[trained:]
    assert new and {line["seed"] for line in new} == {1}
    values = [
        row_of(found, "lt4rec.s_weight")["metrics"]["cvr.mse"]["values"]
        for found in (one, two)
    ]
    assert values[1][:1] == values[0] and values[1][1] != values[0][0]


def test_all_tasks_of_a_log_train_together_from_a_common_early_step(command, tmp_path):
    rewind = ("--pruning.rewind", "step", "--pruning.rewind-step", str(STEPS))
    settings = ("--training.tasks", "all", *rewind, "--seeds", "1")
    row = row_of(command("lt4rec.s_weight", tmp_path, *settings), "lt4rec.s_weight")
    assert set(row["density"]) == {"ctr", "cvr", "like", "follow"}
    for metric in ("ctr.auc", "cvr.mse", "like.auc", "follow.auc"):
        assert 0 < row["metrics"][metric]["mean"] < 1
    assert row["metrics"]["like.auc"]["space"] == "click"


@pytest.mark.parametrize(
    "settings",
    [
        "--pruning.rewind step --pruning.rewind-step 6",
        "--pruning.rewind fresh",
        "--pruning.scope layer",
        "--pruning.unit neuron --pruning.scope layer",
        "--optimiser.moving per_task",
    ],
)
def test_another_search_or_optimiser_trains_too(settings, command, tmp_path):
    table = command("lt4rec.s_weight", tmp_path, "--seeds", "1", *settings.split())
    row = row_of(table, "lt4rec.s_weight")
    assert 0 < row["metrics"]["ctr.auc"]["mean"] < 1
    assert 0 < row["metrics"]["cvr.mse"]["mean"] < 1
    assert max(row["density"].values()) < 0.6


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ("base_ctr", "--model.crossing.kind elementwise"),
        ("base_ctr", "--model.crossing.kind none --optimiser.weight-decay 0.1"),
        ("base_ctr", "--training.binary-loss focal --training.positive-weight rate"),
        ("base_cvr", "--training.continuous-loss log --training.cvr-passes 1.5"),
    ],
)
def test_another_net_or_loss_trains_too(row, settings, command, tmp_path):
    name = f"lt4rec.{row}"
    row = row_of(command(name, tmp_path, "--seeds", "1", *settings.split()), name)
    (metric,) = MAIN["pair"] & set(row["metrics"])
    assert 0 < row["metrics"][metric]["mean"] < 1


def test_one_threshold_a_layer_keeps_the_same_share_of_each(command, tmp_path):
    command("lt4rec.ticket_cvr", tmp_path, "--seeds", "1", "--pruning.scope", "layer")
    (path,) = (tmp_path / "tickets").glob("*/seed0/round2.npz")
    for bits in mask_bits(path).values():
        assert abs(bits.sum() - 0.2 * bits.size) <= 1


@pytest.fixture
def log_without_clicks(cache, monkeypatch):
    """The planted log, its CVR known on every impression and no duration."""
    schema = make_schema()
    tasks = [dataclasses.replace(task, space="impression") for task in schema.tasks]
    schema = dataclasses.replace(schema, tasks=tuple(tasks), extras=("truth.click",))

    def rows(n, seed):
        made = make_rows(n, seed)
        return [made._replace(extras={"truth.click": made.extras["truth.click"]})]

    splits = {"train": rows(300, 1), "validation": rows(100, 2), "test": rows(100, 3)}
    log = Log(schema, splits, {"read": 500, "kept": 500})
    dataset = prepare("tiny", {}, lambda: log, cache, say=lambda text: None)
    monkeypatch.setattr(sources, "load", lambda config, say: dataset)
    return dataset


def test_a_row_without_meaning_on_a_log_says_so_and_trains_nothing(
    log_without_clicks, command, tmp_path, monkeypatch
):
    forbid_training(monkeypatch)
    name = "lt4rec.s_weight_gradientconflict"
    table = command(name, tmp_path, "--training.batch-size", "64")
    row = row_of(table, name)
    assert row["status"].startswith("not applicable: ")
    assert row["metrics"] == {} and row["params"] is None
    assert "not applicable" in command.text


def test_only_the_conflict_rule_needs_a_space_of_clicks(log_without_clicks):
    schema = log_without_clicks.schema
    plain = ablation.set_up("lt4rec.s_weight", "demo")
    conflict = s_weight_gradientconflict.configure(plain)
    assert setup.not_applicable(plain, schema) is None
    assert "label space" in setup.not_applicable(conflict, schema)
    assert setup.not_applicable(conflict, make_schema()) is None


def test_table_1_counts_what_the_log_holds(command, tmp_path):
    content = command("lt4rec.table1", tmp_path)
    assert content["splits"]["all"]["impressions"] == 3000
    assert content["splits"]["all"]["clicks"] == sum(
        content["splits"][part]["clicks"] for part in ("train", "validation", "test")
    )
    assert content["paper"]["impressions"] == 297e6
    assert "| paper: Tencent Video |" in (tmp_path / "table.md").read_text()


def test_table_1_leaves_open_what_no_label_decides(
    log_without_clicks, command, tmp_path, monkeypatch
):
    rows = log_without_clicks.splits["test"]
    unknown = rows.labels | {"watch": np.full(rows.num_rows, np.nan, np.float32)}
    splits = log_without_clicks.splits | {"test": rows._replace(labels=unknown)}
    dataset = dataclasses.replace(log_without_clicks, splits=splits)
    monkeypatch.setattr(sources, "load", lambda config, say: dataset)
    content = command("lt4rec.table1", tmp_path)
    assert content["splits"]["test"]["mean CVR label"] is None
    assert 0 < content["splits"]["all"]["mean CVR label"] < 1


@pytest.mark.parametrize("tasks", ["pair", "ctr"])
def test_figure_4_alone_searches_and_trains_nothing_else(
    tasks, cache, tmp_path, capsys
):
    data = ("--data.cache", str(cache), "--workdir", str(tmp_path))
    settings = ("--seeds", "1", "--training.tasks", tasks)
    assert run.main(["lt4rec.figure4", *TINY, *data, *settings]) == 0
    assert "validation AUC by round" in capsys.readouterr().out
    phases = {line["phase"] for line in log_of(tmp_path)}
    assert phases == {"round 0", "round 1", "round 2"}
    assert (tmp_path / "figure4.png").exists() and not (tmp_path / "rows").exists()
    # Where two masks meet takes two masks.
    assert (tmp_path / "masks.png").exists() == (tasks == "pair")


def test_the_authors_sample_goes_through_the_same_command(
    shared_data, command, tmp_path
):
    path = shared_data / "lt4rec_sample" / "part-r-00002.gz"
    if not path.is_file():
        pytest.skip(f"no file at {path}")
    sample = ("--data.name", "lt4rec_sample", "--data.path", str(path))
    whole = command("lt4rec.table1", tmp_path / "1", *sample)["splits"]["all"]
    assert (whole["impressions"], whole["users"], whole["items"]) == (4322, 500, 4191)
    assert whole["click rate"] == pytest.approx(0.3880, abs=5e-5)
    assert whole["mean CVR label"] == pytest.approx(0.818, abs=5e-4)
    table = command("lt4rec.ticket_cvr", tmp_path / "2", *sample, "--seeds", "1")
    assert 0 < row_of(table, "lt4rec.ticket_cvr")["metrics"]["cvr.mse"]["mean"] < 0.5
    assert [row["row"] for row in table["rows"]] == ["ticket cvr"]  # no known truth
    assert "not to be redistributed" in command.text


def test_the_coupon_funnel_goes_through_the_same_command(command, tmp_path):
    try:
        find_data()
    except ValueError as error:
        pytest.skip(str(error))
    content = command("lt4rec.table1", tmp_path, "--data.name", "complete_journey")
    assert content["splits"]["all"]["impressions"] == 800_199
    assert content["splits"]["all"]["click rate"] == pytest.approx(0.05029, abs=5e-6)
