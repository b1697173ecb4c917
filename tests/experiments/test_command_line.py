"""The one command as a user meets it: what it lists, refuses and promises."""

import gzip
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sample_log import START, make_impression, write
from tiny import TINY

import experiments.lt4rec
from experiments import run
from experiments.analysis import tables
from experiments.running import joint, ticket_cache
from experiments.running.workdir import read_arrays, write_arrays
from experiments.settings import listing

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def command(cache, tmp_path, capsys):
    """command(name, *settings) -> exit code, what it printed, its errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        data = ("--data.cache", str(cache), "--workdir", str(tmp_path / "run"))
        capsys.readouterr()
        code = run.main([arguments[0], *TINY, *data, *arguments[1:]])
        return code, *capsys.readouterr()

    return call


def error_line(errors: str) -> str:
    """The one line of an error; preparing the log may have said its counts before."""
    lines = [line for line in errors.splitlines() if not line.startswith("prepared ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), errors
    return lines[0]


def no_training(*args, **kwargs):
    raise AssertionError("nothing should have been trained")


@pytest.fixture
def forbid_training(monkeypatch):
    monkeypatch.setattr(joint, "fit", no_training)
    monkeypatch.setattr(ticket_cache, "fit", no_training)


def test_the_list_has_one_line_for_everything_there_is(capsys):
    assert run.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(listing.names())
    assert all(len(line.split(maxsplit=1)[1]) > 10 for line in lines)


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0)])
def test_without_a_name_the_command_says_how_it_is_used(arguments, code, capsys):
    assert run.main(arguments) == code
    assert "python -m experiments.run" in capsys.readouterr().out


def test_help_shows_the_settings_of_an_experiment(capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(["lt4rec.s_weight", "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    for words in ("--pruning.final-density", "--seeds", "--preset paper"):
        assert words in text


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("lt4rec.tabel2", "lt4rec.table2"), ("s_wieght", "lt4rec.s_weight"), ("7", "")],
)
def test_an_unknown_experiment_is_answered_with_the_nearest(name, nearest, capsys):
    assert run.main([name]) == 1
    line = error_line(capsys.readouterr().err)
    assert repr(name) in line and nearest in line and "--list" in line


def test_an_unknown_option_is_answered_with_the_nearest(command, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        command("lt4rec.s_weight", "--pruning.final-densty", "0.1")
    assert stopped.value.code not in (0, None)
    assert "--pruning.final-density" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("--seeds 0", ["--seeds is 0", "1 or more"]),
        (
            "--training.batch-size 1501",
            ["--training.batch-size is 1501", "1500 training rows"],
        ),
        ("--training.epochs 0", ["--training.epochs is 0", "above 0"]),
        (
            "--optimiser.weight-decay -1",
            ["--optimiser.weight-decay is -1", "0 or more"],
        ),
        ("--pruning.final-density 0", ["--pruning.final-density is 0", "(0, 1]"]),
        ("--pruning.final-density 1.5", ["--pruning.final-density is 1.5", "(0, 1]"]),
        ("--pruning.max-density -1", ["--pruning.max-density is -1", "(0, 1]"]),
        ("--pruning.final-density 0.8", ["0.8", "--pruning.max-density 0.7"]),
        ("--data.name lt4rec_sample", ["--data.path", "part-r-00002.gz"]),
        (
            "--data.name lt4rec_sample --data.path /no/such",
            ["/no/such", "no such file"],
        ),
        ("--data.name complete_journey --data.path /no/such", ["/no/such"]),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_before_anything_is_made(
    settings, words, command, tmp_path, forbid_training
):
    code, _, errors = command("lt4rec.s_weight", *settings.split())
    line = error_line(errors)
    assert code == 1 and all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_a_feed_out_of_its_range_is_refused(command, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        command("lt4rec.table1", "--data.feed.conflict", "2")
    assert stopped.value.code not in (0, None)
    assert "conflict=2.0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path: Path) -> None:
    records = bytearray(gzip.decompress(path.read_bytes()))
    records[100] ^= 1
    path.write_bytes(gzip.compress(records))


@pytest.mark.parametrize(
    ("damage", "changes", "words"),
    [
        (truncate, {}, "record"),
        (flip_a_bit, {}, "record 0: wrong checksum"),
        (None, {"cvrlabel": [1.5]}, "record 5: cvrlabel is 1.5"),
        (None, {"label": [2]}, "record 5: label is 2"),
        (None, {"FEA_UID": []}, "record 5: FEA_UID"),
    ],
)
def test_a_damaged_log_is_refused_by_file_and_record(
    damage, changes, words, command, tmp_path, forbid_training
):
    path = tmp_path / "part-0.gz"
    good = [make_impression(START + second) for second in range(5)]
    write(path, [*good, make_impression(START + 9, **changes)])
    if damage is not None:
        damage(path)
    sample = ("--data.name", "lt4rec_sample", "--data.path", str(path))
    code, _, errors = command("lt4rec.base_cvr", *sample)
    line = error_line(errors)
    assert code == 1 and str(path) in line and words in line, line
    assert not (tmp_path / "run").exists()


def test_a_work_directory_keeps_to_one_configuration_whatever_the_seeds(
    command, tmp_path, forbid_training
):
    assert command("lt4rec.table1")[0] == 0
    assert command("lt4rec.table1", "--seeds", "7")[0] == 0
    held = (tmp_path / "run" / "config.json").read_bytes()
    code, _, errors = command("lt4rec.table1", "--data.feed.users", "61")
    line = error_line(errors)
    assert code == 1 and "data.feed.users is 60 there and 61 here" in line
    code, _, errors = command("lt4rec.base_ctr")
    line = error_line(errors)
    assert code == 1 and "'lt4rec.table1' there and 'lt4rec.base_ctr' here" in line
    assert (tmp_path / "run" / "config.json").read_bytes() == held


def test_a_damaged_configuration_is_named(command, tmp_path, forbid_training):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    code, _, errors = command("lt4rec.table1")
    assert code == 1 and "config.json" in error_line(errors)


@pytest.mark.parametrize("keep", [0, 10, -30, "no archive"])
def test_a_damaged_part_of_a_run_is_named_with_what_to_move(keep, tmp_path):
    path = tmp_path / "part" / "arrays.npz"
    write_arrays(path, {"a": np.arange(1000), "b": np.zeros(3)})
    whole = path.read_bytes()
    path.write_bytes(keep.encode() if isinstance(keep, str) else whole[:keep])
    with pytest.raises(ValueError, match=f"{path}: .+; move {path.parent} away"):
        read_arrays(path)


def test_a_flipped_bit_in_a_run_is_noticed(tmp_path):
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"a": np.arange(1000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="arrays.npz"):
        read_arrays(path)


def test_a_work_directory_that_is_a_file_is_refused(command, tmp_path):
    (tmp_path / "run").write_text("mine")
    code, _, errors = command("lt4rec.table1")
    assert code == 1 and "it is a file" in error_line(errors)
    assert (tmp_path / "run").read_text() == "mine"
    code, _, errors = command("lt4rec.table1", "--workdir", str(tmp_path / "run/below"))
    assert code == 1 and "--workdir" in error_line(errors)


def test_a_work_directory_that_cannot_be_written_is_refused(command, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    if os.access(tmp_path / "run", os.W_OK):
        pytest.skip("this user may write anywhere")
    code, _, errors = command("lt4rec.table1")
    assert code == 1 and "cannot be written" in error_line(errors)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(command, tmp_path):
    settings = ("--optimiser.learning-rate", "1e30", "--seeds", "1")
    code, printed, errors = command("lt4rec.base_ctr", *settings)
    line = errors.splitlines()[-1]
    assert code == 1 and not printed
    # The first step's loss is that of the initial net; its update is the absurd one.
    assert line.startswith("error: the loss of task 'click', or its gradient, became")
    assert " nan at step 2;" in line
    assert "learning-rate" in line
    assert not (tmp_path / "run" / "table.json").exists()


def test_a_run_that_is_stopped_says_how_to_go_on(command, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(joint, "fit", interrupt)
    code, _, errors = command("lt4rec.base_ctr", "--seeds", "1")
    assert code == 130 and "Traceback" not in errors
    assert "goes on from here" in errors.splitlines()[-1]


@pytest.fixture
def my_idea(tmp_path, monkeypatch):
    """A copy of s_weight.py beside the others, with one field changed."""
    source = Path(experiments.lt4rec.__file__).with_name("s_weight.py").read_text()
    source = source.replace('masks="ticket"', 'masks="ticket", final_density=0.1')
    source = source.replace("Table 2, row `s-weight`: Algorithm 1", "My idea")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_idea.py").write_text(source)
    path = [*experiments.lt4rec.__path__, str(tmp_path / "mine")]
    monkeypatch.setattr(experiments.lt4rec, "__path__", path)
    importlib.invalidate_caches()
    yield "lt4rec.my_idea"
    sys.modules.pop("experiments.lt4rec.my_idea", None)
    vars(experiments.lt4rec).pop("my_idea", None)


def test_a_copied_ablation_with_one_field_changed_is_listed_and_runs(
    my_idea, command, tmp_path, capsys
):
    run.main(["--list"])
    assert "lt4rec.my_idea" in capsys.readouterr().out
    code, printed, _ = command(my_idea, "--seeds", "1")
    assert code == 0 and "lt4rec.my_idea on video_feed" in printed
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["rows"]
    assert settings[my_idea]["pruning"]["final_density"] == 0.1


def test_the_command_line_has_the_last_word_on_a_row_that_runs_alone(
    command, tmp_path, monkeypatch
):
    monkeypatch.setattr(tables, "write", lambda context: "")
    assert command("lt4rec.s_neuron", "--pruning.unit", "weight")[0] == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["rows"]
    assert settings["lt4rec.s_neuron"]["pruning"]["unit"] == "weight"
    assert settings["lt4rec.s_neuron"]["pruning"]["masks"] == "ticket"


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        ("--list", ("jax", "tyro", "scipy")),
        ("lt4rec.tabel2", ("jax", "tyro", "scipy")),
        ("lt4rec.table2 --help", ("matplotlib", "tensorflow_datasets", "orbax")),
    ],
)
def test_what_needs_no_training_starts_no_more_than_it_needs(words, spared):
    code = (
        "import sys; from experiments import run\n"
        f"try: run.main({words.split()!r})\n"
        "except SystemExit: pass\n"
        f"found = set({spared!r}) & set(sys.modules)\n"
        "sys.exit(f'imports {sorted(found)}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
