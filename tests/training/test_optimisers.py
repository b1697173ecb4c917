"""Optimisers, schedules and clipping in real training steps, not as parts alone."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_setup
from trainings import step_of

from jaxmtl import discovery
from jaxmtl.balancing.methods.gradnorm import GradNorm
from jaxmtl.balancing.methods.pcgrad import PCGrad
from jaxmtl.balancing.methods.uncertainty import Uncertainty
from jaxmtl.data.batches import Plan
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models import SharedTrunk
from jaxmtl.optim.optimisers.lion import Lion
from jaxmtl.optim.optimisers.sgd import Sgd
from jaxmtl.optim.schedules.cosine import Cosine
from jaxmtl.optim.schedules.exponential import Exponential
from jaxmtl.optim.schedules.warmup import Warmup
from jaxmtl.sparsity import masks
from jaxmtl.training import feed, resume, train, train_state
from jaxmtl.training.fit import fit

KEY = jax.random.key(0)
DIRECTIONS = discovery.all_options("jaxmtl.optim.optimisers")
SCHEDULES = discovery.all_options("jaxmtl.optim.schedules")
HALVING = Exponential(rate=0.5, every=1)
"""Factors 1, 1/2, 1/4, … of the rates."""
NUMPY_ROWS = make_rows(64, seed=1)
ROWS = jax.tree.map(jnp.asarray, NUMPY_ROWS)


def tiny(**changes):
    """Two dozen weights of the trunk, of which each task sees some."""
    net = {"architecture": SharedTrunk((4,)), "crossing": Crossing("none"), "dim": 2}
    return make_setup(**net | changes)


def start(setup):
    return train_state.make_init(setup)(KEY)


@functools.cache
def drawn(tasks=("click", "watch")):
    """A random half of the trunk for each task."""
    rng, net = np.random.default_rng(0), jax.device_get(base().net)
    draw = lambda mask: jnp.asarray(rng.random(mask.shape) < 0.5)
    return {t: jax.tree.map(draw, masks.full(net)) for t in tasks}


def gates_of(setup, kind):
    return train_state.make_gates(setup, base().net, drawn())[kind]


@functools.cache
def base():
    """The start of a plain training, whose net and tables others have too."""
    return start(tiny())


def worn(setup):
    """A state with moments and counts in every slot, and weights of -0.0.

    Only its shapes are the optimiser's: to compile each one's start takes too long.
    """
    rng, state = np.random.default_rng(1), base()

    def leaf(x):
        if x.dtype == jnp.int32:
            return jnp.asarray(rng.integers(1, 9, x.shape), x.dtype)
        return jnp.asarray(rng.uniform(0.1, 0.9, x.shape), x.dtype)

    zeros = lambda w: jnp.where(rng.random(w.shape) < 0.1, -0.0, w)
    slots = jax.tree.map(leaf, train_state.init_shapes(setup).opt.slots)
    opt = state.opt._replace(slots=slots)
    opt = opt._replace(rates=opt.rates._replace(weight_decay=jnp.float32(0.1)))
    return state._replace(net=jax.tree.map(zeros, state.net), opt=opt)


def bits(array):
    array = np.asarray(array)
    return array if array.dtype == bool else array.view(f"u{array.dtype.itemsize}")


def changed_where(tree, other, gates, is_open):
    """Whether a number differs where gates are so; True or False for each leaf."""
    gate_of = dict(jax.tree_util.tree_leaves_with_path(gates))
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(other), strict=True
    )
    found = {}
    for (path, a), b in pairs:
        gate = next(g for p, g in gate_of.items() if path[-len(p) :] == p)
        found[jax.tree_util.keystr(path)] = np.any(
            (bits(a) != bits(b)) & (np.asarray(gate) == is_open)
        )
    return found


@pytest.mark.parametrize("moving", ["gated", "per_task"])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_weights_outside_a_steps_gates_keep_value_moments_and_counts(name, moving):
    """In a step on watching that decays, follows a schedule and clips."""
    setup = tiny(
        optimiser=DIRECTIONS[name](),
        schedule=Cosine(steps=50),
        clip=1.0,
        moving=moving,
    )
    before, gates = worn(setup), gates_of(setup, "watch")
    after, losses = jax.jit(step_of(setup, "watch"))(
        before, drawn(), gates, feed.take(ROWS, jnp.arange(24))
    )
    assert np.isfinite(losses["watch"]) and after.opt.sound == 1
    slot = "watch" if moving == "per_task" else "all"
    seen = [(s.net, s.opt.slots[slot]) for s in (before, after)]
    closed = changed_where(*seen, gates, False)
    assert not any(closed.values()), closed
    opened = changed_where(*seen, gates, True)
    assert opened["[0]['shared']['layer00']['kernel']"], opened
    assert np.mean(list(opened.values())) > 0.5
    if moving == "per_task":
        assert_same_bits(after.opt.slots["click"], before.opt.slots["click"])
    assert_same_bits(after.opt.rates, before.opt.rates)


def gradient_of(setup, state, kind, batch):
    """What a step's optimiser is given, read off a step of plain descent."""
    plain = setup.with_step(optimiser=Sgd(), moving="leaky", clip=None)
    plain = plain.with_start(learning_rate=1.0, weight_decay=0.0)
    rates = start(plain).opt.rates
    slots = start(plain).opt.slots
    begun = state._replace(opt=state.opt._replace(rates=rates, slots=slots))
    after, _ = jax.jit(step_of(plain, kind))(
        begun, drawn(), gates_of(plain, kind), batch
    )
    return jax.tree.map(lambda a, b: a - b, state.net, after.net)


BATCH = feed.take(ROWS, jnp.arange(24))


@functools.cache
def leaky_gradients():
    """Of a step on clicks from the start."""
    return gradient_of(tiny(), base(), "click", BATCH)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_leaky_step_is_the_plain_optimiser_on_all_weights(name):
    """The masks alone decide on gradients, and no gate on what follows from them."""
    options = DIRECTIONS[name]()
    setup = tiny(optimiser=options, moving="leaky")
    gates, step = gates_of(setup, "click"), step_of(setup, "click")
    plain = optax.chain(discovery.make(options), optax.scale_by_learning_rate(0.02))

    @jax.jit
    def both(state, gradient):
        fresh = train_state.make_optimiser(setup.spec.step, gates).init(state.net)
        ours = state._replace(opt=state.opt._replace(slots={"all": fresh}))
        after, _ = step(ours, drawn(), gates, BATCH)
        updates, _ = plain.update(gradient, plain.init(state.net), state.net)
        return after.net, optax.apply_updates(state.net, updates)

    # A gradient of next to nothing has a sign and a size that rounding decides.
    firm = lambda g, w: np.where(np.abs(g) > 1e-4, w, 0)
    got, expected = (
        jax.tree.map(firm, leaky_gradients(), net)
        for net in both(base(), leaky_gradients())
    )
    assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "schedule"), [*zip(DIRECTIONS, itertools.cycle(SCHEDULES), strict=False)]
)
def test_a_scan_carries_strong_types_of_four_bytes(name, schedule):
    """A float64 or weak type would not fit the carry, or compile a second program."""
    setup = tiny(optimiser=DIRECTIONS[name](), schedule=SCHEDULES[schedule](), clip=1.0)
    state = train_state.init_shapes(setup)
    gates = jax.eval_shape(
        lambda net: train_state.make_gates(setup, net, drawn()), state.net
    )
    plan = Plan(NUMPY_ROWS, setup.learned, 32)
    after, _ = jax.eval_shape(
        train.epoch_program(setup.spec),
        setup.numbers,
        state,
        drawn(),
        gates,
        ROWS,
        plan.orders(0, 1),
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        assert old.dtype in (jnp.float32, jnp.int32, jnp.uint32)
        assert not old.weak_type and not new.weak_type


def whole(**numbers):
    """Every name that there is, made anew, and some numbers."""
    return tiny(
        optimiser=Lion(b1=0.8),
        schedule=Cosine(steps=9, warmup=1),
        clip=0.5,
        balancer=GradNorm(alpha=0.5),
        summed=True,
        **numbers,
    )


def run_epoch(setup, state=None, number=1):
    plan = Plan(NUMPY_ROWS, setup.learned, 32, summed=setup.summed)
    state = start(setup) if state is None else state
    gates = train_state.make_gates(setup, state.net, drawn())
    orders = plan.orders(0, number)
    return train.make_epoch(setup)(state, drawn(), gates, ROWS, orders)[0]


def test_equal_specs_share_one_program_whatever_their_numbers():
    first = whole()
    program = train.epoch_program(first.spec)
    hits = train.epoch_program.cache_info().hits
    for numbers in (
        {},
        {"learning_rate": 0.3},
        {"table_learning_rate": 0.3},
        {"weight_decay": 0.1},
        {"task_weights": {"click": 3.0}},
        {"init_scale": 0.1},
    ):
        other = whole(**numbers)
        assert other.spec is not first.spec and other.spec == first.spec
        run_epoch(other)
    assert train.epoch_program.cache_info().hits == hits + 6
    assert train.epoch_program(other.spec) is program
    assert program._cache_size() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": Lion(b1=0.7)},
        {"schedule": Cosine(steps=10, warmup=1)},
        {"clip": 0.25},
        {"balancer": GradNorm(alpha=1.0)},
    ],
)
def test_another_option_is_another_program(change):
    first, other = whole().spec, whole().with_step(**change).spec
    assert other != first
    assert train.epoch_program(other) is not train.epoch_program(first)


def test_the_norm_that_is_clipped_is_of_what_the_gates_let_through():
    """The rest of the gradient, which is longer, is of no account."""
    setup = tiny(optimiser=Sgd(), tables="sgd")
    gradient = gradient_of(setup, start(setup), "click", BATCH)
    ones = gates_of(setup.with_step(moving="leaky"), "click")
    gates = jax.tree.map(jnp.zeros_like, ones)
    bias = lambda tree: tree["shared"]["layer00"]["bias"]
    gates["shared"]["layer00"]["bias"] = jnp.array(True)
    norm = np.sqrt(np.sum(np.square(bias(gradient))))
    everything = sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient))
    assert np.sqrt(everything) > 2 * norm > 0
    for share, factor in ((0.5, 0.5), (1.5, 1.0)):
        # Of the whole gradient, either norm would be too long.
        clipped = setup.with_step(clip=float(share * norm))
        before = start(clipped)
        after, _ = jax.jit(step_of(clipped, "click"))(before, drawn(), gates, BATCH)
        expected = bias(before.net) - 0.02 * factor * bias(gradient)
        np.testing.assert_allclose(bias(after.net), expected, rtol=1e-4, atol=1e-7)
        assert_same_bits(after.net["tasks"], before.net["tasks"])


def test_an_unclipped_table_follows_its_own_gradient():
    """Clipping is of the net: the rows of a batch are not one vector with it."""
    plain, clipped = (
        tiny(optimiser=Sgd(), tables="sgd", clip=clip) for clip in (None, 1e-3)
    )
    ends = [
        jax.jit(step_of(setup, "click"))(
            start(setup), drawn(), gates_of(setup, "click"), BATCH
        )[0]
        for setup in (plain, clipped)
    ]
    assert_same_bits(ends[0].tables["shared"].rows, ends[1].tables["shared"].rows)
    assert (
        ends[0].net["tasks"]["click"]["head"]["bias"]
        != ends[1].net["tasks"]["click"]["head"]["bias"]
    ).all()


def test_net_tables_and_decay_follow_one_factor():
    setup = tiny(
        optimiser=Sgd(),
        tables="sgd",
        schedule=HALVING,
        table_learning_rate=0.3,
        weight_decay=0.1,
        init_scale=0.3,
    )
    step, before = jax.jit(step_of(setup, "click")), start(setup)
    gates, moved = gates_of(setup, "click"), []
    for sound in range(4):
        state = before._replace(opt=before.opt._replace(sound=jnp.int32(sound)))
        after, _ = step(state, drawn(), gates, BATCH)
        parts = [(s.net, s.tables["shared"].rows) for s in (before, after)]
        moved.append(jax.tree.map(lambda a, b: b - a, *parts))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(moved[0][1]))
    for count, found in enumerate(moved):
        expected = jax.tree.map(lambda x, n=count: x * 0.5**n, moved[0])
        assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_a_warm_up_from_zero_moves_neither_net_nor_tables_in_its_first_step():
    setup = tiny(schedule=Warmup(steps=4), weight_decay=0.1)
    before = start(setup)
    step, gates = jax.jit(step_of(setup, "click")), gates_of(setup, "click")
    after, _ = step(before, drawn(), gates, BATCH)
    assert_close(after.net, before.net, rtol=0, atol=0)
    assert_close(after.tables["shared"].rows, before.tables["shared"].rows, 0, 0)
    assert after.opt.sound == 1
    later, _ = step(after, drawn(), gates, BATCH)
    assert (later.tables["shared"].rows != before.tables["shared"].rows).any()


@pytest.mark.parametrize("moving", ["gated", "per_task", "leaky"])
def test_one_count_serves_all_slots(moving):
    """Each kind of step counts; two epochs of two steps of two tasks are eight."""
    setup = tiny(moving=moving, schedule=HALVING)
    state = run_epoch(setup, run_epoch(setup), number=2)
    assert state.opt.sound.shape == () and state.opt.sound == 8 == state.step
    assert len(state.opt.slots) == (2 if moving == "per_task" else 1)


BALANCED = [None, Uncertainty(), GradNorm(), PCGrad()]


@pytest.mark.parametrize("balancer", BALANCED, ids=str)
def test_only_sound_steps_count_and_move_a_state(balancer):
    """Good, bad and empty: after the second and third all is as after the first."""
    kind = "click" if balancer is None else "all"
    balanced = {} if balancer is None else {"balancer": balancer, "summed": True}
    setup = tiny(optimiser=Lion(), schedule=HALVING, clip=1.0, **balanced)
    step, gates = jax.jit(step_of(setup, kind)), gates_of(setup, kind)
    numeric = BATCH.rows.numeric.at[3].set(jnp.nan)
    bad = BATCH._replace(rows=BATCH.rows._replace(numeric=numeric))
    empty = feed.take(ROWS, jnp.full(24, -1))
    good, _ = step(start(setup), drawn(), gates, BATCH)
    assert good.opt.sound == 1
    for batch in (bad, empty):
        after, losses = step(good, drawn(), gates, batch)
        assert np.isfinite(losses["click"]) == (batch is empty)
        assert after.step == 2  # the position in the data goes on
        assert_same_bits(after.opt, good.opt)
        assert_same_bits(after.balance, good.balance)
        assert_same_bits(after.net, good.net)
        assert_same_bits(after.tables["shared"].rows, good.tables["shared"].rows)


def test_rewinding_starts_the_count_the_moments_and_the_rates_anew():
    """A snapshot brings parameters alone, wherever it was trained."""
    trained = whole(learning_rate=0.3, weight_decay=0.2, table_learning_rate=0.4)
    state = run_epoch(trained)
    assert state.opt.sound == 2 and state.opt.rates.learning_rate == np.float32(0.3)
    snapshot, setup = train_state.snapshot_of(state), whole()
    again, fresh = train_state.restart(setup, KEY, snapshot), start(setup)
    assert again.opt.sound == 0 == again.step
    assert_same_bits(again.opt, fresh.opt)
    assert_same_bits(again.balance, fresh.balance)
    assert_same_bits(again.net, snapshot.net)
    assert again.opt.rates.learning_rate == np.float32(0.02)
    assert again.tables["shared"].updates == 0


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"constant"}))
def test_tables_that_catch_up_refuse_a_schedule_by_name(name):
    with pytest.raises(ValueError, match=rf"'adam' catch up .* the schedule {name}"):
        tiny(tables="adam", schedule=SCHEDULES[name]())
    tiny(tables="adam", schedule=SCHEDULES["constant"]())


def run_fit(setup, keeper=None):
    return fit(
        setup,
        start(setup),
        drawn(),
        plan=Plan(NUMPY_ROWS, setup.learned, 32, summed=setup.summed),
        train=ROWS,
        validation=jax.tree.map(jnp.asarray, make_rows(60, seed=2)),
        seed=0,
        epochs=2,
        patience=2,
        keeper=keeper,
        chunk=1,
    )


@pytest.mark.parametrize("balancer", BALANCED, ids=str)
def test_a_scheduled_training_stopped_after_every_chunk_ends_with_the_same_bits(
    tmp_path, balancer
):
    balanced = {} if balancer is None else {"balancer": balancer, "summed": True}
    setup = tiny(optimiser=Lion(), schedule=Cosine(6, warmup=1), clip=1.0, **balanced)
    expected, said = run_fit(setup), []
    for _ in range(4):
        keeper = resume.Folder(
            tmp_path / "kept", setup, wants_stop=lambda: True, say=said.append
        )
        with pytest.raises(resume.Stopped):
            run_fit(setup, keeper)
    result = run_fit(setup, resume.Folder(tmp_path / "kept", setup, say=said.append))
    assert not said
    assert result.history == expected.history
    assert_same_bits(result.best, expected.best)


OTHER_NUMBERS = {
    "learning_rate": 0.3,
    "table_learning_rate": 0.4,
    "weight_decay": 0.1,
    "task_weights": {"watch": 3.0},
    "positive_weights": {"click": 2.0},
    "init_scale": 0.1,
}


@pytest.mark.parametrize("name", OTHER_NUMBERS)
def test_progress_of_other_numbers_is_refused_by_name_and_kept(tmp_path, name):
    """Its rates would be gone on with in silence: they lie in the state."""
    base = {"positive_weights": {"click": 4.0}, "table_learning_rate": 0.02}
    setup, said = tiny(**base), []
    keeper = resume.Folder(tmp_path, setup, wants_stop=lambda: True)
    with pytest.raises(resume.Stopped):
        run_fit(setup, keeper)
    files = sorted(tmp_path.rglob("*"))
    other = tiny(**base | {name: OTHER_NUMBERS[name]})
    assert other.spec == setup.spec
    with pytest.raises(resume.OtherNumbers, match=rf"000001: .*{name}.*; continue"):
        resume.Folder(tmp_path, other, say=said.append).restore()
    assert sorted(tmp_path.rglob("*")) == files and not said
    assert resume.Folder(tmp_path, setup).restore().taken == 1
