"""Every row is tuned with the same budget on validation, and tables say so."""

import dataclasses
import itertools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_experiments import FEED, NET

from experiments import run, sources, status, tune
from experiments.ablation import Row
from experiments.config import Config
from experiments.lt4rec import base, base_cvr, s_weight
from experiments.running import (
    crew,
    stopping,
    study,
    ticket_cache,
    ticket_files,
)
from experiments.running.workdir import write_json
from experiments.tuning import training, tuned
from experiments.tuning.search_space import Dimension, SearchSpace, design, dimensions
from jaxmtl.data.store import Dataset
from jaxmtl.guard import NonFiniteLoss

TRAINING = "--training.batch-size 256 --training.epochs 2 --pruning.rounds 1"
TINY = f"{FEED} --data.feed.days 4 {NET} {TRAINING} --pruning.epochs 1".split()
ANCHORS = ("--data.feed.conflict 0.25", "--data.feed.conflict 0.75")
RATE = "optimiser.learning_rate"
DECAY = "optimiser.weight_decay"
DENSITY = "pruning.final_density"
SPACE = SearchSpace()


def trials_of(row, count, space=SPACE):
    config = row.configure(base.DEMO)
    return design(space, dimensions(space, row, base.DEMO, config), config, count)


def module(configure=lambda config: config, **attributes):
    """A row that is no file."""
    name = "experiments.lt4rec.made_up"
    names = {"__name__": name, "ROW": Row("made up"), "configure": configure}
    return SimpleNamespace(**names | attributes)


def with_rate(rate):
    def configure(config):
        optimiser = dataclasses.replace(config.optimiser, learning_rate=rate)
        return dataclasses.replace(config, optimiser=optimiser)

    return configure


# The space and the design.


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1e-4, 1.0), st.floats(1.5, 1e3), st.floats(0, 0.9), st.floats(0, 0.9999)
)
def test_a_value_lies_in_its_range_or_is_none(low, ratio, none, place):
    found = Dimension(low, low * ratio, none).at(place)
    if place < none:
        assert found == 0
    else:
        share = (place - none) / (1 - none)
        expected = np.exp((1 - share) * np.log(low) + share * np.log(low * ratio))
        assert found == pytest.approx(expected, rel=6e-3)  # three digits


def test_a_place_halfway_is_the_geometric_mean():
    assert Dimension(1e-3, 1e-1).at(0.5) == 0.01
    assert Dimension(1e-2, 1.0, none=0.25).at(0.625) == 0.1
    assert Dimension(1e-2, 1.0, none=0.25).at(0.24) == 0


def test_trial_0_is_what_the_row_starts_from():
    first, *_ = trials_of(s_weight, 4)
    assert first == {RATE: 3e-3, DECAY: 0.0, DENSITY: 0.2}


def test_every_row_has_the_same_trials_in_the_settings_they_share():
    dense, sparse = trials_of(base_cvr, 9), trials_of(s_weight, 9)
    assert set(dense[0]) == {RATE, DECAY} and set(sparse[0]) == {RATE, DECAY, DENSITY}
    fixed = module(with_rate(5e-3), SEARCH={"training.cvr_weight": Dimension(1, 10)})
    other = trials_of(fixed, 9)
    assert set(other[0]) == {DECAY, "training.cvr_weight"}
    for one, two, three in zip(dense, sparse, other, strict=True):
        assert one[RATE] == two[RATE]
        assert one[DECAY] == two[DECAY] == three[DECAY]


def test_the_trials_fall_once_into_each_stratum_of_a_setting():
    _, *points = trials_of(s_weight, 9)
    for name, (low, high) in {RATE: (1e-3, 1e-2), DENSITY: (0.05, 0.5)}.items():
        places = [np.log(p[name] / low) / np.log(high / low) * 8 for p in points]
        assert sorted(int(place) for place in places) == list(range(8))
    assert [p[DECAY] for p in points].count(0) == 2  # a quarter


def test_more_trials_extend_those_before():
    longer = trials_of(s_weight, 20)
    assert len(longer) == 20 and longer[:7] == trials_of(s_weight, 7)


def test_a_setting_that_a_row_itself_changes_is_its_point_and_stays():
    row = module(with_rate(2e-3))
    found = dimensions(SPACE, row, base.DEMO, row.configure(base.DEMO))
    assert list(found) == [DECAY]


def test_a_row_may_add_a_setting_or_keep_one_out():
    row = module(SEARCH={DECAY: None, "model.init_scale": Dimension(0.01, 0.1)})
    found = dimensions(SPACE, row, base.DEMO, base.DEMO)
    assert list(found) == [RATE, "model.init_scale"]
    one = module(SEARCH={RATE: None, DECAY: None})
    assert trials_of(one, 8) == [{}]  # there is nothing to try


@pytest.mark.parametrize("ends", [(0, 1), (1, 1), (2, 1), (-1, 1)])
def test_a_range_without_two_ends_above_0_is_refused(ends):
    with pytest.raises(ValueError, match=r"--search\.weight-decay is"):
        SearchSpace(weight_decay=ends).check()


def test_a_row_that_starts_outside_the_range_is_refused():
    with pytest.raises(ValueError, match="learning_rate starts at 0.003.*0.01 to 0.1"):
        trials_of(base_cvr, 4, SearchSpace(learning_rate=(1e-2, 1e-1)))


# Settings on top of a configuration.


def test_tuned_settings_replace_those_of_a_configuration_and_nothing_else():
    config = tuned.tuned_config(
        Config(), {RATE: 1, DENSITY: 0.3, "pruning.max_density": None}
    )
    assert config.optimiser.learning_rate == 1
    assert config.pruning.final_density == 0.3 and config.pruning.max_density is None
    restored = {RATE: 1e-4, DENSITY: 0.2, "pruning.max_density": 0.7}
    assert tuned.tuned_config(config, restored) == Config()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("optimiser.learnin_rate", 1.0, "did you mean 'learning_rate'"),
        ("optimizer.learning_rate", 1.0, "did you mean 'optimiser'"),
        ("optimiser.learning_rate.low", 1.0, "no setting is called"),
        ("optimiser", 1.0, "is a section"),
        (RATE, "fast", "must be of type float"),
        (RATE, True, "must be of type float"),
        (RATE, None, "must be of type float"),
        ("training.epochs", 2.5, "must be of type int"),
        ("training.schedule", "both", "'alternate', 'sum'"),
    ],
)
def test_a_setting_that_does_not_exist_or_fit_is_named(name, value, words):
    with pytest.raises(ValueError) as caught:
        tuned.tuned_config(Config(), {name: value})
    assert name in str(caught.value) and words in str(caught.value)


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

    def regret(config, data, seed, name, workdir, monitor):
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
    assert command(*fast)[0] == 0
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

    def regret(config, data, seed, name, workdir, monitor):
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


# The file in a run.


def write_tuned(path, rows, **changes):
    content = {
        "budget": {"trials": 3, "seeds": [1000], "anchors": list(ANCHORS)},
        "space": {RATE: {}, DECAY: {}},
        "rows": {name: {"settings": chosen} for name, chosen in rows.items()},
    }
    path.write_text(json.dumps(content | changes))
    return path


@pytest.fixture
def run_tuned(cache, tmp_path, capsys, monkeypatch):
    """run_tuned(name, file, *settings) -> exit code, the context, errors."""

    def call(name, path, *arguments):
        found = []
        monkeypatch.setattr(run.tables, "write", lambda c: found.append(c) or "")
        capsys.readouterr()
        made = ("--data.cache", str(cache), "--workdir", str(tmp_path / "run"))
        settings = ("--tuned", str(path), "--no-report", *TINY, *made, *arguments)
        code = run.main([name, *settings])
        return code, found and found[0], capsys.readouterr().err

    return call


def test_a_run_gives_its_row_the_tuned_settings_and_says_so(run_tuned, tmp_path):
    chosen = {RATE: 7e-3, DENSITY: 0.3}
    path = write_tuned(tmp_path / "tuned.json", {"lt4rec.s_neuron": chosen})
    # Over the command line's, which comes over the preset's.
    code, context, errors = run_tuned("lt4rec.s_neuron", path, "--seeds", "1")
    config = context.rows[0].config
    assert code == 0 and config.optimiser.learning_rate == 7e-3
    assert (config.pruning.unit, config.pruning.final_density) == ("neuron", 0.3)
    assert config.optimiser.weight_decay == 0 and config.model.hidden == (16, 8)
    assert "lt4rec.s_neuron: tuned, optimiser.learning_rate 0.007" in errors
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    settings = kept["rows"]["lt4rec.s_neuron"]
    assert settings["optimiser"]["learning_rate"] == 7e-3
    assert context.tuned["rows"] == {"lt4rec.s_neuron": chosen}
    assert context.tuned["budget"]["trials"] == 3


def test_a_tuned_setting_has_the_last_word(run_tuned, tmp_path):
    path = write_tuned(tmp_path / "tuned.json", {"lt4rec.base_cvr": {RATE: 7e-3}})
    settings = ("--optimiser.learning-rate", "0.1")
    _, context, _ = run_tuned("lt4rec.base_cvr", path, *settings)
    assert context.rows[0].config.optimiser.learning_rate == 7e-3
    changed = run.configure_row(
        None, module(with_rate(0.1)), base.DEMO, None, {RATE: 1}
    )
    assert changed.config.optimiser.learning_rate == 1


def test_a_row_is_fitted_to_the_log_with_its_tuned_settings():
    seen = []
    row = module(resize=lambda config, schema: seen.append(config) or config)
    run.configure_row(None, row, base.DEMO, None, {RATE: 7e-3})
    assert [config.optimiser.learning_rate for config in seen] == [7e-3]


def test_a_row_without_tuned_settings_is_trained_as_it_stands_and_named(
    run_tuned, tmp_path
):
    path = write_tuned(tmp_path / "tuned.json", {"lt4rec.s_weight": {RATE: 7e-3}})
    code, context, errors = run_tuned("lt4rec.base_cvr", path)
    assert code == 0 and context.rows[0].config.optimiser.learning_rate == 3e-3
    assert f"lt4rec.base_cvr: no tuned settings in {path}" in errors
    assert context.tuned["rows"] == {"lt4rec.base_cvr": None}
    note = tuned.note(context.tuned)
    assert "0 of 1 rows" in note and "Not tuned: lt4rec.base_cvr" in note


def test_a_control_has_the_settings_of_the_row_it_is_a_control_of():
    own, theirs = {RATE: 7e-3}, {RATE: 2e-3}
    rows = {"lt4rec.s_weight": own, "lt4rec.shuffled_masks": theirs}
    chosen = tuned.Tuned("tuned.json", rows, {"trials": 3})
    pairs = {"lt4rec.shuffled_masks": "lt4rec.s_weight", "lt4rec.esmm": "lt4rec.ple"}
    lent = tuned.lend(chosen, pairs)
    assert lent.settings("lt4rec.shuffled_masks") == own
    assert lent.settings("lt4rec.esmm") == {}  # its owner was not tuned
    assert chosen.settings("lt4rec.shuffled_masks") == theirs


def test_a_study_of_controls_lends_them_their_row_s_settings(run_tuned, tmp_path):
    chosen = {"lt4rec.s_weight": {RATE: 7e-3, DENSITY: 0.3}, "lt4rec.base_cvr": {}}
    path = write_tuned(tmp_path / "tuned.json", chosen)
    code, context, errors = run_tuned("lt4rec.controls", path, "--seeds", "1")
    rows = {row.module: row.config for row in context.rows}
    assert rows["lt4rec.swapped_tickets"].optimiser.learning_rate == 7e-3
    assert rows["lt4rec.swapped_tickets"].pruning.final_density == 0.3
    assert rows["lt4rec.hard_sharing"].optimiser.learning_rate == 3e-3
    assert "lt4rec.swapped_tickets: tuned as lt4rec.s_weight" in errors
    note = tuned.note(context.tuned)
    assert "settings of lt4rec.s_weight" in note and "swapped_tickets" in note
    assert "Not tuned: lt4rec.base_ctr, lt4rec.hard_sharing," in note


def test_seeds_of_the_tuning_are_not_to_be_reported(run_tuned, tmp_path):
    budget = {"trials": 3, "seeds": [1, 2], "anchors": [""]}
    rows = {"lt4rec.base_cvr": {RATE: 7e-3}}
    path = write_tuned(tmp_path / "tuned.json", rows, budget=budget)
    code, _, errors = run_tuned("lt4rec.base_cvr", path, "--seeds", "2")
    assert code == 1 and "chosen on seeds [1]" in errors
    assert run_tuned("lt4rec.base_cvr", path, "--seeds", "1")[0] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("{", "tuned.json"),
        ("[]", "not a file of experiments.tune"),
        ('{"rows": {}}', "not a file of experiments.tune"),
        ({"lt4rec.s_wieght": {RATE: 1e-3}}, "did you mean 'lt4rec.s_weight'"),
        ({"lt4rec.s_weight": {"optimiser.rate": 1}}, "'optimiser.rate'"),
        ({"lt4rec.s_weight": {RATE: "fast"}}, "must be of type float"),
        ({"lt4rec.s_weight": {RATE: [1e-3]}}, "must be of type float"),
    ],
)
def test_a_bad_file_of_settings_is_named(content, words, run_tuned, tmp_path):
    path = tmp_path / "tuned.json"
    if isinstance(content, dict):
        write_tuned(path, content)
    elif content is not None:
        path.write_text(content)
    code, _, errors = run_tuned("lt4rec.base_cvr", path)
    assert code == 1 and not (tmp_path / "run").exists()
    assert str(path) in errors and words in errors


def test_an_untuned_table_says_that_it_is():
    assert tuned.record(tuned.NOTHING, []) is None
    assert tuned.note(None).startswith("Tuning: none")


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
    train = study.train

    def watched(*arguments, **named):
        fits.append(train(*arguments, **named))
        return fits[-1]

    monkeypatch.setattr(study, "train", watched)
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
