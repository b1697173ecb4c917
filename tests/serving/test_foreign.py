"""Programs are read by another process: what it says, and that it may die of one."""

import os
import signal

import jax
import jax.export
import jax.numpy as jnp
import pytest

from jaxmtl.serving import foreign

READER = """
import os, signal, time

class Program:
    def __init__(self, content):
        self.content = content

    def mlir_module(self):
        if self.content == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.content == b"hang":
            signal.alarm(1)  # the limit, sooner
            time.sleep(30)
        print("a reader may print")
        return f"{os.getppid()} read {self.content.decode()}"

def deserialize(content):
    return Program(content)
"""


@pytest.fixture
def fresh():
    """No reader before, and none after."""
    foreign.program_text.cache_clear()
    foreign._stop()
    yield
    foreign.program_text.cache_clear()
    foreign._stop()


@pytest.fixture
def frail(fresh, tmp_path, monkeypatch):
    """Instead of JAX something that crashes or hangs when told to."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").touch()
    (tmp_path / "jax" / "export.py").write_text(READER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_text_is_that_of_the_program(fresh):
    exported = jax.export.export(jax.jit(jnp.cos))(jnp.ones(3))
    assert foreign.program_text(bytes(exported.serialize())) == exported.mlir_module()


@pytest.mark.parametrize("content", [b"", b"no program", bytes(range(256)) * 20])
def test_what_is_no_program_is_refused(content):
    with pytest.raises(ValueError, match=r"\w+"):
        foreign.program_text(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"crash", r"ended its process \(-11\)"), (b"hang", "took over 60 s")],
)
def test_a_program_that_kills_or_holds_up_its_reader_is_refused(frail, content, says):
    reader, what = foreign.program_text(b"one").split(" read ")
    assert what == "one" and int(reader) == foreign._running().pid != os.getpid()
    with pytest.raises(ValueError, match=says):
        foreign.program_text(content)
    assert foreign.program_text(b"two") == f"{reader} read two"


def test_a_reader_that_is_gone_is_replaced(frail):
    first = foreign._running().pid
    os.kill(first, signal.SIGKILL)
    foreign._running().wait()
    reader, _ = foreign.program_text(b"one").split(" read ")
    assert int(reader) != first


def test_a_reader_that_dies_over_a_program_is_an_error(frail, monkeypatch):
    """Of itself, and not of the process it makes for each."""
    process = foreign._running()
    write = foreign._write

    def kill(*message):
        process.kill()
        process.wait()
        write(*message)

    monkeypatch.setattr(foreign, "_write", kill)
    with pytest.raises(ValueError, match="the process that reads programs died"):
        foreign.program_text(b"one")


def test_an_answer_nobody_waited_for_is_not_the_next_one(frail, monkeypatch):
    foreign.program_text(b"one")

    def interrupted(stream):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(foreign, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            foreign.program_text(b"two")
    assert foreign.program_text(b"three").endswith("read three")


def test_a_reader_ends_with_who_asked(frail):
    process = foreign._running()
    assert foreign.program_text(b"one")
    os.kill(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches it too
    assert foreign.program_text(b"two")
    foreign._stop()
    assert process.returncode is not None and foreign._reader is None
