"""Tuned settings in a run: they have the last word, and tables say whose they are."""

import importlib
import json

import pytest
from test_search_space import DECAY, DENSITY, RATE, module, with_rate
from test_tune import ANCHORS, TINY

from experiments import run
from experiments.analysis import experiment
from experiments.lt4rec import base
from experiments.settings.config import Config
from experiments.tuning import tuned


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
        monkeypatch.setattr(experiment.tables, "write", lambda c: found.append(c) or "")
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
    changed = experiment.configure_row(
        None, module(with_rate(0.1)), base.DEMO, None, {RATE: 1}
    )
    assert changed.config.optimiser.learning_rate == 1


def test_a_row_is_fitted_to_the_log_with_its_tuned_settings():
    seen = []
    row = module(resize=lambda config, schema: seen.append(config) or config)
    experiment.configure_row(None, row, base.DEMO, None, {RATE: 7e-3})
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


@pytest.mark.parametrize(
    "name", ["controls", "conflict", "choices", "cross", "tickets"]
)
def test_rows_borrow_from_rows_that_are_tuned(name):
    paper = "lt4rec" if name in ("controls", "conflict") else "dcrnn"
    study = importlib.import_module(f"experiments.{paper}.{name}")
    assert set(study.TUNED_AS) < set(study.ROWS)
    assert not set(study.TUNED_AS) & set(study.TUNED_AS.values())


def test_seeds_of_the_tuning_are_not_to_be_reported(run_tuned, tmp_path):
    budget = {"trials": 3, "seeds": [1, 2], "anchors": [""]}
    rows = {"lt4rec.base_cvr": {RATE: 7e-3}}
    path = write_tuned(tmp_path / "tuned.json", rows, budget=budget)
    code, _, errors = run_tuned("lt4rec.base_cvr", path, "--seeds", "2")
    assert code == 1 and "chosen on seeds [1]" in errors
    assert run_tuned("lt4rec.base_cvr", path, "--seeds", "1")[0] == 0


BUDGET = (
    '{"budget": {"trials": 1, "seeds": [1000], "anchors": [""]}, "space": {"a": {}}'
)
LATE = '"rows": {"lt4rec.base_cvr": {"settings": {}, "last_day": "late"}}}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("{", "tuned.json"),
        ("[]", "not a file of experiments.tune"),
        ('{"rows": {}}', "not a file of experiments.tune"),
        (f"{BUDGET}, {LATE}", "not a file of experiments.tune"),
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


@pytest.mark.parametrize(("last", "is_told"), [(2, True), (None, False)])
def test_a_table_tells_the_last_day_that_the_choice_has_seen(
    last, is_told, run_tuned, tmp_path
):
    path = write_tuned(tmp_path / "tuned.json", {"lt4rec.base_cvr": {RATE: 7e-3}})
    content = json.loads(path.read_text())
    content["rows"]["lt4rec.base_cvr"]["last_day"] = last
    path.write_text(json.dumps(content))
    _, context, _ = run_tuned("lt4rec.base_cvr", path)
    assert context.tuned["last_day"] == {"lt4rec.base_cvr": last}
    assert ("no day of the log after day 2" in tuned.note(context.tuned)) == is_told


def test_an_untuned_table_says_that_it_is():
    assert tuned.record(tuned.NOTHING, []) is None
    assert tuned.note(None).startswith("Tuning: none")
