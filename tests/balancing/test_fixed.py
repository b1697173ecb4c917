"""Fixed weights give the gradient of the weighted sum by one pull-back."""

import numpy as np
import pytest
from balancing_toys import TASKS, combine, draw, flat, start, tasks_of

from jaxmtl.balancing.methods.fixed import Fixed, fixed


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_gradient_is_that_of_the_weighted_sum(number, masked):
    tasks = tasks_of(number)
    state, given = start(Fixed(), tasks, {"click": 0.25}), {"click": 0.25}
    for seed in range(3):
        step = draw(tasks, seed, masked=masked)
        gradients, after, used = combine(Fixed(), state, step)
        expected = flat(step.rest) + sum(
            given.get(name, 1.0) * flat(g) for name, g in step.gradients.items()
        )
        np.testing.assert_allclose(flat(gradients), expected, atol=1e-6)
        assert after is state
        assert used == {name: given.get(name, 1.0) for name in tasks}


def test_it_pulls_once():
    calls = []
    step = draw(TASKS, 0)
    pull = lambda *args: calls.append(args) or step.rest
    fixed(Fixed()).combine(
        step.losses,
        pull,
        start(Fixed(), TASKS),
        masks=step.masks,
        counts=step.counts,
        step=0,
        learning_rate=0.1,
    )
    assert len(calls) == 1


def test_it_serves_steps_of_one_task_in_turn():
    assert fixed(Fixed()).schedules == ("sum", "alternate")
    state = start(Fixed(), TASKS, {"like": 3.0})
    step = draw(TASKS, 0).only(["like"])
    gradients, after, used = combine(Fixed(), state, step)
    np.testing.assert_allclose(
        flat(gradients), flat(step.rest) + 3 * flat(step.gradients["like"]), rtol=1e-5
    )
    assert after is state and used == {"like": 3.0}
