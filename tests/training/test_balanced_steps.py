"""Every balancer in real steps on the sum: masked and not, with an auxiliary loss."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pulls
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_setup
from trainings import step_of

from jaxmtl import discovery
from jaxmtl.balancing.methods.fixed import Fixed
from jaxmtl.balancing.methods.gradnorm import GradNorm
from jaxmtl.balancing.methods.pcgrad import PCGrad
from jaxmtl.balancing.methods.uncertainty import Uncertainty
from jaxmtl.data.batches import EVERY
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models import Aitm, HardSharing, SharedTrunk
from jaxmtl.optim.optimisers.sgd import Sgd
from jaxmtl.sparsity import masks
from jaxmtl.tables import embedding
from jaxmtl.training import feed, outputs, train, train_state

KEY = jax.random.key(0)
METHODS = discovery.all_options("jaxmtl.balancing.methods")
TASKS = ("click", "watch", "like")
WEIGHTS = {"click": 0.5, "watch": 3.0, "like": 2.0}
BATCH = feed.take(jax.tree.map(jnp.asarray, make_rows(40, seed=1)), jnp.arange(40))
AITM = {
    "architecture": Aitm(hidden=(3,), calibrator_weight=2.0),
    "spaces": "impression",
    "task_losses": dict.fromkeys(TASKS, "log"),
}


class Case(NamedTuple):
    """Tasks, how each sees the net, and the net."""

    tasks: tuple[str, ...]
    masks: str
    net: dict


CASES = {
    "two": Case(TASKS[:2], "none", {}),
    "two masked": Case(TASKS[:2], "half", {}),
    "three": Case(TASKS, "none", {}),
    "three masked": Case(TASKS, "half", {}),
    "auxiliary": Case(TASKS, "none", AITM),
}
each_case = pytest.mark.parametrize("case", CASES)


def make(case: str, balancer, **changes):
    """Plain descent by 1: what moved is minus the gradient."""
    given = CASES[case]
    settings = {
        "architecture": SharedTrunk((4,)),
        "crossing": Crossing("none"),
        "dim": 2,
        "own_dims": () if given.net else {"watch": 2},
        "tasks": given.tasks,
        "task_weights": WEIGHTS,
        "masked": given.masks != "none",
        "summed": True,
        "balancer": balancer,
        "optimiser": Sgd(),
        "tables": "sgd",
        "learning_rate": 1.0,
    }
    return make_setup(**settings | given.net | changes)


def masks_of(setup, kind: str, seed=0):
    """Task -> its mask: none, a random half, or a part that no other task sees."""
    if kind == "none":
        return dict.fromkeys(setup.tasks)
    rng, net = np.random.default_rng(seed), jax.device_get(start(setup).net)
    whole = masks.full(net)
    owner = jax.tree.map(lambda m: rng.integers(len(setup.tasks), size=m.shape), whole)
    half = lambda mask: jnp.asarray(rng.random(mask.shape) < 0.6)
    return {
        task: jax.tree.map(half, whole)
        if kind == "half"
        else jax.tree.map(lambda o, n=number: jnp.asarray(o == n), owner)
        for number, task in enumerate(setup.tasks)
    }


def start(setup):
    return train_state.make_init(setup)(KEY)


@functools.cache
def program(spec):
    """The compiled step of a spec, whatever its numbers."""
    return jax.jit(train.make_step(spec, EVERY))


def steps(setup, how, times=1):
    """The states after some steps on one batch, and the losses of the last."""
    state, task_masks = start(setup), masks_of(setup, how)
    gates = train_state.make_gates(setup, state.net, task_masks)["all"]
    step, found = program(setup.spec), [state]
    for _ in range(times):
        state, losses = step(state, setup.numbers, task_masks, gates, BATCH)
        found.append(state)
    return found, losses


def parts(state):
    """What tasks share, what each has for itself, and the rows of the tables."""
    rows = {stack: table.rows for stack, table in state.tables.items()}
    return state.net["shared"], state.net["tasks"], rows


LIMITS = [
    (GradNorm(rate=0.0), 1.0, ()),
    (Uncertainty(rate=0.0), 0.5, ()),
    (PCGrad(), 1.0, ("watch", "like")),  # no gradient, no conflict
]
"""A balancer, what it makes of a squared loss's weight, and tasks of weight 0."""


@pytest.mark.parametrize("case", [case for case in CASES if case != "two"])
@pytest.mark.parametrize(("balancer", "of_squared", "without"), LIMITS, ids=str)
def test_in_its_limit_a_balancer_is_the_fixed_sum(case, balancer, of_squared, without):
    """Over three steps."""
    weights = {n: 0.0 if n in without else w for n, w in WEIGHTS.items()}
    setup = make(case, balancer, task_weights=weights, learning_rate=0.1)
    is_squared = dict(setup.spec.loss.names).get("watch") == "squared"
    fixed = weights | {"watch": weights["watch"] * (of_squared if is_squared else 1)}
    plain = make(case, Fixed(), task_weights=fixed, learning_rate=0.1)
    got, losses = steps(setup, CASES[case].masks, 3)
    expected, others = steps(plain, CASES[case].masks, 3)
    assert_close(losses, others)
    assert_close(parts(got[-1]), parts(expected[-1]), rtol=1e-4, atol=1e-6)


def test_surgery_between_tasks_that_share_no_weight_is_the_plain_sum():
    """Their masks are apart: only biases, which no mask prunes, could conflict."""
    ends = []
    for balancer in (PCGrad(), Fixed()):
        setup = make("three masked", balancer, learning_rate=0.1)
        ends.append(steps(setup, "apart")[0][-1].net["shared"])
    kernels = [{n: layer["kernel"] for n, layer in net.items()} for net in ends]
    assert_close(*kernels, rtol=1e-5, atol=1e-7)


@each_case
def test_surgery_leaves_own_parts_and_rows_of_tables_the_plain_sum(case):
    """That of weights as the limits above show, from the first step on."""
    ends = [steps(make(case, b), CASES[case].masks)[0][1] for b in (PCGrad(), Fixed())]
    got, expected = map(parts, ends)
    assert_close(got[1:], expected[1:], rtol=1e-4, atol=1e-6)


def pulled(setup, task_masks, state):
    """task -> its pull, the auxiliary losses', that of all, counts; of a real step."""
    gates = train_state.make_gates(setup, state.net, task_masks)["all"]

    def traced(state):
        pulls.SHOWN.clear()
        after, _ = step_of(setup, "all")(state, task_masks, gates, BATCH)
        (shown,) = pulls.SHOWN
        return after, shown

    return jax.jit(traced)(state)


def oracle(setup, task_masks, state):
    """task -> gradient of its loss by net and gathered rows; None -> the auxiliary."""
    spec = setup.spec
    ids = embedding.stacked_ids(spec.net.schema, BATCH.rows.ids)
    gathered = {s: embedding.gather(t.rows, ids) for s, t in state.tables.items()}

    def loss(net, gathered, of):
        batch = outputs.with_joint(spec, BATCH)
        features = train_state.features_of(spec.net, gathered, batch.rows)
        names = spec.net.tasks
        logits = outputs.forward(
            spec.net, spec.output, net, task_masks, features, names
        ).logits
        found, own = outputs.losses_of(spec, setup.numbers, logits, batch)
        return own if of is None else found[of]

    gradient = jax.grad(loss, (0, 1))
    names = (*setup.tasks, None)
    found = jax.jit(lambda *at: [gradient(*at, of) for of in names])
    return dict(zip(names, found(state.net, gathered), strict=True))


@each_case
def test_each_pull_is_the_gradient_of_that_tasks_own_loss(case, float64):
    """In float64, against `jax.grad` of each loss by itself."""
    setup = make(case, pulls.Pulls())
    state = jax.tree.map(
        lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, start(setup)
    )
    task_masks = masks_of(setup, CASES[case].masks)
    after, (each, rest, everything, counts) = pulled(setup, task_masks, state)
    expected = oracle(setup, task_masks, state)
    for name, gradient in expected.items():
        found = rest if name is None else each[name]
        assert_close(found, gradient, rtol=1e-9, atol=1e-12)
    total = jax.tree.map(lambda *each: sum(each), *expected.values())
    assert_close(everything, total, rtol=1e-9, atol=1e-12)
    has_rest = any(np.any(leaf) for leaf in jax.tree.leaves(rest))
    assert has_rest == (case == "auxiliary")
    for name, count in counts.items():
        task = setup.learned[name]
        inside = task.inside(outputs.with_joint(setup.spec, BATCH).rows.labels)
        assert count == np.sum(inside)
    moved = jax.tree.map(lambda old, g: old - g, state.net, total[0])
    assert_close(after.net, moved, rtol=1e-6, atol=1e-7)


def flat(tree):
    """All its numbers, float64."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def projected(gradients, seen):
    """PCGrad's algorithm for two tasks: the sum of what is left of each."""
    overlap, total = seen[0] * seen[1], gradients[0] + gradients[1]
    a, b = (g * overlap for g in gradients)
    if a @ b < 0:
        total = total - (a @ b) / (b @ b) * b - (a @ b) / (a @ a) * a
    return total, a @ b


@pytest.mark.parametrize("case", ["two", "two masked"])
def test_conflicting_gradients_of_a_real_step_are_projected(case):
    """The step of PCGrad against NumPy on the pulls; one weight turns a task around."""
    shown = make(case, pulls.Pulls())
    task_masks = masks_of(shown, CASES[case].masks)
    _, (each, *_) = pulled(shown, task_masks, start(shown))
    net, names, found = start(shown).net["shared"], sorted(each), []
    sees = lambda leaf, mask: np.ones(leaf.shape) if mask is None else mask
    whole = jax.tree.map(lambda leaf: None, net)
    seen = [
        flat(jax.tree.map(sees, net, mask["shared"] if mask else whole))
        for mask in (task_masks[n] for n in names)
    ]
    for sign in (1.0, -1.0):
        weights = {"click": 1.0, "watch": sign}
        setup = make(case, PCGrad(), task_weights=weights)
        (before, after), _ = steps(setup, CASES[case].masks)
        gradients = [weights[n] * flat(each[n][0]["shared"]) for n in names]
        expected, along = projected(gradients, seen)
        found.append(along < 0)
        got = flat(before.net["shared"]) - flat(after.net["shared"])
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    assert sorted(found) == [False, True]


@pytest.mark.parametrize("name", METHODS)
def test_by_turns_there_is_nothing_to_balance(name):
    if name == "fixed":
        make("two", METHODS[name](), summed=False)
        return
    with pytest.raises(ValueError, match=rf"the balancer {name} weighs.*to sum"):
        make("two", METHODS[name](), summed=False)


@pytest.mark.parametrize("balancer", [GradNorm(rate=5.0), Uncertainty(rate=5.0)])
def test_learned_weights_move_by_the_scheduled_rate_and_are_felt_in_the_next_step(
    balancer,
):
    setup = make("three", balancer, learning_rate=0.1)
    fixed = make("three", balancer, learning_rate=0.1).with_step(
        balancer=type(balancer)(rate=0.0)
    )
    (start_, one, two), _ = steps(setup, "none", 2)
    (_, same, other), _ = steps(fixed, "none", 2)
    assert_close(parts(one), parts(same), rtol=1e-6, atol=1e-7)
    learned = lambda state: state.balance[2 if type(balancer) is Uncertainty else 1]
    before, after = (jax.tree.leaves(learned(s)) for s in (start_, one))
    assert all((a != b).all() for a, b in zip(before, after, strict=True))
    heads = [s.net["tasks"]["click"]["head"]["kernel"] for s in (two, other)]
    assert (heads[0] != heads[1]).any()


def test_a_balancer_may_look_at_the_losses_after_the_step():
    """An extra forward pass on the same rows; a skipped step leaves no trace."""
    setup = make("three", pulls.Pulls(), learning_rate=0.1)
    (_, one), losses = steps(setup, "none")
    assert_close(one.balance.before, losses, rtol=1e-6)
    spec, ids = setup.spec, embedding.stacked_ids(setup.schema, BATCH.rows.ids)
    rows = {s: embedding.gather(t.rows, ids) for s, t in start(setup).tables.items()}
    features = train_state.features_of(spec.net, rows, BATCH.rows)
    raw = outputs.forward(
        spec.net, spec.output, one.net, dict.fromkeys(TASKS), features, TASKS
    )
    expected, _ = outputs.losses_of(spec, setup.numbers, raw.logits, BATCH)
    assert_close(one.balance.after, expected, rtol=1e-5)
    assert all(one.balance.after[n] != losses[n] for n in TASKS)

    gates = train_state.make_gates(setup, one.net, dict.fromkeys(TASKS))["all"]
    numeric = BATCH.rows.numeric.at[3].set(jnp.nan)
    bad = BATCH._replace(rows=BATCH.rows._replace(numeric=numeric))
    dense = dict.fromkeys(TASKS)
    after, _ = program(setup.spec)(one, setup.numbers, dense, gates, bad)
    assert_same_bits(after.balance, one.balance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [True, False])
def test_a_method_of_shared_weights_is_refused_where_no_weight_is_shared(
    method, masked
):
    """Not to do nothing in silence."""
    options = discovery.options("jaxmtl.balancing.methods", method)()
    apart = {
        "architecture": HardSharing((4,)),
        "crossing": Crossing("none"),
        "masked": masked,
        "summed": True,
        "balancer": options,
    }
    two = make_setup(tasks=TASKS[:2], **apart)
    if discovery.make(options).needs_shared:
        words = f"balancer {method} works on the part .* hard_sharing with the crossing"
        with pytest.raises(ValueError, match=words):
            train_state.make_init(two)(KEY)
        train_state.make_init(two.with_net(crossing=Crossing("dcn")))(KEY)
    else:
        train_state.make_init(two)(KEY)
    train_state.make_init(make_setup(tasks=TASKS[:1], **apart))(KEY)
