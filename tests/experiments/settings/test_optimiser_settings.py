"""From `--optimiser.*` and `--training.precision` to what is trained and kept."""

import dataclasses
from types import SimpleNamespace

import pytest
from conftest import make_schema

from experiments.running import ticket_cache
from experiments.settings.config import Config
from experiments.settings.setup import make_setup

DATA = SimpleNamespace(schema=make_schema(), rates={}, fingerprint="planted")


def make(section, **changes):
    changed = dataclasses.replace(getattr(Config(), section), **changes)
    return dataclasses.replace(Config(), **{section: changed})


def test_settings_reach_the_program():
    optimiser = make("optimiser", tables="adagrad", table_learning_rate=0.3)
    setup = make_setup(optimiser, DATA, ("click", "watch"))
    assert setup.spec.step.tables == "adagrad"
    assert setup.start.table_learning_rate == 0.3
    assert setup.start.learning_rate == Config().optimiser.learning_rate
    training = make("training", precision="bfloat16")
    setup = make_setup(training, DATA, ("click",))
    assert setup.spec.output.precision == "bfloat16"


def test_without_settings_tables_are_under_lazy_adam_at_the_nets_rate():
    setup = make_setup(Config(), DATA, ("click", "watch"))
    assert setup.spec.step.tables == "lazy_adam"
    assert setup.spec.output.precision == "float32"
    assert setup.start.table_learning_rate == setup.start.learning_rate


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("optimiser", {"tables": "adam"}),
        ("optimiser", {"table_learning_rate": 0.5}),
        ("training", {"precision": "bfloat16"}),
    ],
)
def test_a_ticket_found_under_other_settings_is_another_ticket(section, change):
    identity = lambda config: ticket_cache.identity(config, DATA, "click")
    assert identity(make(section, **change)) != identity(Config())


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_that_moves_no_table_is_refused(rate):
    with pytest.raises(ValueError, match="--optimiser.table-learning-rate is"):
        make("optimiser", table_learning_rate=rate).check()
