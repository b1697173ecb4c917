"""Every row is tuned with the same budget on validation, and the test is not read."""

import itertools
import json
import shutil

import numpy as np
import pytest
from test_search_space import DECAY, RATE
from tiny import FEED, NET

from experiments import run, status, tune
from experiments.analysis import experiment
from experiments.lt4rec import daily
from experiments.running import crew, joint, stopping, ticket_cache, ticket_files
from experiments.running.workdir import write_json
from experiments.settings import sources
from experiments.tuning import training, tuned
from jaxmtl.data.store import Dataset
from jaxmtl.training.guard import NonFiniteLoss
from jaxmtl.training.resume import Folder

pytestmark = pytest.mark.end_to_end

TRAINING = "--training.batch-size 256 --training.epochs 2 --pruning.rounds 1"
TINY = f"{FEED} --data.feed.days 4 {NET} {TRAINING} --pruning.epochs 1".split()
ANCHORS = ("--data.feed.conflict 0.25", "--data.feed.conflict 0.75")


# The tuner, its trainings replaced by a formula.


@pytest.fixture
def command(cache, tmp_path, capsys):
    """command(*arguments) tunes at a tiny size: exit code, its output, its errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        names = list(itertools.takewhile(lambda x: x[:2] != "--", arguments))
        made = ("--data.cache", str(cache), "--workdir", str(tmp_path / "tune"))
        made += ("--together", "in_turn")
        capsys.readouterr()
        code = tune.main([*names, *TINY, *made, *arguments[len(names) :]])
        return code, *capsys.readouterr()

    return call


def result_of(tmp_path):
    """What was written, without the times."""
    content = json.loads((tmp_path / "tune" / "tuned.json").read_text())
    del content["budget"]["seconds"]
    for row in content["rows"].values():
        del row["seconds"]
        for trial in row["trials"]:
            del trial["seconds"]
            trial["searches"] = list(trial["searches"])
    return content


def formula(config, seed):
    """A regret that depends on all that it may; no trial of the design is its best."""
    rate, decay = config.optimiser.learning_rate, config.optimiser.weight_decay
    world = config.data.feed.conflict
    return abs(np.log(rate / 2e-3)) * world + decay + 0.1 * (seed % 7)


@pytest.fixture
def trained(monkeypatch):
    """Every training asked for: row and trial, learning rate, conflict, seed.

    Ticket searches are found at once.
    """
    calls = []

    def regret(config, data, seed, name, workdir, monitor, clock):
        rate, conflict = config.optimiser.learning_rate, config.data.feed.conflict
        calls.append((name.partition("/anchor")[0], rate, conflict, seed))
        return formula(config, seed)

    def search(workdir, config, data, task, seed, monitor):
        folder = ticket_cache.folder(workdir, config, data, task, seed)
        write_json(folder / ticket_files.DONE, {"seconds": 2.0})

    monkeypatch.setattr(ticket_cache, "get", search)
    monkeypatch.setattr(training, "_regret", regret)
    return calls


NAMES = ("lt4rec.base_cvr", "lt4rec.s_weight")
THREE = (*NAMES, "--trials", "3", "--anchors", *ANCHORS)


def test_the_chosen_settings_are_the_argmin_of_the_mean_over_anchors_and_seeds(
    command, trained, tmp_path
):
    code, printed, errors = command(*THREE, "--seeds", "2")
    assert code == 0, errors
    content = result_of(tmp_path)
    assert set(content["rows"]) == set(NAMES)
    for name, row in content["rows"].items():
        means = []
        for trial in row["trials"]:
            rate, decay = trial["settings"][RATE], trial["settings"][DECAY]
            parts = [
                [
                    abs(np.log(rate / 2e-3)) * world + decay + 0.1 * (seed % 7)
                    for seed in (1000, 1001)
                ]
                for world in (0.25, 0.75)
            ]
            np.testing.assert_allclose(list(trial["regrets"].values()), parts)
            means.append(np.mean(parts))
            assert trial["objective"] == pytest.approx(means[-1])
        best = int(np.argmin(means))
        assert row["trial"] == best
        assert row["settings"] == row["trials"][best]["settings"]
        assert row["objective"] == min(trial["objective"] for trial in row["trials"])
        assert name in printed and f"{row['objective']:.4f}" in printed


def test_what_was_tried_and_its_budget_are_written_down(command, trained, tmp_path):
    command(*THREE)
    content = result_of(tmp_path)
    assert content["budget"] == {
        "trials": 3,
        "seeds": [1000],
        "anchors": list(ANCHORS),
        "together": "in_turn",
    }
    assert content["space"][RATE] == {"low": 1e-3, "high": 1e-2, "none": 0.0}
    assert content["command"].startswith("python -m experiments.tune lt4rec.base_cvr")
    assert {"python", "jax", "optuna"} <= set(content["environment"])
    assert list(content["rows"]["lt4rec.base_cvr"]["searched"]) == [RATE, DECAY]


def test_every_row_is_given_the_same_trainings(command, trained):
    command(*THREE, "--seeds", "2")
    by_row = {
        name: [(trial.removeprefix(f"{name}/"), *rest) for trial, *rest in trained]
        for name in NAMES
    }
    for name in NAMES:
        by_row[name] = [part for part in by_row[name] if part[0].startswith("trial")]
    assert by_row[NAMES[0]] == by_row[NAMES[1]]
    assert len(by_row[NAMES[0]]) == 3 * 2 * 2
    assert {seed for *_, seed in trained} == {1000, 1001}


def test_a_tuning_that_is_killed_goes_on_and_ends_alike(
    command, trained, tmp_path, monkeypatch
):
    whole = command(*THREE)
    expected, calls = result_of(tmp_path), list(trained)
    (tmp_path / "tune").rename(tmp_path / "whole")
    trained.clear()
    regret = training._regret

    def killed(*arguments):
        if len(trained) == 5:  # in the middle of a trial
            raise KeyboardInterrupt
        return regret(*arguments)

    monkeypatch.setattr(training, "_regret", killed)
    code, _, errors = command(*THREE)
    assert code == 130 and "goes on from here" in errors
    assert not (tmp_path / "tune" / "tuned.json").exists()
    text = status.to_text(status.read(tmp_path / "tune"), now=0)
    assert text.startswith("tuning: 6 ticket searches kept")
    assert "trainings done" in text
    monkeypatch.setattr(training, "_regret", regret)
    assert command(*THREE)[:2] == whole[:2]
    assert result_of(tmp_path) == expected
    assert sorted(trained) == sorted(calls)  # what was finished is not made again


def test_a_finished_tuning_trains_nothing_and_more_trials_only_the_new(
    command, trained, tmp_path
):
    command(*THREE)
    before, first = result_of(tmp_path), len(trained)
    command(*THREE)
    assert len(trained) == first and result_of(tmp_path) == before
    more = [*NAMES, "--trials", "5", "--anchors", *ANCHORS]
    assert command(*more)[0] == 0
    assert {name.rsplit("/", 1)[1] for name, *_ in trained[first:]} == {
        "trial3",
        "trial4",
    }
    for name, row in result_of(tmp_path)["rows"].items():
        assert row["trials"][:3] == before["rows"][name]["trials"]


def test_another_space_or_other_seeds_in_the_same_directory_are_refused(
    command, trained
):
    command(*THREE)
    code, _, errors = command(*THREE, "--seeds", "2")
    assert code == 1 and "seeds" in errors and "--workdir" in errors
    code, _, errors = command(*THREE, "--search.weight-decay", "0.1", "1")
    assert code == 1 and "weight_decay" in errors
    # An anchor's place names what is kept of it.
    turned = (*NAMES, "--trials", "3", "--anchors", *reversed(ANCHORS))
    code, _, errors = command(*turned)
    assert code == 1 and "anchors" in errors
    code, _, errors = command(*THREE, "--on-nonfinite", "skip")
    assert code == 1 and "on_nonfinite" in errors


def test_settings_under_which_training_diverges_are_kept_and_not_chosen(
    command, trained, tmp_path, monkeypatch
):
    regret = training._regret

    def diverging(config, *rest):
        if config.optimiser.learning_rate != 3e-3:
            raise NonFiniteLoss("the loss of task 'watch' became nan at step 3")
        return regret(config, *rest)

    monkeypatch.setattr(training, "_regret", diverging)
    code, printed, _ = command("lt4rec.base_cvr", "--trials", "3")
    row = result_of(tmp_path)["rows"]["lt4rec.base_cvr"]
    assert code == 0 and row["trial"] == 0
    assert [trial["objective"] for trial in row["trials"][1:]] == [None, None]
    assert "at step 3" in row["trials"][1]["error"]


def test_a_ticket_search_that_diverges_is_no_trial_s_choice_nor_repeated(
    command, trained, tmp_path, monkeypatch
):
    get, searched = ticket_cache.get, []

    def diverging(workdir, config, *rest):
        searched.append(config.optimiser.learning_rate)
        if config.optimiser.learning_rate != 3e-3:
            raise NonFiniteLoss("the loss of task 'watch' became nan at step 3")
        return get(workdir, config, *rest)

    monkeypatch.setattr(ticket_cache, "get", diverging)
    two = ("lt4rec.ticket_cvr", "--trials", "2")
    code, printed, errors = command(*two)
    assert code == 0, errors
    # Two rounds and a training; what diverged is no more expected.
    assert status.read(tmp_path / "tune").plan["trainings"] == 3
    row = result_of(tmp_path)["rows"]["lt4rec.ticket_cvr"]
    assert row["trial"] == 0 and row["trials"][1]["objective"] is None
    assert "at step 3" in row["trials"][1]["error"] and len(trained) == 1
    shutil.rmtree(tmp_path / "tune" / "trials")
    (tmp_path / "tune" / "optuna.journal").unlink()
    searched.clear()
    assert command(*two)[1] == printed and searched == []


def test_trials_of_a_row_fit_one_program(cache, command, trained, monkeypatch):
    groups, together = [], crew.Crew._together

    def watched(self, work, jobs, data):
        groups.append([job.what for job in jobs])
        together(self, work, jobs, data)

    monkeypatch.setattr(crew.Crew, "_together", watched)
    code, _, errors = command(*THREE, "--together", "program")
    assert code == 0, errors
    # At each anchor one search a task, and one training a row, for all three trials.
    assert [len(group) for group in groups] == [3, 3, 3, 3] * 2
    densities = {config.pruning.final_density for config, _ in groups[0]}
    assert len(densities) == 3


DAILY = ("lt4rec.daily", "--trials", "2", "--data.feed.days", "6")


def test_the_daily_study_is_tuned_on_the_days_before_it_judges(
    command, trained, tmp_path, monkeypatch
):
    seen, days = training._regret, set()

    def regret(config, data, *rest):
        assert set(data.splits) == {"train", "validation"}
        for rows in data.splits.values():
            days.update(rows.extras["day"])
        return seen(config, data, *rest)

    monkeypatch.setattr(training, "_regret", regret)
    assert command(*DAILY)[0] == 0
    assert days == set(range(daily.FIRST))
    chosen = tuned.read(tmp_path / "tune" / "tuned.json")
    names = {experiment.short_name(row) for row in daily.ROWS}
    assert chosen.last_day == dict.fromkeys(names, daily.FIRST - 1)


def test_what_else_is_tuned_tells_the_last_day_that_it_has_seen(
    command, trained, tmp_path
):
    assert command("lt4rec.base_ctr", "--trials", "1")[0] == 0
    chosen = tuned.read(tmp_path / "tune" / "tuned.json")
    assert chosen.last_day == {"lt4rec.base_ctr": 2}  # of four the last is the test
    lent = tuned.lend(chosen, {"lt4rec.s_weight": "lt4rec.base_ctr"})
    assert lent.last_day["lt4rec.s_weight"] == 2


def test_a_row_is_not_tuned_on_two_parts_of_a_log_at_once(command, trained):
    code, _, errors = command("lt4rec.base_ctr", *DAILY)
    assert code == 1 and "tuned on another part of the log" in errors
    assert not trained


def test_a_row_that_always_diverges_is_named(command, trained, monkeypatch):
    def diverging(*arguments):
        raise NonFiniteLoss("the loss became nan at step 3")

    monkeypatch.setattr(training, "_regret", diverging)
    code, _, errors = command("lt4rec.base_cvr", "--trials", "2")
    assert code == 1
    assert "lt4rec.base_cvr: all trials diverged" in errors and "step 3" in errors


def test_a_row_that_always_diverges_leaves_the_others_their_settings(
    command, trained, tmp_path, monkeypatch
):
    regret = training._regret

    def diverging(config, data, seed, name, *rest):
        if name.startswith("lt4rec.base_cvr"):
            raise NonFiniteLoss("the loss became nan at step 3")
        return regret(config, data, seed, name, *rest)

    monkeypatch.setattr(training, "_regret", diverging)
    code, _, errors = command("lt4rec.base_cvr", "lt4rec.base_ctr", "--trials", "2")
    assert code == 1 and "lt4rec.base_cvr: all trials diverged" in errors
    content = result_of(tmp_path)
    assert set(content["rows"]) == {"lt4rec.base_ctr"}
    assert "step 3" in content["failed"]["lt4rec.base_cvr"]
    chosen = tuned.read(tmp_path / "tune" / "tuned.json")
    assert set(chosen.rows) == {"lt4rec.base_ctr"}


def test_a_tuning_stopped_in_the_middle_of_a_training_goes_on_in_it(
    command, tmp_path, monkeypatch
):
    fast = ("lt4rec.base_ctr", "--trials", "1", "--checkpoint.steps", "2")
    assert command(*fast)[0] == 0
    (tmp_path / "tune").rename(tmp_path / "whole")
    asked = []

    def requested():
        asked.append(None)
        return len(asked) > 3

    monkeypatch.setattr(stopping, "requested", requested)
    code, _, errors = command(*fast)
    assert code == stopping.EXIT_CODE and "goes on from here" in errors
    assert list(tmp_path.glob("tune/trials/*/*/anchor0/seed1000/*"))
    monkeypatch.undo()
    unpack = Folder._unpack

    def an_hour_later(self, *given):
        found = unpack(self, *given)
        self._started -= 3600
        return found

    monkeypatch.setattr(Folder, "_unpack", an_hour_later)
    assert command(*fast)[0] == 0
    monkeypatch.undo()
    (kept,) = tmp_path.glob("tune/trials/*/*/anchor0/seed1000.json")
    assert json.loads(kept.read_text())["seconds"] > 3600  # of all attempts together
    assert not list(tmp_path.glob("tune/trials/*/*/anchor0/seed1000"))
    found, expected = (
        json.loads((tmp_path / name / "tuned.json").read_text())["rows"]
        for name in ("tune", "whole")
    )
    name = "lt4rec.base_ctr"
    assert found[name]["objective"] == expected[name]["objective"]


def test_a_damaged_journal_is_named(command, trained, tmp_path):
    command("lt4rec.base_cvr", "--trials", "2")
    journal = tmp_path / "tune" / "optuna.journal"
    journal.write_text(journal.read_text().replace("{", "", 1))
    code, _, errors = command("lt4rec.base_cvr", "--trials", "2")
    assert code == 1 and "optuna.journal" in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lt4rec.base_cvr", "--trials", "0"], "--trials is 0"),
        (["lt4rec.base_cvr", "--seeds", "0"], "--seeds is 0"),
        (["lt4rec.tabel2"], "did you mean lt4rec.table2"),
        (["lt4rec.table1"], "no row there to tune"),
        (["lt4rec.s_weight", "--pruning.max-density", "0.3"], "--pruning.max-density"),
        (["lt4rec.s_weight", "--anchors", "--training.epochs 0"], "--training.epochs"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_any_training(
    arguments, words, command, trained, tmp_path
):
    code, _, errors = command(*arguments)
    assert code == 1 and words in errors.splitlines()[-1]
    assert not trained and not (tmp_path / "tune").exists()


def test_rows_of_two_papers_are_tuned_each_on_its_own_log(command, monkeypatch):
    seen = {}

    def regret(config, data, seed, name, workdir, monitor, clock):
        seen[name.split("/")[0]] = (config.data, data.fingerprint)
        return formula(config, seed)

    monkeypatch.setattr(training, "_regret", regret)
    names = ("lt4rec.base_cvr", "dcrnn.gru")
    assert command(*names, "--trials", "1")[0] == 0
    assert set(seen) == set(names)
    for config, fingerprint in seen.values():
        assert sources.load(config, say=lambda text: None).fingerprint == fingerprint
    assert len({fingerprint for _, fingerprint in seen.values()}) == 2


def test_a_row_of_two_studies_is_tuned_once(command, trained):
    command("lt4rec.figure4", "lt4rec.s_weight", "--trials", "1")
    assert [name for name, *_ in trained] == ["lt4rec.s_weight/trial0"]


# From the first trial to the table, trained for real.


@pytest.fixture
def without_test(monkeypatch):
    """Logs without a test split: to read it is a KeyError."""
    load = sources.load

    def train_and_validation(*arguments, **names):
        data = load(*arguments, **names)
        splits = {name: rows for name, rows in data.splits.items() if name != "test"}
        return Dataset(data.schema, splits, data.counts, data.notes, data.fingerprint)

    monkeypatch.setattr(sources, "load", train_and_validation)
    yield
    monkeypatch.setattr(sources, "load", load)


def test_tuning_in_one_program_chooses_alike(command, tmp_path):
    arguments = ("lt4rec.ticket_cvr", "--trials", "2", "--training.epochs", "1")
    assert command(*arguments)[0] == 0
    (tmp_path / "tune").rename(tmp_path / "in_turn")
    code, _, errors = command(*arguments, "--together", "program")
    assert code == 0, errors
    found, expected = (
        json.loads((tmp_path / name / "tuned.json").read_text())["rows"]
        for name in ("tune", "in_turn")
    )
    for name, row in found.items():
        for one, other in zip(row["trials"], expected[name]["trials"], strict=True):
            assert one["searches"].keys() == other["searches"].keys()
            assert one["regrets"][""] == pytest.approx(other["regrets"][""], rel=1e-4)


def test_tuning_reads_no_test_split_and_its_settings_reach_the_table(
    command, cache, tmp_path, without_test, monkeypatch, capsys
):
    name, fits = "lt4rec.ticket_cvr", []
    train = joint.train

    def watched(*arguments, **named):
        fits.append(train(*arguments, **named))
        return fits[-1]

    monkeypatch.setattr(joint, "train", watched)
    rates = "--optimiser.learning-rate 0.03 --search.learning-rate 1e-2 1e-1"
    fast = f"{rates} --training.epochs 8 --training.patience 1".split()
    code, _, errors = command(name, "--trials", "2", "--anchors", *ANCHORS, *fast)
    assert code == 0, errors
    assert any(fit.best_epoch < len(fit.history) for fit in fits)
    row = result_of(tmp_path)["rows"][name]
    found = [t["regrets"][anchor][0] for anchor in ANCHORS for t in row["trials"]]
    # The objective is the regret of the best epoch, which is the one served.
    assert found == [min(record.regret for record in fit.history) for fit in fits]
    lines = [json.loads(line) for line in (tmp_path / "tune/metrics.jsonl").open()]
    assert {line["seed"] for line in lines} == {1000}
    monkeypatch.undo()

    folder, path = tmp_path / "run", tmp_path / "tune" / "tuned.json"
    made = ("--data.cache", str(cache), "--workdir", str(folder))
    settings = ("--seeds", "1", "--no-report", "--tuned", str(path))
    assert run.main([name, *TINY, *made, *settings]) == 0
    table = json.loads((folder / "table.json").read_text())
    assert table["tuned"]["rows"] == {name: row["settings"]}
    assert table["tuned"]["budget"]["trials"] == 2
    assert table["seeds"] == [0]
    text = (folder / "table.md").read_text()
    assert "Tuning: 1 of 1 rows, each with 2 trials" in text and "seeds 1000" in text
    assert all(anchor in text for anchor in ANCHORS)
