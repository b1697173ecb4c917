"""Methods live from day to day: judged before they learn, resumed, and paid for."""

import contextlib
import json

import jax
import numpy as np
import pytest
from conftest import assert_same_bits, run_quietly
from scipy import stats

from experiments.daily import day_training
from experiments.daily.day_costs import Cost, weights_read
from experiments.daily.day_stream import DayStream
from experiments.export import config_from_json
from experiments.lt4rec import daily, s_weight
from experiments.lt4rec.daily import KEPT, Method
from experiments.running import stopping
from experiments.settings import sources
from jaxmtl.training.train_state import restart

pytestmark = pytest.mark.end_to_end

FEED = "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 2400"
NET = "--model.hidden 8 --model.embedding-dim 4 --model.crossing.kind none"
TRAINING = "--training.batch-size 128 --training.epochs 1 --pruning.epochs 1"
SPARSE = "--pruning.rounds 1 --seeds 1 --no-report"
TINY = f"{FEED} --data.feed.days 6 {NET} {TRAINING} {SPARSE}".split()
AGAIN, NEVER = "masks again", "never"


@pytest.fixture(scope="module")
def command(cache):
    """Runs the study with three methods of one row, which share what they compile."""
    with pytest.MonkeyPatch.context() as patch:
        methods = {
            KEPT: Method(("s-weight",)),
            AGAIN: Method(("s-weight",), "daily, masks found again"),
            NEVER: Method(("s-weight",), "never"),
        }
        patch.setattr(daily, "METHODS", methods)
        patch.setattr(daily, "ROWS", (s_weight,))

        def call(folder, *settings):
            places = ("--data.cache", str(cache), "--workdir", str(folder))
            return run_quietly("lt4rec.daily", *TINY, *places, *settings)

        yield call


@pytest.fixture(scope="module")
def lived(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lived")
    code, text = command(folder)
    assert code == 0
    return folder, text


def days_of(folder):
    """update -> its days, without the seconds."""
    found = {}
    for path in sorted((folder / "days").glob("*/seed0/days.json")):
        days = json.loads(path.read_text())
        for day in days:
            del day["cost"]["seconds"]
        found[path.parent.parent.name.split("-", 1)[1]] = days
    return found


def test_every_day_after_the_first_is_judged_and_all_but_the_last_learned(lived):
    folder, _ = lived
    found = days_of(folder)
    assert set(found) == {"daily", "daily-masks_found_again", "never"}
    for update, days in found.items():
        assert [day["day"] for day in days] == [2, 3, 4, 5]
        assert days[0]["metrics"] == {}
        for day in days[1:]:
            assert set(day["metrics"]) == {"ctr.auc", "cvr.mse"}
        learned = [day["cost"]["trainings"] for day in days]
        # A search trains two rounds for each of two tasks; joint training is one.
        first = 2 * 2 + 1
        assert (
            learned
            == {
                "daily": [first + 1, 1, 1, 0],
                "daily-masks_found_again": [first + 1, 5, 5, 0],
                "never": [first, 0, 0, 0],
            }[update]
        )


def test_methods_that_begin_alike_are_judged_alike_until_they_part(lived):
    found = days_of(lived[0])
    kept, again = found["daily"], found["daily-masks_found_again"]
    assert kept[1]["metrics"] == again[1]["metrics"]  # masks change after that day
    assert kept[2]["metrics"] != again[2]["metrics"]
    assert kept[1]["metrics"] != found["never"][1]["metrics"]  # day 2 was learned
    assert again[1]["cost"]["work"] > 5 * kept[1]["cost"]["work"]


def test_results_are_written_said_and_drawn(lived):
    folder, text = lived
    result = json.loads((folder / "daily.json").read_text())
    assert [point["x"] for point in result["series"][KEPT]] == [3, 4, 5]
    judged = days_of(folder)["daily"][1:]
    means = [np.mean([day["metrics"]["cvr.mse"] for day in judged])]
    assert result["totals"][KEPT]["cvr.mse"]["values"] == pytest.approx(means)
    assert set(result["unseen"]) == {"3", "4", "5"}
    costs = json.loads((folder / "daily_cost.json").read_text())["series"]
    so_far = [p["metrics"]["cost.trainings"]["mean"] for p in costs[AGAIN]]
    assert so_far == [6, 11, 16]
    for name in ("daily.png", "daily_cost.png"):
        assert (folder / name).stat().st_size > 1000
    assert "rows whose id is new" in text and "masks again" in text


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(
    lived, command, tmp_path, monkeypatch
):
    saves = iter([False] * 5)  # the sixth day is in the middle of the second method
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: next(saves, True))
        patch.setattr(stopping, "check", lambda: None)
        code, _ = command(tmp_path / "run")
    assert code == stopping.EXIT_CODE
    assert len(days_of(tmp_path / "run")) == 1
    begun = []
    monkeypatch.setattr(daily, "_begin", counting(daily._begin, begun))
    assert command(tmp_path / "run")[0] == 0
    assert len(begun) == 1  # `never`; the second method went on from its second day
    assert days_of(tmp_path / "run") == days_of(lived[0])
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    # Of two methods with four days each, two were lived before.
    assert plan["done"] == plan["trainings"] == 2 * 4 - 2
    assert not list((tmp_path / "run" / "days").glob("*/*/progress"))


def counting(function, calls):
    def counted(*args):
        calls.append(args)
        return function(*args)

    return counted


@pytest.fixture(scope="module")
def begun(lived, cache):
    """A learner of the study and what its first days taught it."""
    held = json.loads((lived[0] / "config.json").read_text())
    row = held["rows"]["lt4rec.s_weight"]
    config = config_from_json(held["data"], row, cache)
    stream = DayStream(sources.load(config.data, say=lambda text: None))
    learner = day_training.Learner(stream, config, seed=0, first=daily.FIRST)
    return learner, learner.begin()


class Diary:
    """A learner, keeper and monitor that learn nothing and write down what happens."""

    def __init__(self):
        self.written, self.aside, self.cost = [], {}, Cost(1, 1.0, 1.0)

    def state(self, snapshot):
        return snapshot

    def judge(self, day, state, task_masks):
        self.written.append(f"judge {day} by {state} {task_masks}")
        return {}

    def find_masks_again(self, day, state):
        self.written.append(f"search {day}")
        return {"masks": None, str(day): None}, self.cost

    def learn(self, day, state, task_masks):
        self.written.append(f"learn {day}")
        return f"{state}{day}", self.cost

    def restore(self):
        return None

    def save(self, progress):
        self.written.append("save")

    def training(self, *name):
        return contextlib.nullcontext()


def test_a_day_is_judged_by_the_days_before_it_and_then_learned():
    diary = Diary()
    begin = lambda: day_training.Begun("w", {"masks": None}, Cost(9, 9.0, 9.0))
    update = "daily, masks found again"
    records = day_training.live(
        diary, begin, update, [2, 3, 4], diary, diary, ("name", 0)
    )
    assert diary.written == [
        *("learn 2", "save"),
        *("judge 3 by w2 {'masks': None}", "search 3", "learn 3", "save"),
        *("judge 4 by w23 {'masks': None, '3': None}", "save"),
    ]
    assert [r["cost"]["trainings"] for r in records] == [10, 2, 0]


def test_a_day_moves_no_weight_outside_all_masks(begun):
    learner, start = begun
    before = learner.state(start.snapshot)
    kept = jax.tree.map(np.array, before.net)
    after, cost = learner.learn(3, before, start.task_masks)
    seen = [m["shared"] for m in start.task_masks.values()]
    moved = 0
    for path, mask in jax.tree_util.tree_leaves_with_path(seen[0]):
        pick = lambda tree, path=path: np.asarray(
            dict(jax.tree_util.tree_leaves_with_path(tree))[path]
        )
        union = np.asarray(mask) | pick(seen[1])
        old, new = pick(kept["shared"]), pick(after.net["shared"])
        assert not union.all()
        np.testing.assert_array_equal(old[~union], new[~union])
        moved += (old[union] != new[union]).sum()
    assert moved > 0 and cost.trainings == 1


def test_a_day_starts_from_the_weights_and_moments_of_the_day_before(begun):
    learner, start = begun
    once = learner.learn(3, learner.state(start.snapshot), start.task_masks)[0]
    again = restart(learner.setup, jax.random.key(0), day_training.snapshot_of(once))
    went_on = learner.learn(4, once, start.task_masks)[0]
    anew = learner.learn(4, again, start.task_masks)[0]
    assert int(went_on.step) == 2 * int(anew.step)
    flat = lambda state: np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves(state.net)]
    )
    assert (flat(went_on) != flat(anew)).any()  # the moments went on as well


def test_searching_again_rewinds_to_the_weights_of_the_day(begun, monkeypatch):
    learner, start = begun
    state, started = learner.state(start.snapshot), []
    kept = jax.tree.map(np.array, state.net["shared"])

    def fit(setup, state, *args, **kwargs):
        started.append(jax.tree.map(np.array, state.net["shared"]))
        return original(setup, state, *args, **kwargs)

    original = day_training.fit
    monkeypatch.setattr(day_training, "fit", fit)
    masks, _ = learner.find_masks_again(3, state)
    assert len(started) == 4
    for net in started:
        assert_same_bits(net, kept)
    assert set(masks) == {"click", "watch"}


def test_the_work_of_a_task_is_that_of_the_weights_it_keeps():
    kernel = lambda *shape: {"kernel": np.ones(shape), "bias": np.ones(shape[-1])}
    net = {
        "shared": {"layer00": kernel(4, 3)},
        "tasks": {"click": {"head": kernel(3, 1)}, "watch": {"head": kernel(3, 1)}},
    }
    mask = {
        "shared": {"layer00": {"kernel": np.eye(4, 3, dtype=bool), "bias": None}},
        "tasks": {
            task: {"head": {"kernel": None, "bias": None}} for task in net["tasks"]
        },
    }
    assert weights_read(net, None, "click") == 12 + 3
    assert weights_read(net, mask, "click") == 3 + 3
    assert Cost(1, 2.0, 3.0).plus(Cost(1, 0.5, 0.25)) == Cost(2, 2.5, 3.25)


def life(values, seconds=1.0):
    cost = {"trainings": 1, "work": 2e9, "seconds": seconds}
    days = [{"day": 2, "metrics": {}, "cost": cost}]
    days += [
        {"day": 3 + n, "metrics": {"m.auc": x}, "cost": cost}
        for n, x in enumerate(values)
    ]
    return days


def test_methods_are_compared_with_masks_found_once_by_seed():
    base = [life([0.5, 0.7]), life([0.6, 0.6]), life([0.7, 0.9])]
    other = [life([0.6, 0.8]), life([0.7, 0.9]), life([0.8, 0.8])]
    totals = daily.summarise({KEPT: base, "a": other, "b": base}, ["m.auc"])
    p = stats.ttest_rel([0.7, 0.8, 0.8], [0.6, 0.6, 0.8]).pvalue
    versus = totals["a"]["m.auc"]["vs_kept"]
    assert versus["difference"] == pytest.approx(0.1)
    # Methods that do not differ are no test, so Holm's family is one.
    assert versus["p"] == versus["p_holm"] == pytest.approx(p)
    assert totals["b"]["m.auc"]["vs_kept"]["p"] is None
    assert "vs_kept" not in totals[KEPT]["m.auc"]


def test_seconds_are_medians_so_that_one_compilation_does_not_count():
    seeds = [life([0.5, 0.5], seconds) for seconds in (60.0, 1.0, 1.2)]
    total = daily.summarise({KEPT: seeds}, ["m.auc"])[KEPT]
    assert total["cost.seconds"] == {
        "first": 1.2,
        "later": 1.2,
        "all": pytest.approx(3.6),
    }
    assert total["cost.work"]["later"] == pytest.approx(2.0)  # billions


def test_parts_of_a_method_are_measured_together_and_paid_for_both():
    click, watch = life([0.5]), life([0.7])
    watch[1]["metrics"] = {"n.mse": 0.1}
    both = daily.together([click, watch])
    assert both[1]["metrics"] == {"m.auc": 0.5, "n.mse": 0.1}
    assert both[1]["cost"] == {"trainings": 2, "work": 4e9, "seconds": 2.0}
    assert [d["cost"]["trainings"] for d in daily.added_up(life([0.1, 0.2]))] == [1, 2]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (None, "chosen on days it does not tell"),
        (3, "chosen on days up to 3, but lt4rec.daily judges all from day 3 on"),
    ],
)
def test_settings_that_have_seen_a_judged_day_are_refused(
    last, words, command, tmp_path, capsys
):
    code, _ = command(tmp_path / "run", "--tuned", write_tuned(tmp_path, last))
    errors = capsys.readouterr().err
    assert code == 1 and words in errors
    assert "python -m experiments.tune lt4rec.daily" in errors
    assert not (tmp_path / "run" / "days").exists()


def test_settings_chosen_on_the_first_days_are_taken(
    lived, command, tmp_path, monkeypatch
):
    folder = lived[0] / "days"
    lived_again = {
        ("s-weight", what, 0): json.loads(
            (
                folder / f"lt4rec.s_weight-{daily._slug(what)}/seed0/days.json"
            ).read_text()
        )
        for what in ("daily", "never", "daily, masks found again")
    }
    monkeypatch.setattr(daily, "_lives", lambda context, stream: lived_again)
    path = write_tuned(tmp_path, daily.FIRST - 1)
    assert command(tmp_path / "run", "--tuned", path)[0] == 0
    result = json.loads((tmp_path / "run" / "daily.json").read_text())
    assert "Tuning: 1 of 1 rows" in result["tuning"]


def write_tuned(folder, last_day):
    """A file of settings that were chosen with days up to the last one."""
    row = {"settings": {"optimiser.learning_rate": 5e-3}, "last_day": last_day}
    budget = {"trials": 1, "seeds": [1000], "anchors": [""]}
    space = {"optimiser.learning_rate": {}}
    path = folder / "tuned.json"
    rows = {"lt4rec.s_weight": row}
    path.write_text(json.dumps({"rows": rows, "budget": budget, "space": space}))
    return str(path)


def test_a_log_of_too_few_days_is_refused(command, tmp_path, capsys):
    code, _ = command(tmp_path, "--data.feed.days", "4")
    assert code == 1 and "raise --data.feed.days" in capsys.readouterr().err
