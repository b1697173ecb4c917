"""Every benchmark runs from end to end, at sizes whose timings mean nothing."""

import json
import os
import sys

import numpy as np
import pytest

from experiments.benchmarks import (
    crnn,
    mmoe_contenders,
    optimisers,
    peers,
    prune,
    step,
)
from experiments.config import DataConfig
from jaxmtl.data.video_feed import FeedConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")


def table(capsys) -> list[list[str]]:
    """The words of each line printed."""
    return [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def no_torch(monkeypatch):
    """The project does without torch; importing it fails here."""
    for name in ("torch", "torch_rechub", "deepctr_torch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(crnn, "torch", None)


def test_peers_times_ours_and_says_how_to_install_the_others(no_torch, capsys):
    peers.main(peers.Options((1000,), ("uniform", "zipf"), 8, steps=2, repeats=2))
    lines = table(capsys)
    ours = [line for line in lines if "ours" in line and "1,000" in line]
    assert [line[1] for line in ours] == ["uniform", "zipf"]
    for line in ours:
        assert float(line[4]) > 0
        assert line[-1] == "1.00x"
    for name in ("torch-rechub", "deepctr-torch", "torch"):
        missing = [line for line in lines if line[-3:] == ["pip", "install", name]]
        assert len(missing) == 2
    assert not any("target" in line for line in lines)


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


def test_step_times_row_sparse_and_dense_tables(capsys, tmp_path):
    options = step.Options(
        (1000,), ("uniform",), batch=8, steps=2, repeats=2, out=tmp_path / "step.json"
    )
    step.main(options)
    (line,) = [line for line in table(capsys) if line[1:2] == ["uniform"]]
    assert line[0] == "1e+03"
    assert float(line[2]) > 0
    (record,) = json.loads(options.out.read_text())["records"]
    assert record["milliseconds"] > 0 and record["dense_milliseconds"] > 0
    assert record["table_bytes"] == 1000 * 32 * 4
    assert record["temporary_bytes"] > 0


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux tells the peak"
)
def test_memory_taken_and_given_back_shows_as_a_rise():
    size = 200_000_000
    assert step.resident_rise(lambda: np.ones(size, np.uint8)) > 0.9 * size
    assert step.resident_rise(lambda: None) < 0.1 * size


def test_optimisers_compares_each_with_dense_adam(capsys, tmp_path):
    """What skipped rows miss sets lazy Adam apart; catching up does not."""
    feed = FeedConfig(users=2_000, videos=2_000, impressions=9_000, days=5)
    data = DataConfig(feed=feed, cache=tmp_path)
    options = optimisers.Options(
        ("adam", "lazy_adam"), data, seeds=1, epochs=1, out=tmp_path / "found.json"
    )
    optimisers.main(options)
    assert "dense adam" in capsys.readouterr().out
    records = json.loads(options.out.read_text())["records"]
    names = [record["optimiser"] for record in records]
    assert names == ["dense adam", "adam", "lazy_adam"]
    reference, caught_up, lazy = (record["parting"] for record in records)
    assert reference == [0] * optimisers.PARTS
    assert max(caught_up) < 0.01 < lazy[0]
    for record in records:
        (auc,) = record["test"]
        assert 0 < auc < 1


def test_prune_times_every_contender(no_torch, capsys):
    prune.main((1000,), repeats=2)
    lines = [line for line in table(capsys) if line[0] == "1000"]
    assert len(lines) == 6
    assert sum("installed" in line for line in lines) == 1


def test_prune_refuses_sizes_that_two_layers_cannot_hold(capsys):
    with pytest.raises(SystemExit, match="1500 weights: give multiples of 1000"):
        prune.main((1500,))


def test_crnn_times_its_forms_and_what_the_algebra_allows(no_torch, capsys):
    options = crnn.Options(
        dim=4, hidden=3, length=2, interval=1, batch=5, cells=("gru",), repeats=2
    )
    crnn.main(options)
    text = capsys.readouterr().out
    assert "torch is not installed" in text
    # L (D + H) / (D + L H) = 2 · 7 / 10
    assert "1.40x allowed" in text
