"""A work directory belongs to one configuration and one process at a time."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.running.workdir import (
    claim,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from jaxmtl import sealed

HOLD = """
import sys, time
from pathlib import Path
from experiments.running.workdir import claim
lock = claim(Path(sys.argv[1]), {})
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process at work in the folder `run`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_in_a_work_directory_is_refused_and_told_who_is_there(
    tmp_path, holder
):
    with pytest.raises(ValueError, match=f"process {holder.pid} on .+ --workdir"):
        claim(tmp_path / "run", {})


def test_the_lock_of_a_killed_run_holds_nobody_up(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with claim(tmp_path / "run", {}):
        pass


def test_a_work_directory_is_free_again_when_its_run_is_through(tmp_path):
    with claim(tmp_path, {"a": 1}), pytest.raises(ValueError, match=f"{os.getpid()}"):
        claim(tmp_path, {"a": 1})
    with pytest.raises(ValueError, match="a is 1 there and 2 here"):
        claim(tmp_path, {"a": 2})
    with claim(tmp_path, {"a": 1}):
        assert read_json(tmp_path / "config.json") == {"a": 1}


def test_where_things_lie_is_kept_up_and_never_compared(tmp_path):
    held = lambda place: {"a": 1, "places": {"data.path": place}}
    for config in (held("/old/log.csv"), held("/new/log.csv"), {"a": 1}):
        claim(tmp_path, config).close()
        assert read_json(tmp_path / "config.json") == config
    with pytest.raises(ValueError, match="configuration: a is 1 there and 2 here"):
        claim(tmp_path, {"a": 2, "places": {}})


def test_a_run_that_other_software_began_is_refused_by_what_differs(tmp_path):
    claim(tmp_path, {"software": {"jax": "0.9.0", "xla_flags": []}}).close()
    found = {"software": {"jax": "0.10.2", "xla_flags": ["--xla_fast"]}}
    words = r"software\.jax is '0\.9\.0' there and '0\.10\.2' here; software\.xla_flags"
    with pytest.raises(ValueError, match=words):
        claim(tmp_path, found)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_the_system_refuses_is_not_called_damaged(
    tmp_path, monkeypatch, number
):
    write_json(tmp_path / "a.json", {})
    write_arrays(tmp_path / "a.npz", {"a": np.zeros(2)})

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    for read, name in ((read_json, "a.json"), (read_arrays, "a.npz")):
        with pytest.raises(sealed.Unreadable, match=f"{name} cannot be read") as error:
            read(tmp_path / name)
        assert "delete" not in str(error.value)


def test_resume_says_whether_there_may_be_a_run_already(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="holds no run .+ --resume must"):
        claim(folder, {}, "must")
    assert not folder.exists()
    for resume in ("never", "auto", "must"):
        claim(folder, {}, resume).close()
    with pytest.raises(ValueError, match="holds a run, .+ --resume never"):
        claim(folder, {}, "never")


@pytest.fixture
def read_only(tmp_path):
    """A file system that not even root may write on."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a read-only file system takes more rights than these")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_disk_is_refused(read_only):
    with pytest.raises(ValueError, match=f"{read_only}: it cannot be written; .+--wor"):
        claim(read_only, {})
    with pytest.raises(ValueError, match="Read-only file system; .+--workdir"):
        claim(read_only / "run", {})


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_file_that_cannot_be_written_keeps_what_it_held(tmp_path, monkeypatch, step):
    path = tmp_path / "part.json"
    write_json(path, {"a": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr(Path, "write_text", full)
        monkeypatch.setattr(sealed, "write_arrays", full)
    else:
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    with pytest.raises(OSError, match="No space left"):
        write_arrays(tmp_path / "part.npz", {"a": np.zeros(3)})
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["part.json"]
