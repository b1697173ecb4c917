"""Table 3 simulated: pairs of models rank, and are compared on the same sessions."""

import contextlib
import io
import json

import numpy as np
import pytest
from scipy import stats

from experiments import run
from experiments.analysis.figures import online_figures
from experiments.analysis.table import RowResult
from experiments.lt4rec import hard_sharing, online, table2
from experiments.online import online_statistics, online_text
from experiments.online.feed_sessions import Exponents
from jaxmtl.data.sources.video_feed import make_feed
from jaxmtl.data.sources.video_feed.world import FeedConfig, truth
from jaxmtl.metrics import Metric

pytestmark = pytest.mark.end_to_end

SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def small():
    """Few sessions, so that nothing takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "SESSIONS", 60)
        patch.setattr(online, "CANDIDATES", 15)
        patch.setattr(online, "PLACES", 5)
        yield


@pytest.fixture(scope="module")
def feed():
    return make_feed(FeedConfig(users=80, videos=80, impressions=2000, days=4))


@pytest.fixture(scope="module")
def trial(feed, small):
    return online._trial(feed, 3)


@pytest.fixture(scope="module")
def predicted(feed, trial):
    """The truth under noise of each row's own size; s-weight's CVR has least."""
    known = truth(feed.world, *trial.sessions.offers)
    noise = {"base ctr": 0.5, "base cvr": 1.5, "hard sharing": 0.8, "s-weight": 0.1}
    found = {}
    for name, size in noise.items():
        for seed in SEEDS:
            rng = np.random.default_rng([seed, len(name)])
            blur = lambda p, rng=rng, size=size: np.clip(
                p * np.exp(size * rng.normal(size=p.shape)), 1e-3, 1
            )
            found[name, seed] = {"ctr": blur(known.click), "cvr": blur(known.watch)}
    return found


def test_the_pairs_are_rows_of_the_study_and_the_first_is_the_base():
    rows = {module.ROW.name for module in online.ROWS}
    assert next(iter(online.PAIRS)) == online.BASE
    assert {name for pair in online.PAIRS.values() for name in pair} <= rows
    assert set(online.ROWS) <= set(table2.ROWS)


def test_better_predictions_earn_more_and_the_truth_bounds_them(feed, trial, predicted):
    earned = {
        pair: online._views(trial, predicted, *rows, SEEDS, Exponents()).mean()
        for pair, rows in online.PAIRS.items()
    }
    assert earned["base / base"] < earned["base / hard"] < earned["sparse / sparse"]
    weightings = {"ones": Exponents(), "clicks alone": Exponents(1, 0, 0)}
    chance, perfect, clicks, best = online._bounds(feed, trial, weightings).values()
    assert chance < earned["base / base"] and earned["sparse / sparse"] < perfect
    assert clicks < perfect <= best


def test_the_exponents_chosen_earn_most_over_all_pairs(trial, predicted):
    chosen, tried = online.choose_exponents(trial, predicted, SEEDS)
    values = [entry["view"] for entry in tried]
    assert len(tried) == len(online.GRID) and Exponents() in online.GRID
    again = [
        online._views(trial, predicted, *rows, SEEDS, chosen).mean()
        for rows in online.PAIRS.values()
    ]
    assert np.mean(again) == pytest.approx(max(values))
    assert {e.ctr for e in online.GRID} == {1.0}


def test_drawn_reactions_of_the_ranking_agree_with_the_expected_ones(
    feed, trial, predicted
):
    for pair, found in online._drawn(feed, trial, predicted, SEEDS).items():
        expected = online._views(
            trial, predicted, *online.PAIRS[pair], SEEDS, Exponents()
        ).mean()
        assert found["mean"] - found["difference"] == pytest.approx(expected)
        low, high = found["ci95_sessions"]
        assert low - (high - low) < 0 < high + (high - low)


def test_pairs_are_compared_by_seed_with_holm_and_by_session_with_users_redrawn():
    rng = np.random.default_rng(0)
    base = rng.uniform(50, 60, (3, 40))
    gain = np.array([[1.0], [1.5], [0.8]])
    views = {"b": base, "up": base + gain, "same": base, "noise": base[:, ::-1] + 0.1}
    users = rng.integers(0, 12, 40)
    found = online_statistics.compare(views, users, "b")
    up = found["up"]["vs_base"]
    assert up["difference"] == pytest.approx(1.1)
    assert up["relative"] == pytest.approx(1.1 / base.mean())
    assert up["p"] == pytest.approx(stats.ttest_1samp(gain[:, 0], 0).pvalue)
    assert up["p_holm"] >= up["p"]
    # Every session gains the same, so sessions leave no doubt.
    np.testing.assert_allclose(up["ci95_sessions"], [1.1, 1.1])
    assert found["same"]["vs_base"]["p"] is None
    low, high = found["noise"]["vs_base"]["ci95_sessions"]
    assert low < 0.1 < high
    assert "vs_base" not in found["b"]


def test_a_resample_weighs_sessions_by_how_often_their_user_is_drawn():
    values, index = np.array([1.0, 2.0, 6.0]), np.array([0, 0, 1])
    counts = np.array([[1, 1], [2, 0], [1, 3]])
    found = online_statistics._resampled_mean(values, index, counts)
    np.testing.assert_allclose(found, [3.0, 1.5, (3 + 18) / 5])


def models(offline, view):
    return [
        {"row": str(n), "offline": list(a), "view": list(b)}
        for n, (a, b) in enumerate(zip(offline, view, strict=True))
    ]


def test_rank_correlation_is_spearmans_with_the_sign_of_the_metric():
    offline = np.array([[0.1, 0.2], [0.2, 0.1], [0.3, 0.4], [0.4, 0.3]])
    view = np.array([[9.0, 8.0], [7.0, 9.0], [5.0, 5.0], [6.0, 4.0]])
    found = online_statistics.correlate(models(offline, view), better=-1)
    by_hand = [
        -stats.spearmanr(a, b).statistic for a, b in zip(offline.T, view.T, strict=True)
    ]
    assert found["by_seed"]["values"] == pytest.approx(by_hand)
    expected = -stats.spearmanr(offline.mean(1), view.mean(1)).statistic
    assert found["of_means"]["value"] == pytest.approx(expected) and expected > 0
    low, high = found["of_means"]["ci95"]
    assert low <= expected <= high
    flipped = online_statistics.correlate(models(offline, view), better=1)
    assert flipped["of_means"]["value"] == pytest.approx(-expected)


def test_rows_that_all_earn_the_same_have_no_correlation():
    same = models([[0.1], [0.2], [0.3]], [[5.0], [5.0], [5.0]])
    assert online_statistics.correlate(same, 1)["by_seed"]["mean"] is None
    assert online_statistics.correlate(same[:2], 1)["by_seed"] is None


def test_a_model_is_judged_online_beside_the_other_tasks_single_model(trial, predicted):
    metric = lambda value: [Metric(value + seed / 1e3, 9, 4) for seed in SEEDS]
    results = {
        name: RowResult(
            name, name, {}, SEEDS, {"ctr.auc": metric(0.7 + n / 100)}, 1, {}, 1.0
        )
        for n, name in enumerate(("hard sharing", "base ctr", "s-weight"))
    }
    found = online._offline(results, trial, predicted, SEEDS, Exponents())
    assert [m["row"] for m in found["ctr.auc"]["models"]] == [*results]
    assert found["cvr.mse"]["models"] == []
    view = online._views(
        trial, predicted, "s-weight", "base cvr", SEEDS, Exponents()
    ).mean(1)
    assert found["ctr.auc"]["models"][-1]["view"] == pytest.approx(view.tolist())
    assert found["ctr.auc"]["by_seed"]["mean"] == pytest.approx(1)


FEED = "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 1600"
NET = "--model.hidden 6 --model.embedding-dim 2 --model.crossing.kind none"
TINY = f"{FEED} --data.feed.days 4 {NET} --training.batch-size 256 --training.epochs 1"


@pytest.fixture(scope="module")
def ran(small, cache, tmp_path_factory):
    """The study with one row, in every part of every pair."""
    folder, output = tmp_path_factory.mktemp("ran"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "ROWS", (hard_sharing,))
        pairs = {online.BASE: ("hard sharing",) * 2, "again": ("hard sharing",) * 2}
        patch.setattr(online, "PAIRS", pairs)
        places = ["--workdir", str(folder), "--data.cache", str(cache), "--seeds", "2"]
        places.append("--no-report")
        with contextlib.redirect_stdout(output):
            assert run.main(["lt4rec.online", *TINY.split(), *places]) == 0
    return folder, output.getvalue()


def test_the_command_writes_says_and_draws_what_it_found(ran):
    folder, text = ran
    found = json.loads((folder / "online.json").read_text())
    differs = [*found["chosen"].values()] != [1, 1, 1]
    assert len(found["weightings"]) == 1 + differs
    again = found["weightings"]["a = b = c = 1"]["pairs"]["again"]
    assert again["vs_base"]["difference"] == 0 and again["vs_base"]["p"] is None
    assert len(again["values"]) == 2
    assert (folder / "online.png").stat().st_size > 1000
    assert "+1.5 %" in text and "Bounds: random order" in text
    assert online_text.to_text(found) in text and "Tuning: none" in text
    online_figures.draw(found, folder / "again" / "online.png")
    assert (folder / "again" / "online.png").exists()


def test_a_log_without_a_known_truth_is_refused(cache, tmp_path, capsys):
    settings = ["--data.view.split", "random"]
    places = ["--workdir", str(tmp_path), "--data.cache", str(cache)]
    assert run.main(["lt4rec.online", *TINY.split(), *settings, *places]) == 1
    assert "leave both at their defaults" in capsys.readouterr().err
