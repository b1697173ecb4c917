"""What tasks share under their masks, against counting by hand and against chance."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmtl.sparsity import sharing

few = settings(max_examples=25, deadline=None)
PATH = "shared/layer00/kernel"


def mask_of(*layers, tower=None, task="click"):
    shared = {
        f"layer{i:02d}": {"kernel": jnp.asarray(layer, bool), "bias": None}
        for i, layer in enumerate(layers)
    }
    tasks = {name: {"mlp": None} for name in ("click", "watch")}
    tasks[task]["mlp"] = None if tower is None else jnp.asarray(tower, bool)
    return {"shared": shared, "tasks": tasks}


A = [[1, 1, 1, 0], [0, 0, 0, 0]]
B = [[1, 0, 0, 0], [1, 0, 0, 0]]
C = [[1, 0, 1, 0], [0, 0, 0, 1]]


def test_a_layers_parts_by_hand():
    parts = sharing.layer_parts({"click": mask_of(A), "watch": mask_of(B)})
    expected = sharing.Parts(1 / 8, {"click": 2 / 8, "watch": 1 / 8}, 4 / 8)
    assert parts == {PATH: expected}


def test_with_three_tasks_shared_is_what_any_two_keep():
    three = {"click": mask_of(A), "watch": mask_of(B), "like": mask_of(C)}
    private = {"click": 1 / 8, "watch": 1 / 8, "like": 1 / 8}
    assert sharing.layer_parts(three)[PATH] == sharing.Parts(2 / 8, private, 3 / 8)


def test_towers_of_one_task_are_no_layer_of_both():
    tower = np.ones((2, 2))
    pair = {
        "click": mask_of(A, tower=tower),
        "watch": mask_of(B, tower=tower, task="watch"),
    }
    assert list(sharing.layer_parts(pair)) == [PATH]
    assert list(sharing.layer_overlaps(*pair.values())) == [PATH]


def test_overlap_by_hand():
    # 3 and 2 of 8 weights: one in common; by chance 6/8 of one.
    found = sharing.overlap(mask_of(A), mask_of(B))
    assert found.iou == 1 / 4
    assert found.chance == pytest.approx(0.75 / 4.25)
    assert sharing.overlap(mask_of(A), mask_of(A)).iou == 1
    nothing = mask_of(np.zeros((2, 4)))
    assert sharing.overlap(nothing, nothing) == (1, 1)
    assert sharing.overlap(nothing, mask_of(A)) == (0, 0)


def test_chance_is_taken_layer_by_layer():
    """Two masks that keep the same layer whole overlap there by chance already."""
    whole, none = np.ones((4, 4)), np.zeros((4, 4))
    found = sharing.overlap(mask_of(whole, none), mask_of(whole, none))
    assert found == (1, 1)


@few
@given(hnp.arrays(bool, (5, 4)), hnp.arrays(bool, (5, 4)), hnp.arrays(bool, (4, 2)))
def test_parts_sum_to_one_and_agree_with_the_overlap(a, b, c):
    masks = {"click": mask_of(a, c), "watch": mask_of(b, ~c)}
    overlaps = sharing.layer_overlaps(*masks.values())
    for path, parts in sharing.layer_parts(masks).items():
        used = parts.shared + sum(parts.private.values())
        assert used + parts.dead == pytest.approx(1)
        iou = parts.shared / used if used else 1
        assert overlaps[path].iou == pytest.approx(iou)
    reversed_masks = list(masks.values())[::-1]
    assert sharing.overlap(*masks.values()) == sharing.overlap(*reversed_masks)


@few
@given(st.integers(0, 600), st.integers(1, 600), st.integers(0, 2**32 - 1))
def test_random_masks_overlap_as_chance_says(kept_a, kept_b, seed):
    random, size = np.random.default_rng(seed), 600
    places = random.permuted(np.tile(np.arange(size), (300, 1)), axis=1)
    a = np.arange(size) < kept_a
    ious = [(a & (p < kept_b)).sum() / (a | (p < kept_b)).sum() for p in places]
    shape = lambda mask: mask_of(mask.reshape(30, 20))
    chance = sharing.overlap(shape(a), shape(np.arange(size) < kept_b)).chance
    assert abs(np.mean(ious) - chance) < 5 * np.std(ious) / np.sqrt(300) + 2 / size


def test_nets_of_other_inputs_are_compared_behind_the_first_layer():
    a, b = mask_of(np.ones((3, 4)), A), mask_of(np.ones((5, 4)), B)
    assert list(sharing.layer_overlaps(a, b)) == ["shared/layer01/kernel"]
    assert sharing.overlap(a, b) == sharing.overlap(mask_of(A), mask_of(B))


def test_regions_split_the_layers_that_both_tasks_prune():
    tower = np.ones((2, 2))
    masks = {"click": mask_of(A, tower=tower), "watch": mask_of(B)}
    found = sharing.regions(masks)
    kernel = lambda name: np.asarray(found[name]["shared"]["layer00"]["kernel"])
    np.testing.assert_array_equal(kernel("overlap"), np.logical_and(A, B))
    np.testing.assert_array_equal(kernel("outside"), ~kernel("overlap"))
    assert found["overlap"]["shared"]["layer00"]["bias"] is None
    assert found["outside"]["tasks"]["click"]["mlp"] is None


def test_inputs_of_a_first_layer_by_hand():
    kernel = np.zeros((2 * 2 + 3 + 1, 2), bool)
    kernel[0] = True  # half of the first field's
    kernel[4:6, 0] = True  # 2 of the 6 weights of crosses
    kernel[-1] = True
    found = sharing.input_density(kernel, ("user", "item"), dim=2, numerics=1)
    assert found == {
        "user": 0.5,
        "item": 0,
        "crosses": pytest.approx(1 / 3),
        "numeric": 1,
    }
    plain = sharing.input_density(kernel[:4], ("user", "item"), dim=2, numerics=0)
    assert plain == {"user": 0.5, "item": 0}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="8 inputs cannot hold 5 fields of width 2"):
        sharing.input_density(np.ones((8, 2), bool), "abcde", dim=2, numerics=0)
    with pytest.raises(ValueError, match=r"at shared/layer00/kernel.*of one net"):
        sharing.layer_parts({"a": mask_of(A), "b": mask_of(np.ones((3, 3)))})
    with pytest.raises(ValueError, match="no masks to compare"):
        sharing.layer_parts({})
    with pytest.raises(ValueError, match="no layer of one shape"):
        sharing.overlap(mask_of(A), mask_of(np.ones((3, 3))))
