"""The options of Adam and its kin, and checks of optimisers' and schedules' options.

A check takes a frozen dataclass and the names of its options to check, and raises a
`ValueError` that says which one is wrong, what it is and what it may be.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence

import numpy as np

TINY = float(np.finfo(np.float32).tiny)


def check_decays(options: object, *names: str) -> None:
    """Decays of running means: in [0, 1), also once they are float32."""
    is_fine = lambda x: x >= 0 and np.float32(x) < 1
    _check(options, names, is_fine, "a number in [0, 1), as float32 too")


def check_positive(options: object, *names: str) -> None:
    """Numbers that keep a denominator from 0: float32 must not flush them."""
    is_fine = lambda x: TINY <= x < math.inf
    _check(options, names, is_fine, f"a number of at least {TINY:.2g}")


def check_not_negative(options: object, *names: str) -> None:
    """Numbers from 0 on."""
    _check(options, names, lambda x: 0 <= x < math.inf, "a number of at least 0")


def check_fractions(options: object, *names: str) -> None:
    """Numbers in [0, 1]."""
    _check(options, names, lambda x: 0 <= x <= 1, "a number in [0, 1]")


def check_steps(options: object, *names: str, least: int) -> None:
    """Numbers of steps: whole, from `least` on."""
    is_fine = lambda x: isinstance(x, numbers.Integral) and x >= least
    _check(options, names, is_fine, f"a whole number of at least {least}")


@dataclasses.dataclass(frozen=True)
class AdamOptions:
    """Hyper-parameters of Adam, and of methods that change what it does with them.

    Attributes:
      b1: decay of the mean of gradients.
      b2: decay of the mean of their squares.
      eps: added to the root.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self):
        check_decays(self, "b1", "b2")
        check_positive(self, "eps")


def _check(
    options: object,
    names: Sequence[str],
    is_fine: Callable[[float], bool],
    expected: str,
) -> None:
    for name in names:
        value = getattr(options, name)
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (is_number and is_fine(value)):
            raise ValueError(
                f"{type(options).__name__}.{name} is {value!r}; give {expected}"
            )
