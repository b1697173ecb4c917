"""Jobs in turn, in processes and in one program: the same results, and no orphans."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import run_quietly
from tiny import TINY

from experiments.running import crew, stopping
from experiments.running.crew import Crew, Job, choose
from experiments.running.monitor import Monitor
from experiments.running.workdir import read_json, write_json
from experiments.running.workers import _Waiting
from jaxmtl.data.store import Dataset, prepare
from jaxmtl.devices import compile_cache
from jaxmtl.training.resume import Stopped

pytestmark = pytest.mark.end_to_end

LIMIT = 60
"""Seconds after which a process counts as stuck."""


# What workers do in these tests


def note(what, seed, data, workdir, monitor):
    """Announces a training and writes down who did it, on what."""
    monitor.expect(1)
    with monitor.training(what, seed, "joint"):
        about = {
            "process": os.getpid(),
            "cores": crew.usable_cores(),
            "ids": int(np.sum(data.splits["train"].ids)),
            "is_mapped": isinstance(data.splits["train"].ids, np.memmap),
        }
        write_json(workdir / f"{what}{seed}.json", about)


def compute(what, seed, data, workdir, monitor):
    jax.jit(lambda x: x * what)(np.arange(3.0))


def fail(what, seed, data, workdir, monitor):
    if seed == what:
        raise ValueError(f"seed {seed} is no good")
    write_json(workdir / f"{seed}.json", {})


def die(what, seed, data, workdir, monitor):
    os._exit(7)


def wait_for_stop(what, seed, data, workdir, monitor):
    (workdir / f"{seed}.begun").touch()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if stopping.requested():
            write_json(workdir / f"{seed}.saved", {})
            raise Stopped
        time.sleep(0.02)


@pytest.fixture(scope="module")
def data(cache, log) -> Dataset:
    return prepare("tiny", {}, lambda: log, cache, say=lambda text: None)


@pytest.fixture(scope="module")
def crews(tmp_path_factory):
    """how -> a crew, the same for all tests; processes keep what they compile."""
    folder = tmp_path_factory.mktemp("programs")
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.delenv("JAX_COMPILATION_CACHE_DIR")
        patch.setattr(compile_cache, "_used", folder)
        made = {
            how: stack.enter_context(crew_in(tmp_path_factory.mktemp(how), how))
            for how in ("in_turn", "processes", "program")
        }
        yield made


@contextlib.contextmanager
def crew_in(folder, how, processes=2):
    monitor = Monitor(folder)
    with contextlib.closing(monitor):
        ours = Crew(folder, monitor, how, processes)
        with contextlib.closing(ours):
            yield ours


@pytest.mark.parametrize("how", ["in_turn", "processes", "program"])
def test_every_job_is_done_once_on_the_same_log(how, crews, data):
    jobs = [Job(what, seed) for what in "ab" for seed in range(2)]
    folder = crews[how].workdir
    crews[how].do(note, jobs, data)
    found = {path.stem: read_json(path) for path in folder.glob("??.json")}
    assert sorted(found) == ["a0", "a1", "b0", "b1"]
    assert {one["ids"] for one in found.values()} == {
        int(np.sum(data.splits["train"].ids))
    }
    assert all(one["is_mapped"] for one in found.values())  # nobody copied the rows
    here = {one["process"] == os.getpid() for one in found.values()}
    assert here == {how != "processes"}
    plan = read_json(folder / "plan.json")
    assert plan["trainings"] == plan["done"] == 4
    share = max(1, crew.usable_cores() // 2)
    if how == "processes":
        assert {one["cores"] for one in found.values()} == {share}


def test_a_worker_stays_with_a_program_and_then_takes_a_fresh_one():
    waiting = _Waiting(["aaa", "bb", "c"])
    assert [waiting.next(worker) for worker in (1, 2, 1, 2)] == list("abab")
    assert waiting.next(2) == "c"  # nobody is at it
    assert waiting.next(2) == "a"  # all that is left, though another one's
    assert not waiting
    waiting = _Waiting(["a", "bb", "ccc"])
    assert [waiting.next(worker) for worker in (1, 2, 3, 1)] == list("abcc")


def test_a_log_changed_in_memory_reaches_the_processes(crews, data):
    train = data.splits["train"]

    def look(name, **splits):
        log = dataclasses.replace(data, splits=data.splits | splits, fingerprint=name)
        crews["processes"].do(note, [Job(name, 0)], log)
        found = read_json(crews["processes"].workdir / f"{name}0.json")
        assert found["ids"] == int(np.sum(log.splits["train"].ids))
        return found["is_mapped"]

    assert not look("changed", train=train._replace(ids=train.ids[1:] + 1))
    assert look("sliced", train=jax.tree.map(lambda column: column[2:], train))
    assert look("whole")


def test_processes_share_programs_and_tell_how_many_they_needed(crews, data):
    for seed, (compiled, found) in enumerate([(1, 0), (1, 1)]):
        crews["processes"].do(compute, [Job(3.0, seed)], data)
        needed = crews["processes"].monitor.programs
        assert (needed.compiled, needed.found) == (compiled, found)


@pytest.mark.parametrize("how", ["in_turn", "processes", "program"])
def test_a_job_s_error_is_raised_as_it_is(how, data, tmp_path):
    jobs = [Job(1, seed) for seed in range(3)]
    with crew_in(tmp_path, how, processes=1) as ours:
        with pytest.raises(ValueError) as raised:
            ours.do(fail, jobs, data)
        assert str(raised.value) == "seed 1 is no good"
        if how == "processes":
            assert "in fail" in "".join(raised.value.__notes__)  # where it was raised


def test_a_worker_that_dies_is_an_error_that_says_how(data, tmp_path):
    with (
        crew_in(tmp_path, "processes", 1) as ours,
        pytest.raises(ChildProcessError, match="exit code 7"),
    ):
        ours.do(die, [Job("a", 0), Job("a", 1)], data)


def test_workers_save_when_the_run_is_asked_to_stop(data, tmp_path, monkeypatch):
    begun = lambda: all((tmp_path / f"{seed}.begun").exists() for seed in range(2))
    monkeypatch.setattr(stopping, "requested", begun)
    jobs = [Job("a", seed) for seed in range(4)]
    with crew_in(tmp_path, "processes") as ours, pytest.raises(Stopped):
        ours.do(wait_for_stop, jobs, data)
    saved = sorted(path.name for path in tmp_path.glob("*.saved"))
    assert saved == ["0.saved", "1.saved"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_run_that_is_killed(tmp_path):
    text = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
if __name__ == "__main__":
    from pathlib import Path
    from experiments.running.workers import Workers
    ours = Workers(1, Path({str(tmp_path)!r}))
    print(*(w.process.pid for w in ours._workers), flush=True)
    time.sleep({LIMIT})
"""
    script = tmp_path / "killed.py"
    script.write_text(text)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as run:
        workers = [int(pid) for pid in run.stdout.readline().split()]
        run.send_signal(signal.SIGKILL)
    assert len(workers) == 1
    deadline = time.monotonic() + LIMIT
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def is_close(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(is_close, a, b))
    is_number = isinstance(b, float)
    return a == (pytest.approx(b, rel=1e-4, abs=1e-5) if is_number else b)


@pytest.mark.parametrize(
    ("name", "how"), [("lt4rec.s_weight", "program"), ("lt4rec.base_ctr", "processes")]
)
def test_a_study_s_numbers_are_those_of_seeds_in_turn(name, how, cache, tmp_path):
    def train(way, folder):
        where = ("--data.cache", str(cache), "--workdir", str(tmp_path / folder))
        command = (name, *TINY, *where, "--seeds", "2", "--together", way)
        assert run_quietly(*command)[0] == 0
        row = read_json(tmp_path / folder / "rows" / name / "result.json")
        epochs = (tmp_path / folder / "metrics.jsonl").read_text().count("\n")
        return {"metrics": row["metrics"], "density": row["density"]}, epochs

    expected, found = train("in_turn", "one"), train(how, "other")
    assert found[1] == expected[1]
    assert is_close(found[0], expected[0])


MANY = crew.FEW_EXAMPLES
CHOICES = [
    # how, processes, (trainings, examples, devices), backend, cores -> how, processes
    ("auto", 0, (15, MANY, 1), "cpu", 2, ("processes", 2)),
    ("auto", 0, (15, MANY - 1, 1), "cpu", 2, ("in_turn", 1)),
    ("auto", 0, (15, MANY, 1), "cpu", 1, ("in_turn", 1)),
    ("auto", 0, (15, MANY, 1), "cpu", 64, ("processes", 8)),
    ("auto", 1, (15, MANY, 1), "cpu", 64, ("in_turn", 1)),
    ("auto", 0, (3, MANY, 1), "cpu", 64, ("in_turn", 1)),
    ("auto", 0, (15, 1, 1), "gpu", 64, ("program", 1)),
    ("auto", 0, (15, MANY, 8), "gpu", 64, ("in_turn", 1)),
    ("processes", 20, (15, 1, 1), "cpu", 2, ("processes", 15)),
    ("in_turn", 0, (15, MANY, 1), "gpu", 2, ("in_turn", 1)),
    ("program", 0, (2, 1, 1), "cpu", 2, ("program", 1)),
]


@pytest.mark.parametrize(
    ("how", "processes", "study", "backend", "cores", "expected"), CHOICES
)
def test_auto_depends_on_the_device_and_the_study(
    how, processes, study, backend, cores, expected, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(crew, "usable_cores", lambda: cores)
    trainings, examples, devices = study
    found = choose(
        how, processes, trainings=trainings, examples=examples, devices=devices
    )
    assert found == expected


@pytest.mark.parametrize(
    ("how", "processes", "devices", "says"),
    [
        ("auto", -1, 1, "--processes is -1; give 1 or more"),
        ("program", 0, 0, "--together program trains several seeds"),
        ("processes", 0, 8, "--mesh.devices 8 one seed on several"),
    ],
)
def test_what_cannot_be_is_refused(how, processes, devices, says):
    with pytest.raises(ValueError, match=says):
        choose(how, processes, trainings=4, examples=MANY, devices=devices)
