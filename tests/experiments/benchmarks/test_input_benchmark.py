"""The benchmark of input runs from end to end, at sizes whose timings mean nothing."""

import numpy as np
import pytest

from experiments.benchmarks import input as benchmark
from experiments.benchmarks.input_orders import bijection
from experiments.benchmarks.input_set import SCHEMA, MadeSet, made_blocks
from jaxmtl.data.store.blocks import write_split
from jaxmtl.data.store.checks import check_rows


def test_input_reads_trains_compares_and_leaves_no_set_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "alone", lambda task, *given: task(*given))
    sets = tmp_path / "sets"
    sets.mkdir()
    options = benchmark.Options((1100,), batch=64, chunk=4, seconds=0.01, folder=sets)
    alone, training, orders = benchmark.measure(options)
    assert list(sets.iterdir()) == []
    (epoch,), (trained,) = alone.records, training.records
    assert epoch["rows"] == 1100
    assert len(epoch["over_time"]) == 5  # 18 steps in chunks of 4
    assert trained["from_disk"] > 0
    assert 0 <= trained["waited"] <= 1
    assert len(orders.records) == 3
    for order in orders.records:
        assert order["warm"] > 0


def test_epoch_that_reads_a_row_twice_is_no_measurement(tmp_path, monkeypatch):
    made = MadeSet(tmp_path / "train", 200, 16, 4)
    write_split(made.folder, 200, made_blocks(200))
    plan, _ = made._source
    orders = plan.orders

    def twice(*given):
        return {kind: np.maximum(order, 1) for kind, order in orders(*given).items()}

    monkeypatch.setattr(plan, "orders", twice)
    with pytest.raises(ValueError, match="an epoch of 200 rows brought"):
        benchmark.read_epochs(made, 1)


def test_made_rows_obey_their_schema_and_hold_24_ids():
    (rows,) = made_blocks(5000)
    check_rows(SCHEMA, rows, "made")  # raises where they do not
    assert rows.ids.shape == (5000, 24)
    assert 0.03 < rows.labels["click"].mean() < 0.05


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 4097])
def test_bijection_brings_every_number_once(n):
    whole = bijection(n, 5, 0, n)
    np.testing.assert_array_equal(np.sort(whole), np.arange(n))
    np.testing.assert_array_equal(bijection(n, 5, n // 3, n), whole[n // 3 :])
    if n > 999:
        assert (whole != np.arange(n)).mean() > 0.9
        assert (bijection(n, 6, 0, n) != whole).any()
