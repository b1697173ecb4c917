"""Accelerators that are not at hand, but whose compilers are.

XLA compiles a program ahead of time for devices that are only described. A TPU's
compiler is the package `libtpu`, a GPU's a part of JAX's CUDA plugin; neither needs the
device. What a GPU can do is told by a text (`h100.txt`), what a TPU can by its name.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from jaxmtl.devices.sharding import AXIS
from jaxmtl.tables.layout import GPU, TPU, Layout
from jaxmtl.training.spec import Setup

H100 = Path(__file__).with_name("h100.txt")
ENVIRONMENT = {
    # Or JAX would start the accelerator that it finds an library for.
    "JAX_PLATFORMS": "cpu",
    # No TPU is looked for, and several processes may compile at once.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What has to be set before JAX is imported where something is compiled."""


class Target(NamedTuple):
    """Devices that a program is compiled for.

    Attributes:
      platform: `tpu` or `cuda`.
      topology: the compiler's name of devices that hold those.
      devices: how many.
    """

    platform: str
    topology: str
    devices: int

    def missing(self) -> str | None:
        """How to install the compiler; None where it is there."""
        module, extra = {
            "tpu": ("libtpu", "aot-tpu"),
            "cuda": ("jax_cuda12_plugin", "aot-cuda"),
        }[self.platform]
        if importlib.util.find_spec(module):
            return None
        return f"no compiler for {self.platform}: pip install -e '.[{extra}]'"

    def described(self) -> Sequence[jax.Device]:
        """The devices, which can be compiled for and not computed on."""
        return _described(*self)

    @property
    def layout(self) -> Layout:
        """Of the tables' lines there."""
        return {"tpu": TPU, "cuda": GPU}[self.platform]

    def mesh(self) -> Mesh | None:
        """All of them on one axis; None for one device, whose programs need none."""
        if self.devices == 1:
            return None
        return Mesh(np.array(self.described()), (AXIS,), (AxisType.Auto,))

    def place(self, setup: Setup) -> Setup:
        """A training on these devices."""
        return setup.with_net(mesh=self.mesh(), layout=self.layout)


@functools.cache
def _described(platform: str, topology: str, devices: int) -> Sequence[jax.Device]:
    if platform == "tpu":
        about = {}
    else:
        about = {"topology": topology, "target_config": H100.read_text("utf-8")}
    found = topologies.get_topology_desc(topology, platform, **about).devices
    return found[:devices]


TARGETS = {
    # A host has four chips, of which the first is enough for one.
    "tpu-v5e-1": Target("tpu", "v5e:2x2", 1),
    "tpu-v5e-8": Target("tpu", "v5e:2x4", 8),
    "tpu-v5e-64": Target("tpu", "v5e:8x8", 64),
    "tpu-v5e-256": Target("tpu", "v5e:16x16", 256),
    "cuda-h100-1": Target("cuda", "1x1x1", 1),
    "cuda-h100-8": Target("cuda", "1x1x8", 8),  # of one host
}


def is_set_up() -> bool:
    """Whether this process may compile for a target (`ENVIRONMENT`)."""
    return ENVIRONMENT.items() <= os.environ.items()
