"""Numbers given to tasks: weights in the sum of losses, widths of own embeddings."""

import dataclasses
import math

import pytest

from experiments.settings.config import Config
from experiments.settings.setup import make_setup
from jaxmtl.data.sources.video_feed import FeedConfig, read
from jaxmtl.data.store import Dataset

LOG = read(FeedConfig(users=20, videos=20, impressions=400, days=4))
DATA = Dataset(LOG.schema, LOG.splits, LOG.counts, LOG.notes, "tiny")
TASKS = tuple(task.name for task in LOG.schema.tasks)


def config_of(section: str, **changes) -> Config:
    changed = dataclasses.replace(getattr(Config(), section), **changes)
    return dataclasses.replace(Config(), **{section: changed})


def test_a_weight_is_given_to_any_task_by_its_part_or_its_name():
    given = (("cvr", 5.0), ("like", 0.5))
    setup = make_setup(config_of("training", weights=given), DATA, TASKS)
    expected = dict.fromkeys(TASKS, 1.0) | {LOG.schema.cvr: 5.0, "like": 0.5}
    assert setup.start.task_weights == expected
    alone = make_setup(config_of("training", weights=given), DATA, ("click",))
    assert alone.start.task_weights == {"click": 1.0}


@pytest.mark.parametrize(
    ("section", "field", "option"),
    [
        ("training", "weights", "--training.weights"),
        ("model", "own_dims", "--model.own-dims"),
    ],
)
def test_a_task_that_is_none_or_is_named_twice_is_refused(section, field, option):
    for pairs, words in {
        (
            ("clik", 2),
        ): f"{option} names 'clik', which is no task; did you mean 'click'",
        (("ctr", 2), ("click", 3)): f"{option} names 'click' twice",
    }.items():
        with pytest.raises(ValueError) as error:
            make_setup(config_of(section, **{field: pairs}), DATA, ("click",))
        assert words in str(error.value)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_no_positive_number_is_refused(weight):
    config = config_of("training", weights=(("ctr", 1.0), ("like", weight)))
    with pytest.raises(ValueError, match="--training.weights like is "):
        config.check()
