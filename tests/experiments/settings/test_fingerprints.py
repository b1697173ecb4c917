"""What a fingerprint covers: content, code that runs, versions and precision."""

import ast
import dataclasses
import importlib
import os

import jax
import pytest

from experiments.settings import fingerprints
from experiments.settings.config import (
    Config,
    DataConfig,
    FinderConfig,
    ModelConfig,
    PruningConfig,
)

TEXT = '''"""What it is."""

def double(x):
    """Twice as much."""
    # Not x * 2, for no reason.
    return x + x
'''


@pytest.fixture
def long_file(tmp_path, monkeypatch):
    """A file whose checksum is remembered, of a hundred bytes."""
    monkeypatch.setattr(fingerprints, "LONG", 64)
    monkeypatch.setattr(fingerprints, "SETTLED", 0.0)
    path = tmp_path / "log.csv"
    path.write_bytes(b"a" * 100)
    return path


def test_a_long_file_is_read_once_while_it_stays_as_it_is(
    long_file, tmp_path, monkeypatch
):
    read, sha256 = [], fingerprints._sha256
    counted = lambda path: read.append(path) or sha256(path)
    monkeypatch.setattr(fingerprints, "_sha256", counted)
    found = {fingerprints.checksum(long_file, tmp_path / "kept") for _ in range(3)}
    assert len(found) == len(read) == 1


def test_a_long_file_is_its_content_though_an_edit_hides_its_time(long_file, tmp_path):
    before = fingerprints.checksum(long_file, tmp_path / "kept")
    when = long_file.stat().st_mtime_ns
    os.utime(long_file, ns=(1, 1))
    assert fingerprints.checksum(long_file, tmp_path / "kept") == before
    long_file.write_bytes(b"a" * 50 + b"b" + b"a" * 49)
    os.utime(long_file, ns=(when, when))
    assert fingerprints.checksum(long_file, tmp_path / "kept") != before


def test_a_file_written_just_now_is_not_remembered(long_file, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "SETTLED", 3600.0)
    fingerprints.checksum(long_file, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_memory_that_is_damaged_is_read_again(long_file, tmp_path):
    before = fingerprints.checksum(long_file, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    for content in ("", "3", "[[1], 2, 3]"):
        kept.write_text(content)
        assert fingerprints.checksum(long_file, tmp_path / "kept") == before


# Code


@pytest.fixture
def code_of(tmp_path, monkeypatch):
    """Digest of a module `m` of some text, which may import `n`."""
    monkeypatch.setattr(
        fingerprints,
        "_module_file",
        lambda name: tmp_path / f"{name}.py" if name in ("m", "n") else None,
    )

    def digest(text, imported="x = 1"):
        (tmp_path / "m.py").write_text(text)
        (tmp_path / "n.py").write_text(imported)
        fingerprints.code.cache_clear()
        return fingerprints.code("m")

    yield digest
    fingerprints.code.cache_clear()


def test_comments_docstrings_and_layout_are_no_code(code_of):
    assert code_of(TEXT) == code_of("def double( x ):\n    return (x + x)\n")


def test_what_runs_is_code_that_of_imported_modules_too(code_of):
    assert code_of(TEXT) != code_of(TEXT.replace("x + x", "x * 2"))
    assert code_of(f"import n\n{TEXT}", "x = 1") != code_of(
        f"import n\n{TEXT}", "x = 2"
    )
    assert code_of(TEXT, "x = 1") == code_of(TEXT, "x = 2")


def of_log(name: str) -> Config:
    return Config(data=DataConfig(name=name))


def test_code_that_is_not_there_is_not_left_out_in_silence():
    with pytest.raises(ModuleNotFoundError, match=r"sources\.corner_shop"):
        fingerprints.software(of_log("corner_shop"))


def test_what_trains_is_covered_and_what_reports_is_not(monkeypatch):
    seen, find = [], fingerprints._module_file
    monkeypatch.setattr(
        fingerprints, "_module_file", lambda name: seen.append(name) or find(name)
    )
    fingerprints.code.cache_clear()
    model = ModelConfig(architecture="dcrnn")
    settings = dataclasses.replace(of_log("own_log"), model=model)
    fingerprints.software(settings)
    wanted = {
        "jaxmtl.sparsity.pruning",
        "jaxmtl.models.dcrnn",
        "jaxmtl.sparsity.finders.magnitude",
        "jaxmtl.data.reading.vocabulary",
    }
    unused = {
        "experiments.report",
        "jaxmtl.data.sources.hillstrom",
        "jaxmtl.models.mmoe",
        "jaxmtl.optim.optimisers.lion",
        "jaxmtl.sparsity.finders.saliency",
    }
    assert wanted <= set(seen) and not unused & set(seen)


def test_a_new_method_changes_what_computes_where_it_is_in_use(tmp_path, monkeypatch):
    plain = fingerprints.software(Config())
    judged = fingerprints.software(Config(), judged=True)
    (tmp_path / "largest.py").write_text("def largest(): return 1")
    for package in ("jaxmtl.sparsity.finders", "jaxmtl.metrics.methods"):
        module = importlib.import_module(package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path)])
    fingerprints.code.cache_clear()
    assert fingerprints.software(Config()) == plain
    finder = PruningConfig(finder=FinderConfig(name="largest"))
    assert fingerprints.software(Config(pruning=finder))["code"] != plain["code"]
    assert fingerprints.software(Config(), judged=True)["code"] != judged["code"]


def test_a_text_alone_that_is_a_whole_body_leaves_one():
    tree = ast.parse('class A:\n    """Nothing."""')
    assert fingerprints._running_text(tree) == "class A:\n    pass"


# Versions and precision


def test_versions_and_flags_that_change_numbers_are_told(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    before = fingerprints.software(Config())
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    assert fingerprints.software(Config()) == before
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true --xla_dump_to=x")
    assert fingerprints.software(Config())["xla_flags"] == [
        "--xla_cpu_enable_fast_math=true"
    ]
    monkeypatch.undo()
    monkeypatch.setattr(fingerprints, "_version", lambda name: f"{name} of tomorrow")
    assert fingerprints.software(Config())["jaxlib"] == "jaxlib of tomorrow"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("jax_enable_x64", True), ("jax_default_matmul_precision", "bfloat16")],
)
def test_precision_is_told(setting, value):
    before = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        assert fingerprints.software(Config())[setting] == value != before
    finally:
        jax.config.update(setting, before)
