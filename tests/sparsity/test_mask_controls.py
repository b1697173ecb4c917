"""A control keeps exactly what it promises to keep of the tickets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmtl.sparsity import mask_controls, masks

SHAPES = {"layer00": (6, 5), "layer01": (5, 3)}
KEY = jax.random.key(3)
few = settings(max_examples=15, deadline=None)


def make_mask(layers, tower=None):
    """A ticket: what the net shares, and perhaps the task's own tower."""
    kernel = lambda mask: {"kernel": jnp.asarray(mask), "bias": None}
    shared = {name: kernel(mask) for name, mask in layers.items()}
    return {"shared": shared, "tasks": {} if tower is None else kernel(tower)}


@st.composite
def drawn_tickets(draw):
    layers = lambda: {n: draw(hnp.arrays(bool, s)) for n, s in SHAPES.items()}
    return {
        task: make_mask(layers(), draw(hnp.arrays(bool, (3, 2))))
        for task in ("click", "watch")
    }


def counts(mask):
    return {path: int(leaf.sum()) for path, leaf in masks.by_path(mask).items()}


def leaves(mask):
    return list(masks.by_path(mask["shared"]).values())


def make(kind, tickets, key=KEY):
    return mask_controls.make(kind, key, tickets, "click")


@few
@given(drawn_tickets(), st.sampled_from(["random", "random_common", "shuffled"]))
def test_every_layer_and_tower_keeps_as_many_weights(tickets, kind):
    made = make(kind, tickets)
    for task, mask in tickets.items():
        assert counts(made[task]) == counts(mask)
        assert jax.tree.structure(made[task]) == jax.tree.structure(mask)


@few
@given(drawn_tickets())
def test_a_global_draw_keeps_as_many_weights_of_the_net(tickets):
    made = make("random_global", tickets)
    for task, mask in tickets.items():
        assert masks.count(made[task]) == masks.count(mask)


def test_a_global_draw_does_not_keep_the_density_of_each_layer():
    layers = {"layer00": np.ones((60, 50), bool), "layer01": np.zeros((50, 30), bool)}
    tickets = {"click": make_mask(layers)}
    kept = make("random_global", tickets)["click"]["shared"]
    share = 3000 / 4500
    assert np.mean(kept["layer00"]["kernel"]) == pytest.approx(share, abs=0.03)
    assert np.mean(kept["layer01"]["kernel"]) == pytest.approx(share, abs=0.04)


def one_layer_each():
    """Two tasks, each of which reads one layer of two, and their tickets there."""

    def reads(name):
        read = {n: np.full(s, n == name) for n, s in SHAPES.items()}
        ticket = {n: np.eye(*s, dtype=bool) & read[n] for n, s in SHAPES.items()}
        return make_mask(read), make_mask(ticket)

    pairs = dict(zip(("click", "watch"), map(reads, SHAPES), strict=True))
    return {t: r for t, (r, _) in pairs.items()}, {t: k for t, (_, k) in pairs.items()}


def test_a_global_draw_spends_no_weight_where_its_task_reads_none():
    read, tickets = one_layer_each()
    made = mask_controls.make("random_global", KEY, tickets, "click", read)
    for task, mask in made.items():
        assert counts(mask) == counts(tickets[task])


@pytest.mark.parametrize("kind", ["swapped", "ctr"])
def test_tasks_that_read_different_weights_exchange_no_tickets(kind):
    read, tickets = one_layer_each()
    with pytest.raises(ValueError, match="read different parts of the net"):
        mask_controls.make(kind, KEY, tickets, "click", read)


@few
@given(drawn_tickets())
def test_one_draw_for_all_tasks_puts_the_sparser_mask_inside_the_denser(tickets):
    made = make("random_common", tickets)
    for a, b in zip(leaves(made["click"]), leaves(made["watch"]), strict=True):
        sparse, dense = sorted((a, b), key=np.sum)
        assert (sparse <= dense).all()


@few
@given(drawn_tickets())
def test_shuffled_masks_meet_in_as_many_places_of_each_layer(tickets):
    made = make("shuffled", tickets)
    both = lambda m: [
        int((a & b).sum())
        for a, b in zip(leaves(m["click"]), leaves(m["watch"]), strict=True)
    ]
    assert both(made) == both(tickets)


def test_shuffled_masks_keep_weights_from_all_positions():
    corner = np.zeros((20, 10), bool)
    corner[:2] = True
    shuffle = lambda key: mask_controls.shuffled(key, {"a": corner})["a"]
    drawn = np.asarray(jax.vmap(shuffle)(jax.random.split(KEY, 300)))
    assert (drawn.sum(axis=(1, 2)) == 20).all()
    assert np.abs(drawn.mean(axis=0) - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 300)


def test_random_masks_are_drawn_from_all_positions():
    corner = np.zeros((20, 10), bool)
    corner[:2] = True
    draw = lambda key: mask_controls.random_like(key, {"a": corner, "b": None})["a"]
    drawn = np.asarray(jax.vmap(draw)(jax.random.split(KEY, 300)))
    assert (drawn.sum(axis=(1, 2)) == 20).all()
    assert np.abs(drawn.mean(axis=0) - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 300)


def test_tasks_are_drawn_apart_by_random_and_the_key_decides():
    full = {
        name: np.arange(np.prod(s)).reshape(s) % 2 == 0 for name, s in SHAPES.items()
    }
    tickets = {"click": make_mask(full), "watch": make_mask(full)}
    made = make("random", tickets)
    assert not all(map(np.array_equal, leaves(made["click"]), leaves(made["watch"])))
    assert_same_bits(make("random", tickets), made)
    other = make("random", tickets, jax.random.key(4))
    assert not all(map(np.array_equal, leaves(made["click"]), leaves(other["click"])))


@few
@given(drawn_tickets())
def test_exchanged_tickets_leave_each_task_its_own_tower(tickets):
    swapped, ctr = make("swapped", tickets), make("ctr", tickets)
    for task, other in (("click", "watch"), ("watch", "click")):
        assert_same_bits(swapped[task]["shared"], tickets[other]["shared"])
        assert_same_bits(ctr[task]["shared"], tickets["click"]["shared"])
        for made in (swapped, ctr):
            assert_same_bits(made[task]["tasks"], tickets[task]["tasks"])


@pytest.mark.parametrize("kind", ["ticket", "reinitialised"])
def test_a_ticket_is_handed_out_as_it_was_found(kind):
    layers = {name: np.eye(*shape, dtype=bool) for name, shape in SHAPES.items()}
    tickets = {"click": make_mask(layers)}
    assert_same_bits(make(kind, tickets), tickets)


def test_a_net_without_towers_can_be_drawn_alone():
    layers = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    tickets = {"click": make_mask(layers)}
    for kind in ("random", "random_common", "shuffled", "random_global"):
        assert_same_bits(make(kind, tickets), tickets)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("swapped", "exchange tickets between tasks"),
        ("ctr", "exchange tickets between tasks"),
        ("best", "masks 'best' are none of"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(kind, message):
    layers = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    with pytest.raises(ValueError, match=message):
        make(kind, {"click": make_mask(layers)})
