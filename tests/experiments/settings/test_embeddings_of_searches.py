"""Whose own embeddings a training of one task of several is given."""

import dataclasses

import jax
import numpy as np
import stem
from conftest import assert_same_bits

from experiments.running import ticket_cache
from experiments.settings.config import Config, ModelConfig
from experiments.settings.setup import make_setup
from jaxmtl.data.sources.video_feed import FeedConfig, read
from jaxmtl.data.store import Dataset
from jaxmtl.training.train_state import net_shapes

LOG = read(FeedConfig(users=20, videos=20, impressions=400, days=4))
DATA = Dataset(LOG.schema, LOG.splits, LOG.counts, LOG.notes, "tiny")
OWN = Config(
    model=ModelConfig(embedding_dim=4, hidden=(8,), own_dims=(("ctr", 2), ("cvr", 3)))
)
OWN = dataclasses.replace(OWN, pruning=dataclasses.replace(OWN.pruning, masks="ticket"))


def shapes(setup):
    net = net_shapes(setup)
    own = {task: net["tasks"][task] for task in setup.tasks}
    return jax.tree.map(lambda leaf: leaf.shape, {"shared": net["shared"], **own})


def test_a_search_has_the_tasks_own_alone_where_no_other_task_reads_it():
    setup = ticket_cache.single_setup(OWN, DATA, "click")
    assert dict(setup.own_dims) == {"click": 2}


def test_where_tasks_read_each_others_a_search_has_the_shapes_of_joint_training(
    monkeypatch,
):
    """STEM: a ticket of one task could not be joined with the others otherwise."""
    monkeypatch.setattr(ModelConfig, "options", stem.Stem())
    joint = shapes(make_setup(OWN, DATA, ("click", "watch")))
    for task in ("click", "watch"):
        setup = ticket_cache.single_setup(OWN, DATA, task)
        assert setup.tasks == (task,) and dict(setup.own_dims) == {
            "click": 2,
            "watch": 3,
        }
        assert_same_bits(
            jax.tree.map(np.array, shapes(setup)),
            jax.tree.map(np.array, {"shared": joint["shared"], task: joint[task]}),
        )
