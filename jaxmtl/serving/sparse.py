"""A chain whose layers are dense or sparse matrices, each whichever was faster.

Fewer weights are fewer multiply-adds, and need not be less time: a dense product
streams through memory and uses all cores, a sparse one follows indices. So the form is
measured layer by layer, on the machine and for the batch it shall serve. Sparse
layers run on the host: SciPy's CSR is faster on a CPU than what XLA makes of
`jax.experimental.sparse`, and where neither pays the measurement says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy.sparse

from jaxmtl.serving.compact import Chain, Layer

Form = Literal["dense", "csr"]
FORMS: tuple[Form, ...] = ("dense", "csr")


def convert(layer: Layer, form: Form) -> np.ndarray | scipy.sparse.csr_array:
    """A layer's kernel transposed, [out, in], in a form."""
    kernel = np.ascontiguousarray(np.asarray(layer.kernel).T)
    return kernel if form == "dense" else scipy.sparse.csr_array(kernel)


def make_host(
    chain: Chain, forms: Sequence[Form]
) -> Callable[[np.ndarray], np.ndarray]:
    """run(vector) -> logits [batch] in NumPy and SciPy.

    Args:
      chain: of NumPy arrays.
      forms: of its layers.
    """
    kernels = [
        convert(layer, form) for layer, form in zip(chain.layers, forms, strict=True)
    ]
    biases = [np.asarray(layer.bias)[:, None] for layer in chain.layers]

    def run(vector: np.ndarray) -> np.ndarray:
        # Rows of the batch stand in columns: a sparse row then adds whole stretches
        # of memory.
        x = np.ascontiguousarray(vector.T[chain.inputs])
        for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
            x = kernel @ x
            x += bias
            np.maximum(x, 0, out=x)
        return (kernels[-1] @ x + biases[-1])[0]

    return run


def choose(
    chain: Chain,
    batch: int,
    repeats: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Form, ...]:
    """The faster form of each layer, for batches of a size.

    Args:
      chain: of NumPy arrays.
      batch: rows.
      repeats: calls of each form, in turns; the fastest counts, since whatever
        disturbs a call makes it longer.
      clock: seconds.
    """
    return tuple(_choose(layer, batch, repeats, clock) for layer in chain.layers)


def _choose(layer: Layer, batch: int, repeats: int, clock) -> Form:
    x = np.ones((layer.kernel.shape[0], batch), np.float32)
    kernels = {form: convert(layer, form) for form in FORMS}
    best = dict.fromkeys(FORMS, np.inf)
    for _ in range(repeats + 1):
        for form, kernel in kernels.items():
            started = clock()
            kernel @ x
            best[form] = min(best[form], clock() - started)
    return min(FORMS, key=best.__getitem__)


def stored_bytes(chain: Chain, forms: Sequence[Form]) -> int:
    """Of kernels, biases and the list of inputs, as these forms hold them."""
    total = np.asarray(chain.inputs).nbytes
    for layer, form in zip(chain.layers, forms, strict=True):
        kernel = convert(layer, form)
        parts = (kernel,)
        if form == "csr":
            parts = (kernel.data, kernel.indices, kernel.indptr)
        total += np.asarray(layer.bias).nbytes + sum(part.nbytes for part in parts)
    return total
