"""How the lines of a table lie in memory and are accessed, which platforms differ in.

XLA (of JAX 0.10) makes other code of one access on each platform:

- A CPU computes slices and concatenations of lines value by value, up to ten times
  slower than vectors. There each part of a line is read and written by a gather and a
  scatter of its own; lines that were just read are in a cache, so this costs little.
- On a TPU a scatter into part of a line is a serial loop over all ids, and a table is
  copied at the begin and end of a scan unless its lines fill the 128 lanes of a
  register. There lines are padded and written whole.
- For a GPU a gather is fused into the scatter that follows from it, which then needs
  the table as it was beside the table as it becomes: two copies of it in each step. A
  barrier behind the gather keeps them apart. A line begins at a sector of 32 bytes.

Which of a batch's ids are equal, a CPU finds without sorting, in a scratch space of a
number a row (`repeats.touched`). A TPU would copy that space to its faster memory and
back in each step; where lines are whole, ids are sorted.

What is saved of a table does not depend on it (`jaxmtl.tables.portable`).
"""

from __future__ import annotations

import dataclasses

import jax
from jax.sharding import Mesh


@dataclasses.dataclass(frozen=True)
class Layout:
    """How lines lie in memory and are accessed.

    Attributes:
      multiple: the floats in a line are padded to a multiple of this.
      whole: whether lines are read and written whole and ids sorted, as accelerators
        do; or all that part by part and by a scratch space.
      pass_rows: rows at a time in a pass over a whole table.
    """

    multiple: int
    whole: bool
    pass_rows: int

    def width(self, floats: int) -> int:
        """Floats in a line, of which so many are used."""
        return -(-floats // self.multiple) * self.multiple


CPU = Layout(multiple=1, whole=False, pass_rows=2**12)
GPU = Layout(multiple=8, whole=True, pass_rows=2**16)
TPU = Layout(multiple=128, whole=True, pass_rows=2**16)


def layout_of(mesh: Mesh | None) -> Layout:
    """The layout for a mesh's devices; for JAX's default ones without a mesh."""
    devices = jax.devices() if mesh is None else mesh.devices.flat
    return {"cpu": CPU, "tpu": TPU}.get(devices[0].platform, GPU)
