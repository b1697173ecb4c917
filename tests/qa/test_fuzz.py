"""Damaged files are read right or refused by name, and the fuzzer would notice else.

The long form, 10,000 inputs a reader, is `python -m qa.fuzz`.
"""

import gc
import os
import signal
import time
import warnings

import numpy as np
import pytest

from qa.fuzz import __main__ as command
from qa.fuzz import workers
from qa.fuzz.cases import RIGHT, judge, make_input, minimise, valid_files
from qa.fuzz.readers import Reader, WrongResult, check_log
from qa.fuzz.registry import READERS, find_reader

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
]
SLOW = {"checkpoint": 12, "export": 30, "prepare": 25, "ali_ccp_raw": 80}
SLOW |= {"prepared_columns": 100, "progress": 100}
INPUTS = 100


@pytest.fixture(scope="module", autouse=True)
def collect_failed_reads():
    """Orbax leaves the reads under way when one fails to the garbage collector.

    Its warnings then fall in this file, whose marks ignore them.
    """
    yield
    gc.collect()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file")
def test_no_damage_passes_for_a_right_file(name, tmp_path):
    reader = find_reader(name)
    valid = valid_files(reader, tmp_path / "valid")
    assert judge(reader, valid, False, tmp_path / "input", 60).kind == RIGHT
    kinds = set()
    for number in range(SLOW.get(name, INPUTS)):
        files, reseal = make_input(name, valid, 1, number)
        outcome = judge(reader, files, reseal, tmp_path / "input", 60)
        assert not outcome.is_failure, (number, outcome)
        kinds.add(outcome.kind)
    assert kinds - {RIGHT}  # some are refused


# The fuzzer itself


def write_line(folder):
    (folder / "line.txt").write_text("a line of text, 12 and 34\n")


def leave_behind(folder):
    (folder.parent / "partial").mkdir()


def overflow(folder):
    np.float32(1e38) * np.float32(1e38)


def fail(error):
    def read(folder):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda folder: None, RIGHT),
        (fail(ValueError("line.txt, line 1: no number")), "ValueError"),
        (fail(OSError("line.txt is gone")), "OSError"),
        (fail(ValueError("no number")), "failure: no file named"),
        (fail(KeyError("line.txt")), "failure: KeyError"),
        (fail(MemoryError()), "failure: MemoryError"),
        (fail(WrongResult("a row is lost")), "failure: WrongResult"),
        (lambda folder: time.sleep(9), "failure: hang"),
        (leave_behind, "failure: left behind"),
        (overflow, "failure: RuntimeWarning"),
    ],
)
def test_an_outcome_is_judged_by_what_a_user_would_see(tmp_path, read, kind):
    reader = Reader(write_line, read)
    files = valid_files(reader, tmp_path / "valid")
    with warnings.catch_warnings():
        assert judge(reader, files, False, tmp_path / "input", 0.2).kind == kind
    assert not (tmp_path / "input").exists()


def test_rows_lost_or_outside_their_schema_are_no_right_result(log):
    check_log(log)
    for changes in ({"read": 700}, {"kept": 639}):
        with pytest.raises(WrongResult, match="640 rows came out"):
            check_log(log._replace(counts=log.counts | changes))
    with pytest.raises(WrongResult, match="files hold 642"):
        check_log(log, rows=642)
    (block,) = log.splits["test"]
    strange = block._replace(ids=block.ids + 1000)
    with pytest.raises(WrongResult, match="holds id"):
        check_log(log._replace(splits=log.splits | {"test": [strange]}))


def test_an_input_follows_from_reader_seed_and_number(tmp_path):
    valid = valid_files(find_reader("own_csv"), tmp_path / "valid")
    inputs = [make_input("own_csv", valid, 0, number) for number in range(20)]
    assert inputs == [make_input("own_csv", valid, 0, number) for number in range(20)]
    distinct = {tuple(sorted(files.items())) for files, _ in inputs}
    assert len(distinct) > 15
    assert make_input("own_csv", valid, 1, 0) != inputs[0]
    # What begins with a dot stays as it is.
    assert {files[".schema.toml"] for files, _ in inputs} == {valid[".schema.toml"]}


def test_a_failure_is_reduced_to_what_it_takes():
    files = {"a": b"x" * 300 + b"BUG" + b"y" * 200, "b": b"as it was"}
    valid = {"a": b"x" * 500, "b": b"as it was"}
    small = minimise(files, valid, lambda f: b"BUG" in f["a"])
    assert small["b"] == files["b"]
    assert b"BUG" in small["a"] and len(small["a"]) < 10


def misbehave(folder):
    """By the file's length: dies, hangs where no signal reaches it, eats memory."""
    length = (folder / "line.txt").stat().st_size if any(folder.iterdir()) else 0
    if length % 3 == 1:
        os._exit(7)
    if length % 7 == 6:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(60)
    if length % 5 == 4:
        np.ones(1 << 33)


def find_misbehaving(name):
    return Reader(lambda folder: (folder / "line.txt").write_text("x" * 30), misbehave)


def test_a_reader_that_dies_or_hangs_fails_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 0.5)
    tally = workers.examine("toy", find_misbehaving, 12, 0, tmp_path, 0.5)
    assert tally.counts.total() == 12
    assert tally.counts[RIGHT]
    kinds = {kind for kind, _ in tally.failures}
    assert {"failure: crash", "failure: hang", "failure: MemoryError"} & kinds
    shown = command.describe("toy", tally, 1.0, tmp_path)
    for (kind, _), (number, _) in tally.failures.items():
        assert kind in shown
        assert (tmp_path / "toy" / str(number) / "outcome.txt").exists()
        text = (tmp_path / "toy" / str(number) / "outcome.txt").read_text()
        # Where it hung is found by whoever reads the failure.
        assert ("in misbehave" in text) == (kind == "failure: hang")
        name, files, _ = workers.read_kept(tmp_path / "toy" / str(number))
        assert name == "toy" and set(files) <= {"line.txt"}


def test_the_command_counts_and_replays(tmp_path, capsys, monkeypatch):
    broken = Reader(write_line, fail(KeyError("x")))
    monkeypatch.setitem(READERS, "tuned", broken)
    kept = tmp_path / "tuned" / "3" / "files"
    kept.mkdir(parents=True)
    (kept / "line.txt").write_text("x")
    assert command.main(["--replay", str(kept.parent)]) == 1
    assert "failure: KeyError" in capsys.readouterr().out
    assert command.main(["--replay", str(tmp_path)]) == 1
    assert "holds no input" in capsys.readouterr().err
    assert command.main(["--reader", "own_cvs"]) == 1
    assert "did you mean 'own_csv'" in capsys.readouterr().err
