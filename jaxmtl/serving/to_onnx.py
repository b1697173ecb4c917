"""An exported program as one ONNX file, for servers that run no JAX.

The file is what `jax2onnx` (https://github.com/enpasos/jax2onnx), which needs no
TensorFlow, makes of the program that `export` writes. It holds the weights of its tasks
and takes encoded rows, any number of them: `ids` and `numeric` in, one output for each
prediction, with the names of `serving.Scorer.predict`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxmtl import discovery
from jaxmtl.serving.bundle import Bundle
from jaxmtl.serving.export import kind_of, make_program
from jaxmtl.serving.scoring import read_net
from jaxmtl.training.spec import Setup


def find_converter() -> ModuleType:
    """`jax2onnx`, once it is known that what it writes can be run here.

    Raises:
      ValueError: one of the two libraries is not installed.
    """
    try:
        import jax2onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"ONNX needs a converter: pip install 'jaxmtl[onnx]' ({error})"
        ) from error
    return jax2onnx


def to_onnx(setup: Setup, held: Bundle, tasks: Sequence[str]) -> bytes:
    """The program of some tasks, weights included.

    Args:
      setup: of the training.
      held: its bundle.
      tasks: to predict.

    Raises:
      ValueError: the converter is not installed, or cannot convert the net: as yet one
        without numeric features.
    """
    converter = find_converter()
    if not setup.schema.numeric:
        raise ValueError(
            f"schema {setup.schema.name} has no numeric features, and jax2onnx cannot"
            " convert the empty array in their place; serve it without ONNX"
        )
    kind = kind_of(setup)
    every = np.ones(len(setup.schema.fields), bool)
    program = make_program(setup, kind, tasks, every)
    net = read_net(held, kind, tasks)
    slots, numerics = setup.schema.slots, len(setup.schema.numeric)

    def row(ids, numeric):
        found = program(held.tables, net, ids[None], numeric[None])
        return {name: column[0] for name, column in found.items()}

    one = (jnp.zeros(slots, jnp.int32), jnp.zeros(numerics, jnp.float32))
    names = sorted(jax.eval_shape(row, *one))
    # Traced here, so that the converter meets no layer of flax: it replaces those by
    # its own, which cannot be mapped over rows.
    traced = jaxpr_as_fun(jax.make_jaxpr(row)(*one))
    try:
        model = converter.to_onnx(
            jax.vmap(traced),
            inputs=[jax.ShapeDtypeStruct(("rows", *x.shape), x.dtype) for x in one],
            model_name=discovery.name_of(setup.architecture),
            input_names=["ids", "numeric"],
            output_names=names,
        )
    except Exception as error:  # the converter names no class for what it cannot
        reason = str(error).partition("\n")[0]
        raise ValueError(f"jax2onnx cannot convert this net: {reason}") from error
    return model.SerializeToString()
