"""Copies, loops and collectives of compiled programs, counted by hand."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import compiled_text
from experiments.benchmarks.compiled_text import Step, read_step

STEPS, LINES, WIDTH, IDS = 7, 96_000, 5, 64
TABLE = (LINES, WIDTH)

TPU = Path(__file__).with_name("tpu_step.hlo").read_text(encoding="utf-8")
"""As a TPU's compiler writes: trip counts in conditions, moves to a nearer memory, and
an all-reduce of which each device keeps a slice."""


def test_a_tpus_step_by_hand():
    given = 64 * 32 * 4
    expected = Step(
        # The reduce-scatter 7 / 8 of what is given, the gather 7 parts of an eighth.
        sent_bytes=given * 7 / 8 + 7 * given / 8,
        table_copies=2,  # `moved` and `joined`; neither what is put nor the epoch's own
        serial_loops=1,
    )
    tables = ((1000,), (1000, 97))
    assert read_step(TPU, STEPS, tables, IDS) == expected


GPU = Path(__file__).with_name("gpu_step.hlo").read_text(encoding="utf-8")
"""As a GPU's compiler writes: known trip counts, collectives in two parts."""


def test_a_gpus_step_by_hand():
    reduced = 2 * 16 / 2  # of 16 bytes, by pairs
    expected = Step(
        # 1,600 turns, and one of the loop whose turns nobody knows.
        sent_bytes=7 * 8 * 4 + 1601 * reduced,
        table_copies=2,  # `old` and `dense`
        serial_loops=1,
    )
    assert read_step(GPU, STEPS, ((1000, 97),), IDS) == expected


def test_a_program_without_such_a_loop_says_so():
    with pytest.raises(ValueError, match="no loop of the compiled program runs 8"):
        read_step(GPU, 8, (), IDS)


@pytest.mark.parametrize(
    ("sizes", "ids", "is_one"),
    [
        ((1000, 97), 64, True),
        ((97, 1000), 64, True),  # transposed
        ((1, 10, 100, 97), 64, True),
        ((97_000,), 64, True),
        ((1024, 97), 64, True),  # filled up
        ((1000, 40), 64, False),  # less than half
        ((500, 97), 64, True),
        ((500, 97), 400, False),  # might be a batch
        ((400, 2, 97), 64, False),
        ((300, 97), 64, False),
    ],
)
def test_what_is_as_large_as_a_table(sizes, ids, is_one):
    shape = compiled_text.Shape("f32", sizes)
    assert compiled_text._is_of_table(shape, (1000, 97), ids) == is_one


# Programs that are compiled here


def compiled(body, *more):
    """The text of an epoch over a table, for this machine."""

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(table, ids, *more):
        return jax.lax.scan(lambda table, ids: body(table, ids, *more), table, ids)

    table = jnp.zeros(TABLE)
    ids = jnp.zeros((STEPS, IDS), jnp.int32)
    return epoch.lower(table, ids, *more).compile().as_text()


def put(table, ids):
    lines = table.at[ids].get(mode="fill", fill_value=0)
    return table.at[ids].set(lines + 1, mode="drop")


def in_place(table, ids):
    return put(table, ids), None


def with_a_sum(table, ids):
    """The old table is read after the new one was written."""
    new = put(table, ids)
    return new, jnp.sum(new * table)


def dense(table, ids):
    gradients = jnp.zeros(TABLE).at[ids].add(1.0)
    return table - 0.1 * gradients, None


@pytest.mark.parametrize(
    ("body", "copies"), [(in_place, False), (with_a_sum, True), (dense, True)]
)
def test_a_table_that_is_written_in_place_is_not_copied(body, copies):
    found = read_step(compiled(body), STEPS, (TABLE,), IDS)
    assert (found.table_copies > 0) == copies
    assert found.sent_bytes == 0


def repeated(times, body):
    return lambda table, ids: (jax.lax.fori_loop(0, times, body, table), None)


@pytest.mark.parametrize(
    ("body", "loops"),
    [
        (repeated(2000, lambda i, t: t.at[i].multiply(2.0)), 1),
        (repeated(900, lambda i, t: t.at[i].multiply(2.0)), 0),
        (
            repeated(
                40,
                lambda i, t: jax.lax.fori_loop(
                    0, 40, lambda j, t: t.at[40 * i + j].multiply(2.0), t
                ),
            ),
            1,
        ),
    ],
)
def test_loops_that_run_long_are_counted_with_those_inside_them(body, loops):
    assert read_step(compiled(body), STEPS, (TABLE,), IDS).serial_loops == loops


def test_a_loop_of_unknown_length_is_taken_to_turn_once():
    def body(table, ids):
        less = lambda t: t[0, 0] < 1e9
        return jax.lax.while_loop(less, lambda t: t.at[0].multiply(2.0), table), None

    assert read_step(compiled(body), STEPS, (TABLE,), IDS).serial_loops == 0


ON_EIGHT = Path(__file__).with_name("sent_by_eight.py")


def test_what_eight_devices_send_by_hand():
    """Each gives 1,024 floats, 4,096 bytes, to each kind of collective."""
    ended = subprocess.run(
        [sys.executable, ON_EIGHT], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "all_gather": 7 * 4096,
        "psum_scatter": 7 / 8 * 4096,
        "all_to_all": 7 / 8 * 4096,
        "psum": 2 * 7 / 8 * 4096,
        "ppermute": 4096,
        "psum three times": 3 * 2 * 7 / 8 * 4096,
        "pairs": 2 * 1 / 2 * 4096,
    }
