"""A search trains, prunes and rewinds; its best round is the ticket."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_setup
from trainings import forward, step_of

from jaxmtl.data.batches import Plan
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models import Dcrnn, Mmoe, SharedTrunk
from jaxmtl.sparsity import masks, pruning, tickets
from jaxmtl.training import train_state
from jaxmtl.training.fit import Fit, fit
from jaxmtl.training.train_state import Snapshot, TrainState
from jaxmtl.types import Batch, Features, Field, Rows, Schema, Task, Vocabulary

INPUTS, INFORMATIVE = 8, 2


def net_of(*weights):
    kernel = jnp.asarray(weights, jnp.float32)[:, None]
    return {"shared": {"layer00": {"kernel": kernel}}, "tasks": {}}


def state_of(*weights):
    return TrainState(jnp.zeros((), jnp.int32), {}, net_of(*weights), {}, (), {})


def kept(mask):
    return np.flatnonzero(np.asarray(mask["shared"]["layer00"]["kernel"])).tolist()


def by_size(best, mask, keep, number):
    return pruning.prune(best.net, mask, keep)


def test_a_search_by_hand():
    """Two rounds of pruning, three trainings, each from the same weights."""
    trained = [net_of(1, 4, 3, 2), net_of(9, 5, 6, 9), net_of(0, 0, 0, 0)]
    calls = []

    def run(state, mask, number):
        calls.append((number, state.net, kept(mask)))
        return Fit(Snapshot({}, trained[number]), 7 + number, (), {})

    rounds = tickets.find(
        start=lambda number: state_of(1, 1, 1, 1),
        train=run,
        value_of=lambda result: result.best_epoch / 10,
        prune=by_size,
        keeps=(2, 1),
    )
    assert [(number, mask) for number, _, mask in calls] == [
        (0, [0, 1, 2, 3]),
        (1, [1, 2]),
        (2, [2]),  # of the survivors; what was pruned before stays out
    ]
    for _, net, _ in calls:
        assert_same_bits(net, net_of(1, 1, 1, 1))
    assert [kept(r.mask) for r in rounds] == [mask for _, _, mask in calls]
    assert [r.density for r in rounds] == [1, 0.5, 0.25]
    assert [r.value for r in rounds] == [0.7, 0.8, 0.9]
    assert [r.best_epoch for r in rounds] == [7, 8, 9]


def test_a_search_goes_on_where_whole_neurons_went_further_than_asked():
    """One outweighs a round: fewer weights are left than the next one is to keep."""
    asked = []

    def prune(best, mask, keep, number):
        asked.append((keep, number))
        return pruning.prune(best.net, mask, min(keep, 1))

    run = lambda state, mask, number: Fit(Snapshot({}, net_of(1, 2, 3, 4)), 1, (), {})
    start = lambda number: state_of(1, 1, 1, 1)
    rounds = tickets.find(start, run, lambda fit: None, prune, (3, 2))
    assert asked == [(3, 0), (1, 1)]
    assert [r.density for r in rounds] == [1, 0.25, 0.25]


def test_every_round_starts_where_it_is_told_to():
    """Rewinding to fresh weights or to those of a step is the caller's choice."""
    started = []

    def run(state, mask, number):
        started.append(state.net)
        return Fit(Snapshot({}, net_of(1, 2, 3, 4)), 1, (), {})

    start = lambda number: state_of(*range(number, number + 4))
    tickets.find(start, run, lambda result: None, by_size, (3, 2))
    for number, net in enumerate(started):
        assert_same_bits(net, net_of(*range(number, number + 4)))


def test_density_is_that_of_the_first_round_where_a_net_holds_more():
    """Of four weights the task reads two: keeping one of them is half."""
    dense = masks.full(net_of(1, 1, 1, 1))
    read = jnp.array([[True], [True], [False], [False]])
    dense["shared"]["layer00"]["kernel"] = read
    run = lambda state, mask, number: Fit(Snapshot({}, net_of(1, 2, 3, 4)), 1, (), {})
    start = lambda number: state_of(1, 1, 1, 1)
    found = tickets.find(start, run, lambda fit: None, by_size, (1,), dense)
    assert [r.density for r in found] == [1, 0.5]
    assert [kept(r.mask) for r in found] == [[0, 1], [1]]


def make_round(value, density, size=10_000):
    return tickets.Round({"kernel": jnp.ones(size, bool)}, density, value, 1)


ROUNDS = [
    make_round(0.70, 1.0),
    make_round(0.72, 0.6687),
    make_round(0.72, 0.4472),
    make_round(0.71, 0.2991),
    make_round(0.69, 0.2),
]


@pytest.mark.parametrize(
    ("metric", "max_density", "chosen"),
    [
        ("auc", None, 2),  # of equal rounds the sparser
        ("mse", None, 4),
        ("auc", 0.4, 3),
        ("auc", 0.2, 4),
        ("mse", 0.2, 4),
        ("auc", 1.0, 2),
    ],
)
def test_best_round_within_the_density_is_chosen(metric, max_density, chosen):
    assert tickets.choose(ROUNDS, metric, max_density) == chosen


@pytest.mark.parametrize("metric", ["auc", "mse"])
def test_of_equal_rounds_the_sparser_wins_and_of_unequal_the_better(metric):
    better, worse = (0.8, 0.7) if metric == "auc" else (0.7, 0.8)
    rounds = [make_round(v, 0.2) for v in (worse, better, better, worse)]
    assert tickets.choose(rounds, metric) == 2


@pytest.mark.parametrize(("size", "limit"), [(97, 0.7), (2_002, 0.2), (30, 0.05)])
def test_density_rounded_to_a_weight_still_counts_as_the_one_asked_for(size, limit):
    (keep,) = pruning.keep_counts(size, limit, 1)
    round_of = lambda keep: make_round(0.7, keep / size, size)
    assert tickets.choose([round_of(keep)], "auc", limit) == 0
    with pytest.raises(ValueError, match="no round has density"):
        tickets.choose([round_of(keep + 1)], "auc", limit)


def test_undefined_round_is_chosen_last():
    undefined = make_round(None, 0.1)
    for metric in ("auc", "mse"):
        assert tickets.choose([undefined, *ROUNDS, undefined], metric, 0.25) == 5
        assert tickets.choose([undefined, undefined], metric) == 1


def test_no_round_sparse_enough_is_refused():
    with pytest.raises(ValueError, match=r"density <= 0\.1; the sparsest has 0\.2000"):
        tickets.choose(ROUNDS, "auc", 0.1)


def test_ticket_is_the_mask_of_the_chosen_round():
    rounds = tuple(make_round(0.7, 1.0)._replace(mask=name) for name in "abc")
    assert tickets.Ticket(rounds, 1).mask == "b"


def make_planted(n, seed) -> Rows:
    """Eight numeric inputs, of which the first two decide on a click."""
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(n, INPUTS)).astype(np.float32)
    click = numeric[:, 0] - numeric[:, 1] + 0.3 * rng.normal(size=n) > 0
    ids = rng.integers(1, 4, (n, 2)).astype(np.int32)
    groups = {"user": ids[:, 0], "item": ids[:, 1]}
    return Rows(ids, numeric, {"click": click.astype(np.float32)}, {}, groups)


PLANTED = make_setup(
    schema=Schema(
        name="planted",
        fields=(Field("user", "users"), Field("item", "items")),
        vocabularies=(Vocabulary("users", 4), Vocabulary("items", 4)),
        tasks=(Task("click"),),
        ctr="click",
        cvr="click",
        user="user",
        item="item",
        numeric=tuple(f"x{i}" for i in range(INPUTS)),
    ),
    tasks=("click",),
    architecture=SharedTrunk((16,)),
    crossing=Crossing("none"),
    dim=2,
)
KEEPS = pruning.keep_counts((2 * 2 + INPUTS) * 16, 0.2, 3)


@functools.cache
def search(seed):
    """A real search on the planted log: its rounds, and the state each began in."""
    rows, validation = make_planted(256, seed=1), make_planted(256, seed=2)
    begun, key = [], jax.random.key(seed)

    def run(state, mask, number):
        begun.append(jax.device_get(state))
        return fit(
            PLANTED,
            state,
            {"click": mask},
            plan=Plan(rows, PLANTED.learned, 32),
            train=jax.tree.map(jnp.asarray, rows),
            validation=jax.tree.map(jnp.asarray, validation),
            seed=seed,
            epochs=8,
            patience=8,
        )

    rounds = tickets.find(
        start=lambda number: train_state.make_init(PLANTED)(key),
        train=run,
        value_of=lambda result: result.value("click"),
        prune=by_size,
        keeps=KEEPS,
    )
    return rounds, begun


def test_every_round_rewinds_to_the_initial_weights_and_empty_moments():
    _, begun = search(0)
    initial = train_state.make_init(PLANTED)(jax.random.key(0))
    assert len(begun) == 4
    for state in begun:
        assert_same_bits(state, initial)


def test_rounds_thin_out_and_no_weight_comes_back():
    rounds, _ = search(0)
    assert [masks.count(r.mask) for r in rounds] == [192, *KEEPS]
    np.testing.assert_allclose(
        [r.density for r in rounds], [1, 0.585, 0.342, 0.2], atol=0.005
    )
    for before, after in zip(rounds, rounds[1:], strict=False):
        assert_same_bits(masks.union([before.mask, after.mask]), before.mask)


def test_ticket_keeps_what_the_inputs_that_matter_lead_to():
    """At a fifth of the weights, thrice as dense there as elsewhere, for each seed."""
    for seed in (0, 1, 2):
        rounds, _ = search(seed)
        kernel = np.asarray(rounds[-1].mask["shared"]["layer00"]["kernel"])
        numeric = kernel[-INPUTS:]
        matter, noise = numeric[:INFORMATIVE], numeric[INFORMATIVE:]
        assert matter.mean() > 3 * noise.mean()
        assert rounds[-1].value > 0.9


PAIR = ("click", "watch")
COMPANY = {
    "dcrnn": Dcrnn(length=2, interval=1, hidden=4, bidirectional=False, tower=(4,)),
    "mmoe": Mmoe(experts=2, expert_hidden=(6,), tower=(4,)),
}
each_company = pytest.mark.parametrize("name", COMPANY)


@functools.cache
def search_in_company(name):
    """A search for the second task's ticket in the net of both.

    Returns its rounds, and the nets that each round's training began and ended with.
    """
    setup = make_setup(tasks=("watch",), net_tasks=PAIR, architecture=COMPANY[name])
    rows, nets = make_rows(64, seed=1), []
    on_device = jax.tree.map(jnp.asarray, rows)

    def run(state, mask, number):
        begun = jax.device_get(state.net)
        found = fit(
            setup,
            state,
            {"watch": mask},
            plan=Plan(rows, setup.learned, 32),
            train=on_device,
            validation=on_device,
            seed=0,
            epochs=1,
            patience=1,
        )
        nets.append((begun, jax.device_get(found.best.net)))
        return found

    init, key = train_state.make_init(setup), jax.random.key(0)
    dense = masks.full(init(key).net, "watch")
    size = masks.count(dense)
    rounds = tickets.find(
        lambda number: init(key),
        run,
        lambda result: result.value("watch"),
        by_size,
        (size // 2, size // 4),
        dense,
    )
    return rounds, nets


def is_none(leaf):
    return leaf is None


@each_company
def test_a_search_in_company_gives_masks_over_the_joint_net(name):
    rounds, nets = search_in_company(name)
    joint = make_setup(tasks=PAIR, architecture=COMPANY[name])
    net = train_state.make_init(joint)(jax.random.key(0)).net
    assert_same_bits(nets[0][0], net)
    shapes = jax.tree.map(jnp.shape, masks.full(net, "watch"))
    assert all(jax.tree.map(jnp.shape, r.mask) == shapes for r in rounds)
    assert [r.density for r in rounds] == pytest.approx([1, 0.5, 0.25], abs=0.01)


@each_company
def test_a_search_in_company_leaves_the_other_tasks_parts_alone(name):
    rounds, nets = search_in_company(name)

    def held(mask, before, after):
        if mask is not None:
            np.testing.assert_array_equal(after[~mask], before[~mask])

    for found, (begun, ended) in zip(rounds, nets, strict=True):
        assert_same_bits(ended["tasks"]["click"], begun["tasks"]["click"])
        heads = [net["tasks"]["watch"]["head"]["kernel"] for net in (begun, ended)]
        assert (heads[0] != heads[1]).any()
        kept = jax.device_get(found.mask)
        jax.tree.map(held, kept, begun, ended, is_leaf=is_none)


@each_company
def test_tickets_of_a_search_in_company_train_together(name):
    """A step on both losses moves a tower inside its own task's mask alone."""
    setup = make_setup(tasks=PAIR, architecture=COMPANY[name], summed=True)
    state = train_state.make_init(setup)(jax.random.key(1))
    ticket = search_in_company(name)[0][-1].mask
    task_masks = {"click": masks.full(state.net, "click"), "watch": ticket}
    gates = train_state.make_gates(setup, state.net, task_masks)
    batch = Batch(jax.tree.map(jnp.asarray, make_rows(32, seed=2)), jnp.ones(32, bool))
    step = jax.jit(step_of(setup, "all"))
    after, losses = step(state, task_masks, gates["all"], batch)
    assert all(np.isfinite(loss) for loss in losses.values())
    tower = lambda tree: np.asarray(tree["tasks"]["watch"]["mlp"]["layer00"]["kernel"])
    moved = tower(after.net) != tower(state.net)
    assert moved.any() and not moved[~tower(ticket)].any()


@each_company
def test_a_tasks_loss_asks_for_nothing_outside_its_ticket(name):
    setup = make_setup(tasks=PAIR, architecture=COMPANY[name], summed=True)
    net = train_state.make_init(setup)(jax.random.key(1)).net
    ticket = search_in_company(name)[0][-1].mask
    features = Features(
        jax.random.normal(jax.random.key(2), (8, 4, 4)), {}, jnp.ones((8, 1))
    )

    @jax.jit
    @jax.grad
    def slope(net):
        seen = forward(setup, net, {"watch": ticket}, features, ("watch",))
        return jnp.sum(seen.logits["watch"] ** 2)

    gradient = jax.device_get(slope(net))
    assert not any(np.any(x) for x in jax.tree.leaves(gradient["tasks"]["click"]))

    def shut(mask, gradient):
        assert mask is None or not gradient[~mask].any()
        return mask is not None and gradient[mask].any()

    reached = jax.tree.map(shut, jax.device_get(ticket), gradient, is_leaf=is_none)
    assert sum(jax.tree.leaves(reached)) > 1
