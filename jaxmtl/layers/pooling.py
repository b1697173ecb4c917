"""A field's vector: the mean of its embeddings, of which a row may have several."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np

from jaxmtl.types import PADDING, Array, Schema


def pool(schema: Schema, gathered: Array, ids: Array) -> Array:
    """The mean over each field's filled slots: float32 [batch, fields, dim].

    Zeros for a field without any. Differentiate with respect to `gathered`.

    Args:
      schema: the fields, in the order of their slots.
      gathered: float32 [batch, slots, dim], zero at padding.
      ids: int32 [batch, slots], -1 = padding.
    """
    # Neighbours with as many slots are one part. They are split off and not sliced:
    # so backward is a concatenation, where each slice would be a padded sum over all
    # slots, a tenth of the demonstration's step on a CPU.
    runs = itertools.groupby(field.slots for field in schema.fields)
    counts = [(slots, len(list(run))) for slots, run in runs]
    ends = np.cumsum([slots * fields for slots, fields in counts])[:-1].tolist()
    of_rows, of_ids = (jnp.split(array, ends, axis=1) for array in (gathered, ids))
    parts = zip(counts, of_rows, of_ids, strict=True)
    return jnp.concatenate([_mean(*part) for part in parts], axis=1)


def _mean(counts: tuple[int, int], rows: Array, ids: Array) -> Array:
    """[batch, fields, dim] of `counts`, the slots of each field and the fields."""
    slots, fields = counts
    if slots == 1:
        return rows
    filled = ids.reshape(-1, fields, slots) != PADDING
    share = 1.0 / jnp.maximum(jnp.sum(filled, axis=2), 1)
    # Slot by slot, which fuses into one loop; a CPU's library sums by a call.
    by_slot = jnp.split(rows.reshape(*filled.shape, -1), slots, axis=2)
    return sum(by_slot)[:, :, 0] * share[:, :, None]
