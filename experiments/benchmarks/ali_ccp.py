"""Preparing Ali-CCP from raw text: rows a second, and memory as the file grows.

    python -m experiments.benchmarks.ali_ccp
    python -m experiments.benchmarks.ali_ccp --rows 1000000 --folder ali_ccp_made

The true data need an account, so files in their form are made: the published fields,
rates (3.9 % clicked, one in 4,584 bought) and proportions (258 bytes an impression,
58 impressions and 11.8 kB a line of common features). Clicks depend on user, item
and whether the two match, so that models have something to learn. The folder stays,
for `--data.name ali_ccp --data.path ali_ccp_made`.

Each size is prepared in a process of its own, from raw text to mapped columns. A
core's rows a second are those of the process's CPU time, over all of its threads.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from experiments.benchmarks import command
from experiments.benchmarks.memory import watched_memory
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from jaxmtl.data.sources import ali_ccp
from jaxmtl.data.sources.ali_ccp.join import FILES
from jaxmtl.data.store import prepare

USERS, ITEMS = 20_000, 100_000
"""Of the made world, at every size: its vocabularies do not grow with the file."""
ROWS_A_LINE = 58
CLICKED, BOUGHT = 0.0389, 1 / 4584
PROFILE_SIZES = {
    "121": 98,
    "122": 14,
    "124": 3,
    "125": 8,
    "126": 4,
    "127": 4,
    "128": 3,
    "129": 5,
}
KINDS = {
    "category": ("109_14", "206", "508", 7_000, 60),
    "shop": ("110_14", "207", "509", 30_000, 200),
    "brand": ("127_14", "216", "702", 15_000, 120),
    "intention": ("150_14", "210", "853", 10_000, 150),
}
"""Field of the history, of the item and of both; ids; how many a history holds."""
INTENTIONS = 6
"""At most, of an item."""
NAMES = (
    "101",
    *PROFILE_SIZES,
    "205",
    "301",
    *(field for kind in KINDS.values() for field in kind[:3]),
)
STRIDE = 400_000
"""The files number all fields' ids in one sequence; here each has a range of it."""
WRITE_ROWS = 58_000


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to prepare.

    Attributes:
      rows: impressions of the training file; the test file has a tenth of them.
      folder: of the raw files, which are made where it holds none; None = a
        temporary folder.
      ali_ccp: which rows and ids are kept.
    """

    rows: int = 1_000_000
    folder: Path | None = Path("ali_ccp_made")
    ali_ccp: ali_ccp.AliCcpOptions = ali_ccp.AliCcpOptions()


QUICK = Options(100_000, None)
COLUMNS = (
    Column("rows", "rows", ","),
    Column("rows_a_second", "rows/s", ",.0f"),
    Column("rows_a_cpu_second", "a core", ",.0f"),
    Column("before", "RssAnon before, MB", ".0f", 1e-6),
    Column("peak", "peak", ".0f", 1e-6),
    Column("ids", "known ids", ","),
)


class World(NamedTuple):
    """Who and what the impressions are of.

    Attributes:
      users: how much each likes to click, [USERS].
      items: how much each is clicked, [ITEMS].
      things: kind -> its id of every item, [ITEMS, 1 or INTENTIONS].
    """

    users: np.ndarray
    items: np.ndarray
    things: dict[str, np.ndarray]


def make_world() -> World:
    """The same world for every file."""
    rng = np.random.default_rng(0)
    things = {}
    for kind, (_, _, _, size, _) in KINDS.items():
        width = INTENTIONS if kind == "intention" else 1
        things[kind] = _skewed(rng, size, (ITEMS, width))
    return World(rng.normal(size=USERS), rng.normal(size=ITEMS), things)


def write_files(folder: Path, rows: int) -> None:
    """Writes the four raw files."""
    folder.mkdir(parents=True, exist_ok=True)
    world = make_world()
    for seed, (part, n) in enumerate((("train", rows), ("test", -(-rows // 10)))):
        rng = np.random.default_rng(1 + seed)
        with (
            open(folder / f"common_features_{part}.csv", "wb") as common,
            open(folder / f"sample_skeleton_{part}.csv", "wb") as skeleton,
        ):
            for start in range(0, n, WRITE_ROWS):
                size = min(WRITE_ROWS, n - start)
                _write_block(rng, world, common, skeleton, start, size)


def _write_block(rng, world: World, common, skeleton, start: int, n: int) -> None:
    lines = -(-n // ROWS_A_LINE)
    md5 = pa.array([f"{x:016x}" for x in rng.integers(0, 2**63, lines)])
    users, fans = rng.integers(0, USERS, lines), rng.integers(0, ITEMS, (lines, 8))
    _write_common(rng, world, common, md5, users, fans)
    line = np.arange(n) // ROWS_A_LINE
    # The user has met what he sees before, or it is what is popular.
    met = rng.random(n) < 0.3
    popular = _skewed(rng, ITEMS, (n,)) - 1
    item = np.where(met, fans[line, rng.integers(0, 8, n)], popular)
    labels = _labels(rng, world, users[line], item, met)
    numbers = pa.array(np.arange(start + 1, start + n + 1)).cast(pa.string())
    texts = [pa.array(label.astype(np.int8)).cast(pa.string()) for label in labels]
    head = [numbers, *texts, md5.take(pa.array(line))]
    _write_impressions(rng, world, skeleton, head, item, met)


def _write_common(rng, world: World, file, md5: pa.Array, users, fans) -> None:
    features = [_feature("101", users)]
    for name, size in PROFILE_SIZES.items():
        features.append(_feature(name, (users * 2_654_435_761 >> 7) % size))
    for kind, (history, _, _, size, count) in KINDS.items():
        ids = _skewed(rng, size, (users.size, count))
        ids[:, : fans.shape[1]] = world.things[kind][fans, 0]
        for column in ids.T:
            values = np.log1p(rng.integers(1, 9, users.size))
            features.append(_feature(history, column, values))
    _write_lines(file, [md5], features, [np.ones(users.size, bool)] * len(features))


def _write_impressions(rng, world: World, file, head, item, met) -> None:
    n = item.size
    features = [_feature("205", item), _feature("301", rng.integers(0, 3, n))]
    shown = [np.ones(n, bool)] * 2
    for kind, (_, of_item, of_both, _, _) in KINDS.items():
        for slot, ids in enumerate(world.things[kind][item].T):
            there = (slot == 0) | (rng.random(n) < 0.7)
            features += [_feature(of_item, ids)]
            features += [_feature(of_both, ids, np.log1p(rng.integers(1, 9, n)))]
            shown += [there, there & (met | (rng.random(n) < 0.2))]
    _write_lines(file, head, features, shown)


def _labels(rng, world, user, item, met) -> tuple[np.ndarray, np.ndarray]:
    logit = world.users[user] + world.items[item] + 1.5 * met
    click = rng.random(user.size) < _at_rate(logit, CLICKED)
    taste = 0.5 * world.users[user] - world.items[item] + 1.5 * met
    buy = click & (rng.random(user.size) < _at_rate(taste, BOUGHT / CLICKED))
    # The true files hold purchases without a click too.
    return click, buy | (rng.random(user.size) < 1e-5)


def _at_rate(logit: np.ndarray, rate: float) -> np.ndarray:
    """Probabilities of that mean, by moving all logits alike."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        p = 1 / (1 + np.exp(-logit - middle))
        low, high = (middle, high) if p.mean() < rate else (low, middle)
    return p


def _skewed(rng, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Ids 1 … size, low ones most often, as popular things are."""
    return 1 + (size * rng.random(shape) ** 3).astype(np.int64)


def _feature(name: str, ids: np.ndarray, value: np.ndarray | None = None) -> pa.Array:
    """`field␂id␃value` [n]."""
    ids = pa.array(STRIDE * NAMES.index(name) + 1 + ids).cast(pa.string())
    values = "1.0" if value is None else pa.array(np.round(value, 5)).cast(pa.string())
    id_and_value = pc.binary_join_element_wise(ids, values, "\x03")
    return pc.binary_join_element_wise(name, id_and_value, "\x02")


def _write_lines(file, start: list[pa.Array], features: list[pa.Array], shown) -> None:
    """Writes `start`, the number of features shown, and these, a line each."""
    count = pa.array(np.sum(shown, axis=0)).cast(pa.string())
    features = [
        pc.if_else(pa.array(here), feature, None)
        for feature, here in zip(features, shown, strict=True)
    ]
    lists = pc.binary_join_element_wise(*features, "\x01", null_handling="skip")
    lines = pc.binary_join_element_wise(*start, count, lists, ",")
    lines = pc.binary_join_element_wise(lines, "", "\n")
    file.write(lines.buffers()[2])


class Cost(NamedTuple):
    """What preparing took.

    Attributes:
      rows: read, of all files.
      ids: of all vocabularies together.
      seconds, cpu_seconds: wall time, and CPU time over all threads.
      before, peak: private memory in bytes (RssAnon), NaN where unknown.
    """

    rows: int
    ids: int
    seconds: float
    cpu_seconds: float
    before: float
    peak: float


def prepare_here(folder: Path, options: ali_ccp.AliCcpOptions) -> Cost:
    """Prepares a folder's log in this process, from text to mapped columns."""
    with watched_memory() as memory, tempfile.TemporaryDirectory() as cache:
        started, cpu_started = time.perf_counter(), time.process_time()
        read = lambda: ali_ccp.read(folder, options)
        data = prepare("ali_ccp", {}, read, Path(cache), say=lambda text: None)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    ids = sum(vocabulary.size for vocabulary in data.schema.vocabularies)
    return Cost(data.counts["read"], ids, seconds, cpu, **memory)


def prepare_alone(folder: Path, options: ali_ccp.AliCcpOptions) -> Cost:
    """`prepare_here` in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(prepare_here, folder, options).result()


def measure(options: Options) -> Iterator[Table]:
    """Makes the files where there are none, and yields one table of both sizes."""
    records = []
    with tempfile.TemporaryDirectory() as temporary:
        quarter = Path(temporary) / "quarter"
        whole = options.folder or Path(temporary) / "whole"
        if not any((whole / name).exists() for name in FILES):
            write_files(whole, options.rows)
        write_files(quarter, options.rows // 4)
        for folder in (quarter, whole):
            cost = prepare_alone(folder, options.ali_ccp)
            speeds = {
                "rows_a_second": cost.rows / cost.seconds,
                "rows_a_cpu_second": cost.rows / cost.cpu_seconds,
            }
            records.append(cost._asdict() | speeds)
    yield Table(
        "Ali-CCP from raw text to mapped columns",
        COLUMNS,
        records,
        plot=Plot("rows_a_cpu_second", "rows a second of a core", "rows"),
    )


if __name__ == "__main__":
    command.main("ali_ccp", measure, Options)
