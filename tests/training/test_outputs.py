"""From logits to what is learned and reported, in every reading of the spaces."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_setup
from oracles import sigmoid
from trainings import calibrate, forward, loss_logits, predictions, step_of

from jaxmtl import losses, models
from jaxmtl.discovery import name_of
from jaxmtl.layers.crossing import Crossing
from jaxmtl.training import inference, outputs, train, train_state
from jaxmtl.training.spec import Conflict
from jaxmtl.types import Batch, Features, Field, Rows, Schema, Task, Vocabulary

KEY = jax.random.key(0)
VISIT, BUY, KEEP, SPEND, LIKE = (
    Task("visit"),
    Task("buy", space="visit"),
    Task("keep", space="buy"),
    Task("spend", "continuous", space="buy", high=499.0, metric="mse"),
    Task("like"),
)
SHOP = Schema(
    name="shop",
    fields=(Field("user", "users"), Field("item", "users")),
    vocabularies=(Vocabulary("users", 3),),
    tasks=(VISIT, BUY, KEEP, SPEND, LIKE),
    ctr="visit",
    cvr="buy",
    user="user",
    item="item",
)
ALL = ("visit", "buy", "keep", "spend", "like")
EVENTS = ("visit", "buy", "keep", "like")


def make_shop(tasks=ALL, **changes):
    """A set-up over the shop; every loss is what its task's labels allow."""
    fitting = {n: "squared" if n == "spend" else "log" for n in tasks}
    changes = {"task_losses": tuple(fitting.items())} | changes
    return make_setup(schema=SHOP, tasks=tasks, **changes)


def make_product(tasks=EVENTS, **changes):
    return make_shop(tasks, spaces="product", summed=True, **changes)


def draw_logits(names=ALL, n=40, seed=0):
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(scale=3, size=n) for name in names}
    if "spend" in drawn:
        drawn["spend"] = rng.uniform(0, 600, n)
    return {name: jnp.asarray(x, jnp.float32) for name, x in drawn.items()}


def in_float64(logits):
    return {name: np.asarray(x, np.float64) for name, x in logits.items()}


# What is reported


def test_inside_the_space_joint_predictions_are_products():
    found = predictions(make_shop(), logits := draw_logits())
    raw = in_float64(logits)
    visit, buy, keep, like = (sigmoid(raw[name]) for name in EVENTS)
    expected = {"visit": visit, "buy": buy, "keep": keep, "like": like}
    expected |= {"spend": raw["spend"], "joint.buy": visit * buy}
    expected |= {"joint.keep": visit * buy * keep}
    expected |= {"joint.spend": visit * buy * raw["spend"]}
    assert_close(found, expected)


def test_a_product_is_reported_as_if_learned_inside_its_space():
    logits = draw_logits(EVENTS)
    own, product = make_shop(EVENTS), make_product()
    assert_close(predictions(product, logits), predictions(own, logits))


def test_on_all_impressions_the_share_of_the_task_before_is_taken_off():
    """Of conditional chances whose products are given, the very same come back."""
    setup = make_shop(spaces="impression")
    raw = in_float64(draw_logits())
    visit, buy, keep, like = (sigmoid(raw[name]) for name in EVENTS)
    joint = {"visit": visit, "buy": visit * buy, "keep": visit * buy * keep}
    joint["like"] = like
    logits = {
        n: jnp.asarray(np.log(p / (1 - p)), jnp.float32) for n, p in joint.items()
    }
    spend = np.minimum(raw["spend"], 499)
    logits["spend"] = jnp.asarray(visit * buy * spend, jnp.float32)
    found = predictions(setup, logits)
    expected = {"visit": visit, "buy": buy, "keep": keep, "like": like, "spend": spend}
    expected |= {"joint.buy": joint["buy"], "joint.keep": joint["keep"]}
    expected |= {"joint.spend": visit * buy * spend}
    assert_close(found, expected, rtol=1e-4)


def test_a_chance_inside_the_space_never_leaves_its_range():
    """Joint chances learned apart may rise along the funnel; a share may not."""
    setup = make_shop(spaces="impression")
    logits = {name: jnp.array([-100.0, -5.0, 3.0]) for name in EVENTS}
    logits |= {"buy": jnp.array([50.0, 5.0, -3.0]), "spend": jnp.array([9.0, -1, 1e6])}
    found = predictions(setup, logits)
    for name in ALL:
        high = SHOP.task(name).high
        assert (found[name] >= 0).all() and (found[name] <= high).all(), name
    np.testing.assert_array_equal(found["buy"][:2], [1, 1])
    np.testing.assert_array_equal(found["spend"], [9, 0, 499])
    np.testing.assert_array_equal(found["joint.spend"], logits["spend"])


@pytest.mark.parametrize(
    ("spaces", "tasks", "told"),
    [
        ("own", ("visit", "keep"), {"visit", "keep"}),
        ("own", ("buy", "keep"), {"buy", "keep"}),
        ("own", ("spend",), {"spend"}),
        ("own", ("visit", "buy"), {"visit", "buy", "joint.buy"}),
        # A share needs nothing but the whole it is a share of.
        ("impression", ("buy", "spend"), {"joint.buy", "joint.spend", "spend"}),
        ("impression", ("visit", "keep"), {"visit", "joint.keep"}),
        ("impression", ("keep",), {"joint.keep"}),
    ],
)
def test_a_funnel_with_a_gap_tells_exactly_what_can_be_told(spaces, tasks, told):
    setup = make_shop(tasks, spaces=spaces)
    found = predictions(setup, draw_logits(tasks))
    assert set(found) == told
    whole = predictions(make_shop(spaces=spaces), draw_logits())
    assert {name: p.shape for name, p in found.items()} == dict.fromkeys(told, (40,))
    logits = {name: draw_logits()[name] for name in tasks}
    part = predictions(setup, logits)
    assert_close(part, {name: whole[name] for name in part})


@pytest.mark.parametrize("spaces", ["own", "impression"])
def test_an_expected_value_is_no_chance_to_multiply_or_divide_by(spaces):
    click = Task("click")
    watch = Task("watch", "continuous", space="click", metric="mse")
    share = Task("share", space="watch")
    schema = dataclasses.replace(
        SHOP, tasks=(click, watch, share), ctr="click", cvr="watch"
    )
    losses = (("click", "log"), ("watch", "squared"), ("share", "log"))
    setup = make_setup(
        schema=schema, tasks=schema_names(schema), task_losses=losses, spaces=spaces
    )
    found = predictions(setup, draw_logits(schema_names(schema)))
    told = {"click", "watch", "joint.watch"}
    assert set(found) == told | {"share" if spaces == "own" else "joint.share"}


def schema_names(schema):
    return tuple(task.name for task in schema.tasks)


# Weights of positives are taken off again


@pytest.mark.parametrize("spaces", ["own", "impression"])
def test_calibrated_odds_are_those_learned_over_the_weight(spaces):
    setup = make_shop(spaces=spaces, positive_weights=(("visit", 4.0), ("buy", 20.0)))
    logits = draw_logits()
    found = calibrate(setup, logits)
    shifts = {"visit": np.log(4), "buy": np.log(20)}
    expected = {n: np.asarray(x) - shifts.get(n, 0) for n, x in logits.items()}
    assert_close(found, expected)
    assert_same_bits(loss_logits(setup, logits), logits)


def test_a_products_loss_sees_the_weighted_odds_of_the_whole_product():
    """So that the weighted loss is least where the product itself is right."""
    weights = {"visit": 4.0, "buy": 20.0, "keep": 90.0}
    setup = make_product(positive_weights=tuple(weights.items()))
    logits = draw_logits(EVENTS)
    raw = in_float64(logits)
    visit, buy = sigmoid(raw["visit"] - np.log(4)), sigmoid(raw["buy"])
    keep = sigmoid(raw["keep"])
    joint = {"buy": visit * buy, "keep": visit * buy * keep}
    found = loss_logits(setup, logits)
    expected = {
        name: np.log(p / (1 - p)) + np.log(weights[name]) for name, p in joint.items()
    }
    expected |= {"visit": raw["visit"], "like": raw["like"]}
    assert_close(found, expected, rtol=1e-4, atol=1e-4)
    reported = predictions(setup, logits)
    assert_close({name: reported["joint." + name] for name in joint}, joint, rtol=1e-4)
    assert_close(
        {"visit": reported["visit"], "buy": reported["buy"]},
        {"visit": visit, "buy": buy},
    )


# A focal loss learns no odds


def focal_shop(names=("visit",), **changes):
    chosen = tuple((n, "focal" if n in names else "log") for n in EVENTS)
    return make_shop(EVENTS, task_losses=chosen, **changes)


@pytest.mark.parametrize("spaces", ["own", "impression", "product"])
def test_odds_of_a_focal_loss_are_recalibrated_before_they_are_multiplied(spaces):
    setup = focal_shop(spaces=spaces, summed=True)
    plain = make_shop(EVENTS, spaces=spaces, summed=True)
    logits = draw_logits(EVENTS)
    learned = logits | {"visit": losses.odds_learned("focal", logits["visit"])}
    assert (abs(learned["visit"] - logits["visit"]) > 0.1).any()
    found = predictions(setup, logits)
    assert_close(found, predictions(plain, learned))
    on_loss = loss_logits(setup, logits)
    assert_same_bits(on_loss["visit"], logits["visit"])
    if spaces == "product":
        joint = loss_logits(plain, learned)["buy"]
        assert_close({"buy": on_loss["buy"]}, {"buy": joint})


def test_weights_on_a_focal_loss_are_taken_off_what_it_learns():
    conflict, positive = Conflict("buy", 5.0, 0.5), (("buy", 20.0),)
    setup = focal_shop(("buy",), conflict=conflict, positive_weights=positive)
    logits = draw_logits(EVENTS)
    found = calibrate(setup, logits)["buy"]
    expected = losses.odds_learned("focal", logits["buy"]) + np.log(5 / 20)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# ESMM's loss


FUNNEL = dataclasses.replace(
    SHOP,
    tasks=(Task("click"), Task("watch", "continuous", space="click", metric="mse")),
    ctr="click",
    cvr="watch",
)
CLICKS, WATCHED = [1, 1, 0, 1], [0.25, 1, np.nan, 0]


def esmm_loss(click, watch):
    """The loss of the joint event of four impressions, from conditional logits."""
    setup = make_setup(
        schema=FUNNEL,
        tasks=("click", "watch"),
        task_losses=(("click", "log"), ("watch", "log")),
        architecture=models.Esmm(hidden=(4,)),
        spaces="product",
        summed=True,
    )
    f32 = lambda column: jnp.asarray(column, jnp.float32)
    labels = {"click": f32(CLICKS), "watch": f32(WATCHED)}
    rows = Rows(jnp.ones((4, 2), jnp.int32), jnp.zeros((4, 0)), labels, {}, {})
    batch = outputs.with_joint(setup.spec, Batch(rows, jnp.ones(4, bool)))
    logits = loss_logits(setup, {"click": f32(click), "watch": f32(watch)})
    return outputs.mean_loss(setup.spec, setup.numbers, "watch", logits["watch"], batch)


@pytest.mark.parametrize("scale", [1, 8])
def test_esmm_has_the_soft_log_loss_of_the_product_on_every_impression(scale):
    """Ma et al., eq. 3: l(y & z, f(x, θ_ctr) · f(x, θ_cvr)) over all of them."""
    rng = np.random.default_rng(0)
    click, watch = rng.normal(scale=scale, size=(2, 4))
    p = sigmoid(click) * sigmoid(watch)
    y = np.array([0.25, 1, 0, 0])
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))
    np.testing.assert_allclose(esmm_loss(click, watch), expected, rtol=1e-5)


def test_where_every_impression_is_clicked_esmm_s_loss_is_that_of_the_cvr():
    watch = np.array([-2.0, 0.0, 1.0, 3.0])
    p, y = sigmoid(watch), np.array([0.25, 1, 0, 0])
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(esmm_loss(np.full(4, 80.0), watch), expected, rtol=1e-5)


N = 2_000
VISITED, BOUGHT = 400, 60


def plant() -> Rows:
    """All rows look alike, so a net can learn rates and nothing else."""
    visit, buy = np.zeros((2, N), np.float32)
    visit[:VISITED] = 1
    buy[:BOUGHT] = 1
    labels = {"visit": visit, "buy": buy, "like": visit}
    labels |= {"keep": np.full(N, np.nan, np.float32)}
    labels |= {"spend": np.full(N, np.nan, np.float32)}
    ids = np.ones((N, 2), np.int32)
    groups = {"user": ids[:, 0], "item": ids[:, 1]}
    return Rows(ids, np.zeros((N, 0), np.float32), labels, {}, groups)


def trained_rates(setup, steps=250):
    """What a net of this set-up predicts for every row after full-batch steps."""
    rows = jax.tree.map(jnp.asarray, plant())
    state = train_state.make_init(setup)(KEY)
    dense = train_state.dense_masks(setup, state.net)
    gates = train_state.make_gates(setup, state.net, dense)
    order = np.tile(np.arange(N, dtype=np.int32), (steps, 1))
    orders = dict.fromkeys(setup.kinds, order)
    state, losses = train.make_epoch(setup)(state, dense, gates, rows, orders)
    assert all(np.isfinite(np.asarray(part)).all() for part in losses.values())
    snapshot = train_state.snapshot_of(state)
    predicted = inference.predict_all(setup, snapshot, dense, rows, chunk=N)
    return {name: float(p.mean()) for name, p in predicted.items()}


@pytest.mark.parametrize(
    ("spaces", "focal"),
    [
        *((spaces, ()) for spaces in ("own", "impression", "product")),
        ("own", ("visit", "buy")),
        ("impression", ("visit", "buy")),
        ("product", ("visit",)),
    ],
)
def test_training_with_weighted_positives_ends_in_the_planted_rates(spaces, focal):
    """Both weights are the negatives for each positive, as in the DCRNN paper."""
    weights = (("visit", (N - VISITED) / VISITED), ("buy", (N - BOUGHT) / BOUGHT))
    setup = make_shop(
        ("visit", "buy"),
        spaces=spaces,
        summed=True,
        task_losses=tuple(
            (name, "focal" if name in focal else "log") for name in ("visit", "buy")
        ),
        positive_weights=weights,
        architecture=models.SharedTrunk((4,)),
        crossing=Crossing("none"),
        masked=False,
    )
    found = trained_rates(setup)
    rates = {"visit": VISITED / N, "buy": BOUGHT / VISITED, "joint.buy": BOUGHT / N}
    assert found == pytest.approx(rates, rel=0.02)


# One pass, or one a task


TINY = {
    "shared_trunk": models.SharedTrunk((6, 5)),
    "hard_sharing": models.HardSharing((6, 5)),
    "mmoe": models.Mmoe(experts=2, expert_hidden=(6, 5), tower=(4,)),
    "dcrnn": models.Dcrnn(length=2, interval=1, hidden=3, tower=(4,)),
}


@pytest.mark.parametrize("name", TINY)
def test_one_pass_without_masks_equals_one_a_task_under_dense_ones(name):
    masked = make_setup(architecture=TINY[name], tasks=("click", "watch", "like"))
    plain = masked.with_net(masked=False)
    state = train_state.make_init(masked)(KEY)
    dense, none = (train_state.dense_masks(s, state.net) for s in (masked, plain))
    assert none == dict.fromkeys(masked.tasks)
    rows = jax.tree.map(jnp.asarray, make_rows(30, seed=3))
    snapshot = train_state.snapshot_of(state)
    one, several = (
        inference.predict_all(setup, snapshot, kept, rows, chunk=32)
        for setup, kept in ((plain, none), (masked, dense))
    )
    assert set(one) == {*masked.tasks, "joint.watch", "joint.like"}
    assert_close(one, several, rtol=1e-6, atol=1e-6)


def test_forward_hands_out_the_tasks_asked_for():
    setup, net, features = aitm()
    dense = train_state.dense_masks(setup, net)
    several = forward(setup, net, dense, features, setup.tasks)
    plain = setup.with_net(masked=False)
    one = forward(plain, net, {}, features, ("like",))
    assert one.logits.keys() == {"like"}
    assert_close(several.logits["like"], one.logits["like"])


def aitm(weight=0.6, **changes):
    """A setup, a net and features of 5 rows."""
    setup = make_setup(
        architecture=models.Aitm(hidden=(4,), calibrator_weight=weight),
        tasks=("click", "like"),
        spaces="impression",
        summed=True,
        task_losses=(("click", "log"), ("like", "log")),
        **changes,
    )
    net = train_state.make_init(setup)(KEY).net
    features = Features(
        jax.random.normal(KEY, (5, 4, 4)), {}, jax.random.normal(KEY, (5, 1))
    )
    return setup, net, features


@pytest.mark.parametrize(("likes", "is_charged"), [(0.2, False), (0.55, True)])
def test_a_model_s_own_loss_is_of_recalibrated_chances(likes, is_charged):
    positives = (("click", 2.0), ("like", 70.0))
    rows = jax.tree.map(jnp.asarray, make_rows(32, seed=3))
    odds = {"click": 2 * 0.5 / 0.5, "like": 70 * likes / (1 - likes)}

    def moved(weight):
        setup, *_ = aitm(weight, positive_weights=positives, masked=False)
        state = train_state.make_init(setup)(KEY)
        for name, raw in odds.items():
            bias = jnp.log(jnp.array([raw], jnp.float32))
            head = {"kernel": jnp.zeros((4, 1)), "bias": bias}
            state.net["tasks"][name]["head"] = head
        gates = train_state.make_gates(setup, state.net, dict.fromkeys(setup.tasks))
        step = jax.jit(step_of(setup, "all"))
        batch = Batch(rows, jnp.ones(32, bool))
        return step(state, dict.fromkeys(setup.tasks), gates["all"], batch)[0].net

    free, charged = jax.tree.leaves(moved(0.0)), jax.tree.leaves(moved(0.6))
    differ = any((a != b).any() for a, b in zip(free, charged, strict=True))
    assert differ == is_charged


# What cannot be learned is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": models.Esmm(hidden=(4,)), "spaces": "own"},
            "esmm learns spaces 'product', given is 'own'; set training.spaces",
        ),
        (
            {"architecture": models.Aitm(hidden=(4,)), "spaces": "product"},
            "aitm learns spaces 'impression', given is 'product'",
        ),
        (
            {"architecture": models.Esmm(hidden=(4,)), "tasks": ("visit", "like")},
            "esmm needs a declared funnel;.* none lives in another's space",
        ),
        (
            {"architecture": models.Aitm(hidden=(4,)), "tasks": ("buy", "like")},
            "aitm needs a declared funnel; task 'buy'.* 'visit', which is not trained",
        ),
        (
            {"architecture": models.Esmm(hidden=(4,)), "tasks": ALL},
            "esmm needs .*'spend' of schema shop has labels up to 499",
        ),
        (
            {"architecture": models.Esmm(hidden=(4,)), "summed": False},
            "esmm learns a task through those before it.*training.schedule to sum",
        ),
        ({"summed": False}, "shared_trunk learns a task through those before it"),
        ({"tasks": ("visit", "keep")}, "'buy', which is not trained"),
        (
            {"spaces": "somewhere"},
            "spaces 'somewhere' is none of.*'impression'",
        ),
        (
            {"conflict": Conflict("buy", 5.0, None)},
            "weights bias task 'buy'.*through a product.*training.conflict-factor to 1",
        ),
        (
            {"task_losses": tuple((name, "focal") for name in EVENTS)},
            "learns task 'buy' through a product.*'focal'.* training.binary-loss to",
        ),
        (
            {"spaces": "impression", "conflict": Conflict("buy", 5.0, 0.1)},
            "threshold weights rows of the space of 'buy'.*training.spaces to own",
        ),
    ],
)
def test_a_setup_that_cannot_learn_its_tasks_is_refused_by_name(changes, message):
    defaults = {"tasks": EVENTS, "spaces": "product", "summed": True}
    if isinstance(changes.get("architecture"), models.Aitm):
        defaults["spaces"] = "impression"
    changes = defaults | changes
    with pytest.raises(ValueError, match=message):
        make_shop(**changes)


def test_a_schema_without_a_funnel_is_refused_by_its_name():
    flat = dataclasses.replace(SHOP, tasks=(VISIT, LIKE), ctr="visit", cvr="like")
    for options in (models.Esmm(hidden=(4,)), models.Aitm(hidden=(4,))):
        message = f"{name_of(options)} .* of schema shop none"
        with pytest.raises(ValueError, match=message):
            make_setup(
                schema=flat,
                tasks=("visit", "like"),
                task_losses=(("visit", "log"), ("like", "log")),
                architecture=options,
                spaces=options.spaces,
                summed=True,
            )
