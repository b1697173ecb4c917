"""How the tests run and compile; a small log that all share; the real data."""

import contextlib
import gc
import importlib.util
import io
import mmap
import os
import platform
import tempfile
from pathlib import Path

import coverage
import jax
import numpy as np
import pytest
from hypothesis import Phase, settings

from jaxmtl.data.log import Log
from jaxmtl.devices import compile_cache
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models.shared_trunk import SharedTrunk
from jaxmtl.training import spec
from jaxmtl.training.spec import Setup
from jaxmtl.types import Field, Rows, Schema, Task, Vocabulary

# For mutate.py: the same examples each time, and those that fail not made small.
settings.register_profile(
    "mutants", derandomize=True, phases=[Phase.explicit, Phase.generate]
)
FLAGS = {
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_max_isa": "SSE4_2",
    "xla_cpu_parallel_codegen_split_count": "1",  # of one core
}
FOLDER = "JAX_COMPILATION_CACHE_DIR"
SLOW = (
    "test_experiments",
    "test_dcrnn_experiments",
    "test_crew",
    "test_sharding",
    "test_notebooks",
    "test_benchmarks",
    "test_train",
    "test_serving_experiments",
    "test_contributing",
    "test_faults",
    "test_optimisers",
    "test_balanced_steps",
    "test_every_optimiser",
    "test_balancers",
    "test_outputs",
)
"""Files that take half a minute or more, the slowest first."""


def pytest_configure(config: pytest.Config) -> None:
    """Before JAX looks for its devices and settings."""
    config.addinivalue_line(
        "markers",
        "end_to_end: runs whole commands; adds nothing to the measured coverage, which"
        " is that of the library's own tests, and runs a quarter faster for it",
    )
    config.option.loadscopereorder = False  # of pytest-xdist: ours is better
    keep_to_one_core(config)
    compile_quickly()
    compile_once(config)


def keep_to_one_core(config: pytest.Config) -> None:
    """Gives this process, and those it starts, one core: pytest-xdist fills the rest.

    So no study starts processes of its own accord, and each sums in the same order.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and config.getoption("numprocesses", None):
        return  # it starts the workers, which could use no core that it may not
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = int((worker or "gw0").removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def compile_quickly() -> None:
    """Has tiny programs compiled in a quarter of the time, here and in subprocesses.

    LLVM's costly passes are left out, and on x86 XLA writes its loops in the older,
    plainer way. That way fuses a product with a sum in one program and not in the
    next, so the bits of a training would depend on how it is cut into programs: the
    instruction set is one that cannot. An XLA that does not know a flag ends the
    process: its library is searched for the names.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    given = os.environ.get("XLA_FLAGS", "")
    if platform.machine() not in ("x86_64", "AMD64") or "emitters" in given:
        return
    folder = Path(importlib.util.find_spec("jaxlib").origin).parent
    files = (path for path in folder.rglob("*") if path.is_file())
    library = max(files, key=lambda path: path.stat().st_size)
    with (
        library.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        if all(content.find(name.encode()) >= 0 for name in FLAGS):
            flags = [f"--{name}={value}" for name, value in FLAGS.items()]
            os.environ["XLA_FLAGS"] = " ".join([given, *flags]).strip()


def compile_once(config: pytest.Config) -> None:
    """Gives all processes of the tests, those they start too, one folder of programs.

    It is empty at first, and gone at the end, unless JAX_COMPILATION_CACHE_DIR names
    one: each of the tests passes with compiled programs and with those read again.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        made = tempfile.TemporaryDirectory(prefix="jaxmtl-programs-")
        config.add_cleanup(made.cleanup)
        folder = os.environ[FOLDER] = made.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    compile_cache.keep_in(compile_cache.Store(Path(folder)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, lest one core wait for the other at the end."""
    place = {name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: place.get(item.path.stem, len(SLOW)))


def pytest_collection_finish() -> None:
    """Spares garbage collections the million objects of the modules imported."""
    gc.freeze()
    gc.set_threshold(20_000, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Measures no coverage of tests that are marked so, nor of their processes."""
    if item.get_closest_marker("end_to_end") is None:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        measured = coverage.Coverage.current()
        if measured is None:
            return (yield)
        measured.stop()
        try:
            return (yield)
        finally:
            measured.start()


def run_quietly(*argv: str) -> tuple[int, str]:
    """The exit code of `experiments.run`, and what it printed."""
    from experiments import run

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = run.main([*argv])
    return code, output.getvalue()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, which is not part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("JAXMTL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set JAXMTL_DATA to its folder")
    return folder


def make_schema() -> Schema:
    return Schema(
        name="tiny",
        fields=(
            Field("user", "users"),
            Field("item", "items"),
            Field("tags", "tags", slots=3),
            Field("last_item", "items"),
        ),
        vocabularies=(
            Vocabulary("users", 21),
            Vocabulary("items", 31),
            Vocabulary("tags", 8),
        ),
        tasks=(
            Task("click"),
            Task("watch", kind="continuous", space="click", metric="mse"),
            Task("like", space="click"),
        ),
        ctr="click",
        cvr="watch",
        user="user",
        item="item",
        numeric=("hour",),
        extras=("duration", "truth.click"),
    )


def make_rows(n: int, seed: int) -> Rows:
    """Rows in which the item's and the tag's parity drive clicks and watching."""
    rng = np.random.default_rng(seed)
    user, item, last = (rng.integers(1, high, n) for high in (21, 31, 31))
    tags = rng.integers(1, 8, (n, 3))
    filled = rng.integers(0, 4, n)
    tags[np.arange(3)[None] >= filled[:, None]] = -1
    numeric = rng.normal(size=(n, 1))
    p = 1 / (1 + np.exp(-(1.5 * (item % 2) - 1 + 0.5 * numeric[:, 0])))
    click = rng.random(n) < p
    watch = np.clip(0.5 + 0.3 * (user % 2) + rng.normal(scale=0.1, size=n), 0, 1)
    like = rng.random(n) < 0.5
    ids = np.column_stack([user, item, tags, last]).astype(np.int32)
    f32 = lambda x: np.asarray(x, np.float32)
    return Rows(
        ids,
        f32(numeric),
        {"click": f32(click), "watch": f32(watch * click), "like": f32(like & click)},
        {"duration": f32(rng.integers(5, 300, n)), "truth.click": f32(p)},
        {"user": user.astype(np.int32), "item": item.astype(np.int32)},
    )


def make_setup(**changes) -> Setup:
    """A net of some hundred weights over the planted log."""
    settings = {
        "schema": make_schema(),
        "tasks": ("click", "watch"),
        "architecture": SharedTrunk((8, 6)),
        "crossing": Crossing("inner"),
        "dim": 4,
        "learning_rate": 0.02,
        "task_losses": {"click": "log", "watch": "squared", "like": "focal"},
        "init_scale": 0.3,
    }
    return spec.make_setup(**settings | changes)


def assert_same_bits(got, expected) -> None:
    """Two trees of one structure hold the same bits."""
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(got),
        jax.tree_util.tree_leaves_with_path(expected),
        strict=True,
    )
    for (path, a), (other, b) in pairs:
        assert path == other
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def assert_close(got, expected, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Two trees of one structure are equal within a tolerance."""
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    jax.tree.map(compare, got, expected)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A folder of prepared data sets that the tests of a file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def float64():
    """Lets JAX compute in float64, to compare with an oracle to its last digits."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def schema() -> Schema:
    return make_schema()


@pytest.fixture
def rows() -> Rows:
    return make_rows(400, seed=0)


@pytest.fixture(scope="session")
def log() -> Log:
    return Log(
        make_schema(),
        {
            "train": [make_rows(300, seed=1), make_rows(100, seed=2)],
            "validation": [make_rows(120, seed=3)],
            "test": [make_rows(120, seed=4)],
        },
        {"read": 641, "kept": 640, "dropped: no user": 1},
        ("a planted log for tests",),
    )
