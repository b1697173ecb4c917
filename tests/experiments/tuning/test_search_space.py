"""What the tuner tries: ranges, the design of the trials, and what rows leave out."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.lt4rec import base, base_cvr, s_weight
from experiments.settings.ablation import Row
from experiments.tuning.search_space import Dimension, SearchSpace, design, dimensions

RATE = "optimiser.learning_rate"
DECAY = "optimiser.weight_decay"
DENSITY = "pruning.final_density"
SPACE = SearchSpace()


def trials_of(row, count, space=SPACE):
    config = row.configure(base.DEMO)
    return design(space, dimensions(space, row, base.DEMO, config), config, count)


def module(configure=lambda config: config, **attributes):
    """A row that is no file."""
    name = "experiments.lt4rec.made_up"
    names = {"__name__": name, "ROW": Row("made up"), "configure": configure}
    return SimpleNamespace(**names | attributes)


def with_rate(rate):
    def configure(config):
        optimiser = dataclasses.replace(config.optimiser, learning_rate=rate)
        return dataclasses.replace(config, optimiser=optimiser)

    return configure


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1e-4, 1.0), st.floats(1.5, 1e3), st.floats(0, 0.9), st.floats(0, 0.9999)
)
def test_a_value_lies_in_its_range_or_is_none(low, ratio, none, place):
    found = Dimension(low, low * ratio, none).at(place)
    if place < none:
        assert found == 0
    else:
        share = (place - none) / (1 - none)
        expected = np.exp((1 - share) * np.log(low) + share * np.log(low * ratio))
        assert found == pytest.approx(expected, rel=6e-3)  # three digits


def test_a_place_halfway_is_the_geometric_mean():
    assert Dimension(1e-3, 1e-1).at(0.5) == 0.01
    assert Dimension(1e-2, 1.0, none=0.25).at(0.625) == 0.1
    assert Dimension(1e-2, 1.0, none=0.25).at(0.24) == 0


def test_trial_0_is_what_the_row_starts_from():
    first, *_ = trials_of(s_weight, 4)
    assert first == {RATE: 3e-3, DECAY: 0.0, DENSITY: 0.2}


def test_every_row_has_the_same_trials_in_the_settings_they_share():
    dense, sparse = trials_of(base_cvr, 9), trials_of(s_weight, 9)
    assert set(dense[0]) == {RATE, DECAY} and set(sparse[0]) == {RATE, DECAY, DENSITY}
    fixed = module(with_rate(5e-3), SEARCH={"training.cvr_passes": Dimension(1, 10)})
    other = trials_of(fixed, 9)
    assert set(other[0]) == {DECAY, "training.cvr_passes"}
    for one, two, three in zip(dense, sparse, other, strict=True):
        assert one[RATE] == two[RATE]
        assert one[DECAY] == two[DECAY] == three[DECAY]


def test_the_trials_fall_once_into_each_stratum_of_a_setting():
    _, *points = trials_of(s_weight, 9)
    for name, (low, high) in {RATE: (1e-3, 1e-2), DENSITY: (0.05, 0.5)}.items():
        places = [np.log(p[name] / low) / np.log(high / low) * 8 for p in points]
        assert sorted(int(place) for place in places) == list(range(8))
    assert [p[DECAY] for p in points].count(0) == 2  # a quarter


def test_more_trials_extend_those_before():
    longer = trials_of(s_weight, 20)
    assert len(longer) == 20 and longer[:7] == trials_of(s_weight, 7)


def test_a_setting_that_a_row_itself_changes_is_its_point_and_stays():
    row = module(with_rate(2e-3))
    found = dimensions(SPACE, row, base.DEMO, row.configure(base.DEMO))
    assert list(found) == [DECAY]


def test_a_row_may_add_a_setting_or_keep_one_out():
    row = module(SEARCH={DECAY: None, "model.init_scale": Dimension(0.01, 0.1)})
    found = dimensions(SPACE, row, base.DEMO, base.DEMO)
    assert list(found) == [RATE, "model.init_scale"]
    one = module(SEARCH={RATE: None, DECAY: None})
    assert trials_of(one, 8) == [{}]  # there is nothing to try


@pytest.mark.parametrize("ends", [(0, 1), (1, 1), (2, 1), (-1, 1)])
def test_a_range_without_two_ends_above_0_is_refused(ends):
    with pytest.raises(ValueError, match=r"--search\.weight-decay is"):
        SearchSpace(weight_decay=ends).check()


def test_a_row_that_starts_outside_the_range_is_refused():
    with pytest.raises(ValueError, match="learning_rate starts at 0.003.*0.01 to 0.1"):
        trials_of(base_cvr, 4, SearchSpace(learning_rate=(1e-2, 1e-1)))
