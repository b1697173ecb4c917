"""Random keys by name, so that nets which share a part start it alike.

A ticket search trains one task and joint training all of them, from the same
initial trunk and tables (LT4REC Algorithm 1, lines 6 and 11). A key that is
split by position would change with the number of tasks; one folded with a name
does not.
"""

import zlib

import jax

from jaxmtl.types import Key


def named(key: Key, *names: str) -> Key:
    """The key of the part called `names`, whatever other parts there are."""
    return jax.random.fold_in(key, zlib.crc32("/".join(names).encode()))
