"""Training and prediction read a split from disk where it is too large to hold."""

import dataclasses
import threading

import jax
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_setup

from experiments.settings import setup as experiments_setup
from experiments.settings.config import Config
from jaxmtl.data import store
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.training.fit import fit
from jaxmtl.training.guard import NonFiniteLoss
from jaxmtl.training.inference import predict_all
from jaxmtl.training.train_state import dense_masks, make_init


@pytest.fixture(scope="module")
def rows():
    return make_rows(240, seed=0)


def make_plan(setup, rows):
    return LargePlan(setup.schema, rows, setup.learned, 20)


def trained(train, validation, plan_rows, **options):
    setup = make_setup()
    state = make_init(setup)(jax.random.key(0))
    settings = {"seed": 3, "epochs": 2, "patience": 2, "chunk": 4} | options
    return fit(
        setup,
        state,
        dense_masks(setup, state.net),
        plan=make_plan(setup, plan_rows),
        train=train,
        validation=validation,
        **settings,
    )


def test_fit_on_rows_of_the_host_gives_the_bits_of_rows_on_the_device(rows):
    on_host, on_device = (
        trained(place(rows), place(make_rows(60, seed=1)), rows)
        for place in (lambda tree: tree, jax.device_put)
    )
    assert on_host.history == on_device.history
    assert_same_bits(on_host.best, on_device.best)


def test_loss_that_is_not_finite_is_named_by_its_rows_and_ends_the_reading(rows):
    rows = rows._replace(numeric=rows.numeric.copy())
    rows.numeric[77] = np.inf
    with pytest.raises(NonFiniteLoss) as error:
        trained(rows, rows, rows)
    assert 77 in error.value.batch.rows
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_predictions_of_rows_on_the_host_are_those_on_the_device(rows):
    setup = make_setup()
    state = make_init(setup)(jax.random.key(0))
    best = trained(rows, rows, rows, epochs=1).best
    masks = dense_masks(setup, state.net)
    found = [
        predict_all(setup, best, masks, place(rows), chunk=64)
        for place in (lambda tree: tree, jax.device_put)
    ]
    assert_same_bits(*found)


def test_what_is_large_stays_on_disk(log, tmp_path, monkeypatch):
    data = store.prepare("tiny", {}, lambda: log, tmp_path, lambda text: None)
    setup = make_setup()
    assert isinstance(experiments_setup.rows_of(data, "train", setup).ids, jax.Array)
    assert not data.is_large("train")
    monkeypatch.setattr(store, "RESIDENT", 10_000)
    assert data.is_large("train") and not data.is_large("test")
    assert isinstance(experiments_setup.rows_of(data, "train", setup).ids, np.memmap)
    assert isinstance(experiments_setup.rows_of(data, "test", setup).ids, jax.Array)
    config = Config()
    training = dataclasses.replace(config.training, batch_size=20)
    config = dataclasses.replace(config, training=training)
    plan = experiments_setup.make_plan(config, data, setup)
    assert isinstance(plan, LargePlan)
