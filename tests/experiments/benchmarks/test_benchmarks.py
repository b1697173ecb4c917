"""Every benchmark runs from end to end, at sizes whose timings mean nothing."""

import functools
import importlib
import json
import os
import subprocess
import sys
from typing import get_args

import contender
import jax
import numpy as np
import pytest

from experiments.benchmarks import (
    __main__,
    apart,
    command,
    crnn,
    mmoe_contenders,
    optimisers,
    parts,
    peers,
    plots,
    prune,
    results,
    roofline,
    step,
)
from experiments.settings.config import DataConfig
from jaxmtl.data.sources.video_feed import FeedConfig
from jaxmtl.sparsity import selection
from jaxmtl.training.train_state import features_like, init_net

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def no_torch(monkeypatch):
    """The project does without torch; importing it fails here."""
    for name in ("torch", "torch_rechub", "deepctr_torch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(crnn, "torch", None)


class Here:
    """As `apart.Apart`, in this process and in no time."""

    def __init__(self, make, memory):
        del memory
        try:
            self.run, self.about = make()
        except ImportError as error:
            raise apart.Failed(f"ImportError: {error}") from error

    def seconds(self):
        self.run()
        return 0.5

    def close(self):
        del self.run


def test_peers_times_ours_and_says_how_to_install_the_others(no_torch, monkeypatch):
    monkeypatch.setattr(peers, "Apart", Here)
    options = peers.Options((1000,), ("uniform", "zipf"), 8, steps=2, repeats=2)
    uniform, zipf = peers.measure(options)
    for table in (uniform, zipf):
        ours, *rivals = table.records
        assert (ours["contender"], ours["seconds"], ours["to_ours"]) == (
            "ours",
            0.25,
            1,
        )
        missing = {r["contender"]: r["missing"] for r in rivals}
        for name in ("torch-rechub", "deepctr-torch", "torch"):
            assert missing[name].startswith("not installed (ImportError: ")
            assert missing[name].endswith(f"pip install {name}")
        assert not table.notes


def test_a_rival_is_compared_with_ours_block_by_block(monkeypatch):
    """And stops after three blocks where these take long."""
    blocks = {"ours": iter([1.0, 2.0, 4.0, 8.0]), "torch": iter([3.0, 2.0, 8.0, 8.0])}

    class Told(Here):
        def __init__(self, make, memory):
            self.name, self.about, self.run = make.args[0], 7, None

        def seconds(self):
            return next(blocks[self.name])

    monkeypatch.setattr(peers, "Apart", Told)
    options = peers.Options(steps=10, repeats=9, seconds=5.0, rivals=("torch",))
    ours, torch = peers.compare(options, 1000, "uniform")
    assert ours["seconds"] == 0.2 and torch["seconds"] == 0.3
    ratios = [torch[f"{name}to_ours"] for name in ("least_", "", "most_")]
    assert ratios == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([{"to_ours": 5.0}, {"to_ours": 4.2}], "4.20x, met"),
        ([{"to_ours": 3.9}, {"missing": apart.OUT_OF_MEMORY}], "3.90x, missed"),
        ([{"missing": apart.OUT_OF_MEMORY}] * 2, "no peer has memory enough"),
        ([{"to_ours": 5.0}, {"missing": "not installed"}], None),
    ],
)
def test_target_is_judged_by_the_peers_that_ran_or_ran_out_of_memory(found, says):
    pairs = zip(peers.PEERS, found, strict=True)
    notes = peers.verdict(10**6, [{"contender": n} | r for n, r in pairs])
    assert [note.split(": ")[-1] for note in notes] == [says] * (says is not None)


def test_a_contender_that_runs_out_of_memory_says_so_and_the_others_go_on():
    small = apart.Apart(functools.partial(contender.make, 10), 4e9)
    with pytest.raises(apart.Failed, match="out of memory"):
        apart.Apart(functools.partial(contender.make, 10**9), 4e9)
    assert small.about == 10 and small.seconds() > 0
    small.close()


@pytest.mark.parametrize("name", ["torch-rechub", "deepctr-torch", "torch"])
def test_a_rival_trains_as_many_weights_as_ours_besides_its_norms(name):
    log = mmoe_contenders.make_log(1000, "uniform", 8, 2)
    try:
        run, weights = mmoe_contenders.MAKERS[name](log)
    except ImportError as error:
        pytest.skip(f"{name} is not installed: {error}")
    _, ours = mmoe_contenders.ours(log)
    run()
    # Batch normalisation has a scale and a shift for each unit; gates get a bias.
    units = 8 * (128 + 64) + 2 * (8 + 32)
    extra = 2 * units + 2 * 8 if name == "torch-rechub" else 0
    assert weights == ours + extra


@pytest.mark.parametrize("draw", ["uniform", "zipf"])
def test_ids_are_shared_out_equally_and_none_is_unknown(draw):
    log = mmoe_contenders.make_log(1000, draw, 64, 2)
    assert log.size == 50
    assert log.ids.shape == (128, 20)
    assert log.ids.min() >= 1
    assert log.ids.max() < 50
    assert set(np.unique(log.labels)) == {0.0, 1.0}


def test_ids_that_leave_a_field_without_any_are_refused():
    with pytest.raises(ValueError, match="39 ids; give 40 or more"):
        mmoe_contenders.make_log(39, "uniform", 8, 2)


def test_step_times_row_sparse_and_dense_tables():
    options = step.Options(
        (1000,), ("uniform",), batch=8, batches=(), steps=2, repeats=2
    )
    (table,) = step.measure(options)
    (record,) = table.records
    assert record["seconds"] > 0 and record["dense_seconds"] > 0
    assert record["growth"] == 1
    assert record["table_bytes"] == 1000 * 32 * 4
    assert record["temporary_bytes"] > 0


def test_step_times_batches_of_several_sizes(monkeypatch):
    monkeypatch.setattr(step, "BATCHED", 1000)
    options = step.Options((), (), batches=(4, 8), steps=2, repeats=2)
    (table,) = step.measure(options)
    assert [record["batch"] for record in table.records] == [4, 8]
    for record in table.records:
        assert record["seconds"] > 0 and record["dense_seconds"] > 0
        rows = record["rows_a_second"] * record["seconds"]
        assert rows == pytest.approx(record["batch"])


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux tells the peak"
)
def test_memory_taken_and_given_back_shows_as_a_rise():
    size = 200_000_000
    assert step.resident_rise(lambda: np.ones(size, np.uint8)) > 0.7 * size
    assert step.resident_rise(lambda: None) < 0.1 * size


def test_optimisers_compares_each_with_dense_adam(tmp_path):
    """What skipped rows miss sets lazy Adam apart; catching up does not."""
    feed = FeedConfig(users=2_000, videos=2_000, impressions=9_000, days=5)
    data = DataConfig(feed=feed, cache=tmp_path)
    options = optimisers.Options(("adam", "lazy_adam"), data, seeds=1, epochs=1)
    (table,) = optimisers.measure(options)
    names = [record["optimiser"] for record in table.records]
    assert names == ["dense adam", "adam", "lazy_adam"]
    reference, caught_up, lazy = (record["parting"] for record in table.records)
    assert reference == [0] * optimisers.PARTS
    assert max(caught_up) < 0.01 < lazy[0]
    for record in table.records:
        (auc,) = record["test"]
        assert 0 < auc < 1


def test_prune_times_every_contender(no_torch):
    (table,) = prune.measure(prune.Options((1000,), repeats=2))
    assert len(table.records) == 6
    missing = [r["contender"] for r in table.records if "missing" in r]
    assert missing == [prune.TORCH]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sizes": (1500,)}, "1500 weights: give multiples"),
        ({"repeats": 0}, "at least 1"),
    ],
)
def test_prune_refuses_what_it_cannot_time(options, says):
    with pytest.raises(ValueError, match=says):
        prune.Options(**options)


def test_crnn_times_its_forms_and_what_the_algebra_allows(no_torch):
    options = crnn.Options(
        dim=4, hidden=3, length=2, interval=1, batch=5, cells=("gru",), repeats=2
    )
    one, stacked, windows = crnn.measure(options)
    assert one.notes[0].startswith("torch is not installed")
    # L (D + H) / (D + L H) = 2 · 7 / 10
    assert "1.40x allowed" in one.notes[1]
    for table in (one, stacked, windows):
        assert table.records[0]["contender"] == crnn.OURS
        assert table.records[0]["forward_to_ours"] == 1


# The parts of a step


def test_a_step_and_each_of_its_parts_stand_beside_a_bound():
    options = parts.Options(("mmoe",), 1000, 8, 2, 1, (64,), 10_000)
    (table,) = parts.measure(options)
    found = {record["part"]: record for record in table.records}
    assert list(found)[:3] == ["the step", "a call, empty", "take"]
    assert {"pool", "cross", "loss", "guard", "optimise", "tables: update"} <= {*found}
    layers = [found[name]["bound"] for name in found if name.startswith("net: ")]
    assert len(layers) == 8 and "net: experts/layer01" in found
    net = init_net(mmoe_contenders.make_setup(2), jax.random.key(0))
    work = 3 * roofline.mmoe_operations(net, options.batch)
    assert parts.whole(parts.mmoe(options)).work == work
    for name in ("the step", "cross and net"):
        assert found[name]["bound"] == pytest.approx(sum(layers))
    assert all(record["seconds"] > 0 for record in table.records)


# The roofline


def test_roofline_holds_every_kernel_against_a_ceiling():
    options = roofline.Options((64,), 10_000, 1000, (1000,), batch=8, repeats=1)
    (table,) = roofline.measure(options)
    kernels = [record["kernel"] for record in table.records]
    assert len(kernels) == len(set(kernels)) == 10
    for record in table.records:
        assert record["rate"] == pytest.approx(record["work"] / record["seconds"])
    shares = {r["kernel"]: r["share"] for r in table.records}
    assert max(v for n, v in shares.items() if "product" in n) == 1
    assert shares["ceiling: copy"] == 1


def operations(function, *arguments):
    """As XLA counts them, elementwise ones included."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def test_operations_of_a_net_are_those_that_xla_counts():
    setup = mmoe_contenders.make_setup(2)
    net, features = init_net(setup, jax.random.key(0)), features_like(setup, 64)
    apply = lambda net, features: setup.model.apply(net, features).logits
    counted = operations(apply, net, features)
    forward, both = roofline.mmoe(64)
    assert forward.work == pytest.approx(counted, rel=0.02)
    assert both.work == 3 * forward.work


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_operations_of_a_run_are_those_that_xla_counts(kind):
    options = crnn.Options(dim=256, hidden=128, length=3, batch=16)
    cells, x, shifts = crnn.draw(options, kind, 1, 3)
    counted = operations(functools.partial(crnn.fast, kind), cells, x, shifts)
    assert roofline.dcrnn_run(kind, options).work == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("ties", [False, True])
def test_pruning_counts_as_often_as_the_roofline_says(monkeypatch, ties):
    weights = np.random.default_rng(0).normal(size=(4, 250)).astype(np.float32)
    if ties:
        weights = np.round(weights, 1)
    found, count = [], selection.count

    def counting(hits):
        found.append(1)
        return count(hits)

    monkeypatch.setattr(selection, "count", counting)
    with jax.disable_jit():
        selection.mark_largest([weights], [weights == weights], np.int32(200))
    assert roofline.counts_to_prune(weights, 200) == len(found)


# All of them


def test_every_benchmark_has_a_short_form_and_the_same_interface():
    for name in get_args(__main__.Name):
        module = importlib.import_module(f"experiments.benchmarks.{name}")
        assert isinstance(module.QUICK, module.Options)
        assert issubclass(module.Options, command.Output)
        assert callable(module.measure)


COLUMNS = (
    results.Column("name", "name"),
    results.Column("size", "MB", ",.1f", 1e-6),
    results.Column("parts", "parts", ".0%"),
    results.Column("missing", "not shown where nothing is missing"),
)


def test_cells_of_a_table_by_hand():
    records = [
        {"name": "a", "size": 1_234_567_890, "parts": [0.5, None]},
        {"name": "b", "size": float("nan")},
    ]
    assert results.Table("t", COLUMNS, records).cells() == [
        ["name", "a", "b"],
        ["MB", "1,234.6", "–"],
        ["parts", "50% –", "–"],
    ]


def fake(options):
    plot = plots.Plot("size", "bytes", "name")
    yield results.Table("First", COLUMNS, [{"name": "a", "size": 2e6}], plot=plot)
    if options.fails:
        raise ImportError("no module named this")
    records = [{"name": "a", "size": float("nan")}]
    yield results.Table("Second", COLUMNS, records, notes=["met"])


class FakeOptions(command.Output):
    fails = False


class FailingOptions(command.Output):
    fails = True


def test_results_are_printed_and_written_with_what_they_hang_on(tmp_path, capsys):
    said = "python -m experiments.benchmarks.fake"
    assert command.run("fake", fake, FakeOptions(out=tmp_path), said) is None
    printed = capsys.readouterr().out
    assert "First" in printed and "met" in printed and "2.0" in printed
    found = json.loads((tmp_path / "fake.json").read_text())
    assert found["command"] == said and "failure" not in found
    assert len(found["load"]) == 3 and found["seconds"] >= 0
    assert found["environment"]["jax"]
    first, second = found["tables"]
    assert first["records"] == [{"name": "a", "size": 2e6}]
    assert second["records"] == [{"name": "a", "size": None}]
    text = (tmp_path / "fake.md").read_text()
    assert said in text and "| a" in text and "fake_figures/1.svg" in text
    assert (tmp_path / "fake_figures" / "1.svg").stat().st_size > 1000


def test_a_failure_is_written_with_what_was_measured_before(tmp_path, capsys):
    failure = command.run("fake", fake, FailingOptions(out=tmp_path), "")
    assert failure == "ImportError: no module named this"
    assert "Traceback" in capsys.readouterr().err
    found = json.loads((tmp_path / "fake.json").read_text())
    assert found["failure"] == failure and len(found["tables"]) == 1
    assert failure in (tmp_path / "fake.md").read_text()


def test_one_that_fails_or_dies_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    def alone(name, quick, out):
        assert quick and out == tmp_path
        return "ImportError: no torch" if name == "peers" else None

    monkeypatch.setattr(__main__, "run_alone", alone)
    options = __main__.Options(("peers", "step"), quick=True, out=tmp_path)
    assert __main__.main(options) == 1
    captured = capsys.readouterr()
    assert "1 done, 1 failed" in captured.out
    assert "peers: ImportError: no torch" in captured.out
    assert __main__.main(__main__.Options(("step",), quick=True, out=tmp_path)) == 0


def test_a_benchmark_that_does_not_load_is_recorded_by_its_command(tmp_path):
    failure = __main__.run_alone("nothing", True, tmp_path)
    assert failure.startswith("ModuleNotFoundError: No module named")
    found = json.loads((tmp_path / "nothing.json").read_text())
    assert found["failure"] == failure
    assert found["command"] == "python -m experiments.benchmarks nothing --quick"


def test_the_one_command_runs_what_it_is_given(tmp_path):
    run = [sys.executable, "-m", "experiments.benchmarks", "prune", "--quick"]
    ended = subprocess.run(
        [*run, "--out", tmp_path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "1 done, 0 failed" in ended.stdout
    (table,) = json.loads((tmp_path / "prune.json").read_text())["tables"]
    assert table["records"][0]["contender"] == prune.OURS


@pytest.mark.parametrize("x", [["a", "b"], [10, 1000]])
def test_a_plot_is_drawn_of_the_records_that_have_its_number(x):
    records = [{"x": v, "y": 2.0, "by": b} for v in x for b in "pq"] + [{"x": x[0]}]
    drawn = plots.draw(plots.Plot("y", "seconds", "x", "by"), records)
    assert b"seconds" in drawn and drawn.startswith(b"<?xml")
