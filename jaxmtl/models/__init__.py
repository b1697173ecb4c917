"""Published architectures, one a file, each a `Model` of two pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxmtl.models.aitm import Aitm, aitm
from jaxmtl.models.cross_stitch import CrossStitch, cross_stitch
from jaxmtl.models.crossing import Crossing, feature_layer
from jaxmtl.models.dcrnn import Dcrnn, dcrnn
from jaxmtl.models.esmm import Esmm, esmm
from jaxmtl.models.hard_sharing import HardSharing, hard_sharing
from jaxmtl.models.mmoe import Mmoe, mmoe
from jaxmtl.models.omoe import Omoe, omoe
from jaxmtl.models.ple import Ple, ple
from jaxmtl.models.shared_bottom import SharedBottom, shared_bottom
from jaxmtl.models.shared_trunk import SharedTrunk, shared_trunk
from jaxmtl.types import Model, Task

Architecture = (
    SharedTrunk
    | HardSharing
    | SharedBottom
    | Mmoe
    | Omoe
    | Ple
    | CrossStitch
    | Esmm
    | Aitm
    | Dcrnn
)
"""The hyper-parameters of one architecture; its type says which."""
ARCHITECTURES: dict[type, Callable[..., Model]] = {
    SharedTrunk: shared_trunk,
    HardSharing: hard_sharing,
    SharedBottom: shared_bottom,
    Mmoe: mmoe,
    Omoe: omoe,
    Ple: ple,
    CrossStitch: cross_stitch,
    Esmm: esmm,
    Aitm: aitm,
    Dcrnn: dcrnn,
}


def make(options: Architecture, tasks: Sequence[Task], crossing: Crossing) -> Model:
    """The model of an architecture for some tasks."""
    return ARCHITECTURES[type(options)](tasks, options, feature_layer(crossing))
