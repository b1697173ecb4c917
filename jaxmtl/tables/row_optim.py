"""Optimisers of embedding rows, most of which a batch does not touch.

In the spirit of optax, an optimiser is a few pure functions; but they see a block of
rows, those of one batch (`jaxmtl.tables.embedding` gathers and scatters them), and
never a table. Where a row without a gradient stays where it is (SGD, Adagrad), the
result is that of the dense optimiser. Adam moves every row at every step, and comes in
two forms:

- `lazy_adam`: a row's moments wait for its next gradient, and so does their bias
  correction, as if the steps between had not been.
- `adam`: a row that was skipped first catches up with what dense Adam would have done
  to it, moments and values, in closed form. Read and written through its block, a
  table is that of dense Adam, but for `eps` (see `adam`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from jaxmtl.types import Array

Slots = dict[str, Array]
"""What an optimiser remembers of n rows: name -> [n, width], floats like the rows.

Numbers of updates are floats too, so that everything about a row lies in one line of
one array (`embedding.Table`). A float32 counts exactly up to 2**24, 16.8 million.
"""
Name = Literal["sgd", "adagrad", "rowwise_adagrad", "lazy_adam", "adam"]


class RowOptimiser(NamedTuple):
    """An optimiser of rows as pure functions. A step is `rows - rate · direction`.

    Attributes:
      widths: dim of the rows -> name and width of each slot. Slots start at zero.
      update: (gradients [n, dim], slots, now) -> (directions [n, dim], slots), where
        `now` is the number of this update of the table, int32, counted from 1.
      catch_up: (slots, now) -> (directions, slots): the sum of the dense optimiser's
        directions over the updates, up to and with `now`, that the rows had no
        gradient in. None where they would not have moved.
    """

    widths: Callable[[int], dict[str, int]]
    update: Callable[[Array, Slots, Array], tuple[Array, Slots]]
    catch_up: Callable[[Slots, Array], tuple[Array, Slots]] | None = None


def make(name: Name, *, b1: float, b2: float, eps: float) -> RowOptimiser:
    """The optimiser of a name; b1, b2 and eps are those of both Adams.

    Raises:
      ValueError: the name is unknown.
    """
    if name not in get_args(Name):
        raise ValueError(f"tables {name!r} is none of {list(get_args(Name))}")
    if name in ("lazy_adam", "adam"):
        maker = lazy_adam if name == "lazy_adam" else adam
        return maker(b1=b1, b2=b2, eps=eps)
    return {"sgd": sgd, "adagrad": adagrad, "rowwise_adagrad": rowwise_adagrad}[name]()


def sgd() -> RowOptimiser:
    """Plain gradient descent, which remembers nothing."""
    return RowOptimiser(lambda dim: {}, lambda gradients, slots, now: (gradients, {}))


def adagrad(eps: float = 1e-16) -> RowOptimiser:
    """Adagrad (Duchi, Hazan and Singer, 2011) with a sum for each value.

    The equation is `optax.adagrad`'s, its sums start at 0: of a loss averaged over a
    batch, squared gradients of embeddings are far below the usual start of .1, which
    would leave plain SGD.

    Args:
      eps: added to the sum of squares, inside the root.
    """
    return _adagrad(lambda dim: dim, jnp.square, eps)


def rowwise_adagrad(eps: float = 1e-16) -> RowOptimiser:
    """Adagrad with one sum a row, of the mean of its squared gradients.

    A float a row instead of `dim` of them, as DLRMs of industrial size are trained
    (Mudigere et al., 2022, "Software-Hardware Co-design for Fast and Scalable Training
    of Deep Learning Recommendation Models", section 4.1.3).
    """
    mean_square = lambda rows: jnp.mean(jnp.square(rows), axis=1, keepdims=True)
    return _adagrad(lambda dim: 1, mean_square, eps)


def _adagrad(
    width: Callable[[int], int], size: Callable[[Array], Array], eps: float
) -> RowOptimiser:
    def update(gradients, slots, now):
        squares = slots["squares"] + size(gradients)
        scale = jnp.where(squares > 0, 1 / jnp.sqrt(squares + eps), 0)
        return scale * gradients, {"squares": squares}

    return RowOptimiser(lambda dim: {"squares": width(dim)}, update)


def lazy_adam(*, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> RowOptimiser:
    """Adam (Kingma and Ba, 2015) to which only the updates that touch a row exist.

    On rows touched at every update it equals dense Adam. Besides the moments, `mean`
    and `square`, a row has a `count` of how often it was touched: with a bias
    correction of its own, a rare id's first step is as long as a frequent one's. At
    2**24 the count stops; the correction is 1 long before.

    Args:
      b1: decay of the first moments.
      b2: decay of the second moments.
      eps: added to the root of the second moments.
    """

    def update(gradients, slots, now):
        count = slots["count"] + 1
        mean = b1 * slots["mean"] + (1 - b1) * gradients
        square = b2 * slots["square"] + (1 - b2) * jnp.square(gradients)
        unbiased = mean / (1 - jnp.power(b1, count))
        scale = jnp.sqrt(square / (1 - jnp.power(b2, count))) + eps
        return unbiased / scale, {"mean": mean, "square": square, "count": count}

    widths = lambda dim: {"mean": dim, "square": dim, "count": 1}
    return RowOptimiser(widths, update)


def adam(*, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> RowOptimiser:
    """Adam (Kingma and Ba, 2015) whose skipped rows catch up before they are used.

    Over k updates without a gradient after update s, dense Adam decays the moments m
    and v to b1^k·m and b2^k·v, and takes off the row, times the learning rate,

        Σ_{j=1..k} b1^j·m / (1 − b1^(s+j)) / (√(b2^j·v / (1 − b2^(s+j))) + eps).

    For eps = 0 that is m / √v times a number which depends on s and k alone:

        c(s, k) = T(s) − r^k·T(s + k),
        T(s) = Σ_{j≥1} r^j·√(1 − b2^(s+j)) / (1 − b1^(s+j)),

    with r = b1 / √b2; T is a table made once. Any eps is taken as m·c / (√v + ē), where
    ē is what eps means to √v over the skipped updates, each weighted by its part of c:

        ē·c(s, k) = eps·(U(s) − q^k·U(s + k)),
        U(s) = Σ_{j≥1} q^j·(1 − b2^(s+j)) / (1 − b1^(s+j)),  q = b1 / b2.

    That is exact to first order in eps / √v, and so unless gradients are as small as
    eps. The learning rate of the skipped updates is taken to be that of today. `last`,
    the update that a row's moments and values are those of, is rounded from 2**24
    updates on: k may then be off by one.

    Args:
      b1: decay of the first moments.
      b2: decay of the second moments.
      eps: added to the root of the second moments.

    Raises:
      ValueError: b1 is not below b2: a row once touched would hardly come to rest.
    """
    if not b1 < b2:
        raise ValueError(
            f"b1 = {b1:g} is not below b2 = {b2:g}, so skipped updates have no bound;"
            " lower b1, or use lazy_adam"
        )

    def catch_up(slots, now):
        mean, square, last = (slots[name] for name in ("mean", "square", "last"))
        now = now.astype(last.dtype)
        skipped = now - last

        def skipped_sum(ratio: float, tails: np.ndarray) -> Array:
            tail = jnp.asarray(tails, mean.dtype)
            at = lambda time: tail[jnp.minimum(time, len(tails) - 1).astype(jnp.int32)]
            return at(last) - jnp.power(ratio, skipped) * at(now)

        tails, tiny = _tails(b1, b2), jnp.finfo(mean.dtype).tiny
        path = skipped_sum(b1 / b2**0.5, tails.path)
        mean_eps = eps * skipped_sum(b1 / b2, tails.eps) / jnp.maximum(path, tiny)
        # Never touched, a row divides 0 by 0.
        scale = jnp.maximum(jnp.sqrt(square) + mean_eps, tiny)
        decayed = {
            "mean": jnp.power(b1, skipped) * mean,
            "square": jnp.power(b2, skipped) * square,
            "last": jnp.full_like(last, now),
        }
        return path * mean / scale, decayed

    def update(gradients, slots, now):
        mean = b1 * slots["mean"] + (1 - b1) * gradients
        square = b2 * slots["square"] + (1 - b2) * jnp.square(gradients)
        time = now.astype(mean.dtype)
        unbiased = mean / (1 - jnp.power(b1, time))
        scale = jnp.sqrt(square / (1 - jnp.power(b2, time))) + eps
        last = jnp.full_like(slots["last"], time)
        return unbiased / scale, {"mean": mean, "square": square, "last": last}

    widths = lambda dim: {"mean": dim, "square": dim, "last": 1}
    return RowOptimiser(widths, update, catch_up)


class _Tails(NamedTuple):
    """T(s) and U(s) of `adam` for s = 0, 1, … until bias correction is over."""

    path: np.ndarray
    eps: np.ndarray


@functools.cache
def _tails(b1: float, b2: float) -> _Tails:
    smallest = 1e-17
    terms = int(np.log(smallest) / np.log(b1 / b2)) + 1
    last = int(np.log(smallest) / np.log(b2)) + 1
    time = np.arange(1, last + terms)

    def tail(ratio: float, values: np.ndarray) -> np.ndarray:
        powers = ratio ** np.arange(1, terms + 1)
        return np.convolve(values / (1 - b1**time), powers[::-1], mode="valid")

    shares = 1 - b2**time
    return _Tails(tail(b1 / b2**0.5, np.sqrt(shares)), tail(b1 / b2, shares))
