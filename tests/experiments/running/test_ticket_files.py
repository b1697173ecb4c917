"""A search on disk whose masks move while its rounds train."""

import jax.numpy as jnp
from conftest import assert_same_bits

from experiments.running import ticket_files
from experiments.running.ticket_files import Outcome
from jaxmtl.sparsity.tickets import Round

LIKE = {"kernel": jnp.ones((2, 9), bool), "bias": None}


def mask_of(first: int):
    return {"kernel": jnp.arange(18).reshape(2, 9) >= first, "bias": None}


BEGUN, MOVED = [mask_of(0), mask_of(5)], [mask_of(1), mask_of(6)]
OUTCOMES = [Outcome(0.7, 1, 0, 1.0), Outcome(0.6, 2, 0, 1.0)]


def unfinished(where):
    return ticket_files.read_unfinished(where, LIKE, print)


def test_a_round_that_ended_has_the_mask_it_moved_to_and_the_one_under_way_its_first(
    tmp_path,
):
    ticket_files.begin_round(tmp_path, BEGUN[0], [])
    ticket_files.end_round(tmp_path, 0, MOVED[0])
    assert_same_bits(unfinished(tmp_path)[0], BEGUN[:1])  # killed before the commit
    ticket_files.begin_round(tmp_path, BEGUN[1], OUTCOMES[:1])
    ticket_files.end_round(tmp_path, 1, MOVED[1])
    found, outcomes = unfinished(tmp_path)
    assert_same_bits(found, [MOVED[0], BEGUN[1]])
    assert outcomes == OUTCOMES[:1]


def test_a_finished_search_holds_the_masks_its_rounds_moved_to(tmp_path):
    for number in range(2):
        ticket_files.begin_round(tmp_path, BEGUN[number], OUTCOMES[:number])
        ticket_files.end_round(tmp_path, number, MOVED[number])
    rounds = [
        Round(mask, 0.5, outcome.value, outcome.best_epoch)
        for mask, outcome in zip(MOVED, OUTCOMES, strict=True)
    ]
    ticket_files.finish(tmp_path, rounds, {"seed": 0})
    read = ticket_files.read(tmp_path, LIKE, {"seed": 0})
    assert_same_bits([r.mask for r in read], MOVED)
    assert [r._replace(mask=None) for r in read] == [
        r._replace(mask=None) for r in rounds
    ]
