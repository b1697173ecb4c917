"""Which loss, and which weights in it, a row has where nobody says."""

import dataclasses

import pytest

from experiments.lt4rec import base, table2
from experiments.settings import variants
from experiments.settings.config import Config, as_json
from experiments.settings.setup import make_setup
from jaxmtl.data.sources.video_feed import FeedConfig, read
from jaxmtl.data.store import Dataset

ESMM = variants.rival(Config(), "esmm")


def tiny_feed(**changes):
    log = read(FeedConfig(users=20, videos=20, impressions=400, days=4, **changes))
    return Dataset(log.schema, log.splits, log.counts, log.notes, "tiny")


def squared(config):
    training = dataclasses.replace(config.training, continuous_loss="squared")
    return dataclasses.replace(config, training=training)


def test_of_the_table_s_rows_esmm_alone_has_the_soft_log_loss():
    found = {
        row.ROW.name: row.configure(base.DEMO).losses["continuous"]
        for row in table2.ROWS
    }
    assert found.pop("esmm") == "log"
    assert set(found.values()) == {"squared"}


@pytest.mark.parametrize(
    ("config", "loss"),
    [
        (variants.rival(Config(), "mmoe"), "squared"),
        (ESMM, "log"),
        (variants.rival(Config(), "aitm"), "log"),
        (variants.product(variants.rival(Config(), "mmoe")), "log"),
    ],
)
def test_chances_along_a_funnel_are_learned_by_a_log_loss_unless_told(config, loss):
    assert config.losses == {"binary": "log", "continuous": loss}
    assert squared(config).losses["continuous"] == "squared"


def test_what_is_recorded_is_the_loss_that_was_trained():
    recorded = lambda config: as_json(config)["training"]["continuous_loss"]
    assert recorded(Config()) == "squared" and recorded(ESMM) == "log"
    assert recorded(squared(ESMM)) == "squared"


@pytest.mark.parametrize(
    ("start", "loss"), [(Config(), "log"), (squared(Config()), "squared")]
)
def test_esmm_s_set_up_has_it(start, loss):
    setup = make_setup(table2.esmm.configure(start), tiny_feed(), ("click", "watch"))
    assert dict(setup.spec.loss.names) == {"click": "log", "watch": loss}
    assert setup.spec.output.spaces == "product"


@pytest.mark.parametrize(
    ("valid_play", "threshold", "shifts"), [(0.0, None, False), (0.8, 0.1, True)]
)
def test_a_conflict_is_told_by_duration_where_the_label_is_a_ratio(
    valid_play, threshold, shifts
):
    """A yes or no is never a ratio below .2: no row of it would be weighted."""
    data = tiny_feed(valid_play=valid_play)
    config = table2.s_weight_gradientconflict.configure(Config())
    setup = make_setup(config, data, (data.schema.ctr, data.schema.cvr))
    assert setup.spec.loss.conflict.threshold == threshold
    assert setup.spec.loss.conflict.shifts(data.schema.task(data.schema.cvr)) == shifts
