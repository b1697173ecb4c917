"""Compiled programs on disk: found again, whole or not at all, and never in the way."""

import errno
import os
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments import run
from experiments.analysis import experiment
from experiments.settings import fingerprints
from experiments.settings.config import Config
from jaxmtl.devices import compilations, compile_cache
from jaxmtl.devices.compilations import Programs


@pytest.fixture
def own_cache(monkeypatch):
    """As in a process that was given no folder; what the tests share comes back."""
    shared = jax.config.jax_compilation_cache_dir
    monkeypatch.setattr(compile_cache, "_used", None)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    compile_cache.keep_in(compile_cache.Store(Path(shared)))


def compute():
    """Compiles a program, as a new process would: its bits, and what was needed."""
    jax.clear_caches()
    x, before = np.linspace(-1, 1, 24, dtype="f4").reshape(4, 6), compilations.total()
    result = jax.jit(lambda x: jnp.tanh(x) @ x.T)(x)
    return np.asarray(result).tobytes(), compilations.total() - before


def entries(folder):
    return sorted(folder.glob("programs/*/*-cache"))


def test_a_program_is_compiled_once_and_keeps_its_bits(own_cache, tmp_path):
    plain, _ = compute()
    compile_cache.use(tmp_path)
    assert compile_cache.used() == tmp_path
    first, needed = compute()
    assert (needed.compiled, needed.found) == (1, 0) and needed.compiling > 0
    again, needed = compute()
    assert (needed.compiled, needed.found) == (0, 1) and needed.reading > 0
    assert plain == first == again
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("left", [0, 0.5])
def test_an_entry_cut_short_is_compiled_again_and_replaced(own_cache, tmp_path, left):
    compile_cache.use(tmp_path)
    bits, _ = compute()
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: int(left * len(whole))])
    with warnings.catch_warnings(record=True) as said:
        assert compute()[0] == bits
    assert not said
    again, needed = compute()
    assert again == bits and (needed.compiled, needed.found) == (0, 1)
    assert [path.name for path in entry.parent.iterdir()] == [entry.name]


def test_of_two_writers_readers_see_one_or_the_other(tmp_path):
    store = compile_cache.Store(tmp_path)
    values = {bytes([letter]) * size for letter, size in ((65, 1 << 20), (66, 3 << 19))}
    store.put("program", min(values))
    is_over = threading.Event()

    def write(value):
        while not is_over.is_set():
            store.put("program", value)

    writers = [threading.Thread(target=write, args=(value,)) for value in values]
    for writer in writers:
        writer.start()
    seen = {store.get("program") for _ in range(300)}
    is_over.set()
    for writer in writers:
        writer.join()
    assert seen <= values
    assert [path.name for path in tmp_path.iterdir()] == ["program-cache"]


def test_a_folder_that_cannot_be_made_costs_time_and_a_line(own_cache, tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    compile_cache.use(tmp_path / "file", said.append)
    compute()
    assert compute()[1].compiled == 1
    (line,) = said
    assert "file" in line and "not kept" in line


def test_a_full_disk_costs_time_and_a_line(own_cache, tmp_path, monkeypatch):
    said = []
    compile_cache.use(tmp_path, said.append)
    bits, _ = compute()

    def refuse(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (entry,) = entries(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    entry.unlink()
    for _ in range(2):
        again, needed = compute()
        assert again == bits and needed.compiled == 1
    (line,) = said
    assert os.strerror(errno.ENOSPC) in line
    assert list(entry.parent.iterdir()) == []


def test_a_folder_of_another_user_is_not_read(own_cache, tmp_path, monkeypatch):
    owner, said = os.getuid(), []
    compile_cache._machine.cache_clear()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    compile_cache.use(tmp_path, said.append)
    compile_cache._machine.cache_clear()
    assert compile_cache.used() is None
    assert "another user's" in said[0]


def test_a_named_folder_stays_as_it_is(own_cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    compile_cache.use(tmp_path / "ours")
    assert compile_cache.used() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert not (tmp_path / "ours").exists()


def test_a_process_may_turn_to_another_folder(own_cache, tmp_path):
    for name in ("one", "two", "two"):
        compile_cache.use(tmp_path / name)
        compute()
    assert len(entries(tmp_path / "one")) == len(entries(tmp_path / "two")) == 1


def test_other_cores_and_versions_have_other_folders(own_cache, tmp_path, monkeypatch):
    """XLA divides loops by the cores, and JAX's names of programs do not tell."""
    for cores, version in ((1, "1"), (2, "1"), (1, "2")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "sched_getaffinity", lambda pid, n=cores: set(range(n)))
            patch.setattr(compile_cache, "version", lambda name, v=version: v)
            jax.config.update("jax_compilation_cache_dir", None)
            compile_cache.use(tmp_path)
            compute()
    assert len({path.parent for path in entries(tmp_path)}) == 3


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    folders = [tmp_path / "programs" / name for name in ("old", "new")]
    for at, name in enumerate("abcd"):
        folder = folders[at // 2]
        folder.mkdir(parents=True, exist_ok=True)
        store = compile_cache.Store(folder)
        store.put(name, bytes(100))
        os.utime(folder / f"{name}-cache", (at, at))
    left = folders[0] / ".1-1"  # of a process that was killed
    left.write_bytes(bytes(1000))
    os.utime(left, (0, 0))
    compile_cache.Store(folders[0]).get("a")  # used again
    compile_cache.tidy(tmp_path, 200)
    assert [path.name for path in entries(tmp_path)] == ["d-cache", "a-cache"]
    assert not left.exists()
    compile_cache.tidy(tmp_path, 200)
    assert len(entries(tmp_path)) == 2


def test_the_cache_is_no_part_of_what_computes(own_cache, tmp_path):
    before = fingerprints.software(Config())
    compile_cache.use(tmp_path)
    assert fingerprints.software(Config()) == before


@pytest.mark.parametrize("words", [[], ["--no-compile-cache"]])
def test_a_flag_turns_it_off(words, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(compile_cache, "use", lambda folder, say: used.append(folder))
    monkeypatch.setattr(experiment.sources, "load", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.main(["lt4rec.base_ctr", "--data.cache", str(tmp_path), *words])
    assert used == ([] if words else [tmp_path])


def test_counts_are_told_in_a_line():
    both = Programs(2, 1.25, 0, 0.0) + Programs(1, 0.5, 12, 0.26)
    assert both - Programs(1, 0.5, 12, 0.26) == Programs(2, 1.25, 0, 0.0)
    assert both.describe() == (
        "programs: 3 compiled in 1.8 s, 12 kept from before read in 0.3 s"
    )
    assert Programs().describe() == "programs: 0 compiled in 0.0 s"
