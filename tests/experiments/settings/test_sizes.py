"""What a net will weigh is known before it is trained."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.dcrnn import (
    bilstm_ada,
    cross_cin,
    cross_crnn,
    cross_dcn,
    cross_none,
    mmoe_matched,
)
from experiments.settings import ablation, sizes, variants
from experiments.settings.config import Config
from experiments.settings.setup import make_setup, task_names
from jaxmtl import discovery, models
from jaxmtl.data.sources import video_feed
from jaxmtl.data.store import Dataset
from jaxmtl.layers.crossing import Crossing
from jaxmtl.tables import embedding
from jaxmtl.training import train_state

ARCHITECTURES = tuple(discovery.files("jaxmtl.models"))
DEMO = ablation.set_up("dcrnn.mmoe", "demo")


@pytest.fixture(scope="module")
def feed() -> Dataset:
    """The feed of the DCRNN tables in small, with all its fields and statistics."""
    config = dataclasses.replace(
        DEMO.data.feed, users=60, videos=60, impressions=400, days=4, history=1_000
    )
    log = video_feed.read(config)
    splits = {
        name: jax.tree.map(lambda *columns: np.concatenate(columns), *blocks)
        for name, blocks in log.splits.items()
    }
    return Dataset(log.schema, splits, log.counts, log.notes, "feed")


def make_config(architecture="dcrnn", **changes) -> Config:
    model = dataclasses.replace(DEMO.model, architecture=architecture, **changes)
    return dataclasses.replace(DEMO, model=model)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_size_before_training_is_that_of_the_net_that_trains(architecture, feed):
    config = make_config(architecture, hidden=(6, 5))
    setup = make_setup(config, feed, task_names(config, feed.schema))
    state = train_state.init_shapes(setup)
    assert sizes.net_size(config, feed.schema) == count(state.net)
    # The training's table is padded; what is counted are the rows that ids name.
    rows = embedding.vocabulary_rows(feed.schema)
    assert sizes.table_size(config, feed.schema) == rows * 8
    table = state.tables["shared"]
    assert table.packed.shape[0] * table.dim >= rows * 8


def test_a_views_own_embeddings_and_a_cross_network_count():
    config = ablation.load("lt4rec.s_weight_multiview").configure(
        ablation.set_up("lt4rec.s_weight", "demo")
    )
    schema = video_feed.make_feed(
        video_feed.FeedConfig(users=20, videos=20, impressions=200, days=3)
    ).schema
    plain = dataclasses.replace(
        config, model=dataclasses.replace(config.model, own_dims=())
    )
    rows, own = embedding.vocabulary_rows(schema), dict(config.model.own_dims)["cvr"]
    assert own > 0
    more = sizes.table_size(config, schema) - sizes.table_size(plain, schema)
    assert more == rows * own
    assert sizes.net_size(config, schema) > sizes.net_size(plain, schema)


def test_size_by_hand(feed):
    """166 inputs, a layer of 3 for both tasks, towers of 2: 501 + 2 · (8 + 3)."""
    options = models.SharedBottom(hidden=(3,), tower=(2,))
    config = make_config("shared_bottom", shared_bottom=options)
    assert sizes.input_width(config, feed.schema) == 20 * 8 + 6
    assert sizes.net_size(config, feed.schema) == 167 * 3 + 2 * (4 * 2 + 3)


def test_multiply_adds_of_dense_layers_by_hand(feed):
    """Products alone are 166 · 64 + 2 · 64; biases and ReLU are a little more."""
    options = models.SharedBottom(hidden=(64,), tower=())
    config = make_config("shared_bottom", shared_bottom=options)
    products = 166 * 64 + 2 * 64
    found = sizes.multiply_adds(config, feed.schema, rows=32)
    assert products <= found < 1.02 * products
    more = sizes.multiply_adds(config, feed.schema, rows=64)
    assert more == pytest.approx(found, rel=0.01)


def test_matched_mmoe_is_within_five_percent_of_the_dcrnn(feed):
    for preset in ("demo", "paper"):
        config = ablation.set_up("dcrnn.mmoe_matched", preset)
        matched = mmoe_matched.resize(mmoe_matched.configure(config), feed.schema)
        size, target = (
            sizes.net_size(c, feed.schema)
            for c in (matched, bilstm_ada.configure(config))
        )
        assert abs(size / target - 1) < 0.05, preset
        assert matched.model.mmoe.experts == 8
        wide, narrow = matched.model.mmoe.expert_hidden
        assert wide == 2 * narrow  # the paper's 128, 64


def test_cross_networks_are_compared_at_the_dcrnns_size(feed):
    target = sizes.net_size(bilstm_ada.configure(DEMO), feed.schema)
    for module in (cross_none, cross_dcn, cross_cin, cross_crnn):
        config = module.resize(module.configure(DEMO), feed.schema)
        kind = module.__name__.rsplit("_", 1)[-1]
        assert config.model.crossing.kind == kind
        assert abs(sizes.net_size(config, feed.schema) / target - 1) < 0.05, kind


@pytest.mark.parametrize("target", [1, 5_000, 40_000, 10**9])
def test_a_match_is_the_nearest_there_is(target, feed):
    """Against every width there could be."""
    widen = lambda config, w: variants.rival(config, "shared_bottom", hidden=(2 * w, w))
    found = sizes.match(DEMO, feed.schema, target, widen)
    width = found.model.shared_bottom.hidden[1]
    off = lambda w: abs(sizes.net_size(widen(DEMO, w), feed.schema) - target)
    others = {w for w in (width - 1, width + 1, 1, 4095) if 1 <= w <= 4096}
    assert all(off(width) <= off(w) for w in others)


def test_peak_memory_holds_more_than_parameters_and_grows_with_the_batch(feed):
    def peak(batch_size, **changes):
        training = dataclasses.replace(DEMO.training, batch_size=batch_size)
        config = dataclasses.replace(make_config(**changes), training=training)
        return sizes.peak_memory(config, feed)

    peaks = [peak(n) for n in (8, 64, 512, 4096)]
    assert peaks == sorted(set(peaks))
    config = make_config()
    parameters = sizes.net_size(config, feed.schema) + sizes.table_size(
        config, feed.schema
    )
    log = sum(leaf.nbytes for leaf in jax.tree.leaves(feed.splits))
    assert peaks[0] > log + 4 * 4 * parameters  # with moments and a gradient
    assert peak(512, embedding_dim=16) > peaks[2]
    # What is remembered of a row is a number of bytes that does not depend on it.
    step = (peaks[3] - peaks[2]) / (4096 - 512)
    assert step == pytest.approx((peaks[2] - peaks[1]) / (512 - 64), rel=0.01)


def test_a_line_tells_parameters_and_memory(feed):
    config = make_config("mmoe", crossing=Crossing("none"))
    line = sizes.describe(config, feed)
    assert f"{sizes.net_size(config, feed.schema):,} parameters in the net" in line
    assert f"{sizes.table_size(config, feed.schema):,} in tables" in line
    assert f"{sizes.peak_memory(config, feed) / 2**20:,.0f} MiB" in line
