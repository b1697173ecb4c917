"""A contender for `test_benchmarks`; here, so that its process starts quickly."""

import numpy as np


def make(numbers):
    """A call that adds so many numbers."""
    array = np.ones(numbers)
    return array.sum, numbers
