"""Prints what steps with one collective send on 8 simulated devices, as read."""

import functools
import json

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from experiments.benchmarks.compiled_text import read_step

STEPS = 7
RING = [(i, (i + 1) % 8) for i in range(8)]
PAIRS = [[0, 1], [2, 3], [4, 5], [6, 7]]


def thrice(x):
    return jax.lax.fori_loop(0, 3, lambda i, x: jax.lax.psum(x, "d") + 1, x)


COLLECTIVES = {
    "all_gather": lambda x: jax.lax.all_gather(x, "d").sum(0),
    "psum_scatter": lambda x: jnp.tile(jax.lax.psum_scatter(x, "d", tiled=True), 8),
    "all_to_all": lambda x: jax.lax.all_to_all(x, "d", 0, 0, tiled=True),
    "psum": lambda x: jax.lax.psum(x, "d"),
    "ppermute": lambda x: jax.lax.ppermute(
        x, "d", [(i, (i + 1) % 8) for i in range(8)]
    ),
    "psum three times": thrice,
    "pairs": lambda x: jax.lax.psum(x, "d", axis_index_groups=PAIRS),
}


def sent(collective) -> float:
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False
    )
    def epoch(x):
        return jax.lax.scan(lambda x, _: (collective(x), None), x, length=STEPS)[0]

    text = jax.jit(epoch).lower(jnp.zeros(8 * 1024)).compile().as_text()
    return read_step(text, STEPS, (), 0).sent_bytes


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    print(json.dumps({name: sent(each) for name, each in COLLECTIVES.items()}))
