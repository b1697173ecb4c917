"""A signal asks a run to stop; it saves, exits with 75, and ends with the same bits."""

import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest
from tiny import TINY

from experiments import run
from experiments.running import progress, stopping, ticket_files
from experiments.running.monitor import Monitor
from jaxmtl import sealed
from jaxmtl.training import train
from jaxmtl.training.resume import Stopped
from qa import faults

pytestmark = pytest.mark.end_to_end

SETTINGS = (
    *("--checkpoint.steps", "4", "--seeds", "1", "--no-report"),
    *("--pruning.rewind", "fresh"),  # another start for each round
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_signal_asks_and_a_second_ctrl_c_interrupts(number, request):
    # A process in the background may have been started with Ctrl-C ignored.
    given = signal.signal(signal.SIGINT, before := signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, given))
    with stopping.on_signals():
        stopping.check()
        os.kill(os.getpid(), number)
        assert stopping.requested()
        with pytest.raises(Stopped):
            stopping.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert not stopping.requested()


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def work():
        with stopping.on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.fixture
def command(cache, capfd):
    """command(folder, *settings) -> exit code and the last line of its errors."""

    def call(folder, *settings: str) -> tuple[int, str]:
        data = ("--data.cache", str(cache), "--workdir", str(folder))
        code = run.main(["lt4rec.s_weight", *TINY, *SETTINGS, *data, *settings])
        return code, capfd.readouterr().err.rstrip().rpartition("\n")[2]

    return call


@pytest.fixture(scope="module")
def undisturbed(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    data = ("--data.cache", str(cache), "--workdir", str(folder))
    assert run.main(["lt4rec.s_weight", *TINY, *SETTINGS, *data]) == 0
    return folder


def assert_same(folder, undisturbed):
    found = faults.compare(undisturbed, folder)
    assert found.differing == []
    assert found.arrays > 20 and found.numbers > 100


def test_a_run_stopped_again_and_again_ends_with_the_same_bits(
    command, undisturbed, tmp_path, monkeypatch
):
    """After every third chunk: in the middle of epochs and at their end, in searches
    and in joint training."""
    stops = 0
    while True:
        asked = iter([False, False])
        monkeypatch.setattr(stopping, "requested", lambda: next(asked, True))  # noqa: B023
        monkeypatch.setattr(stopping, "check", lambda: None)
        code, line = command(tmp_path)
        if code == 0:
            break
        assert code == stopping.EXIT_CODE == 75
        assert line == "stopped; the same command goes on to the same bits"
        stops += 1
    assert stops >= 4  # seven trainings of two chunks or four
    assert_same(tmp_path, undisturbed)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines))


def test_a_signal_in_the_middle_of_a_run_stops_it(
    command, undisturbed, tmp_path, monkeypatch
):
    """A real one, sent when the second round of the first search begins."""
    training = Monitor.training

    def signalled(self, run, seed, phase):
        if phase == "round 1":
            os.kill(os.getpid(), signal.SIGTERM)
        return training(self, run, seed, phase)

    monkeypatch.setattr(Monitor, "training", signalled)
    assert command(tmp_path)[0] == 75
    (search,) = (tmp_path / "tickets").iterdir()
    assert len(json.loads((search / "seed0" / ticket_files.ROUNDS).read_text())) == 1
    assert list((search / "seed0" / "progress1").iterdir())
    monkeypatch.undo()
    assert command(tmp_path, "--resume", "must")[0] == 0
    assert_same(tmp_path, undisturbed)
    assert command(tmp_path, "--resume", "never")[0] == 1


def test_a_damaged_round_begins_its_search_anew(
    command, undisturbed, tmp_path, monkeypatch
):
    asked = iter([False] * 3)  # the second round's first chunk
    monkeypatch.setattr(stopping, "requested", lambda: next(asked, True))
    assert command(tmp_path)[0] == 75
    monkeypatch.undo()
    (path,) = (tmp_path / "tickets").glob("*/seed0/round0.npz")
    path.write_bytes(path.read_bytes()[:-30])
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    assert command(tmp_path)[0] == 0
    assert len(said) == 1 and "round0.npz" in said[0] and "begins anew" in said[0]
    assert_same(tmp_path, undisturbed)


def test_what_a_run_killed_after_its_commit_left_is_tidied_up(
    command, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    rows = [path.parent for path in folder.glob("rows/*/seed0/seed.json")]
    searches = [path.parent for path in folder.glob("tickets/*/seed0/ticket.json")]
    for place in (*rows, *searches):
        sealed.write(place / "progress" / "000001", {"a": np.zeros(3)})
    for place in rows:
        shutil.rmtree(place)  # so that the searches are read again
    assert command(folder)[0] == 0
    assert_same(folder, undisturbed)
    sealed.write(rows[0] / "progress" / "000001", {"a": np.zeros(3)})
    assert command(folder)[0] == 0
    assert_same(folder, undisturbed)


def test_a_loss_that_is_not_finite_leaves_its_batch_for_replay(
    command, tmp_path, monkeypatch
):
    wrong = ("--optimiser.learning-rate", "1e30")
    code, line = command(tmp_path / "stop", *wrong)
    (path,) = (tmp_path / "stop").rglob("bad_batch.npz")
    assert code == 1 and line.startswith("error: the loss of task")
    assert line.endswith(f"kept in {path}")
    with np.load(path) as batch:
        assert int(batch["step"]) == 2 and str(batch["task"]) in ("click", "watch")
        assert len(batch["ids"]) == len(batch["rows"]) == len(batch["label/click"])
    code, line = command(tmp_path / "skip", *wrong, "--on-nonfinite", "skip")
    assert code == 1 and "skipped every step" in line or "no longer predicts" in line


def test_skipped_steps_are_counted_in_the_log_and_in_the_rows_result(
    command, tmp_path, monkeypatch
):
    """Every joint loss of the third step is made infinite."""
    make_epoch = train.make_epoch

    def spoilt(setup):
        def epoch(state, task_masks, gates, rows, orders):
            first = int(state.step) == 0
            state, losses = make_epoch(setup)(state, task_masks, gates, rows, orders)
            if first and len(losses) == 2:
                losses = {t: x.at[2].set(np.inf) for t, x in losses.items()}
            return state, losses

        return epoch

    monkeypatch.setattr("jaxmtl.training.fit.make_epoch", spoilt)
    assert command(tmp_path, "--on-nonfinite", "skip")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [x["skipped"] for x in lines if x["phase"] == "joint"] == [2, 0]
    (path,) = tmp_path.glob("rows/*/result.json")
    (part,) = json.loads(path.read_text())["by_seed"]
    assert part["skipped_steps"] == 2
