"""Published architectures, one a file, each a `Model` of two pure functions.

A file holds the frozen dataclass of an architecture's hyper-parameters and the function
that makes its model, `mmoe(options, tasks, layer)`; being here registers it
(`jaxmtl.discovery`). The classes are attributes of this package too: `models.Mmoe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxmtl import discovery
from jaxmtl.layers.crossing import Crossing, feature_layer
from jaxmtl.types import Model, Task

Architecture = Any
"""The hyper-parameters of one architecture; the file of their class says which."""

__getattr__ = discovery.lazy(__name__)


def make(options: Architecture, tasks: Sequence[Task], crossing: Crossing) -> Model:
    """The model of an architecture for some tasks."""
    return discovery.make(options, tasks, feature_layer(crossing))
