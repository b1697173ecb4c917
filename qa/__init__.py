"""Tools beside the product: what they measure and guard is the code of `jaxmtl`."""
