"""Early stopping keeps one snapshot for all tasks, by the stated rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_setup

from jaxmtl.data.batches import Plan
from jaxmtl.training import fit as fitting
from jaxmtl.training import inference, train, train_state
from jaxmtl.types import PADDING, UNKNOWN, Task

KEY = jax.random.key(0)
TRAIN, VALIDATION = make_rows(64, seed=1), make_rows(60, seed=2)


def beginning(setup):
    state = train_state.make_init(setup)(KEY)
    dense = train_state.dense_masks(setup, state.net)
    plan = Plan(TRAIN, setup.learned, 32)
    return state, dense, plan, jax.tree.map(jnp.asarray, TRAIN)


def run(
    setup,
    epochs=8,
    patience=2,
    seed=0,
    on_epoch=lambda record, snapshot: None,
    **options,
):
    state, dense, plan, rows = beginning(setup)
    return fitting.fit(
        setup,
        state,
        dense,
        plan=plan,
        train=rows,
        validation=jax.tree.map(jnp.asarray, VALIDATION),
        seed=seed,
        epochs=epochs,
        patience=patience,
        on_epoch=on_epoch,
        **options,
    )


@pytest.fixture
def validated(monkeypatch):
    """Lets a test say what validation measures: click's AUCs, watch's regrets."""
    watch = VALIDATION.labels["watch"][VALIDATION.labels["click"] > 0]

    def say(aucs, regrets):
        mses = np.asarray(regrets, np.float64) * watch.astype(np.float64).var()
        values = iter(zip(aucs, mses, strict=True))

        def validate(*_):
            return dict(zip(("click", "watch"), next(values), strict=True))

        monkeypatch.setattr(fitting, "_validate", validate)

    return say


def test_regret_of_an_auc_is_one_for_chance_and_zero_for_perfection():
    regret = functools.partial(fitting.regret, Task("click"), labels={})
    assert [regret(value) for value in (0.5, 0.75, 1.0)] == [1, 0.5, 0]


def test_regret_of_an_mse_is_its_share_of_the_variance_in_the_label_space():
    watch = Task("watch", "continuous", space="click", metric="mse")
    labels = {
        "click": np.array([1, 1, 0, np.nan], np.float32),
        "watch": np.array([0.2, 0.6, 9, 9], np.float32),
    }
    assert fitting.regret(watch, 0.0, labels) == 0
    np.testing.assert_allclose(fitting.regret(watch, 0.02, labels), 0.5, rtol=1e-6)


def test_regret_is_one_where_nothing_can_be_told():
    watch = Task("watch", "continuous", metric="mse")
    assert fitting.regret(watch, None, {}) == 1
    assert fitting.regret(Task("click"), None, {}) == 1
    assert fitting.regret(watch, 0.1, {"watch": np.ones(3)}) == 1


def test_smallest_mean_regret_decides_which_snapshot_is_kept(validated):
    """By mean regret epoch 3 wins, though no task is at its best there."""
    validated(aucs=[0.90, 0.55, 0.80, 0.60, 0.60], regrets=[1.5, 0.3, 0.5, 0.6, 0.6])
    snapshots = []
    result = run(make_setup(), on_epoch=lambda _, snapshot: snapshots.append(snapshot))
    means = [record.regret for record in result.history]
    np.testing.assert_allclose(means, [0.85, 0.6, 0.45, 0.7, 0.7], rtol=1e-6)
    assert result.best_epoch == 3
    assert result.own_best_epoch == {"click": 1, "watch": 2}
    assert_same_bits(result.best, snapshots[2])
    assert result.value("click") == 0.8
    kernels = [s.net["shared"]["layer00"]["kernel"] for s in snapshots]
    assert all((kernels[2] != kernels[i]).any() for i in (0, 1, 3, 4))


def test_training_stops_after_as_many_epochs_without_progress(validated):
    validated(aucs=[0.6, 0.7, 0.7, 0.69, 0.9], regrets=[0.5] * 5)
    result = run(make_setup(), patience=2)
    assert len(result.history) == 4  # an equal regret is no progress
    assert result.best_epoch == 2


def test_progress_starts_the_patience_again(validated):
    validated(aucs=[0.6, 0.5, 0.7, 0.5, 0.8, 0.5], regrets=[0.5] * 6)
    result = run(make_setup(), epochs=6, patience=2)
    assert (len(result.history), result.best_epoch) == (6, 5)


def test_undefined_metric_leaves_the_choice_to_the_other_tasks(validated):
    validated(aucs=[None, None, None], regrets=[0.9, 0.5, 0.7])
    result = run(make_setup(), epochs=3)
    assert result.best_epoch == 2
    assert result.value("click") is None
    assert result.own_best_epoch == {"click": 1, "watch": 2}


def test_validation_measures_each_task_in_its_space():
    """Against NumPy, on the predictions of the snapshot that is handed out."""
    setup, seen = make_setup(), []
    keep = lambda record, snapshot: seen.append((record, snapshot))
    result = run(setup, epochs=2, on_epoch=keep)
    record, snapshot = seen[-1]
    dense = train_state.dense_masks(setup, snapshot.net)
    rows = jax.tree.map(jnp.asarray, VALIDATION)
    predicted = inference.predict_all(setup, snapshot, dense, rows)
    click, watch = VALIDATION.labels["click"] > 0, VALIDATION.labels["watch"]
    above = predicted["click"][click][:, None] - predicted["click"][~click][None]
    auc = np.mean((above > 0) + (above == 0) / 2)
    np.testing.assert_allclose(record.validation["click"], auc, rtol=1e-6)
    mse = np.mean((predicted["watch"] - watch)[click] ** 2)
    np.testing.assert_allclose(record.validation["watch"], mse, rtol=1e-5)
    assert result.history[-1] == record
    assert [r.epoch for r in result.history] == [1, 2]


def test_non_finite_loss_stops_and_names_the_first_step_and_its_task():
    """`click` breaks the net, but the loss that shows it first is the next task's."""
    setup = make_setup(learning_rate=1e30)
    state, dense, plan, rows = beginning(setup)
    gates = train_state.make_gates(setup, state.net, dense)
    _, losses = train.make_epoch(setup)(state, dense, gates, rows, plan.orders(0, 1))
    finite = {task: np.isfinite(values).tolist() for task, values in losses.items()}
    assert finite == {"click": [True, False], "watch": [False, False]}
    message = "loss of task 'watch', .* became (nan|inf) at step 1;.*learning-rate"
    with pytest.raises(fitting.NonFiniteLoss, match=message) as stopped:
        run(setup)
    order = plan.orders(0, 1)["watch"][0]
    batch = stopped.value.batch
    assert (batch.step, batch.task) == (1, "watch")
    np.testing.assert_array_equal(batch.rows, order[order >= 0])


def test_step_numbers_go_on_over_epochs(monkeypatch):
    """Two steps an epoch: the second of the second epoch is the fourth."""
    good, bad = np.ones(2), np.array([1, np.inf])
    epochs = iter([{"click": good, "watch": good}, {"click": bad, "watch": good}])
    program = lambda state, *_: (state, next(epochs))
    monkeypatch.setattr(fitting, "make_epoch", lambda setup: program)
    with pytest.raises(fitting.NonFiniteLoss, match="'click'.* became inf at step 4;"):
        run(make_setup())


def test_net_that_breaks_in_the_last_step_of_an_epoch_is_named_too(monkeypatch):
    """Its losses were still finite; its predictions are not."""
    broken = {"click": np.full(60, 0.5), "watch": np.full(60, np.nan)}
    monkeypatch.setattr(fitting, "predict_all", lambda *_: broken)
    message = "task 'watch' no longer predicts finite values after step 2;"
    with pytest.raises(fitting.NonFiniteLoss, match=message):
        run(make_setup())


def test_training_learns_what_the_log_holds():
    """The planted parity of items drives clicks; a margin over fixed seeds."""
    setup = make_setup()
    for seed in (0, 1):
        result = run(setup, epochs=12, patience=12, seed=seed)
        last = result.history[result.best_epoch - 1]
        assert last.validation["click"] > 0.6
        assert last.losses["watch"] < result.history[0].losses["watch"]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 7, 8, 100])
@pytest.mark.parametrize("taken", [0, 3])
def test_chunks_of_an_epoch_cover_it_in_at_most_two_lengths(most, taken):
    chunks = list(fitting._chunks(8, most, taken))
    steps = [step for start, stop in chunks for step in range(start, stop)]
    assert steps == list(range(taken, 8))
    lengths = {stop - start for start, stop in fitting._chunks(8, most, 0)}
    assert len(lengths) <= 2 and max(lengths) <= most


@pytest.mark.parametrize(
    ("steps", "most", "lengths"),
    [(8, 3, {2}), (300, 256, {150}), (513, 256, {171}), (7, 3, {2, 3}), (7, 100, {7})],
)
def test_chunks_are_of_one_program_where_they_divide_the_steps(steps, most, lengths):
    chunks = fitting._chunks(steps, most, 0)
    assert {stop - start for start, stop in chunks} == lengths


def test_training_in_chunks_ends_with_the_bits_of_training_in_one():
    whole, chunked = (run(make_setup(), epochs=2, chunk=chunk) for chunk in (256, 1))
    assert_same_bits(chunked.best, whole.best)
    assert chunked.history == whole.history


@pytest.fixture
def poisoned(monkeypatch):
    """The planted log with one row whose number is infinite, and that row."""
    numeric = TRAIN.numeric.copy()
    row = int(np.flatnonzero(TRAIN.labels["click"] == 0)[1])  # no row of `watch`
    numeric[row] = np.inf
    monkeypatch.setitem(globals(), "TRAIN", TRAIN._replace(numeric=numeric))
    return row


def test_a_bad_row_stops_the_training_and_is_in_the_batch_that_is_named(poisoned):
    with pytest.raises(fitting.NonFiniteLoss, match="task 'click'") as stopped:
        run(make_setup())
    assert poisoned in stopped.value.batch.rows


def test_a_skipped_step_is_counted_and_left_out_of_the_mean(poisoned):
    result = run(make_setup(), epochs=2, on_nonfinite="skip")
    assert [record.skipped for record in result.history] == [1, 1]
    assert all(np.isfinite(list(r.losses.values())).all() for r in result.history)
    leaves = jax.tree.leaves(result.best)
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_an_epoch_that_skips_all_steps_of_a_task_stops(monkeypatch):
    bad = {"click": np.full(2, np.nan), "watch": np.ones(2)}
    monkeypatch.setattr(fitting, "make_epoch", lambda _: lambda state, *_: (state, bad))
    message = "epoch 1 skipped every step of task 'click'"
    with pytest.raises(fitting.NonFiniteLoss, match=message):
        run(make_setup(), on_nonfinite="skip")


def test_a_validation_of_one_class_decides_nothing_and_stops_nothing(monkeypatch):
    """No click: neither an AUC of clicks nor a row to watch."""
    labels = {name: np.zeros_like(x) for name, x in VALIDATION.labels.items()}
    monkeypatch.setitem(globals(), "VALIDATION", VALIDATION._replace(labels=labels))
    result = run(make_setup(), epochs=2)
    assert [r.validation for r in result.history] == 2 * [
        {"click": None, "watch": None}
    ]
    assert result.best_epoch == 1 and result.history[0].regret == 1


def test_an_id_that_training_never_saw_counts_for_nothing():
    """Unknown ids keep their first row, zeros: predictions are those without them."""
    setup = make_setup()
    result = run(setup, epochs=2)
    columns = [setup.schema.column(name) for name in ("user", "item")]
    predicted = []
    for value in (UNKNOWN, PADDING):
        ids = VALIDATION.ids.copy()
        ids[:, columns] = value
        rows = jax.tree.map(jnp.asarray, VALIDATION._replace(ids=ids))
        dense = train_state.dense_masks(setup, result.best.net)
        predicted.append(inference.predict_all(setup, result.best, dense, rows))
    assert_same_bits(*predicted)
