"""Published architectures, one a file, each a `Model` of two pure functions."""

from jaxmtl.models.hard_sharing import hard_sharing
from jaxmtl.models.shared_trunk import shared_trunk

ARCHITECTURES = {"hard_sharing": hard_sharing, "shared_trunk": shared_trunk}
